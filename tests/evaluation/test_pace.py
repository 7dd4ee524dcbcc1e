"""How fast messages leave: one pace for all conversations, and none faster than the checks."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from halo_notebook.evaluation import aevaluate
from halo_notebook.evaluation.pace import Pace
from halo_notebook.evaluation.run import MAX_UNJUDGED

from .agents import messages, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook import HaloClient, Reply
    from halo_notebook.demo import DemoAgent

    from .conftest import Run


def test_a_storm_of_429_slows_all_conversations_down(agent: DemoAgent, run: Run) -> None:
    """Each refused message is sent again, and in the end the agent has taken each once."""
    agent.faults.extend(["429 retry-after"] * 5)
    rows = list(run(messages(12), concurrency=6).rows())
    assert {row["status"] for row in rows} == {"complete"}
    assert sum(row["retries"] for row in rows) == 5 and len(agent.requests) == 17
    assert all(row["queue_wait_s"] >= 1 and row["elapsed_s"] < 1 for row in rows if row["retries"])


def test_messages_refused_together_halve_the_pace_once() -> None:
    """A burst of 429 is one sign that it was too fast, not one for each."""
    pace = Pace(600)  # one every 0.1 s
    together = time.perf_counter()
    for _ in range(12):
        pace.slow_down(0.0, together)
    assert pace.gap_s == pytest.approx(0.2)
    pace.slow_down(0.0, time.perf_counter())
    assert pace.gap_s == pytest.approx(0.4)
    for _ in range(50):
        pace.speed_up()
    assert pace.gap_s == pytest.approx(0.1)


def test_the_rate_limit_is_shared(run: Run) -> None:
    """Messages leave no faster than that many a minute, all together, and times count from their leaving."""
    began = time.monotonic()
    result = run(messages(6), concurrency=6, rate_limit=600)
    assert time.monotonic() - began >= 0.5
    rows = sorted(result.rows(), key=lambda row: row["queue_wait_s"])
    assert rows[-1]["queue_wait_s"] >= 0.45
    assert rows[-1]["first_text_s"] < 0.4


def test_slow_checks_hold_the_sending_back(agent: DemoAgent, run: Run) -> None:
    """Few replies wait for a check, however many cases there are, so memory stays flat."""
    sent_meanwhile: list[int] = []

    def slow(reply: Reply) -> bool:
        if not sent_meanwhile:
            # The first verdict takes until everything is sent that will be sent without it.
            wait_until(lambda: len(agent.requests) >= MAX_UNJUDGED)
            time.sleep(0.5)
            sent_meanwhile.append(len(agent.requests))
        return True

    result = run(messages(2 * MAX_UNJUDGED), [slow], concurrency=8)
    assert result.passed("slow")["demo"] == {f"{n + 1}": [True] for n in range(2 * MAX_UNJUDGED)}
    assert MAX_UNJUDGED <= sent_meanwhile[0] <= MAX_UNJUDGED + 8


def test_a_busy_process_gets_a_note(client: HaloClient, run: Run, kept: Path) -> None:
    """Checks that block the caller's loop make the times longer than the agent's, and the result says so."""

    def busy(reply: Reply) -> bool:
        time.sleep(0.02)
        return True

    configs = {"demo": client}
    evaluated = aevaluate(messages(150), [busy], configs=configs, path=kept, progress=False)
    result = asyncio.run(evaluated)
    assert "This machine was too busy" in result.notes()[0]
    median = result.summary()["first_text_s p50"]["demo"]
    for lag_s, notes in ((0.1 * median, 0), (0.3 * median, 1)):
        with kept.open("a") as file:
            file.write(json.dumps({"kind": "lag", "p90_s": lag_s}) + "\n")
        assert len(run(messages(150), path=kept).notes()) == notes
