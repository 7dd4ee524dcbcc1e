"""Figures say what is known of the agents: whose failure counts, what is missing, how certain it is."""

from __future__ import annotations

import copy
import io
import itertools
import json
import math
import pickle
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from halo_notebook import HaloClient, Reply, TextDelta, errors
from halo_notebook.checks import Score, contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation import Evaluation, compare_passes, mean_score, pass_rate
from halo_notebook.evaluation.cases.case import Case, CaseTurn, Conversation
from halo_notebook.evaluation.file.state import RunState
from halo_notebook.evaluation.sending import conversations

from ..agents import messages, ok

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook.stream import JSON

    from ..conftest import Run

LIMITED, BROKEN = "429 retry-after 0", "500"


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that did not arrive is given up at once."""
    monkeypatch.setattr(conversations, "MAX_REFUSALS", 1)


def told(result: Evaluation) -> dict[str, Any]:
    """The summary of the only configuration."""
    row: dict[str, Any] = result.summary().to_dict("records")[0]
    return row


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


# --- Whose failure it was ---------------------------------------------------------------


@pytest.mark.usefixtures("one_try")
@pytest.mark.parametrize("refused", [1, 3, 6])
def test_a_rate_limit_makes_no_difference(refused: int, run: Run) -> None:
    """Two identical agents, one of them rate-limited, do not differ; the refused runs are missing."""
    with ExitStack() as stack:
        agents = [stack.enter_context(DemoAgent(first_byte_s=0, chunk_s=0)) for _ in range(2)]
        agents[1].faults.extend([LIMITED] * refused)
        configs = {
            name: HaloClient(DEMO_KEY, base_url=agent.url) for name, agent in zip("ab", agents, strict=True)
        }
        result = run(messages(40), [ok], configs=configs, concurrency=1)
    found: Any = result.compare("a", "b")["ok"]
    assert (found.difference, found.p_value, found.n) == (0, 1, 40 - refused)
    assert re.search(rf"{refused} cases? left out, .* {refused} runs? missing", found.note)
    summary = result.summary()
    assert summary["ok"].tolist() == [1, 1] and summary["ok missing"].tolist() == [0, refused]
    assert f"{40 - refused} of 40 cases, {refused} run" in text_of(result._repr_html_())


def test_a_perfect_agent_that_was_stopped_twelve_times_is_perfect(run: Run, kept: Path) -> None:
    """The turns that each Stop cut short say nothing about it."""
    stops = itertools.chain([False] * 2, itertools.cycle([True, False, False]))

    def stopping(reply: Reply) -> bool:
        if next(stops):
            raise KeyboardInterrupt
        return True

    results = [run(messages(60), [stopping], path=kept, concurrency=4) for _ in range(12)]
    assert all(each.interrupted for each in results)
    result = results[-1].rescore({"ok": ok})
    row = told(result)
    assert row["ok"] == 1 and 0 < row["ok n"] < 60 and row["ok missing"] == 60 - row["ok n"]
    assert pass_rate(result.passed("ok")["demo"]).estimate == 1


@pytest.mark.parametrize("fault", [BROKEN, "cut text", "stall first"])
def test_what_an_agent_breaks_off_counts_against_it(fault: str, agent: DemoAgent, run: Run) -> None:
    """An error, half a reply and silence are failures; in a conversation also for the turns after it."""
    agent.faults.append(fault)
    client = HaloClient(DEMO_KEY, base_url=agent.url, silence_timeout_s=0.3)
    cases = [{"id": "first", "turns": ["one", {"message": "two", "expect": "x"}]}, "three"]
    checks = {"ok": ok, "x": contains(), "half": lambda reply: 0.5}
    result = run(cases, checks, configs={"demo": client}, concurrency=1)
    assert result.passed("ok") == {"demo": {"first": [False], "2": [True]}}
    assert result.passed("x") == {"demo": {"first": [False], "2": []}}
    assert result.scores("half") == {"demo": {"first": [0.0], "2": [0.5]}}
    assert told(result)["half score"] == 0.25


def test_a_check_with_nothing_to_say_does_not_fail_a_broken_conversation(agent: DemoAgent, run: Run) -> None:
    """What the check says about the same turn in another repeat counts."""
    agent.faults.append("500")
    result = run([{"id": "a", "turns": ["one", "two"]}], [contains()], repeats=2, concurrency=1)
    assert result.passed("contains") == {"demo": {"a": []}}


@pytest.mark.usefixtures("one_try")
def test_a_run_is_missing_whatever_its_earlier_turns_gave(agent: DemoAgent, run: Run) -> None:
    """A conversation that a rate limit ends neither passes nor fails."""
    agent.faults.extend(["no headers", LIMITED])
    result = run([["one", "two"]], [ok], concurrency=1)
    assert [row["ok"] for row in result.rows()] != [None, None]
    assert result.passed("ok") == {"demo": {"1": [None]}} and told(result)["ok missing"] == 1


@pytest.mark.usefixtures("one_try")
def test_a_check_with_nothing_to_say_misses_no_run(agent: DemoAgent, run: Run) -> None:
    """If it said nothing in another repeat; without any other, that is not known."""
    agent.faults.append(LIMITED)
    assert run(["one"], [contains()], repeats=2, concurrency=1).passed("contains") == {"demo": {"1": []}}
    agent.faults.append(LIMITED)
    assert run(["one"], [contains()], concurrency=1).passed("contains") == {"demo": {"1": [None]}}


def test_a_check_that_is_silent_about_some_replies_judges_a_broken_one(agent: DemoAgent, run: Run) -> None:
    """Its silence about one reply says nothing about another."""
    agent.faults.append("500")

    def sometimes(reply: Reply, repeat: int) -> bool | None:
        return None if repeat == 2 or not reply.text else True

    result = run(["one"], [sometimes], repeats=3, concurrency=1)
    assert result.passed("sometimes") == {"demo": {"1": [False, True]}}


def test_a_check_that_raised_or_was_silent_for_some_cases_says_so(run: Run) -> None:
    """Its rate rests on the other cases, and the table says on how many."""

    def raising(reply: Reply, message: str) -> bool:
        if int(message[-1]) % 2:
            raise TimeoutError("LLM timeout")
        return True

    def silent(reply: Reply, message: str) -> bool | None:
        return True if int(message[-1]) % 2 else None

    result = run(messages(20), [raising, silent])
    shown = text_of(result._repr_html_())
    assert len(re.findall(r"%\] , 10 of 20 cases, 10 runs missing", shown)) == 1
    assert len(re.findall(r"%\] , 10 of 20 cases(?!,)", shown)) == 1
    row = told(result)
    assert (row["raising n"], row["raising missing"]) == (10, 10)
    assert (row["silent n"], row["silent missing"]) == (10, 0)


# --- Times ------------------------------------------------------------------------------


def sometimes_silent(request: dict[str, JSON]) -> Iterator[Step]:
    if str(request["message"]).startswith("hang"):
        yield 30.0
    yield TextDelta("quick")


@pytest.mark.parametrize(("fast", "hung"), [(30, 10), (8, 16)])
def test_turns_that_never_answered_do_not_make_an_agent_look_fast(fast: int, hung: int, run: Run) -> None:
    """They count as at least as long as they were waited for."""
    with DemoAgent(first_byte_s=0, chunk_s=0, reply=sometimes_silent) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url, silence_timeout_s=0.5)
        cases = [*messages(fast), *(f"hang {number}" for number in range(hung))]
        result = run(cases, configs={"demo": client}, concurrency=24)
    row = told(result)
    for name in ("first_text_s", "elapsed_s"):
        assert row[f"{name} p95"] >= 0.5 and row[f"{name} p95 high"] == math.inf
        assert (row[f"{name} p50"] >= 0.5) == (hung > fast) and row[f"{name} unanswered"] == hung
    assert f"{hung} turns unanswered" in (shown := text_of(result._repr_html_()))
    assert re.search(r"&gt;0\.\d\d s \[[\d.]+–∞\]", shown)
    assert sum(map(len, result.times("elapsed_s")["demo"].values())) == fast + hung


def test_errors_that_come_at_once_do_not_make_an_agent_look_fast(agent: DemoAgent, run: Run) -> None:
    """Each counts as at least as long as the longest reply."""
    agent.faults.extend([BROKEN] * 12)
    result = run(messages(24), concurrency=1)
    times = [value for values in result.times("elapsed_s")["demo"].values() for value in values]
    assert len(times) == 24 and min(times[:12]) >= max(times[12:])
    assert told(result)["elapsed_s p95"] >= told(result)["elapsed_s p50"] >= max(times[12:])


@pytest.mark.parametrize("broken", [2, 12, 24])
def test_a_plot_draws_turns_without_an_answer_as_the_longest(
    broken: int, agent: DemoAgent, run: Run, client: HaloClient
) -> None:
    """Of all configurations, and says so; an agent that only fails is not drawn as a fast one."""
    agent.faults.extend([BROKEN] * broken)
    with DemoAgent(first_byte_s=0.05, chunk_s=0) as slow:
        configs = {"broken": client, "slow": HaloClient(DEMO_KEY, base_url=slow.url)}
        result = run(messages(24), configs=configs)
    chart = result.plot().chart.to_dict()
    rows = [row for rows in chart["datasets"].values() for row in rows if "seconds" in row]
    for time in ("first text", "whole reply"):
        of = {
            name: [row["seconds"] for row in rows if row["time"] == time and row["config"] == name]
            for name in configs
        }
        longest = max(of["slow"] + of["broken"])
        assert len(of["broken"]) == 24 and of["broken"].count(longest) >= broken
    assert "seconds (without an answer: the longest time)" in str(chart)


@pytest.mark.usefixtures("one_try")
def test_times_of_missing_turns_are_left_out(agent: DemoAgent, run: Run) -> None:
    """A refused message has no time, and one that was cut after its first text has that."""
    agent.faults.extend([LIMITED, "cut text"])
    result = run(["one", "two"], concurrency=1)
    assert result.times("elapsed_s")["demo"]["1"] == []
    assert [type(value).__name__ for value in result.times("elapsed_s")["demo"]["2"]] == ["AtLeast"]
    assert [type(value) for value in result.times("first_text_s")["demo"]["2"]] == [float]


def test_few_cases_have_no_p95(run: Run) -> None:
    """With fewer than 20, it would be the slowest of them; the table says so."""
    few, more = run(messages(19)), run(messages(20))
    assert told(few)["elapsed_s p95"] is None or math.isnan(told(few)["elapsed_s p95"])
    assert "A p95 needs 20 cases." in text_of(few._repr_html_())
    assert told(more)["elapsed_s p95"] > 0 and "needs 20 cases" not in text_of(more._repr_html_())


# --- Scores and repeats -----------------------------------------------------------------


def graded(reply: Reply, message: str, repeat: int) -> float:
    """From 0.5 to 1 in four steps, and lower in the second repeat of odd messages."""
    number = int(message.removeprefix("message "))
    return 0.5 + number % 4 / 6 - (0.25 if repeat == 2 and number % 2 else 0)


def flips(reply: Reply, message: str, repeat: int) -> bool:
    return message != "message 1" or repeat == 2


@pytest.fixture(scope="module")
def scored() -> Evaluation:
    """Twelve cases, three repeats, two configurations; a check with scores, and one that flips."""
    from halo_notebook import evaluate

    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        cases = [
            {
                "id": each,
                "message": each,
                "tags": [f"tag {number % 2}"],
                "topic": ["billing", "login"][number % 2],
            }
            for number, each in enumerate(messages(12))
        ]
        configs: dict[str, Any] = {"chat": client, "voice": {"client": client, "mode": "voice"}}
        return evaluate(cases, [graded, flips], configs=configs, repeats=3, progress=False)


def test_mean_scores_are_beside_rates(scored: Evaluation) -> None:
    """As numbers always; in the table only for checks whose scores are not only 0 and 1."""
    row = scored.summary().loc["chat"]
    known = mean_score(scored.scores("graded")["chat"])
    assert (row["graded score"], row["graded score low"]) == (known.estimate, known.low)
    assert row["graded score"] == pytest.approx(0.75 - 1 / 24, abs=1e-9)
    assert row["flips score"] == row["flips"]
    shown = text_of(scored._repr_html_())
    assert shown.count(f"score {known.range()}") >= 1 and "score 97%" not in shown
    with pytest.raises(errors.InvalidRequest, match="No check named 'nope'"):
        scored.scores("nope")


def test_passing_every_time_is_beside_the_rate(scored: Evaluation) -> None:
    """Of as many runs in a row as there are repeats; the caption says how repeats count."""
    row = scored.summary().loc["chat"]
    assert row["flips"] == pytest.approx(34 / 36) and row["flips every time"] == pytest.approx(11 / 12)
    shown = text_of(scored._repr_html_())
    assert "every time 92% [" in shown and "In brackets: 95 % intervals over cases." in shown
    assert "its 3 repeats are averaged" in shown


def test_flaky_cases(scored: Evaluation) -> None:
    """Those that pass only sometimes, with their rows; nearest to half first."""
    flaky = scored.flaky("flips")
    assert flaky[["config", "case", "passes", "runs"]].to_numpy().tolist() == [
        ["chat", "message 1", 1, 3],
        ["voice", "message 1", 1, 3],
    ]
    assert set(scored.df.loc[list(flaky["rows"][0]), "case"]) == {"message 1"}
    assert set(scored.flaky()["check"]) == {"graded", "flips"}
    with pytest.raises(errors.InvalidRequest, match="No check named"):
        scored.flaky("nope")
    assert len(scored.flaky("flips").drop_duplicates()) == 2


@pytest.mark.usefixtures("one_try")
def test_cases_with_a_missing_run_are_not_in_every_time(run: Run, agent: DemoAgent) -> None:
    """They are in the rate; the table says on how many cases each figure rests."""
    agent.faults.append(LIMITED)
    result = run(messages(3), [ok], repeats=2, concurrency=1)
    shown = text_of(result._repr_html_())
    assert "100% [44–100%] , 3 cases, 1 run missing every time 100% [34–100%] , 2 of 3 cases" in shown


@pytest.mark.parametrize(
    ("check", "rate", "mean"),
    [
        (lambda reply, message: Score(message != "message 0", float(message == "message 0")), 0.75, 0.25),
        (lambda reply, message: Score(message == "message 0", 1.0), 0.25, 1.0),
        (lambda reply, message: Score(True, float(message in {"message 0", "message 1"})), 1.0, 0.5),
    ],
    ids=["toxic", "all 1", "all pass"],
)
def test_scores_of_0_and_1_that_are_not_the_passes_are_shown(
    check: Any, rate: float, mean: float, run: Run, client: HaloClient
) -> None:
    """As numbers, as text, in a comparison and in the plot."""
    configs = {"chat": client, "voice": {"client": client, "mode": "voice"}}
    result = run(messages(4), {"tox": check}, configs=configs)
    assert result.summary()[["tox", "tox score"]].to_numpy().tolist() == [[rate, mean]] * 2
    assert mean_score(result.scores("tox")["chat"]).range() in text_of(result._repr_html_())
    assert "tox score" in result.compare() and "tox score" in str(result.plot().chart.to_dict())


def test_the_score_of_several_turns_is_their_mean(run: Run) -> None:
    """Though the conversation fails; it is not shown, since each score is that of a pass or a fail."""
    result = run([["Hello", "Stop"], ["Hello", "Hello"]], {"x": lambda reply, message: message == "Hello"})
    assert result.summary()[["x", "x score"]].to_numpy().tolist() == [[0.5, 0.75]]
    assert " score " not in text_of(result._repr_html_())


def test_scores_are_plotted(scored: Evaluation) -> None:
    """Beside the rates of the same check; a check of only passes and failures has none."""
    rows = [row for rows in scored.plot().chart.to_dict()["datasets"].values() for row in rows]
    assert {row["check"] for row in rows if "check" in row} == {"graded", "graded score", "flips"}


def test_a_run_without_repeats_has_no_every_time(run: Run) -> None:
    """Nor flaky cases; the caption says nothing about repeats."""
    result = run(messages(3), [ok])
    assert "ok every time" not in result.summary().columns and result.flaky().empty
    assert "repeats" not in text_of(result._repr_html_())


@pytest.mark.parametrize("name", ["nope", "", "first_text", None, 0, ["elapsed_s"], "TIMES"])
def test_an_unknown_time_is_refused(name: Any, run: Run) -> None:
    """In one line that names the two times, also with a tag that no case has."""
    result = run(messages(1))
    for tag in (None, "none"):
        with pytest.raises(errors.InvalidRequest) as raised:
            result.times(name, tag)
        assert str(raised.value) == f"No time named {name!r}. Times: first_text_s, elapsed_s."


# --- The summary ------------------------------------------------------------------------


def test_a_summary_has_numbers_and_shows_text(scored: Evaluation) -> None:
    """What is made of it is a table of numbers; a copy of it shows as it does, until it is changed."""
    summary = scored.summary()
    rates = [name for name in summary.columns if name != "agents"]
    assert all(summary[name].dtype.kind in "fi" for name in rates)
    assert (summary["flips low"] < summary["flips"]).all() and (
        summary["flips"] < summary["flips high"]
    ).all()
    assert "94% [" in summary._repr_html_() and "94% [" in repr(summary)
    for made in (summary[["cases", "flips"]], summary.T, summary.head(9)):
        assert "94% [" not in made._repr_html_() and "94% [" not in repr(made)
    for made in (
        pickle.loads(pickle.dumps(summary)),  # noqa: S301  # our own
        copy.deepcopy(summary),
        copy.copy(summary),
        summary.copy(),
        copy.deepcopy(copy.deepcopy(summary)),
    ):
        assert (made._repr_html_(), repr(made)) == (summary._repr_html_(), repr(summary))
        made["cases"] += 1
        assert "94% [" not in made._repr_html_() and "94% [" in summary._repr_html_()
    summary["more"] = 1
    assert "94% [" not in summary._repr_html_() and "more" in repr(summary)
    stored = pd.read_parquet(io.BytesIO(scored.summary().to_parquet()))
    assert stored["flips"].tolist() == pytest.approx([34 / 36] * 2)


def test_an_opened_file_has_the_same_figures(scored: Evaluation) -> None:
    """Without cases, checks or an agent."""
    opened = Evaluation.open(scored.path)
    for by in (None, "tag", "topic"):
        pd.testing.assert_frame_equal(
            pd.DataFrame(opened.summary(by=by)), pd.DataFrame(scored.summary(by=by))
        )
    assert repr(opened.compare()) == repr(scored.compare()) and opened.flaky().equals(scored.flaky())
    assert opened.scores("graded") == scored.scores("graded")


def test_a_summary_by_a_column_of_metadata(scored: Evaluation) -> None:
    """A row per value, after all cases; a column that no case has is an error."""
    chat = scored.summary(by="topic").loc["chat"]
    assert chat.index.tolist() == ["(all)", "billing", "login"] and chat["cases"].tolist() == [12, 6, 6]
    assert chat["flips"].tolist() == pytest.approx([34 / 36, 1, 16 / 18])
    with pytest.raises(errors.InvalidRequest, match=r"No case has the metadata 'colour'\. Metadata: topic\."):
        scored.summary(by="colour")
    assert scored.summary(by_tag=True).loc["chat"].index.tolist() == ["(all)", "tag 0", "tag 1"]


# --- Comparisons ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three() -> Evaluation:
    """Thirty cases for three configurations: the second fails a fifth, the third has lower scores."""
    from halo_notebook import evaluate

    def right(reply: Reply, message: str, config: str) -> bool:
        return config != "second" or int(message.removeprefix("message ")) % 5 > 0

    def good(reply: Reply, message: str, config: str) -> Score:
        number = int(message.removeprefix("message "))
        return Score(True, 0.9 - (0.02 * (number % 3) if config == "third" else 0))

    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        cases = [
            {"id": each, "message": each, "tags": [["even", "odd"][number % 2]]}
            for number, each in enumerate(messages(30))
        ]
        configs = {name: {"client": client, "context": {"as": name}} for name in ("first", "second", "third")}
        return evaluate(cases, [right, good], configs=configs, progress=False)


def test_two_configurations_are_compared_by_name(three: Evaluation) -> None:
    """A figure per check, per mean score and per time."""
    found: Any = three.compare("first", "second")
    assert list(found) == ["right", "good", "good score", "first_text_s", "elapsed_s"]
    assert found["right"].difference == pytest.approx(-0.2) and found["right"].p_value == pytest.approx(
        2 / 2**6
    )
    assert found["right"].adjusted_p == pytest.approx(3 * 2 / 2**6)
    known = compare_passes(three.passed("right")["first"], three.passed("right")["second"])
    assert (found["right"].low, found["right"].high) == (known.low, known.high)


def test_several_configurations_are_compared_with_the_first(three: Evaluation) -> None:
    """All by default; Holm's correction is over all p-values of the table."""
    found: Any = three.compare()
    assert list(found)[::5] == [("second", "right"), ("third", "right")] and len(found) == 10
    assert found["second", "right"].adjusted_p == pytest.approx(5 * 2 / 2**6)
    assert found["third", "good score"].difference == pytest.approx(-0.02)
    assert found["third", "good score"].adjusted_p < 0.01
    assert "The 6 p-values are adjusted together, by Holm's method." in repr(found)
    shown = text_of(found._repr_html_())
    assert re.search(
        r"config difference note second right -20 points \[.*?\] , adjusted p = 0\.16 , 30 cases", shown
    )
    with pytest.raises(errors.InvalidRequest, match="two configurations are needed"):
        three.compare("first")
    with pytest.raises(errors.InvalidRequest, match="No configuration named 'nope'"):
        three.compare("first", "nope")


