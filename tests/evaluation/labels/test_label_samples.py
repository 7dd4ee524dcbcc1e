"""Samples to be labelled: by verdict, by chance, the same again; and the queue of one person."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from halo_notebook import Evaluation, errors
from halo_notebook.checks import NoVerdict
from halo_notebook.evaluation.labels.queue import LabelQueue, open_queue
from halo_notebook.evaluation.labels.samples import Sample, draw

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient

    from ..conftest import Run


def judge(message: str) -> bool:
    return message.startswith("pass")


def even(message: str) -> bool:
    return int(message.split()[1]) % 2 == 0


CASES = [
    {"message": f"{'pass' if number < 80 else 'fail'} {number}", "tags": ["rare"] if number % 20 == 0 else []}
    for number in range(100)
]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """80 replies that the judge passes, and 20 that it fails."""
    from halo_notebook import HaloClient, evaluate
    from halo_notebook.demo import DEMO_KEY, DemoAgent

    path = tmp_path_factory.mktemp("samples") / "evaluation.jsonl"
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
        return evaluate(CASES, [judge, even], configs={"demo": client}, path=path, progress=False)


@pytest.fixture
def opened(result: Evaluation, tmp_path: Path) -> Evaluation:
    """The same in a file of the test's own."""
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(result.path.read_bytes())
    return Evaluation.open(copy)


def numbers(sample: Sample) -> list[int]:
    return [row.number for row in sample.rows]


# --- Samples ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "by", "sizes"),
    [
        (30, "judge", [(20, 15), (80, 15)]),
        (31, "judge", [(20, 15), (80, 16)]),
        (60, ["judge"], [(20, 20), (80, 40)]),
        (100, "judge", [(20, 20), (80, 80)]),
        (5_000, "judge", [(20, 20), (80, 80)]),
        (1, "judge", [(20, 0), (80, 1)]),
        (20, ("judge", "even"), [(10, 5), (10, 5), (40, 5), (40, 5)]),
        (30, None, [(100, 30)]),
        (30, "tag", [(100, 30)]),
        (np.int64(30), ["tag", "judge", "judge"], [(20, 15), (80, 15)]),
    ],
)
def test_each_verdict_has_as_many(n: Any, by: Any, sizes: list[tuple[int, int]], result: Evaluation) -> None:
    """As many as it has, if these are fewer; the rest is for the others."""
    sample = draw(result._state, n, by)
    assert [(each.size, len(each.drawn)) for each in sample.strata] == sizes
    assert len(set(numbers(sample))) == min(n, 100)


def test_a_sample_is_the_same_again_and_another_with_another_seed(result: Evaluation) -> None:
    """Also in another process, and a larger one contains the smaller."""
    sample = draw(result._state, 30, "judge")
    assert numbers(sample) == numbers(draw(Evaluation.open(result.path)._state, 30, "judge"))
    assert numbers(sample) != numbers(draw(result._state, 30, "judge", seed=1))
    assert set(numbers(sample)) < set(numbers(draw(result._state, 50, "judge")))


def test_the_order_does_not_tell_the_verdict(result: Evaluation) -> None:
    """In each half of the order there are about as many that fail, whatever the seed."""
    first = [
        sum(number >= 80 for number in numbers(draw(result._state, 30, "judge", seed))[:15])
        for seed in range(200)
    ]
    assert 7.2 <= np.mean(first) <= 7.8 and 1.2 <= np.std(first) <= 1.6


@pytest.mark.parametrize("by", ["judge", ["judge", "tag"]])
def test_each_reply_with_a_verdict_has_the_same_chance(by: Any, result: Evaluation) -> None:
    """Also where a group has only one of them."""
    drawn = Counter(number for seed in range(600) for number in numbers(draw(result._state, 20, by, seed)))
    # Of 80 and of 20, 10 each.
    for rows, chance in ((range(80), 10 / 80), (range(80, 100), 10 / 20)):
        for row in rows:
            assert abs(drawn[row] / 600 - chance) < 4.5 * (chance * (1 - chance) / 600) ** 0.5, row


def test_groups_have_about_their_shares(result: Evaluation) -> None:
    """In every sample, and not only on average: 4 of the 80 replies that pass have the tag."""

    def rare(by: Any) -> set[int]:
        samples = [numbers(draw(result._state, 40, by, seed)) for seed in range(100)]
        return {sum(number < 80 and number % 20 == 0 for number in sample) for sample in samples}

    assert rare(["judge", "tag"]) <= {0, 1, 2} and 1 in rare(["judge", "tag"])
    assert max(rare("judge")) > 2


