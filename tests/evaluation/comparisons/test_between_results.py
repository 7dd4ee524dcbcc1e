"""Two results compared: what got better, what got worse, and how certain it is."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import Evaluation, HaloClient, Reply, TextDelta, errors, evaluate
from halo_notebook.checks import Score
from halo_notebook.demo import DEMO_KEY, DemoAgent

from ..agents import messages

if TYPE_CHECKING:
    from halo_notebook.demo import Step
    from halo_notebook.stream import JSON

    from ..conftest import Run


def rated(name: str, failing: Any, version: str = "1") -> Any:
    """A check that fails for these numbers of messages, at random for some."""

    def check(reply: Reply, message: str, repeat: int) -> Score:
        number = int(message.rpartition(" ")[2])
        return Score(number not in failing and not (number % 10 == 9 and repeat == 2), note="<b>why</b>")

    check.__name__, check.version = name, version  # type: ignore[attr-defined]
    return check


def test_what_got_better_and_worse(run: Run, kept: Path) -> None:
    """Case by case, with the rates and rows of both, from a result or a file; and how certain it is."""
    before = run(messages(40), [rated("right", range(20))], path=kept, concurrency=20)
    cases = [{"id": f"<i>{number}</i>", "message": f"message {number}"} for number in range(40)]
    random.Random(1).shuffle(cases)
    now = run([*cases, "new 50"], [rated("right", [*range(2), 30, 31, 32])], concurrency=20)
    for other in (before, kept, str(kept)):
        found = now.compare_with(other)
        assert str(found.differences["right"]).startswith("+38 points [+16 to +55], p = 0.0015, 40 cases")
        assert set(found.worse["case"]) == {"<i>30</i>", "<i>31</i>", "<i>32</i>"}
        assert len(found.better) == 18 and set(found.better["difference"]) == {1.0}
        row = found.worse.iloc[0]
        assert (row["other"], row["this"], row["difference"], row["check"]) == (1.0, 0.0, -1.0, "right")
        assert now.df["message"][row["rows this"][0]] == row["message"]
        assert before.df["message"][row["rows other"][0]] == row["message"]
        assert found.notes == [] and len(found.cases) == 40
    back = before.compare_with(now)
    assert len(back.worse) == 18 and set(back.better["case"]) == {"31", "32", "33"}


def test_it_shows_as_text_and_in_a_cell(client: HaloClient, run: Run) -> None:
    """With every figure; texts of cases and agents are escaped, and long lists are cut."""
    checks = [rated("right", range(40)), rated("<b>", ())]
    before = run(messages(60), checks, repeats=2, configs={"a": client, "b": client}, concurrency=30)
    after = [rated("right", [50]), rated("<b>", ())]
    found = run(
        messages(60), after, repeats=2, configs={"a": client, "b": client}, concurrency=30
    ).compare_with(before)
    text, html = repr(found), found._repr_html_()
    for shown in (text, html):
        assert "Worse: 2 of 240 pairs of case and check" in shown
        assert "Better: 80 of 240 pairs of case and check, of which the first 20 are shown" in shown
        assert "right" in shown and "0% → 100%" in shown and "100% → 0%" in shown
        assert "this result minus the other result" in shown and "Holm" in shown
    assert "a · right" in text and "&lt;b&gt;" in html and "<b>" not in html
    assert next(iter(found.differences)) == ("a", "right")
    assert len(found.differences.cases) == 120


def test_what_cannot_be_compared_is_noted(client: HaloClient, run: Run, kept: Path) -> None:
    """Another version of a check, another expectation, a check that only one result has."""
    before = run(
        [{"message": "message 1", "expect": "x"}, "message 2", "message 3"],
        [rated("right", ()), rated("old", ())],
    )
    now = run(
        [{"message": "message 1", "expect": "y"}, "message 2", "message 4"],
        [rated("right", (), "2"), rated("new", ())],
        configs={"demo": client, "more": {"client": client, "mode": "voice"}},
    )
    found = now.compare_with(before)
    assert [note.partition(" the other")[0] for note in found.notes] == [
        "Check 'right' has changed between the results, which may be why its verdicts differ; rescore()",
        "Check 'new' is only in this result; rescore()",
        "Check 'old' is only in",
        "1 case with the same messages expects something else.",
        "Configuration 'more' is not compared.",
    ]
    assert "2 cases (too few cases; 2 cases left out" in str(found.differences["right"])
    assert set(found.cases["case"]) == {"1", "2"} and next(iter(found.differences)) == "right"
    others = run(["message 1"], configs={"a": client, "b": client})
    with pytest.raises(errors.InvalidRequest, match=r"'more' is in both results \(a, b; demo, more\)"):
        now.compare_with(others, config="more")
    with pytest.raises(errors.UsageError, match="No evaluation file at"):
        now.compare_with(kept)


def test_missing_runs_are_not_a_change(agent: DemoAgent, run: Run) -> None:
    """A case that was not answered because of us is left out; one that the agent did not answer is worse."""
    check = [rated("right", ())]
    before = run(messages(10), check, concurrency=1)
    agent.faults.extend(["401", "401", "cut text"])
    found = run(messages(10), check, concurrency=1).compare_with(before)
    assert list(found.worse["case"]) == ["3"] and len(found.cases) == 8
    assert "2 cases left out" in str(found.differences["right"]) and "2 runs missing" in repr(found)


def named(**cases: str) -> list[dict[str, str]]:
    return [{"id": name, "message": message} for name, message in cases.items()]


def test_equal_cases_are_paired_in_order(run: Run) -> None:
    """The same message twice is two cases; a case that was edited is not paired with its old self."""
    before = run(named(a="same 1", b="same 1", c="old 2"), [rated("right", [1])])
    found = run(named(b="same 1", c="new 3", a="same 1"), [rated("right", ())]).compare_with(before)
    assert sorted(found.better["case"]) == ["a", "b"] and len(found.cases) == 2
    assert "3 (before)" not in repr(found) and set(found.differences.cases["case"]) == {
        "a",
        "b",
        "c",
        "c (before)",
    }


def test_replies_of_two_agents_in_two_files(tmp_path: Path) -> None:
    """A hostile case in a foreign file is shown as text."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("ok")

    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, failing in zip(paths, ((), range(5)), strict=True):
        with DemoAgent(first_byte_s=0, chunk_s=0, reply=reply) as agent:
            configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
            cases = [{"id": f"<script>{n}", "message": f"<script>alert(1)</script> {n}"} for n in range(20)]
            evaluate(cases, [rated("right", failing)], configs=configs, path=path, progress=False)
    found = Evaluation.open(paths[1]).compare_with(paths[0])
    html = found._repr_html_()
    assert len(found.worse) == 5 and "<script" not in html and "&lt;script&gt;alert" in html
    assert json.loads(found.worse.to_json(orient="records"))[0]["check"] == "right"
