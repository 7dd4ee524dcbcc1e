"""What an evaluation's file holds, and what is sent again: after another run, an error or any end."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from halo_notebook import HaloClient, TextDelta, errors
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation import pass_rate
from halo_notebook.evaluation.file.journal import Journal
from halo_notebook.evaluation.file.lines import located_lines

from ..agents import in_two_parts, messages, ok, sent, states, stopping_once, wait_until

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

    from ..conftest import Run

INTERRUPTED = "1 may have reached the agent: if sending twice is safe, rerun with resume='interrupted'."


def test_stored_turns_are_not_sent_again(agent: DemoAgent, run: Run, kept: Path) -> None:
    """An edited case is sent again, of the others only an added one, and a renamed one not at all."""
    run(["one", {"id": "b", "turns": ["two"]}], path=kept)
    assert sorted(sent(agent)) == ["one", "two"]
    cases = [{"id": "renamed", "turns": ["two"], "expect": "x"}, "one", "two!", "three"]
    result = run(cases, [contains()], path=kept)
    assert sorted(sent(agent)[2:]) == ["three", "two!"]
    assert [row["case"] for row in result.rows()] == ["renamed", "2", "3", "4"]
    assert result.passed("contains") == {"demo": {"renamed": [False], "2": [], "3": [], "4": []}}


@pytest.mark.usefixtures("given_up_early")
@pytest.mark.parametrize(
    ("faults", "why"),
    [(["401"], "refused the key"), (["503 retry-after 0"] * 2, "503")],
    ids=["refused key", "no capacity"],
)
def test_a_refused_message_is_sent_by_the_next_run(
    faults: list[str], why: str, agent: DemoAgent, run: Run, kept: Path
) -> None:
    """Nothing was taken, so nothing can be sent twice; a 503 that says when to come back is like a 429."""
    agent.faults.extend(faults)
    first = run(["one"], [ok], path=kept)
    [row] = first.rows()
    assert row["status"] == "failed" and why in row["error"]
    assert first.passed("ok") == {"demo": {"1": [None]}}  # it says nothing about the agent
    assert states(run(["one"], path=kept)) == ["complete"]
    assert len(agent.requests) == len(faults) + 1


def test_a_conversation_refused_at_a_later_turn_is_not_restarted(
    agent: DemoAgent, run: Run, kept: Path
) -> None:
    """It failed, in every table; its first turn had arrived, so it is not started again automatically."""
    agent.faults.extend(["drip", "401"])
    cases = [["one", "two", "three"]]
    result = run(cases, [ok], path=kept)
    assert states(result) == ["complete", "failed", "skipped"]
    assert repr(result) == "Evaluation(1 conversation: 1 failed)"
    summary = result.summary()[["complete", "failed", "interrupted", "not asked"]]
    assert summary.loc["demo"].tolist() == [1, 1, 0, 1]
    assert INTERRUPTED in result.notes()[0] and result.failures().empty
    run(cases, path=kept)
    assert sent(agent) == ["one", "two"]


@pytest.mark.parametrize("fault", ["cut text", "500", "stall", "close"])
def test_a_message_that_may_have_arrived_is_not_sent_again(
    fault: str, agent: DemoAgent, run: Run, kept: Path
) -> None:
    """It is recorded as interrupted, does not pass, and the next run leaves it alone."""
    agent.faults.append(fault)
    first = run([["one", "two"]], [ok], path=kept)
    assert states(first) == ["interrupted", "skipped"]
    assert first.passed("ok") == {"demo": {"1": [False]}}
    assert INTERRUPTED in first.notes()[0]
    assert states(run([["one", "two"]], path=kept)) == ["interrupted", "skipped"]
    assert sent(agent) == ["one"]


def test_resume_interrupted_sends_it_again(agent: DemoAgent, run: Run, kept: Path) -> None:
    """In a fresh session, from its first turn; a complete conversation is left alone."""
    agent.faults.append("cut text")
    cases = [["one", "two"], "three"]
    first = run(cases, [ok], path=kept, concurrency=1)
    assert states(first) == ["interrupted", "skipped", "complete"]
    again = run(cases, [ok], path=kept, resume="interrupted")
    assert states(again) == ["complete"] * 3 and again.notes() == []
    assert again.passed("ok") == {"demo": {"1": [True], "2": [True]}}
    later = run(cases, [ok], path=kept)  # it finds the last conversation in the file
    assert [row["text"] for row in later.rows()] == [row["text"] for row in again.rows()]
    assert sent(agent) == ["one", "three", "one", "two"]
    assert "session_id" not in agent.requests[2].body


KILLED = """\
import sys
from halo_notebook import HaloClient, evaluate
client = HaloClient({key!r}, base_url={url!r})
cases = [f"message {{number}}" for number in range(40)]
evaluate(cases, configs={{"demo": client}}, path={path!r}, concurrency=4, progress=False)
"""


def test_after_the_process_is_killed_only_unsent_messages_are_sent(run: Run, kept: Path) -> None:
    """Complete turns are kept, and those that were running are not sent again."""
    with DemoAgent(first_byte_s=0, reply=in_two_parts(0.1)) as agent:
        code = KILLED.format(key=DEMO_KEY, url=agent.url, path=str(kept))
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        wait_until(lambda: len(agent.requests) >= 14)
        process.kill()
        process.wait(20)
        assert 14 <= len(sent(agent)) < 40
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        result = run(messages(40), configs=configs, path=kept)
        assert len(set(sent(agent))) == len(sent(agent))  # each at most once, in both runs together
        unsent = set(messages(40)) - set(sent(agent))
        rows = list(result.rows())
        assert unsent <= {row["message"] for row in rows if row["status"] == "interrupted"}
        counts = Counter(states(result))
        assert counts["complete"] + counts["interrupted"] == 40 and 1 <= counts["interrupted"] <= 4
        assert len({row["session_id"] for row in rows if row["status"] == "complete"}) == counts["complete"]


def test_an_interrupt_returns_what_there_is(run: Run, kept: Path) -> None:
    """The result says that it is incomplete, and the same call resumes it."""
    released = threading.Event()

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("first ")
        yield 0.01
        while request["message"] in messages(3) and not released.is_set():
            yield 0.02

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}

        def interrupt() -> None:
            # The turns that came later have been stored, so what was received before them has been read.
            wait_until(lambda: kept.exists() and kept.read_text().count('{"kind":"turn"') >= 10)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        result = run(messages(300), [ok], configs=configs, path=kept, concurrency=4)
        released.set()
        assert result.interrupted and "the same call resumes it" in result.notes()[0]
        counts = Counter(states(result))
        assert counts["complete"] > 0 and counts["not run"] > 0 and counts["interrupted"] <= 4
        assert any(row["text"] == "first " for row in result.rows() if row["status"] == "interrupted")
        again = run(messages(300), configs=configs, path=kept, concurrency=16)
        assert "not run" not in states(again)
        assert len(set(sent(agent))) == len(sent(agent)) >= 296


def test_turns_that_an_interrupt_left_are_counted(run: Run) -> None:
    """Those that were not judged, and the cases that were not sent, which have not failed."""
    result = run(messages(400), [stopping_once()], concurrency=1)
    assert result.interrupted and states(result).count("not run") > 300
    done = states(result).count("complete")
    unjudged = f"Check 'stops' has not judged {done} turn{'s' * (done > 1)} yet; rescore() does."
    assert unjudged in result.notes()
    passed = [row["stops"] for row in result.rescore().rows()]
    assert passed.count(True) == done > 0 and False not in passed and result.failures().empty
    rate = pass_rate(result.passed("stops")["demo"])
    assert rate.n == 400 - rate.empty == result.summary()["stops n"]["demo"] == done
    assert f"{done} of 400 cases" in str(rate)


# --- The file ---------------------------------------------------------------------------


def lines_of(path: Path) -> list[dict[str, JSON]]:
    return [line for _, line in located_lines(path)]


def test_without_a_path_the_file_is_deleted_with_the_result(run: Run) -> None:
    """Nothing is left behind for each evaluation that was tried."""
    result = run(["one"])
    folder = result.path.parent
    assert result.path.exists()
    del result
    gc.collect()
    assert not folder.exists()


def test_a_second_writer_is_refused(run: Run, kept: Path) -> None:
    """In this process, and in another."""
    code = f"from halo_notebook.evaluation.file.journal import *; Journal(Path({str(kept)!r}))"
    with contextlib.closing(Journal(kept)):
        with pytest.raises(errors.UsageError, match="Another evaluation is writing"):
            run(["one"], path=kept)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "Another evaluation is writing" in done.stderr
    assert len(run(["one"], path=kept)) == 1
    with pytest.raises(errors.InvalidRequest, match="holds an evaluation"):
        run(["one"], path=kept, resume=False)


@pytest.mark.parametrize(
    "content", ["my dear diary\n", '{"cells": [', "no newline", "\n", '{"kind":"turn"}\n']
)
def test_a_file_of_another_kind_is_not_touched(content: str, run: Run, kept: Path) -> None:
    """Such as a notebook whose path was given by mistake, or a device, whose reading may never end."""
    kept.write_text(content)
    for path in (kept, "/dev/full", "/dev/null", "."):
        with pytest.raises(errors.UsageError, match="is not an evaluation file"):
            run(["one"], path=path)
    assert kept.read_text() == content
    assert list(kept.parent.iterdir()) == [kept]


def test_a_file_whose_first_line_is_incomplete_can_be_used(run: Run, kept: Path) -> None:
    """A process that was killed at once leaves such a file."""
    kept.write_bytes(b'{"kind":"run","form')
    assert states(run(["one"], path=kept)) == ["complete"]


def test_a_line_cut_short_by_a_crash_is_skipped(kept: Path) -> None:
    """The lines after it are still read, from where they begin."""
    with contextlib.closing(Journal(kept)) as journal:
        journal.append({"kind": "run"})
    with kept.open("ab") as file:
        file.write(b'{"kind": "tor')
    written: list[dict[str, JSON]] = [{"kind": "refused", "key": "ü", "turn": each} for each in range(100)]
    with contextlib.closing(Journal(kept)) as journal:
        begin = [journal.append(line) for line in written]
    assert list(located_lines(kept)) == [(0, {"kind": "run"}), *zip(begin, written, strict=True)]
    assert lines_of(kept.with_name("none")) == []


def test_a_full_disk_ends_the_run_in_one_line(
    agent: DemoAgent, run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No message leaves that could not be recorded, and the file can be resumed."""
    # What is imported while files have a limit must not be cached: the cached file would be cut short.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    run(["one"], path=kept)
    before = kept.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))  # room for a part of a line
    try:
        with pytest.raises(errors.UsageError, match=r"could not be written \(File too large\)"):
            run(["one", "two", "three"], path=kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sent(agent) == ["one"]
    assert kept.read_bytes() == before
    assert set(states(run(["one", "two", "three"], path=kept))) == {"complete"}


def test_no_text_is_held_in_memory(run: Run) -> None:
    """Replies of 100 kB each leave next to nothing behind: they are in the file."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("x" * 100_000)

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        run(["warm"], [ok], configs=configs)
        tracemalloc.start()
        result = run([f"{number}" for number in range(600)], [ok], configs=configs)
        gc.collect()
        held, most = tracemalloc.get_traced_memory()
        sizes = [len(row["text"]) for row in result.rows()]
        most_reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sizes == [100_000] * 600
    assert held < 3_000_000  # of the 60 MB that came
    assert max(most, most_reading) < 25_000_000


def test_a_table_reads_only_the_lines_of_its_turns(run: Run, kept: Path) -> None:
    """The position of each turn's line is remembered: what else is in the file is not read again."""
    result = run(["one", ["two", "three"]], [ok], path=kept)
    with kept.open("r+b") as file:
        for at, line in located_lines(kept):
            if line["kind"] != "turn":
                file.seek(at)
                file.write(b"!")  # not JSON any more, at the same place
    assert [row["message"] for row in result.rows()] == ["one", "two", "three"]
    assert states(result) == ["complete"] * 3 and len(result.conversation(1)) == 2
    assert all(row["ok"] for row in result.rescore().rows())
    assert kept.read_bytes().count(b"\n!") >= 3