def test_groups_are_compared_on_their_own(three: Evaluation) -> None:
    """Each tag, with one family of p-values."""
    found: Any = three.compare("first", "third", by_tag=True)
    assert {key[0] for key in found} == {"even", "odd"} and found["odd", "right"].n == 15
    assert found.family == 6
    both: Any = three.compare(by_tag=True)
    assert both["second", "even", "right"].difference == pytest.approx(-0.2)
    assert "config tag" in text_of(both._repr_html_())


def test_cases_of_a_comparison(three: Evaluation) -> None:
    """A row per case with both rates, the difference and its rows; the worst come first."""
    cases = three.compare("first", "second").cases
    assert len(cases) == 30 and cases["case"].tolist()[:6] == [f"message {n}" for n in range(0, 30, 5)]
    worst = cases.iloc[0]
    assert (worst["right: first"], worst["right: second"], worst["right: second - first"]) == (1, 0, -1)
    assert worst["message"] == "message 0" and worst["good score: second - first"] == 0
    for name in ("first", "second"):
        row = three.df.loc[list(worst[f"rows: {name}"])]
        assert row[["case", "config"]].to_numpy().tolist() == [["message 0", name]]
    wide = three.compare().cases
    assert len(wide) == 30 and "right: third - first" in wide and "right: third - second" not in wide
    assert len(wide.drop_duplicates()) == 30 and wide.to_parquet() and wide.to_csv()


