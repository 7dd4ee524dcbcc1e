"""How well a check agrees with the labels: known figures, samples of other verdicts, and too few labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import Evaluation, errors
from halo_notebook.checks import NoVerdict, Score
from halo_notebook.display.formulas import NO_FORMULAS
from halo_notebook.evaluation import Interval, pass_rate

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient

    from ..conftest import Run


def judge(message: str) -> bool:
    """Its verdict is in the message."""
    return message.startswith("pass")


def cases(*verdicts: tuple[bool, int]) -> list[str]:
    """So many cases with each verdict."""
    words = {True: "pass", False: "fail"}
    return [f"{words[passed]} {number}" for passed, count in verdicts for number in range(count)]


def labels(*counts: tuple[bool, int]) -> dict[int, bool]:
    """The labels of the first rows: so many of each."""
    found = [label for label, count in counts for _ in range(count)]
    return dict(enumerate(found))


def limits(found: Interval) -> tuple[float, float]:
    assert found.low is not None and found.high is not None
    return found.low, found.high


# --- Known figures ----------------------------------------------------------------------


def test_known_figures_if_every_reply_is_labelled(run: Run) -> None:
    """Those of scikit-learn: 20 and 15 agree, 10 and 5 do not."""
    result = run(cases((True, 30), (False, 20)), [judge])
    result.label_rows(labels((True, 20), (False, 10), (True, 5), (False, 15)))
    found = result.agreement("judge")
    assert found.kappa.estimate == pytest.approx(0.4) and found.kappa.n == 50
    assert found.sensitivity.estimate == pytest.approx(20 / 25)
    assert found.specificity.estimate == pytest.approx(15 / 25)
    assert limits(found.pass_rates["demo"]) == pytest.approx(
        limits(pass_rate(result.passed("judge")["demo"]))
    )
    # All replies are known: the corrected rate is that of the labels.
    corrected = found.corrected["demo"]
    assert corrected.estimate == pytest.approx(0.5)
    known = pass_rate({row: [label] for row, label in labels((True, 25), (False, 25)).items()})
    assert limits(corrected) == pytest.approx(limits(known), abs=0.015)
    assert found.counts == {(True, True): 20, (True, False): 10, (False, True): 5, (False, False): 15}
    assert found.notes == ()


def test_a_sample_of_the_verdicts_is_weighted(run: Run) -> None:
    """Half of the labels are of the few replies that fail: each stands for fewer replies."""
    result = run(cases((True, 90), (False, 10)), [judge])
    # 9 of 10 passed replies are good, and 2 of 10 failed ones.
    result.label_rows({**labels((True, 9), (False, 1)), **{90 + at: at < 2 for at in range(10)}})
    found = result.agreement("judge")
    assert found.sensitivity.estimate == pytest.approx(81 / 83)
    assert found.specificity.estimate == pytest.approx(8 / 17)
    assert found.corrected["demo"].estimate == pytest.approx(0.83)
    agreed, chance = 0.81 + 0.08, 0.9 * 0.83 + 0.1 * 0.17
    assert found.kappa.estimate == pytest.approx((agreed - chance) / (1 - chance))


def sample(path: Path, *strata: tuple[int, Sequence[int]]) -> None:
    """Add a sample to the file: of each stratum its size and the rows that were drawn."""
    keys = list(Evaluation.open(path)._state.conversations)
    drawn = [{"size": size, "drawn": [[keys[row], 0] for row in rows]} for size, rows in strata]
    with path.open("a") as file:
        file.write(json.dumps({"kind": "sample", "strata": drawn}, separators=(",", ":")) + "\n")


def test_a_sample_stays_one_when_the_judge_changes(run: Run, kept: Path) -> None:
    """Its rows stand for those with the verdicts of then, whatever a better judge says of them now.

    Of 90 replies that passed, 10 were drawn, and of 10 that failed, all. The new judge passes 4 of those.
    """
    run(cases((True, 90), (False, 10)), [judge], path=kept)
    sample(kept, (90, range(10)), (10, range(90, 100)))
    result = Evaluation.open(kept)
    result.label_rows({**labels((True, 8), (False, 2)), **{90 + at: at < 3 for at in range(10)}})

    def better(message: str) -> bool:
        return judge(message) or message in {f"fail {number}" for number in range(4)}

    found = result.rescore({"judge": better}).agreement("judge")
    # Of the passed replies 0.8 · 90 + 3 are good of 90 + 4; counted equally it would be 11 of 14.
    good_of_passed = (72 + 3) / 94
    passed = 0.94
    good = passed * good_of_passed
    assert found.sensitivity.estimate == pytest.approx(1.0)
    assert found.specificity.estimate == pytest.approx(0.06 / (1 - good))
    assert found.corrected["demo"].estimate == pytest.approx(good)
    assert Evaluation.open(kept).agreement("judge") == found


def test_a_sample_and_other_labels_together(run: Run, kept: Path) -> None:
    """Also when samples overlap, were not finished, or have rows that are gone."""
    run(cases((True, 40), (False, 20)), [judge], path=kept)
    sample(kept, (40, range(10)), (20, range(40, 50)))
    sample(kept, (40, range(5, 15)), (20, range(45, 60)))
    text = kept.read_text()
    kept.write_text(text + text.splitlines()[-1] + "\n")  # twice
    result = Evaluation.open(kept)
    result.label_rows({row: row < 30 or row % 2 == 0 for row in (*range(20), *range(40, 55))})
    found = result.agreement("judge")
    assert found.sensitivity.estimate == pytest.approx(40 / (40 + 20 * 8 / 15), rel=0.1)
    assert sum(found.counts.values()) == 35


def test_configurations_share_the_errors(client: HaloClient, run: Run) -> None:
    """Each pass rate is corrected by the errors in both; with `config` only by its own."""
    configs = {"one": {"client": client}, "two": {"client": client, "mode": "voice"}}

    def lenient(message: str, config: str) -> bool:
        return judge(message) or (config == "two" and message in {f"fail {number}" for number in range(10)})

    result = run(cases((True, 20), (False, 20)), [lenient], configs=configs)
    df = result.df
    result.label_rows({row: message.startswith("pass") for row, message in df["message"].items()})
    both = result.agreement("lenient")
    assert both.pass_rates["one"].estimate == 0.5 and both.pass_rates["two"].estimate == 0.75
    assert both.specificity.estimate == pytest.approx(30 / 40) and both.sensitivity.estimate == 1
    assert both.corrected["one"].estimate == pytest.approx((0.5 + 0.75 - 1) / 0.75)
    assert both.corrected["two"].estimate == pytest.approx((0.75 + 0.75 - 1) / 0.75)
    two = result.agreement("lenient", config="two")
    assert list(two.corrected) == ["two"] and two.corrected["two"].estimate == pytest.approx(0.5)
    assert two.specificity.estimate == pytest.approx(0.5)
    assert "pass rate, one" in repr(both) and "corrected, two" in repr(both)
    assert "pass rate, " not in repr(two)


def test_a_check_of_conversations_is_compared_by_its_last_turn(run: Run) -> None:
    """The label of that row is beside its verdict; labels of other turns are not used, and counted."""

    def polite(conversation: Any) -> bool:
        return len(conversation[0].message) % 2 == 0

    result = run([["x" * number, "and?"] for number in range(1, 21)], [polite])
    result.label_rows({row: row % 4 == 3 for row in range(40)})
    found = result.agreement("polite")
    assert sum(found.counts.values()) == 20
    assert found.sensitivity.estimate == 1 and found.specificity.estimate == 1
    words = "20 labelled replies are left out: 'polite' has no verdict on them, since it judges at the end."
    assert found.notes[0].startswith(words) and "result.label(by='polite')" in found.notes[0]
    assert result.agreement("polite", config="demo").notes == found.notes


def test_repeats_count_for_less_than_cases(run: Run) -> None:
    """The labels of five repeats of a case are not those of five cases."""
    cases_ = cases((True, 10), (False, 10))
    few = run(cases_, [judge], repeats=5)
    many = run(cases((True, 50), (False, 50)), [judge])
    widths = []
    for result in (few, many):
        result.label_rows({
            row: message.startswith("pass") == (int(message.split()[1]) % 5 > 0)
            for row, message in result.df["message"].items()
        })  # fmt: skip
        found = result.agreement("judge").sensitivity
        assert found.estimate == pytest.approx(0.8) and found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1]


# --- Too few labels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labelled", "words"),
    [
        ({}, "Too few labels: 0 of the 30 replies that 'judge' passes are labelled"),
        (labels((True, 30)), "Too few labels: 0 of the 20 replies that 'judge' fails are labelled"),
        ({0: True, 30: False}, "1 of the 30 replies that 'judge' passes is labelled"),
    ],
)
def test_too_few_labels_of_a_verdict(labelled: dict[int, bool], words: str, run: Run) -> None:
    """It says how many there are and how many there should be, and shows no figure but the pass rate."""
    result = run(cases((True, 30), (False, 20)), [judge])
    result.label_rows(labelled)
    found = result.agreement("judge")
    figures = (found.kappa, found.sensitivity, found.specificity, found.corrected["demo"])
    assert [each.estimate for each in figures] == [None] * 4
    assert words in found.notes[0] and "at least 5 are needed" in found.notes[0]
    assert words in repr(found) and "result.label(by='judge')" in repr(found)
    assert found.pass_rates["demo"].estimate == 0.6


def test_all_of_few_replies_are_enough(run: Run) -> None:
    """Where the judge fails only two replies, these two have to be labelled."""
    result = run(cases((True, 40), (False, 2)), [judge])
    result.label_rows({**labels((True, 13), (False, 2)), 40: False, 41: False})
    found = result.agreement("judge")
    assert found.sensitivity.estimate == 1 and found.notes == ()


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_kind_only(label: bool, run: Run) -> None:
    """Without a bad reply nothing is known about the specificity, nor without a good one of sensitivity."""
    result = run(cases((True, 15), (False, 15)), [judge])
    result.label_rows(dict.fromkeys(range(30), label))
    found = result.agreement("judge")
    known, unknown = found.sensitivity, found.specificity
    known, unknown = (known, unknown) if label else (unknown, known)
    assert known.estimate == pytest.approx(0.5) and unknown.estimate is None
    assert found.corrected["demo"].estimate is None and found.kappa.estimate == pytest.approx(0)
    assert f"No labelled reply is {'bad' if label else 'good'}: too few labels" in found.notes[0]


def test_a_judge_that_guesses_cannot_be_corrected(run: Run) -> None:
    """It says so, and why: its errors say nothing about the rate."""
    result = run(cases((True, 40), (False, 40)), [judge])
    result.label_rows({row: row % 2 == 0 for row in range(80)})
    found = result.agreement("judge")
    assert found.corrected["demo"].estimate is None and found.sensitivity.estimate == pytest.approx(0.5)
    words = "'judge' cannot be corrected: sensitivity + specificity - 1 is 0.00 [-0.2"
    assert found.notes[0].startswith(words)


@pytest.mark.parametrize("opposite", [80, 72])
def test_a_judge_that_says_the_opposite_is_named(opposite: int, run: Run) -> None:
    """More labels would not help: it is wrong more often than chance."""
    result = run(cases((True, 40), (False, 40)), [judge])
    result.label_rows({row: (row < 40) == (row % 40 >= opposite // 2) for row in range(80)})
    found = result.agreement("judge")
    assert found.kappa.high is not None and found.kappa.high < 0 and found.corrected["demo"].estimate is None
    assert "so it says the opposite of the labels more often than chance would" in found.notes[0]
    assert "Label more" not in repr(found)


def test_what_people_are_unsure_of_is_left_out_and_counted(run: Run) -> None:
    """And what they disagree about; with `author` only that person's labels count."""
    result = run(cases((True, 20), (False, 20)), [judge])
    result.label_rows({row: row < 18 for row in range(40)}, author="ada")
    result.label_rows({0: False, 1: None}, author="bo")
    result.label_rows({2: None}, author="ada")
    found = result.agreement("judge")
    assert sum(found.counts.values()) == 38
    assert found.notes[0].startswith("2 labelled replies are left out, since people are unsure or disagree")
    ada = result.agreement("judge", author="ada")
    assert sum(ada.counts.values()) == 39 and "1 labelled reply is left out" in ada.notes[0]
    for name in ("nobody", "", ["ada"]):
        with pytest.raises(errors.InvalidRequest, match="Authors: ada, bo"):
            result.agreement("judge", author=name)  # type: ignore[arg-type]


