"""When a reply is repainted, and what stands on the screen whatever ends it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient, Reply, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.display.pacer import MAX_BYTES_PER_S, MAX_TIME_SHARE, MIN_INTERVAL_S, Pacer
from halo_notebook.magics.cell import follow
from halo_notebook.magics.screens.terminal import TerminalScreen
from halo_notebook.stream import Action, ActionSummary, TextDelta

from .test_outputs import Clock

if TYPE_CHECKING:
    from halo_notebook.client.sync import ReplyStream


def for_ten_seconds(size: Callable[[float], int], making_s: float = 0.0) -> list[int]:
    """The sizes of the messages that a pacer lets out, whose size depends on the time."""
    clock, sent = Clock(), list[int]()
    pacer = Pacer(clock)
    while clock.now < 110:
        if pacer.wait_s() == 0:
            since = clock.now
            clock.now += making_s
            sent.append(size(since - 100))
            pacer.spent(since=since, size=sent[-1])
        clock.now += 0.001
    return sent


def test_messages_are_limited_in_number_bytes_and_time() -> None:
    """At most 20 a second; fewer as they get larger, or slow to make."""
    assert 190 <= len(for_ten_seconds(lambda _: 100)) <= 1 + 10 / MIN_INTERVAL_S
    assert sum(for_ten_seconds(lambda now: int(now * 20_000))) <= 11 * MAX_BYTES_PER_S
    assert 0.2 * len(for_ten_seconds(lambda _: 0, making_s=0.2)) <= 10 * MAX_TIME_SHARE + 0.4


def test_several_messages_in_one_go_put_the_next_off() -> None:
    """A repaint with two actions counts three times."""
    clock = Clock()
    pacer = Pacer(clock)
    for _ in range(3):
        pacer.spent(since=clock.now, size=0)
    assert pacer.wait_s() == pytest.approx(3 * MIN_INTERVAL_S)


class Screen:
    """Records what it is asked to show."""

    def __init__(self, reply: Reply, pacer: Pacer) -> None:
        self.reply = reply
        self.pacer = pacer
        self.painted: list[str] = []
        self.words: list[str] = []

    def begin(self, state: str) -> None:
        self.painted.append(state)

    def paint(self, state: str) -> None:
        self.painted.append(self.reply.text)
        self.pacer.spent(since=self.pacer.clock(), size=0)

    def finish(self, words: Sequence[str]) -> None:
        self.painted.append(self.reply.text)
        self.words = list(words)


def shown(reply: Any, fault: str | None = None) -> tuple[Screen, ReplyStream, Exception | None]:
    """Follow one reply of `reply`'s steps, and say what was shown and raised."""
    with DemoAgent(reply=reply, first_byte_s=0) as agent:
        if fault:
            agent.faults.append(fault)
        stream = HaloClient(DEMO_KEY, base_url=agent.url, silence_timeout_s=1).stream("Hello")
        screen = Screen(stream.reply, Pacer())
        try:
            follow(stream, screen, screen.pacer, source="demo agent")
        except errors.HaloError as error:
            return screen, stream, error
    return screen, stream, None


def test_the_last_frame_is_the_whole() -> None:
    """However fast the chunks come, few frames are painted and the last holds everything."""
    screen, stream, error = shown(lambda _: [TextDelta(f"{n} ") for n in range(3000)])
    assert error is None
    assert screen.painted[-1] == stream.reply.text == "".join(f"{n} " for n in range(3000))
    assert len(screen.painted) < 60
    assert screen.words[0] == "demo agent"


def test_the_first_text_is_painted_at_once() -> None:
    """It does not wait for the next frame's turn."""
    seen: list[str] = []

    def steps(_: Any) -> Iterator[Any]:
        yield TextDelta("first")
        for _step in range(100):
            if "first" in seen:
                break
            yield 0.02
        yield TextDelta(" second")

    with DemoAgent(reply=steps, first_byte_s=0) as agent:
        stream = HaloClient(DEMO_KEY, base_url=agent.url).stream("Hello")
        screen = Screen(stream.reply, Pacer())
        screen.painted = seen
        screen.pacer.spent(since=screen.pacer.clock(), size=MAX_BYTES_PER_S * 60)  # a minute's rest is due
        follow(stream, screen, screen.pacer)
    assert seen[1:] == ["first", "first second"]


def test_a_broken_reply_is_painted_before_its_error() -> None:
    """The text received so far is on the screen, and the status line says how it ended."""
    screen, stream, error = shown(None, fault="cut text")
    assert isinstance(error, errors.ReplyInterrupted)
    assert screen.painted[-1] == stream.reply.text != ""
    assert "failed" in screen.words


def test_a_retry_is_shown_while_it_is_waited_for() -> None:
    """The reader sees why nothing comes."""
    screen, _, error = shown(lambda _: [TextDelta("Hi")], fault="429 retry-after 1")
    assert error is None
    assert "" in screen.painted, "repainted when the state changed, before any text"
    assert "try 2" in screen.words


def test_a_terminal_shows_text_as_it_comes_and_no_escapes() -> None:
    """Actions stand where they arrived, on lines of their own, and each only once."""

    def steps(_: Any) -> list[Any]:
        return [
            TextDelta("One \x1b[31mred\x07 line"),
            Action({"type": "open\x1b]0;x\x07", "n": 1}),
            TextDelta(" continues"),
            ActionSummary([{"type": "open\x1b]0;x\x07", "n": 1}, {"type": "late"}]),
        ]

    with DemoAgent(reply=steps, first_byte_s=0) as agent:
        stream = HaloClient(DEMO_KEY, base_url=agent.url).stream("Hello")
        with redirect_stdout(io.StringIO()) as out:
            follow(stream, TerminalScreen(stream.reply), Pacer(), session="default")
    text = out.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.startswith("One [31mred line\n[action 1: open]0;x]\n{")
    assert text.index("[action 1: ") < text.index(" continues\n[action 2: late]")
    assert text.count("[action 1: ") == 1
    assert text.splitlines()[-1].startswith("[agent agent_demo · session default · first text")