@pytest.mark.usefixtures("one_try")
def test_a_case_without_a_result_has_no_difference(run: Run, agent: DemoAgent) -> None:
    """It comes last."""
    agent.faults.append(LIMITED)
    client = HaloClient(DEMO_KEY, base_url=agent.url)
    configs = {"a": client, "b": {"client": client, "mode": "voice"}}
    cases = run(messages(3), [ok], configs=configs, concurrency=1).compare("a", "b").cases
    assert cases["case"].tolist() == ["2", "3", "1"] and pd.isna(cases["ok: b - a"].iloc[-1])


def test_scores_decide_where_rates_are_equal(three: Evaluation) -> None:
    """The case whose score falls the most comes first."""
    cases = three.compare("first", "third").cases
    changes = cases["good score: third - first"].tolist()
    assert changes == sorted(changes) and changes[0] == pytest.approx(-0.04)
    assert cases["good: third - first"].eq(0).all()


def test_a_comparison_can_be_copied(three: Evaluation) -> None:
    """With its cases."""
    found: Any = three.compare()
    made = pickle.loads(pickle.dumps(found))  # noqa: S301  # our own
    assert repr(made) == repr(found) and made.cases.equals(found.cases)


# --- Large results ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["good low", "good n", "good score high", "good every time", "elapsed_s p95 low"]
)
def test_no_check_has_a_column_of_another(name: str, run: Run, agent: DemoAgent) -> None:
    """In the summary neither; nothing is sent."""
    with pytest.raises(errors.InvalidRequest, match=f"cannot be called '{name}'"):
        run(["one"], {"good": ok, name: ok})
    assert not agent.requests


