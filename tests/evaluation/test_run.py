"""Evaluations: what is asked, what is kept, what is never asked twice."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient, Reply, errors
from halo_notebook.checks import Score, action, contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation.journal import Journal, read_lines
from halo_notebook.evaluation.pace import Pace
from halo_notebook.evaluation.run import MAX_UNJUDGED, aevaluate, evaluate
from halo_notebook.stream import JSON, Action, TextDelta

if TYPE_CHECKING:
    from halo_notebook.evaluation import Evaluation

    from ..harness.kernels import Kernel


NOBODY = HaloClient(DEMO_KEY, base_url="http://127.0.0.1:1")
ALWAYS = {"ok": lambda reply: True}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "evaluation.jsonl"


def asked(agent: DemoAgent) -> list[str]:
    return [request.body["message"] for request in agent.requests]


def test_each_conversation_has_a_session_of_its_own(agent: DemoAgent, client: HaloClient) -> None:
    """Turns of one go on in it, in order; another repeat or configuration knows nothing of it."""
    case = {"id": "ada", "turns": ["My name is Ada", "What is my name?"], "expect": "Ada"}
    result = evaluate(
        [case, "What is my name?"],
        [contains()],
        configs={"a": client, "b": {"client": client, "mode": "voice"}},
        repeats=2,
        progress=False,
    )
    rows = list(result.rows())
    assert len(rows) == len(agent.requests) == 2 * 2 * 3
    assert {row["status"] for row in rows} == {"complete"}
    sessions: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        place = row["case"], row["config"], row["repeat"]
        sessions.setdefault(place, set()).add(row["session_id"])
    assert all(len(ids) == 1 for ids in sessions.values())
    assert len(set.union(*sessions.values())) == 8
    assert result.passed("contains") == {"a": {"ada": [True, True]}, "b": {"ada": [True, True]}}
    assert all("have not told me" in row["text"] for row in rows if row["case"] == "2")
    assert {request.body.get("mode") for request in agent.requests} == {None, "voice"}


def test_what_is_kept_is_not_asked_again(agent: DemoAgent, client: HaloClient, kept: Path) -> None:
    """An edited case is asked anew, an added one alone, a renamed one not at all."""
    configs = {"demo": client}
    evaluate(["one", {"id": "b", "turns": ["two"]}], configs=configs, path=kept, progress=False)
    assert sorted(asked(agent)) == ["one", "two"]
    result = evaluate(
        [{"id": "renamed", "turns": ["two"], "expect": "x"}, "one", "two!", "three"],
        [contains()],
        configs=configs,
        path=kept,
        progress=False,
    )
    assert sorted(asked(agent)[2:]) == ["three", "two!"]
    assert [row["case"] for row in result.rows()] == ["renamed", "2", "3", "4"]
    assert result.passed("contains") == {"demo": {"renamed": [False]}}


@pytest.mark.parametrize(
    "settings", [{"api_key": "ab_live_other"}, {"agent_id": "agent_b"}, {"user_id": "u_2"}], ids=str
)
def test_another_agent_or_user_is_asked_anew(settings: dict[str, str], agent: DemoAgent, kept: Path) -> None:
    """What one has said is never taken for the other's, in whatever order they are named."""

    def client(**settings: str) -> HaloClient:
        return HaloClient(
            **{"api_key": DEMO_KEY, "agent_id": "agent_a", "user_id": "u_1", **settings}, base_url=agent.url
        )

    first = evaluate(["one"], configs={"a": client()}, path=kept, progress=False)
    configs = {"b": client(**settings), "a": client()}
    both = evaluate(["one"], configs=configs, path=kept, progress=False)
    assert len(agent.requests) == 2
    said = {row["config"]: row["session_id"] for row in both.rows()}
    assert said["a"] == next(first.rows())["session_id"] != said["b"]
    again = evaluate(["one"], configs=dict(reversed(configs.items())), path=kept, progress=False)
    assert {row["config"]: row["session_id"] for row in again.rows()} == said
    assert len(agent.requests) == 2


def test_what_was_put_off_to_the_end_was_not_taken(agent: DemoAgent, client: HaloClient, kept: Path) -> None:
    """A 503 that says when to come back is as good as a 429: the next run asks again."""
    agent.faults.extend(["503 retry-after 0"] * 6)
    first = evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in first.rows()] == ["failed"]
    assert first.notes() == []
    again = evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in again.rows()] == ["complete"]
    assert len(agent.requests) == 7


