"""What a result says: every turn counts, every rate has an interval, and judging again sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import errors
from halo_notebook.checks import action, contains

from .agents import messages

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook import HaloClient, Reply
    from halo_notebook.demo import DemoAgent

    from .conftest import Run


def test_the_summary_drops_nothing(agent: DemoAgent, client: HaloClient, run: Run) -> None:
    """Each configuration's turns by how they ended, its pass rate with an interval, times, agents."""
    agent.faults.append("cut text")
    configs = {"a": client, "b": {"client": client, "mode": "voice"}}
    result = run(messages(8), [contains("said")], configs=configs, concurrency=1)
    summary = result.summary()
    assert list(summary["turns"]) == [8, 8]
    assert list(summary["complete"] + summary["interrupted"]) == [8, 8]
    assert list(summary["interrupted"]) == [1, 0]
    rate = summary["contains(said)"]["a"]
    assert rate.n == 8 and rate.low <= rate.estimate <= rate.high
    assert summary["agents"]["b"] == "agent_demo (on this machine)"
    assert summary["elapsed_s p95"]["b"] >= summary["elapsed_s p50"]["b"] > 0
    assert len(result.df) == 16
    assert len(result.failures()) == len(result.df) - sum(result.df["contains(said)"])
    comparison = result.compare("a", "b")
    assert set(comparison) == {"contains(said)", "first_text_s", "elapsed_s"}
    lines = repr(comparison).split("\n")
    assert len(lines) == 3
    assert lines[0].startswith("contains(said)  ") and "8 cases" in lines[0]
    with pytest.raises(errors.InvalidRequest, match="No configuration named 'c'"):
        result.compare("a", "c")
    html = result._repr_html_()
    assert "16 conversations" in html and "was interrupted after its message may have been sent" in html


def test_a_check_without_a_verdict_has_none_for_a_cut_reply_either(agent: DemoAgent, run: Run) -> None:
    """Its cases are those that it has something to say about, however they ended."""
    agent.faults.append("cut text")
    cases = ["cut", {"id": "b", "turns": ["My name is Ada"], "expect": "Ada"}]
    assert run(cases, [contains()], concurrency=1).passed("contains") == {"demo": {"b": [True]}}


def test_a_check_that_raises_neither_passes_nor_fails(run: Run) -> None:
    """The result says how often it failed to judge, and how; the run continues, whatever it raises."""

    def breaks(reply: Reply) -> bool:
        raise KeyError("nope")

    def leaves(reply: Reply) -> bool:
        raise SystemExit(3)

    checks: dict[str, Any] = {"breaks": breaks, "leaves": leaves, "odd": lambda reply: "yes"}
    result = run(["one"], checks)
    row = next(result.rows())
    assert row["breaks"] is None and row["breaks note"] == "KeyError: 'nope'"
    assert row["leaves"] is None and row["leaves note"] == "SystemExit: 3"
    assert row["odd"] is None and "a bool, a number from 0 to 1 or a Score" in row["odd note"]
    assert result.passed("breaks") == {"demo": {}}
    why = "Check 'breaks' failed on 1 turn (first error: KeyError: 'nope'); these are left out of its rate."
    assert why in result.notes()


def test_a_cut_reply_counts_as_failed_in_the_progress_bar(
    agent: DemoAgent, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even if its text would have passed: the bar says what the table will say."""
    agent.faults.append("cut text")
    result = run(["one"], [contains("This reply")], progress=True)
    assert "1/1" in (bar := capsys.readouterr().err) and "0 passed, 1 failed" in bar
    assert result.passed("contains(This reply)") == {"demo": {"1": [False]}}


def test_rescoring_sends_nothing(agent: DemoAgent, run: Run, kept: Path) -> None:
    """The replies are on the disk, with their actions and times."""
    result = run(["Open a ticket"], [contains("ticket")], path=kept)
    count = len(agent.requests)
    result.rescore({"acted": action("create_ticket"), "slow": lambda reply: reply.elapsed_s > 100})
    assert result.passed("acted") == {"demo": {"1": [True]}}
    assert result.passed("slow") == {"demo": {"1": [False]}}
    assert len(agent.requests) == count
    with pytest.raises(errors.InvalidRequest, match=r"No check named 'contains.*Checks: acted, slow\."):
        result.passed("contains(ticket)")


def test_two_agents_under_one_configuration_get_a_note(run: Run, kept: Path) -> None:
    """Their replies cannot be compared as one configuration's."""
    run(["one"], path=kept)
    kept.write_text(kept.read_text().replace('"agent_id":"agent_demo"', '"agent_id":"agent_other"'))
    result = run(["one", "two"], path=kept)
    assert any("More than one agent answered as 'demo'" in note for note in result.notes())


def test_a_conversation_is_shown_as_in_a_cell(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Message and reply of each turn, as safe HTML."""
    shown: list[dict[str, str]] = []

    def publish(data: dict[str, str]) -> None:
        shown.append(data)

    monkeypatch.setattr("IPython.display.publish_display_data", publish)
    run(["other", ["My name is <Ada>", "Open a ticket"]]).show(1)
    assert len(shown) == 2
    assert "My name is &lt;Ada&gt;" in shown[0]["text/html"]
    assert "create_ticket" in shown[1]["text/html"]