@pytest.mark.parametrize(
    ("n", "by", "words"),
    [
        (0, None, "n must be a whole number from 1, not 0"),
        (2.5, None, "n must be a whole number from 1"),
        ("30", None, "n must be a whole number from 1"),
        (30, "nope", "not 'nope'. Nothing was drawn; names are judge, even, config, tag."),
        (30, ["judge", 3], "by must be the name of a check, or a list of names"),
        (30, 7, "by must be the name of a check, or a list of names, not 7"),
        (30, [["judge"]], "by must be the name of a check"),
    ],
)
def test_wrong_arguments_are_named(n: Any, by: Any, words: str, result: Evaluation) -> None:
    """In one line, before anything is written."""
    before = result.path.read_bytes()
    with pytest.raises(errors.InvalidRequest) as raised:
        open_queue(result._state, n, by)
    assert words in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(errors.InvalidRequest, match="seed must be a whole number"):
        open_queue(result._state, 30, seed="x")  # type: ignore[arg-type]
    assert result.path.read_bytes() == before


def test_only_replies_with_a_verdict_are_drawn(agent: DemoAgent, run: Run) -> None:
    """Neither what the agent did not complete, nor what the check could not judge."""

    def some(message: str) -> Any:
        return NoVerdict(None) if message == "no" else True

    agent.faults += ["cut text"]
    result = run(["cut", "no", "yes", "no"], [some], concurrency=1)
    assert numbers(draw(result._state, 30, "some")) == [2]
    assert sorted(numbers(draw(result._state, 30))) == [1, 2, 3]
    with pytest.raises(errors.InvalidRequest, match="'some' has not judged any reply"):
        draw(run(["no"], [some])._state, 30, "some")


def test_metadata_and_configurations_may_be_named(client: HaloClient, run: Run) -> None:
    """Each configuration has half of the sample, and each topic."""
    cases = [{"message": f"pass {number}", "topic": "ab"[number % 2]} for number in range(40)]
    configs = {"one": {"client": client}, "two": {"client": client, "mode": "voice"}}
    sample = draw(run(cases, [judge], configs=configs)._state, 16, ["judge", "config", "topic"])
    found = Counter((row.conversation.config, row.conversation.case.metadata["topic"]) for row in sample.rows)
    assert len(found) == 4 and set(found.values()) <= {3, 4, 5}


# --- The queue --------------------------------------------------------------------------


def work(queue: LabelQueue, count: int) -> None:
    """Label so many."""
    for _ in range(count):
        place = queue.following(0)
        assert place is not None
        queue.label(place, "pass", "")


def test_a_queue_continues_where_the_person_was(opened: Evaluation) -> None:
    """After a restart the same call has the same order; what is labelled is done, for this person only."""
    queue = open_queue(opened._state, 30, "judge", author="ada")
    work(queue, 12)
    again = Evaluation.open(opened.path)
    queue = open_queue(again._state, 30, "judge", author="ada")
    assert (queue.done, queue.following(0)) == (12, 12)
    assert open_queue(again._state, 30, "judge", author="bo").done == 0
    assert open_queue(again._state, 50, "judge", author="ada").done == 12
    samples = [line for line in opened.path.read_text().splitlines() if line.startswith('{"kind":"sample"')]
    assert len(samples) == 2, "the same sample is written once"
    work(queue, 18)
    assert queue.following(0) is None and queue.done == 30


def test_a_label_is_in_the_file_when_the_call_returns(opened: Evaluation) -> None:
    """With its note; a second label of the same reply replaces it."""
    queue = open_queue(opened._state, 10, author="ada")
    queue.label(3, "fail", " too long ")
    queue.label(3, "unsure", "")
    queue.label(0, "pass", "good")
    written = [json.loads(line) for line in opened.path.read_text().splitlines() if '"label"' in line]
    said = [(line["label"], line["note"]) for line in written if line["kind"] == "label"]
    assert said == [("fail", "too long"), ("unsure", ""), ("pass", "good")]
    assert Evaluation.open(opened.path).labels["label"].tolist().count("unsure") == 1
    assert queue.following(0) == 1 and queue.following(3) == 4 and queue.done == 2


def test_the_sample_weights_the_labels(opened: Evaluation) -> None:
    """Labels of a queue give the figures of all replies, of which 20 % fail, and not those of the sample."""
    queue = open_queue(opened._state, 40, "judge")
    for place, row in enumerate(queue.rows):
        queue.label(place, "pass" if row.number < 90 else "fail", "")
    found = opened.agreement("judge")
    true = sum(row.number >= 80 and row.number < 90 for row in queue.rows) / 20
    assert found.corrected["demo"].estimate == pytest.approx(0.8 + 0.2 * true)
    assert found.specificity.estimate == 1
    assert found.sensitivity.estimate == pytest.approx(0.8 / (0.8 + 0.2 * true))