def test_a_later_turn_that_was_refused_is_no_riddle(agent: DemoAgent, client: HaloClient, kept: Path) -> None:
    """It failed, in every table; its first turn had arrived, so that it is not begun anew by itself."""
    agent.faults.extend(["drip", "401"])
    cases = [["one", "two", "three"]]
    result = evaluate(cases, ALWAYS, configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in result.rows()] == ["complete", "failed", "skipped"]
    assert repr(result) == "Evaluation(1 conversation: 1 failed)"
    assert list(result.summary()[["complete", "failed", "interrupted", "not asked"]].loc["demo"]) == [
        1,
        1,
        0,
        1,
    ]
    assert "1 conversation was interrupted after its message may have been sent" in result.notes()[0]
    assert list(result.failures()["turn"]) == [2, 3]
    evaluate(cases, configs={"demo": client}, path=kept, progress=False)
    assert asked(agent) == ["one", "two"]


def test_what_was_not_begun_has_no_result_yet(client: HaloClient) -> None:
    """A run that was stopped says of how many cases it speaks; what was not asked did not fail."""

    def stops(reply: Reply) -> bool:
        if reply.text:
            raise KeyboardInterrupt
        return False

    cases = [f"message {number}" for number in range(400)]
    result = evaluate(cases, {"ok": stops}, configs={"demo": client}, concurrency=1, progress=False)
    states = [row["status"] for row in result.rows()]
    assert states.count("not run") > 300
    result.rescore(ALWAYS)
    rate = result.summary()["ok"]["demo"]
    assert rate.n == 400 - rate.empty == states.count("complete") + states.count("interrupted")
    assert f"{rate.n} of 400 cases" in str(rate)
    assert len(result.failures()) == states.count("interrupted")


def test_a_check_that_has_nothing_to_say_says_so_of_a_cut_reply_too(
    agent: DemoAgent, client: HaloClient
) -> None:
    """Its cases are those it has something to say of, however they ended."""
    agent.faults.append("cut text")
    cases = ["cut", {"id": "b", "turns": ["My name is Ada"], "expect": "Ada"}]
    result = evaluate(cases, [contains()], configs={"demo": client}, concurrency=1, progress=False)
    assert result.passed("contains") == {"demo": {"b": [True]}}


def test_rescoring_asks_nobody(agent: DemoAgent, client: HaloClient, kept: Path) -> None:
    """The replies are on the disk, actions and times with them."""
    result = evaluate(
        ["Open a ticket"], [contains("ticket")], configs={"demo": client}, path=kept, progress=False
    )
    count = len(agent.requests)
    result.rescore({"acted": action("create_ticket"), "slow": lambda reply: reply.elapsed_s > 100})
    assert result.passed("acted") == {"demo": {"1": [True]}}
    assert result.passed("slow") == {"demo": {"1": [False]}}
    assert len(agent.requests) == count
    with pytest.raises(errors.InvalidRequest, match="No check named 'contains"):
        result.passed("contains(ticket)")


@pytest.mark.parametrize("fault", ["cut text", "500", "stall", "close"])
def test_what_may_have_arrived_is_not_sent_again(
    fault: str, agent: DemoAgent, client: HaloClient, kept: Path
) -> None:
    """It is recorded as interrupted, counts as no pass, and the next run leaves it alone."""
    agent.faults.append(fault)
    first = evaluate([["one", "two"]], ALWAYS, configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in first.rows()] == ["interrupted", "skipped"]
    assert first.passed("ok") == {"demo": {"1": [False]}}
    assert "1 conversation was interrupted after its message may have been sent" in first.notes()[0]
    again = evaluate([["one", "two"]], configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in again.rows()] == ["interrupted", "skipped"]
    assert asked(agent) == ["one"]


