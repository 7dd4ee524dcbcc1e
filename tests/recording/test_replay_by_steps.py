"""A replay by steps pauses exactly where a paragraph or an action ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_notebook import HaloClient
from halo_notebook.kernel import Connection
from halo_notebook.recording import replay as replay_module
from halo_notebook.recording.replay import WAITS, Replay
from halo_notebook.stream import Action, ActionSummary, encode

from .recordings import recorded, replaying, said

if TYPE_CHECKING:
    from halo_notebook.client.sync import ReplyStream


class Watched:
    """An attended turn of a replay by steps, read on a thread of its own."""

    def __init__(self, replay: Replay, message: str, **settings: Any) -> None:
        self.replay = replay
        self.stream: ReplyStream = HaloClient(transport=replay, **settings).stream(message)
        self.stream.exchange.attended = True
        self._changed = threading.Event()
        self.stream.reply.watchers.add(lambda _: self._changed.set())
        self.stream.open()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self.stream as events:
            list(events)
        self._changed.set()

    @property
    def text(self) -> str:
        return self.stream.reply.text

    def wait(self) -> None:
        """Until it waits for a step, or has ended."""
        while not self.replay.waits(self.stream.reply) and self.stream.reply.status == "streaming":
            assert self._changed.wait(10), self.stream.reply.state
            self._changed.clear()

    def end(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


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
    turn = Watched(replay, "Hello")
    seen = []
    while True:
        turn.wait()
        seen.append((turn.text, len(turn.stream.reply.actions)))
        if turn.stream.reply.status != "streaming":
            break
        assert turn.stream.reply.state == WAITS
        assert replay.step() == 1
    turn.end()
    assert seen == [
        ("# Title\n\n", 0),
        ("# Title\n\nFirst paragraph.\n\n", 0),
        ("# Title\n\nFirst paragraph.\n\n```\nx = 1\n\ny = 2\n```\n\n", 0),
        ("# Title\n\nFirst paragraph.\n\n```\nx = 1\n\ny = 2\n```\n\nLook: ", 1),
        ("# Title\n\nFirst paragraph.\n\n```\nx = 1\n\ny = 2\n```\n\nLook: there\n\n", 1),
    ]
    assert (turn.stream.reply.status, turn.stream.reply.elapsed_s) == ("complete", 1.2)
    assert replay.step() == 0, "nobody waits any more"


def test_a_step_may_wait_longer_than_the_silence_timeout(path: Path) -> None:
    """The time in which a reply waits for its step does not count as silence."""
    replay = Replay(recorded(path, said("Hello", "One.\n\n", "Two.")), pace="step")
    turn = Watched(replay, "Hello", silence_timeout_s=0.05)
    turn.wait()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(asyncio.Event().wait(), 0.3))
    assert replay.waits(turn.stream.reply)
    replay.step()
    turn.end()
    assert (turn.text, turn.stream.reply.elapsed_s) == ("One.\n\nTwo.", 0.4)


def test_a_turn_that_waits_can_be_stopped(path: Path) -> None:
    """It keeps what was let out, and is not waited for any more."""
    replay = Replay(recorded(path, said("Hello", "One.\n\n", "Two.")), pace="step")
    turn = Watched(replay, "Hello")
    turn.wait()
    turn.stream.ask_to_stop()
    turn.end()
    assert (turn.text, turn.stream.reply.status) == ("One.\n\n", "stopped")
    assert replay.step() == 0


def test_waiting_turns_continue_when_the_replay_ends(path: Path) -> None:
    """No turn is left to wait for a step that nobody can give it."""
    connection = Connection()
    replay = connection.start_replay(recorded(path, said("Hello", "One.\n\n", "Two.\n\n", "Three.")), "step")
    turns = [Watched(replay, "Hello"), Watched(replay, "Hello")]
    for turn in turns:
        turn.wait()
    connection.stop_replay()
    for turn in turns:
        turn.end()
        assert turn.text == "One.\n\nTwo.\n\nThree."


def test_each_turn_can_be_stepped_on_its_own(path: Path) -> None:
    """A cell lets its own reply go on, and no other's."""
    replay = Replay(recorded(path, said("Hello", "One.\n\n", "Two.")), pace="step")
    one, other = Watched(replay, "Hello"), Watched(replay, "Hello")
    one.wait()
    other.wait()
    assert replay.step(one.stream.reply) == 1
    one.end()
    assert replay.waits(other.stream.reply)
    assert replay.step() == 1
    other.end()


def test_an_unattended_turn_does_not_wait(path: Path) -> None:
    """An evaluation, or a program's own call, would wait for ever."""
    client = replaying(recorded(path, said("Hello", "One.\n\n", "Two.")), "step")
    assert client.ask("Hello").text == "One.\n\nTwo."


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
