"""When a reply is repainted, and what stands on the screen whatever ends it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.display.pacer import MAX_BYTES_PER_S, MAX_TIME_SHARE, MIN_INTERVAL_S, Pacer
from halo_notebook.magics.cell import follow
from halo_notebook.magics.screens.terminal import TerminalScreen, write_line
from halo_notebook.stream import Action, ActionSummary, TextDelta

from .test_outputs import Clock


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
    """At most 20 a second; fewer as they get larger, or slow to make. Several at once put the next off."""
    assert 190 <= len(for_ten_seconds(lambda _: 100)) <= 1 + 10 / MIN_INTERVAL_S
    assert sum(for_ten_seconds(lambda now: int(now * 20_000))) <= 11 * MAX_BYTES_PER_S
    assert 0.2 * len(for_ten_seconds(lambda _: 0, making_s=0.2)) <= 10 * MAX_TIME_SHARE + 0.4
    clock = Clock()
    pacer = Pacer(clock)
    for _ in range(3):
        pacer.spent(since=clock.now, size=0)
    assert pacer.wait_s() == pytest.approx(3 * MIN_INTERVAL_S)


class Screen:
    """Records what it is asked to show of the reply that it asks for."""

    def __init__(self, agent: DemoAgent) -> None:
        self.stream = HaloClient(DEMO_KEY, base_url=agent.url, silence_timeout_s=1).stream("Hello")
        self.pacer = Pacer()
        self.painted: list[str] = []
        self.words: list[str] = []

    def begin(self, state: str) -> None:
        self.painted.append(state)

    def paint(self, state: str) -> None:
        self.painted.append(self.stream.reply.text)
        self.pacer.spent(since=self.pacer.clock(), size=0)

    def finish(self, words: Sequence[str]) -> None:
        self.painted.append(self.stream.reply.text)
        self.words = list(words)


def shown(reply: Any, *faults: str) -> Screen:
    """Follow one reply of `reply`'s steps, and return what was shown."""
    with DemoAgent(reply=reply, first_byte_s=0) as agent:
        agent.faults.extend(faults)
        screen = Screen(agent)
        with pytest.raises(errors.ReplyInterrupted) if "cut text" in faults else nullcontext():
            follow(screen.stream, screen, screen.pacer, source="demo agent")
    return screen


def test_the_last_frame_is_the_whole() -> None:
    """However fast the chunks come, few frames are painted and the last holds everything."""
    screen = shown(lambda _: [TextDelta(f"{n} ") for n in range(3000)])
    assert screen.painted[-1] == "".join(f"{n} " for n in range(3000))
    assert len(screen.painted) < 60
    assert screen.words[0] == "demo agent"


def test_the_first_text_is_painted_at_once() -> None:
    """It does not wait for the next frame's turn."""

    def steps(_: Any) -> Iterator[Any]:
        yield TextDelta("first")
        for _step in range(100):
            if "first" in screen.painted:
                break
            yield 0.02
        yield TextDelta(" second")

    with DemoAgent(reply=steps, first_byte_s=0) as agent:
        screen = Screen(agent)
        screen.pacer.spent(since=screen.pacer.clock(), size=MAX_BYTES_PER_S * 60)  # a minute's rest is due
        follow(screen.stream, screen, screen.pacer)
    assert screen.painted[1:] == ["first", "first second"]


def test_a_broken_reply_is_painted_before_its_error() -> None:
    """The text received so far is on the screen, and the status line says how it ended."""
    screen = shown(None, "cut text")
    assert screen.painted[-1] == screen.stream.reply.text != ""
    assert "failed" in screen.words


def test_a_retry_is_shown_while_it_is_waited_for() -> None:
    """The reader sees why nothing comes."""
    screen = shown(lambda _: [TextDelta("Hi")], "429 retry-after 1")
    assert "" in screen.painted, "repainted when the state changed, before any text"
    assert "try 2" in screen.words


class OnlyWrites:
    """What another program may put in place of stdout."""

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> None:
        self.written += text


@pytest.mark.parametrize("out", [None, OnlyWrites()], ids=["none", "without flush"])
def test_a_program_without_a_console_gets_its_reply(out: Any) -> None:
    """Where stdout is None, or another program's, nothing fails."""
    with DemoAgent(reply=lambda _: [TextDelta("Hi")], first_byte_s=0) as agent:
        stream = HaloClient(DEMO_KEY, base_url=agent.url).stream("Hello")
        with redirect_stdout(out):
            follow(stream, TerminalScreen(stream.reply), Pacer(), session="default")
            write_line("a line")
    assert stream.reply.status == "complete"
    assert out is None or (out.written.startswith("Hi\n[") and out.written.endswith("]\na line\n"))


def test_a_terminal_shows_text_as_it_comes_and_no_escapes() -> None:
    """Actions stand where they arrived, on lines of their own, and each only once."""
    action: Any = {"type": "open\x1b]0;x\x07", "n": 1}
    late = ActionSummary([action, {"type": "late"}])
    steps: Any = [TextDelta("One \x1b[31mred\x07 line"), Action(action), TextDelta(" continues"), late]
    with DemoAgent(reply=lambda _: steps, first_byte_s=0) as agent:
        stream = HaloClient(DEMO_KEY, base_url=agent.url).stream("Hello")
        with redirect_stdout(io.StringIO()) as out:
            follow(stream, TerminalScreen(stream.reply), Pacer(), session="default")
    text = out.getvalue()
    assert "\x1b" not in text and "\x07" not in text
    assert text.startswith("One [31mred line\n[action 1: open]0;x]\n{")
    assert text.index("[action 1: ") < text.index(" continues\n[action 2: late]")
    assert text.count("[action 1: ") == 1
    assert text.splitlines()[-1].startswith("[agent agent_demo · session default · first text")