def test_what_may_have_arrived_is_asked_again_when_told_to(
    agent: DemoAgent, client: HaloClient, kept: Path
) -> None:
    """In a fresh session, its first turn too; what is whole is left alone."""
    agent.faults.append("cut text")
    cases = [["one", "two"], "three"]
    first = evaluate(cases, ALWAYS, configs={"demo": client}, path=kept, concurrency=1, progress=False)
    assert [row["status"] for row in first.rows()] == ["interrupted", "skipped", "complete"]
    again = evaluate(cases, ALWAYS, configs={"demo": client}, path=kept, resume="interrupted", progress=False)
    assert [row["status"] for row in again.rows()] == ["complete"] * 3
    assert again.passed("ok") == {"demo": {"1": [True], "2": [True]}}
    assert asked(agent) == ["one", "three", "one", "two"]
    assert "session_id" not in agent.requests[2].body
    assert again.notes() == []
    # What the file says of it later is what came last.
    later = evaluate(cases, ALWAYS, configs={"demo": client}, path=kept, progress=False)
    assert [row["text"] for row in later.rows()] == [row["text"] for row in again.rows()]
    assert len(agent.requests) == 4


def test_what_was_refused_is_asked_by_the_next_run(agent: DemoAgent, client: HaloClient, kept: Path) -> None:
    """A wrong key has harmed nobody: nothing was taken."""
    agent.faults.extend(["401", "401"])
    first = evaluate(["one", "two"], ALWAYS, configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in first.rows()] == ["failed", "failed"]
    assert first.passed("ok") == {"demo": {"1": [False], "2": [False]}}
    assert "refused the key" in next(first.rows())["error"]
    again = evaluate(["one", "two"], configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in again.rows()] == ["complete", "complete"]
    assert len(agent.requests) == 4


def test_a_configuration_that_fails_wholly_does_not_end_the_others(client: HaloClient) -> None:
    """Its rows say why; nothing of it passes."""
    nobody = HaloClient(DEMO_KEY, base_url="http://127.0.0.1:1", connect_timeout_s=0.2)
    result = evaluate(
        ["one"],
        ALWAYS,
        configs={"good": client, "none": nobody},
        progress=False,
    )
    assert result.passed("ok") == {"good": {"1": [True]}, "none": {"1": [False]}}
    rows = [row for row in result.rows() if row["config"] == "none"]
    assert all("no connection" in row["error"].lower() for row in rows)


def test_a_storm_of_429_slows_all_down_together(agent: DemoAgent, client: HaloClient) -> None:
    """Each is sent again, since it was not taken, and in the end all are asked once."""
    agent.faults.extend(["429 retry-after"] * 5)
    result = evaluate(
        [f"message {number}" for number in range(12)], configs={"demo": client}, concurrency=6, progress=False
    )
    rows = list(result.rows())
    assert {row["status"] for row in rows} == {"complete"}
    assert sum(row["retries"] for row in rows) == 5
    assert len(agent.requests) == 17
    waited = [row for row in rows if row["retries"]]
    assert all(row["queue_wait_s"] >= 1 and row["elapsed_s"] < 1 for row in waited)


def test_those_refused_together_halve_the_pace_once() -> None:
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


def test_the_rate_limit_is_for_all_together(agent: DemoAgent, client: HaloClient) -> None:
    """Messages leave no faster than that many a minute, and times count from their leaving."""
    began = time.monotonic()
    result = evaluate(
        [f"message {number}" for number in range(6)],
        configs={"demo": client},
        concurrency=6,
        rate_limit=600,
        progress=False,
    )
    assert time.monotonic() - began >= 0.5
    rows = sorted(result.rows(), key=lambda row: row["queue_wait_s"])
    assert rows[-1]["queue_wait_s"] >= 0.45
    assert rows[-1]["first_text_s"] < 0.4


def test_a_check_that_fails_is_neither_pass_nor_fail(client: HaloClient) -> None:
    """It could not judge, and the result says so."""

    def breaks(reply: Reply) -> bool:
        raise KeyError("nope")

    checks: dict[str, Any] = {"breaks": breaks, "odd": lambda reply: "yes"}
    result = evaluate(["one"], checks, configs={"demo": client}, progress=False)
    row = next(result.rows())
    assert row["breaks"] is None and row["breaks note"] == "KeyError: 'nope'"
    assert row["odd"] is None and "a bool, a number from 0 to 1 or a Score" in row["odd note"]
    assert result.passed("breaks") == {"demo": {}}
    assert (
        "Check 'breaks' failed on 1 turn (first error: KeyError: 'nope'); these are left out of its rate."
        in (result.notes())
    )