def test_replies_without_a_verdict_are_not_compared(agent: DemoAgent, run: Run) -> None:
    """The judge has nothing to say, could not judge, or the agent did not complete its reply."""

    def some(message: str) -> Any:
        match int(message.split()[1]) % 4:
            case 0:
                return NoVerdict(None)
            case 1:
                return Score(None)
        return judge(message)

    agent.faults += ["cut text"]
    result = run(["pass 3", *cases((True, 20), (False, 20))], [some], concurrency=1)
    result.label_rows({row: row % 2 == 0 for row in range(1, 41)})
    assert sum(result.agreement("some").counts.values()) == 20


def test_a_result_without_a_reply(agent: DemoAgent, run: Run) -> None:
    """It says that nothing has been judged."""
    agent.faults += ["401"] * 2
    found = run(["one", "two"], [judge]).agreement("judge")
    assert found.notes == ("'judge' has not judged any reply.",) and found.corrected == {}


@pytest.mark.parametrize("name", ["other", "", ["judge"], None])
def test_an_unknown_check_or_configuration_is_named(name: Any, run: Run) -> None:
    """With those that there are."""
    result = run(["one"], [judge])
    with pytest.raises(errors.InvalidRequest, match="Checks: judge"):
        result.agreement(name)
    if name:
        with pytest.raises(errors.InvalidRequest, match="Configurations: demo"):
            result.agreement("judge", config=name)


