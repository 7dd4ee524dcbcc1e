"""A replay by steps pauses exactly where a paragraph or an action ends."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_notebook import HaloClient
from halo_notebook.kernel import Connection
from halo_notebook.recording import replay as replay_module
from halo_notebook.recording.replay import WAITS, Replay
from halo_notebook.stream import Action, ActionSummary, encode

from .recordings import recorded, said


class Watched:
    """An attended turn of a replay by steps, read on a thread of its own."""

    def __init__(self, replay: Replay, **settings: Any) -> None:
        self.replay = replay
        self.stream = HaloClient(transport=replay, **settings).stream("Hello")
        self.reply = self.stream.reply
        self.stream.exchange.attended = True
        self._changed = threading.Event()
        self.reply.watchers.add(lambda _: self._changed.set())
        self.stream.open()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self.stream as events:
            list(events)

    def wait(self) -> None:
        """Until it waits for a step, or has ended."""
        while not self.replay.waits(self.reply) and self.reply.status == "streaming":
            assert self._changed.wait(10), self.reply.state
            self._changed.clear()

    def end(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def replay(path: Path) -> Replay:
    return Replay(recorded(path, said("Hello", "One.\n\n", "Two.")), pace="step")


STEPS = (
    "# Title\n",
    "\nFirst ",
    "paragraph.\n",
    "\n```\nx = 1\n\ny",
    " = 2\n```\n\nLook",
    ": ",
    encode(Action({"type": "go"})).decode()[:10],
    encode(Action({"type": "go"})).decode()[10:] + "there",
    "\n\n",
    encode(ActionSummary([{"type": "go"}])).decode(),
)


def test_a_step_is_a_paragraph_or_an_action(path: Path) -> None:
    """The first step is served at once; then the turn says that it waits, and each step needs a call."""
    replay = Replay(recorded(path, said("Hello", *STEPS)), pace="step")
    turn = Watched(replay)
    text = ""
    code = "```\nx = 1\n\ny = 2\n```\n\n"
    for step in ("# Title\n\n", "First paragraph.\n\n", code, "Look: ", "there\n\n"):
        turn.wait()
        text += step
        assert (turn.reply.text, len(turn.reply.actions)) == (text, text.count("Look: "))
        waits = step != "there\n\n"
        assert (turn.reply.state == WAITS) == waits
        assert replay.step() == waits
    turn.end()
    assert (turn.reply.status, turn.reply.elapsed_s) == ("complete", 1.2)


def test_a_step_may_wait_longer_than_the_silence_timeout(replay: Replay) -> None:
    """The time in which a reply waits for its step does not count as silence."""
    turn = Watched(replay, silence_timeout_s=0.05)
    turn.wait()
    time.sleep(0.3)
    assert replay.step() == 1
    turn.end()
    assert (turn.reply.text, turn.reply.elapsed_s) == ("One.\n\nTwo.", 0.4)


def test_a_turn_that_waits_can_be_stopped(replay: Replay) -> None:
    """It keeps what was let out, and is not waited for any more."""
    turn = Watched(replay)
    turn.wait()
    turn.stream.ask_to_stop()
    turn.end()
    assert (turn.reply.text, turn.reply.status) == ("One.\n\n", "stopped")
    assert replay.step() == 0


def test_waiting_turns_continue_when_the_replay_ends(path: Path) -> None:
    """No turn is left to wait for a step that nobody can give it."""
    connection = Connection()
    replay = connection.start_replay(recorded(path, said("Hello", "One.\n\n", "Two.\n\n", "Three.")), "step")
    turns = [Watched(replay), Watched(replay)]
    for turn in turns:
        turn.wait()
    connection.stop_replay()
    for turn in turns:
        turn.end()
        assert turn.reply.text == "One.\n\nTwo.\n\nThree."


def test_each_turn_can_be_stepped_on_its_own(replay: Replay) -> None:
    """A cell lets its own reply go on, and no other's."""
    one, other = Watched(replay), Watched(replay)
    one.wait()
    other.wait()
    assert replay.step(one.reply) == 1
    one.end()
    assert replay.waits(other.reply)
    assert replay.step() == 1
    other.end()


def test_an_unattended_turn_does_not_wait(replay: Replay) -> None:
    """An evaluation, or a program's own call, would wait for ever."""
    assert HaloClient(transport=replay).ask("Hello").text == "One.\n\nTwo."


@given(st.text(alphabet="ab\n `\x1e", max_size=60), st.integers(1, 5))
def test_steps_lose_nothing(text: str, size: int) -> None:
    """Wherever the chunks are cut: the same bytes at the same times, and each step shows something."""
    exchange = said("Hello", *(text[start : start + size] for start in range(0, len(text), size)))
    pieces = list(replay_module._divided(exchange.chunks, replay_module._step_ends(exchange)))
    by_time: dict[float, bytes] = {}
    steps = [b""]
    for at_s, data, begins in pieces:
        by_time[at_s] = by_time.get(at_s, b"") + data
        steps += [b""] if begins else []
        steps[-1] += data
    assert list(by_time.items()) == list(exchange.chunks)
    assert all(step.strip() for step in steps) or not text.strip()
    assert all(step.replace(b" ", b"").endswith(b"\n\n") for step in steps[:-1])