def test_the_summary_drops_nothing(agent: DemoAgent, client: HaloClient) -> None:
    """Each configuration's turns by how they ended, its pass rate with an interval, times, agents."""
    agent.faults.append("cut text")
    result = evaluate(
        [f"message {number}" for number in range(8)],
        [contains("said")],
        configs={"a": client, "b": {"client": client, "mode": "voice"}},
        concurrency=1,
        progress=False,
    )
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


def test_a_conversation_is_shown_as_in_a_cell(client: HaloClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Message and reply of each turn, as safe HTML."""
    shown: list[dict[str, str]] = []

    def publish(data: dict[str, str]) -> None:
        shown.append(data)

    monkeypatch.setattr("IPython.display.publish_display_data", publish)
    result = evaluate(
        ["other", ["My name is <Ada>", "Open a ticket"]], configs={"demo": client}, progress=False
    )
    result.show(1)
    assert len(shown) == 2
    assert "My name is &lt;Ada&gt;" in shown[0]["text/html"]
    assert "create_ticket" in shown[1]["text/html"]


def test_another_agent_in_mid_run_is_told(agent: DemoAgent, client: HaloClient, kept: Path) -> None:
    """Two agents under one configuration compare nothing."""
    evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
    lines = kept.read_text().replace('"agent_id":"agent_demo"', '"agent_id":"agent_other"')
    kept.write_text(lines)
    result = evaluate(["one", "two"], configs={"demo": client}, path=kept, progress=False)
    assert any("More than one agent answered as 'demo'" in note for note in result.notes())


def test_async_checks_run_on_the_callers_loop(client: HaloClient) -> None:
    """In `aevaluate`; `evaluate` awaits them, too."""

    async def judged() -> dict[str, Any]:
        lock = asyncio.Lock()
        here = asyncio.get_running_loop()

        async def check(reply: Reply) -> Score:
            async with lock:
                await asyncio.sleep(0)
                return Score(asyncio.get_running_loop() is here, 1.0)

        result = await aevaluate(["one", "two"], {"here": check}, configs={"demo": client}, progress=False)
        return result.passed("here")

    assert asyncio.run(judged()) == {"demo": {"1": [True], "2": [True]}}

    async def plain(reply: Reply) -> bool:
        await asyncio.sleep(0)
        return True

    assert evaluate(["one"], [plain], configs={"demo": client}, progress=False).passed("plain") == {
        "demo": {"1": [True]}
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"repeats": 0}, "repeats must be"),
        ({"concurrency": 1.5}, "concurrency must be"),
        ({"rate_limit": 0}, "rate_limit must be"),
        ({"resume": "all"}, "resume must be True, False or 'interrupted'"),
        ({"configs": {"x": 3}}, "Configuration 'x' is int"),
        ({"configs": {"x": {"session_id": "s"}}}, "has a session_id"),
        ({"configs": {"x": {"client": NOBODY, "modde": "chat"}}}, "There is no field 'modde'"),
        ({"checks": {"x": 3}}, "'x' is not a function"),
        ({"checks": ALWAYS | {"text": bool}}, "A check cannot be called 'text'"),
        ({"checks": {"ok note": bool}}, "A check cannot be called 'ok note'"),
        ({"configs": [NOBODY]}, "configs is list"),
        ({"configs": {"x": {"client": "x"}}}, "has a client that is str"),
        ({"configs": {"x": {"client": NOBODY, "message": "m"}}}, "has a message"),
        ({"cases": None}, "The cases are NoneType"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_what_makes_no_evaluation_is_refused(
    arguments: dict[str, Any], words: str, client: HaloClient
) -> None:
    """Before anything is sent."""
    with pytest.raises(errors.InvalidRequest, match=words):
        evaluate(**{"cases": ["one"], "configs": {"demo": client}, "progress": False, **arguments})


def test_a_file_without_a_path_goes_with_its_result(client: HaloClient) -> None:
    """Nothing is left behind for each evaluation that was tried."""
    result = evaluate(["one"], configs={"demo": client}, progress=False)
    folder = result.path.parent
    assert result.path.exists()
    del result
    gc.collect()
    assert not folder.exists()


def test_what_broke_off_counts_as_failed_in_the_tally(
    agent: DemoAgent, client: HaloClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where what had arrived would have passed: the bar says what the table will say."""
    agent.faults.append("cut text")
    result = evaluate(["one"], [contains("This reply")], configs={"demo": client})
    assert "1/1" in (bar := capsys.readouterr().err) and "0 passed, 1 failed" in bar
    assert result.passed("contains(This reply)") == {"demo": {"1": [False]}}


def test_without_a_kernel_no_demo_agent_answers_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a script a missing key is an error: figures of a demo agent would be taken for the agent's."""
    for name in ("API_KEY", "BASE_URL"):
        monkeypatch.delenv(f"HALO_{name}", raising=False)
    with pytest.raises(errors.ConfigError, match="There is no API key"):
        evaluate(["one"], progress=False)


def test_what_is_not_installed_is_named_at_once(
    agent: DemoAgent, client: HaloClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent, with the command that brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.UsageError, match=r"needs the package aiohttp.*halo-notebook\[eval\]"):
        evaluate(["one"], configs={"demo": client}, progress=False)
    assert asked(agent) == []


def test_a_second_writer_is_refused(client: HaloClient, kept: Path) -> None:
    """In this process, and in another."""
    journal = Journal(kept)
    try:
        with pytest.raises(errors.UsageError, match="Another evaluation is writing"):
            evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
        code = (
            "import pathlib\nfrom halo_notebook.evaluation.journal import Journal\n"
            f"Journal(pathlib.Path({str(kept)!r}))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "Another evaluation is writing" in done.stderr
    finally:
        journal.close()
    assert len(evaluate(["one"], configs={"demo": client}, path=kept, progress=False)) == 1
    with pytest.raises(errors.InvalidRequest, match="holds an evaluation"):
        evaluate(["one"], configs={"demo": client}, path=kept, resume=False, progress=False)


@pytest.mark.parametrize(
    "content", ["my dear diary\n", '{"cells": [', "no newline", "\n", '{"kind":"turn"}\n']
)
def test_a_file_of_another_kind_is_not_touched(content: str, client: HaloClient, kept: Path) -> None:
    """A notebook or a diary that a path was taken for."""
    kept.write_text(content)
    with pytest.raises(errors.UsageError, match="something else than an evaluation's file"):
        evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
    assert kept.read_text() == content
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null", "."])
def test_what_is_no_file_is_refused(path: str, client: HaloClient) -> None:
    """A device may have no end to read to."""
    with pytest.raises(errors.UsageError, match="something else than an evaluation's file"):
        evaluate(["one"], configs={"demo": client}, path=path, progress=False)


def test_a_first_line_that_was_torn_is_gone_on_from(client: HaloClient, kept: Path) -> None:
    """A process that was killed at once leaves a file that can be used."""
    kept.write_bytes(b'{"kind":"run","form')
    result = evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
    assert [row["status"] for row in result.rows()] == ["complete"]


def test_a_torn_line_is_passed_over(kept: Path) -> None:
    """And what is written after it is whole."""
    journal = Journal(kept)
    journal.append({"kind": "run"})
    journal.close()
    with kept.open("ab") as file:
        file.write(b'{"kind": "tor')
    journal = Journal(kept)
    for number in range(100):
        journal.append({"kind": "two", "number": number})
    journal.close()
    lines = list(read_lines(kept))
    assert lines == [{"kind": "run"}, *({"kind": "two", "number": number} for number in range(100))]
    assert list(read_lines(kept.with_name("none"))) == []


KILLED = """\
import sys
from halo_notebook import HaloClient
from halo_notebook.evaluation.run import evaluate
client = HaloClient({key!r}, base_url={url!r})
cases = [f"message {{number}}" for number in range(40)]
evaluate(cases, configs={{"demo": client}}, path={path!r}, concurrency=4, progress=False)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_after_any_end_only_what_had_not_begun_is_asked(how: signal.Signals, kept: Path) -> None:
    """Killed in mid-run or interrupted: what had ended is kept, what was under way is not sent again."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("first ")
        yield 0.1
        yield TextDelta("and last")

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        code = KILLED.format(key=DEMO_KEY, url=agent.url, path=str(kept))
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while len(agent.requests) < 14:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, how)
        process.wait(20)
        before = asked(agent)
        assert 14 <= len(before) < 40
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        cases = [f"message {number}" for number in range(40)]
        result = evaluate(cases, configs={"demo": client}, path=kept, progress=False)
        assert len(set(asked(agent))) == len(asked(agent))  # each once at most, all in all
        unasked = set(cases) - set(asked(agent))
        assert unasked <= {row["message"] for row in result.rows() if row["status"] == "interrupted"}
        states = [row["status"] for row in result.rows()]
        assert states.count("complete") + states.count("interrupted") == 40
        assert 1 <= states.count("interrupted") <= 4
        assert len({row["session_id"] for row in result.rows() if row["status"] == "complete"}) == (
            states.count("complete")
        )


def test_an_interrupt_leaves_what_there_is(kept: Path) -> None:
    """The result is there, says that it is not whole, and the same call goes on from it."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("first ")
        yield 0.2
        yield TextDelta("and last")

    cases = [f"message {number}" for number in range(60)]
    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        result = evaluate(
            cases,
            ALWAYS,
            configs={"demo": client},
            path=kept,
            concurrency=4,
            progress=False,
        )
        assert result.interrupted
        states = [row["status"] for row in result.rows()]
        assert states.count("complete") > 0 and states.count("not run") > 0
        assert states.count("interrupted") <= 4
        assert "the same call resumes it" in result.notes()[0]
        assert any(row["text"] == "first " for row in result.rows() if row["status"] == "interrupted")
        again = evaluate(cases, configs={"demo": client}, path=kept, concurrency=16, progress=False)
        assert [row["status"] for row in again.rows()].count("not run") == 0
        assert len(set(asked(agent))) == len(asked(agent)) >= 56


def test_no_secret_is_in_the_file(agent: DemoAgent, kept: Path) -> None:
    """Neither the key nor a user token."""
    client = HaloClient("ab_live_confidential", base_url=agent.url, user_token="a.b.confidential")
    result = evaluate(["What do you know about me?"], configs={"demo": client}, path=kept, progress=False)
    assert "confidential" not in kept.read_text() + repr(result)

    def says_back(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("I know ab_live_confidential and ")
        yield TextDelta("a.b.confi")
        yield TextDelta("dential.")
        yield Action({"a.b.confidential": ["ab_live_confidential"]})

    with DemoAgent(first_byte_s=0, reply=says_back) as telling:
        client = HaloClient("ab_live_confidential", base_url=telling.url, user_token="a.b.confidential")
        told = evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
    assert "confidential" not in kept.read_text() + str(list(told.rows()))
    page = told.to_html(kept.with_name("page.html")).read_text()
    assert "confidential" not in page and "I know ********************" in page
    assert json.loads(kept.read_text().splitlines()[0])["fingerprint"]


def test_a_file_that_cannot_be_written_ends_it_in_one_line(
    agent: DemoAgent, client: HaloClient, kept: Path
) -> None:
    """A full disk: no message leaves that could not be noted, and what is there can be gone on with."""
    evaluate(["one"], configs={"demo": client}, path=kept, progress=False)
    before = kept.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))  # a part of a line finds room
    try:
        with pytest.raises(errors.UsageError, match=r"could not be written \(File too large\)"):
            evaluate(["one", "two", "three"], configs={"demo": client}, path=kept, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert asked(agent) == ["one"]
    assert kept.read_bytes() == before
    result = evaluate(["one", "two", "three"], configs={"demo": client}, path=kept, progress=False)
    assert {row["status"] for row in result.rows()} == {"complete"}


def test_slow_checks_hold_the_agent_back(agent: DemoAgent, client: HaloClient) -> None:
    """Replies that wait to be judged are few, however many cases there are: memory stays flat."""
    asked_meanwhile: list[int] = []

    def slow(reply: Reply) -> bool:
        if not asked_meanwhile:
            # The first verdict takes so long that all are asked that will be without it.
            deadline = time.monotonic() + 30
            while len(agent.requests) < MAX_UNJUDGED and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.5)
            asked_meanwhile.append(len(agent.requests))
        return True

    cases = [f"message {number}" for number in range(2 * MAX_UNJUDGED)]
    result = evaluate(cases, [slow], configs={"demo": client}, concurrency=8, progress=False)
    assert result.passed("slow")["demo"] == {f"{number + 1}": [True] for number in range(len(cases))}
    assert MAX_UNJUDGED <= asked_meanwhile[0] <= MAX_UNJUDGED + 8


def test_no_text_is_held_in_memory(client: HaloClient) -> None:
    """Replies of 100 kB each leave next to nothing behind: they are in the file."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("x" * 100_000)

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        evaluate(["warm"], ALWAYS, configs=configs, progress=False)
        tracemalloc.start()
        result = evaluate([f"{number}" for number in range(600)], ALWAYS, configs=configs, progress=False)
        gc.collect()
        held, most = tracemalloc.get_traced_memory()
        sizes = [len(row["text"]) for row in result.rows()]
        most_reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sizes == [100_000] * 600
    assert held < 3_000_000  # of the 60 MB that came
    assert max(most, most_reading) < 25_000_000


def test_a_busy_process_is_told(client: HaloClient, kept: Path) -> None:
    """Checks that hold the caller's loop make the times longer than the agent's, and the result says so."""

    def busy(reply: Reply) -> bool:
        time.sleep(0.02)
        return True

    messages = [f"message {number}" for number in range(150)]
    given: dict[str, Any] = {"configs": {"demo": client}, "path": kept, "progress": False}

    async def run() -> Evaluation:
        return await aevaluate(messages, [busy], **given)

    result = asyncio.run(run())
    assert "This machine was too busy" in result.notes()[0]
    median = result.summary()["first_text_s p50"]["demo"]
    for lag_s, notes in ((0.1 * median, 0), (0.3 * median, 1)):
        with kept.open("a") as file:
            file.write(json.dumps({"kind": "lag", "p90_s": lag_s}) + "\n")
        assert len(evaluate(messages, **given).notes()) == notes


def test_what_an_interrupt_left_unjudged_is_told(client: HaloClient) -> None:
    """A check that was stopped has not judged: the result says of how many turns, and can judge them."""
    stopped: list[bool] = []

    def stops(reply: Reply) -> bool:
        if not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return True

    result = evaluate(["one", "two"], [stops], configs={"demo": client}, concurrency=1, progress=False)
    assert result.interrupted
    assert "Check 'stops' has not judged 1 turn yet; rescore() does." in result.notes()
    result.rescore()
    done = [row for row in result.rows() if row["status"] == "complete"]
    assert done and all(row["stops"] for row in done)


def test_kept_replies_are_judged_on_the_callers_loop(client: HaloClient, kept: Path) -> None:
    """Also those of an earlier run: what a check holds of the loop works for them."""

    async def judged() -> dict[str, Any]:
        here = asyncio.get_running_loop()
        waiting = asyncio.Event()
        here.call_later(0.05, waiting.set)

        async def check(reply: Reply) -> bool:
            await waiting.wait()
            return asyncio.get_running_loop() is here

        configs = {"demo": client}
        result = await aevaluate(["one"], {"here": check}, configs=configs, path=kept, progress=False)
        return result.passed("here")

    assert [asyncio.run(judged()) for _ in range(2)] == [{"demo": {"1": [True]}}] * 2


def test_a_hundred_streams_do_not_wait_for_each_other(kept: Path) -> None:
    """All of them are open at the agent at once."""
    waiting = 0
    most = 0

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        yield TextDelta("first ")
        yield 1.0
        waiting -= 1
        yield TextDelta("last")

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        cases = [f"message {number}" for number in range(100)]
        result = evaluate(cases, configs={"demo": client}, concurrency=100, progress=False)
    assert {row["text"] for row in result.rows()} == {"first last"}
    assert most == 100


@pytest.mark.kernel
def test_a_notebooks_async_checks_run_on_its_own_loop(kernel: Kernel) -> None:
    """What a check holds of the kernel's loop works in `evaluate`, and Run All goes on."""
    kernel.run(
        "import asyncio\nfrom halo_notebook import DemoAgent, HaloClient\n"
        "from halo_notebook.demo import DEMO_KEY\n"
        "from halo_notebook.evaluation.run import evaluate, aevaluate\n"
        "agent = DemoAgent(first_byte_s=0, chunk_s=0).start()\n"
        "configs = {'demo': HaloClient(DEMO_KEY, base_url=agent.url)}\n"
        "future = asyncio.get_running_loop().create_future()\nfuture.set_result(True)\n"
        "async def check(reply):\n    await asyncio.sleep(0)\n    return await future"
    )
    results = kernel.run_all(
        [
            "print(evaluate(['one', 'two'], [check], configs=configs, progress=False).passed('check'))",
            "print((await aevaluate(['one'], [check], configs=configs, progress=False)).passed('check'))",
            "print('after')",
        ]
    )
    assert [result.stdout for result in results] == [
        "{'demo': {'1': [True], '2': [True]}}\n",
        "{'demo': {'1': [True]}}\n",
        "after\n",
    ]
