"""A reply in a cell while it arrives: when it is painted, and what an interrupt does.

The first text is painted at once; after that the pacer says when; and the last frame is painted whatever ends
the reply. Each frame shows what the reply holds at that moment, so an interrupt shows all received text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..display.wording import status_words, what_is_kept
from ..errors import HaloError, ReplyStopped

if TYPE_CHECKING:
    from ..client.sync import ReplyStream
    from ..display.pacer import Pacer
    from ..reply import Reply


class Screen(Protocol):
    """Where a reply is shown."""

    def begin(self, state: str) -> None:
        """Show that a reply is expected."""

    def paint(self, state: str) -> None:
        """Show what has been received so far."""

    def finish(self, words: Sequence[str]) -> None:
        """Show the whole reply and the status line."""


def follow(
    stream: ReplyStream,
    screen: Screen,
    pacer: Pacer,
    *,
    when_shown: Callable[[], None] = lambda: None,
    **about: Any,
) -> Reply:
    """Show `stream` on `screen` until it ends, and return its reply.

    Args:
        stream: not yet entered.
        when_shown: called when everything received so far is shown; it may wait for the user.
        about: what else the status line says, see `status_words`.

    Raises:
        HaloError: as the stream does; `ReplyStopped` on an interrupt. The text received so far has been
            shown by then.
    """
    reply, inbox = stream.reply, stream.inbox
    interrupted = False
    errors: list[HaloError] = []
    try:
        begin, paint = lambda: screen.begin(reply.state), lambda: screen.paint(reply.state)
        errors = watch([stream], pacer, begin, paint, when_shown)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stream.stop()
        screen.finish(status_words(reply, **about))
    if errors:
        raise errors[0]
    if interrupted or reply.status == "stopped" or inbox.stopped:  # a panel's Stop ends it, too
        raise stopped(stream)
    return reply


def watch(
    streams: Sequence[ReplyStream],
    pacer: Pacer,
    begin: Callable[[], None],
    paint: Callable[[], None],
    when_shown: Callable[[], None],
) -> list[HaloError]:
    """Start `streams`, which share an inbox, and paint until all have ended; returns what ended them.

    Raises:
        KeyboardInterrupt: when the inbox is stopped; the streams are still to be stopped then.
    """
    inbox, running = streams[0].inbox, list(streams)
    errors: list[HaloError] = []
    unwatch = [stream.reply.watchers.add(lambda _: inbox.wake()) for stream in streams]
    try:
        for stream in streams:
            stream.open(events=False)
        begin()
        dirty, started = False, 0
        while running:
            inbox.wait(pacer.wait_s() if dirty else math.inf)
            for stream in running:
                try:
                    stream.next_event(0)
                except HaloError as error:
                    errors.append(error)
            running = [stream for stream in running if not stream.ended]
            dirty = True
            with_text = sum(stream.reply.first_text_s is not None for stream in streams)
            if with_text > started or pacer.wait_s() == 0:
                started = with_text
                paint()
                dirty = False
                inbox.run(when_shown)
    finally:
        for remove in unwatch:
            remove()
    return errors


def stopped(stream: ReplyStream) -> HaloError:
    """The error of a stream that was stopped."""
    reply = stream.reply
    after = f" after {reply.elapsed_s:.1f} s" if reply.elapsed_s is not None else ""
    left = "had left, so the agent may still act on it" if reply.may_have_arrived else "had not been sent"
    message = f"{what_is_kept(reply)}; the message {left}. The next message continues the conversation."
    if reply.status == "complete":
        after, message = f"{after}, when the reply was complete", "The reply and the session are kept."
    error = ReplyStopped(f"Stopped{after}. {message}")
    error.reply, error.arrived = reply, "maybe" if reply.may_have_arrived else "no"
    return error
