"""Interrupts, crashes and full disks leave a recording that can be read."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.demo import DemoAgent, Step
from halo_notebook.recording.format import read_recording
from halo_notebook.recording.recorder import Recorder
from halo_notebook.stream import JSON, TextDelta

from .recordings import KEY, asked, recorded, replaying, said


def test_what_the_reader_stops_is_kept_as_stopped(path: Path) -> None:
    """The part that was received is recorded; it is served only without another, and says why it ends."""
    stall = threading.Event()

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("The beginning.")
        while not stall.is_set():
            yield 0.01
        yield TextDelta(" The end.")

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        client = HaloClient(KEY, base_url=agent.url, record=Recorder(path))
        with client.stream("Hello") as events:
            next(iter(events))
        now, error = asked(replaying(path), "Hello")
        assert isinstance(error, errors.ReplyInterrupted)
        assert "The recording of this reply ends here" in str(error)
        assert (now.text, now.status) == ("The beginning.", "failed")
        stall.set()
        assert client.ask("Hello").text == "The beginning. The end."
    for _ in range(2):
        assert replaying(path).ask("Hello").text == "The beginning. The end."


def test_a_killed_process_leaves_whole_lines(path: Path) -> None:
    """Exchanges that had ended are there, and the recording can be continued."""
    code = """
import sys
from halo_notebook import HaloClient, Recorder
client = HaloClient('ab_live_x', base_url=sys.argv[1], record=Recorder(sys.argv[2]))
client.ask('Hello')
with client.stream('/fault stall') as events:
    print(next(iter(events)).text, flush=True)
    list(events)
"""
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        process = subprocess.Popen(
            [sys.executable, "-c", code, agent.url, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "stalls" in process.stdout.readline()
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        recorder = Recorder(path)
        assert recorder.count == 1
        HaloClient(KEY, base_url=agent.url, record=recorder).ask("Markdown")
    assert [each.message for each in read_recording(path)] == ["Hello", "Markdown"]


@pytest.mark.parametrize(
    ("tail", "held"),
    [('{"at": "2026', ["one"]), ("", ["one"]), (json.dumps(said("two", "2").to_line()), ["one", "two"])],
    ids=["cut", "none", "whole but for its end"],
)
def test_a_line_cut_short_is_skipped(tail: str, held: list[str], path: Path) -> None:
    """One that a full disk or a power cut left; what comes later is not lost with it."""
    recorded(path, said("one", "1"))
    with path.open("a", encoding="utf-8") as file:
        file.write(tail)
    assert [each.message for each in read_recording(path)] == held
    recorded(path, said("three", "3"))
    assert [each.message for each in read_recording(path)] == [*held, "three"]


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Said at once, before anything is sent."""
    for place in (tmp_path, tmp_path / "missing" / "demo.jsonl", "nul\x00", "~nobody-of-that-name/x"):
        with pytest.raises(errors.UsageError, match=r"could not be (written|read)"):
            Recorder(place)


def test_a_recording_that_fails_later_costs_no_reply(agent: DemoAgent, tmp_path: Path) -> None:
    """The reply is whole, and the recorder says what it lacks."""
    folder = tmp_path / "gone"
    folder.mkdir()
    recorder = Recorder(folder / "demo.jsonl")
    shutil.rmtree(folder)
    assert HaloClient(KEY, base_url=agent.url, record=recorder).ask("Hello").status == "complete"
    assert (recorder.count, recorder.lost) == (0, 1)
    assert "'demo.jsonl' lacks a reply, which could not be written (No such file" in recorder.error