# --- Large results ----------------------------------------------------------------------


def test_large_results_are_plotted_and_written(kept: Path, tmp_path: Path) -> None:
    """A plot has at most 5,000 rows, the longest time among them; the page has every conversation."""
    reply = {
        **Reply().to_dict(),
        "status": "complete",
        "started_at": "2025-01-03T10:00:00+00:00",
        "text": "Hi.",
    }
    cases = [Case(str(number), (CaseTurn(f"message {number}"),)) for number in range(2_600)]
    with kept.open("w") as file:
        for number, case in enumerate(cases):
            times = {"first_text_s": 0.1, "elapsed_s": 1 + number / 1000}
            line = {"kind": "turn", "key": case.id, "turn": 0, "status": "complete"}
            file.write(json.dumps({**line, "reply": {**reply, **times}}) + "\n")
    runs = [Conversation(case.id, case, "demo", 1) for case in cases]
    state = RunState(kept, runs, {}, {"demo": ""})
    state.load()
    result = Evaluation(state)
    plot = result.plot()
    seconds = [
        row["seconds"]
        for rows in plot.chart.to_dict()["datasets"].values()
        for row in rows
        if "seconds" in row
    ]
    assert 1_000 < len(seconds) <= 5_000 and max(seconds) == 3.599
    assert "<svg" in plot.svg()
    page = result.to_html(tmp_path / "page.html").read_text()
    assert page.count('<details class="conversation">') == 2_600 and "Hi." in page