# --- How it shows -----------------------------------------------------------------------


def test_it_shows_as_one_small_table(run: Run) -> None:
    """As text and as HTML, with the estimates and their limits."""
    result = run(cases((True, 30), (False, 20)), [judge])
    result.label_rows(labels((True, 28), (False, 2), (True, 3), (False, 17)))
    found = result.agreement("judge")
    text, html = repr(found), found._repr_html_()
    assert text.splitlines()[0] == (
        "'judge' and the labels agree on 45 of 50 replies. It passes 2 that people fail, and fails 3 that "
        "people pass."
    )
    assert "sensitivity    90% [" in text and "corrected      62% [" in text and len(text.splitlines()) == 6
    assert html.count("<tr>") == 6 and "90% [" in html and NO_FORMULAS in html
    assert str(found.kappa).startswith("0.79 [0.5") and str(found.kappa).endswith("], 50 cases")


HOSTILE = "<img src=x onerror=alert(1)>"


def test_hostile_names_are_text(client: HaloClient, run: Run) -> None:
    """The names of checks and configurations."""
    configs = {HOSTILE: {"client": client}, "b": {"client": client, "mode": "voice"}}
    result = run(cases((True, 6), (False, 6)), {HOSTILE: judge}, configs=configs)
    for label in ({}, {row: row % 3 == 0 for row in range(24)}):
        result.label_rows(label)
        assert "<img" not in result.agreement(HOSTILE)._repr_html_()
