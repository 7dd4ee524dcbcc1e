"""A reply in a cell while it arrives: when to repaint.

The first text is shown at once; then the pacer says when; and the last frame always comes,
whatever ends the reply.

What is painted is what the reply holds at that moment, not what has been handed over of
it: an interrupt shows all that had arrived.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..concurrency import loop as bridge
from ..display.words import status_words, what_is_kept
from ..errors import HaloError, ReplyStopped

if TYPE_CHECKING:
    from ..client.sync import ReplyStream
    from ..display.pacer import Pacer
    from ..reply import Reply

_LOOK_S = 0.25
"""How often an idle stream is looked at for a new state, such as a retry."""


class Screen(Protocol):
    """Where a reply is shown."""

    def begin(self, state: str) -> None:
        """Show that the reply is awaited."""

    def paint(self, state: str) -> None:
        """Show what has arrived."""

    def finish(self, words: Sequence[str]) -> None:
        """Show the whole, and the status line."""


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
        screen: shows the stream's reply.
        pacer: when to repaint.
        when_shown: called now and then while nothing comes and all that came is shown; it may block
            this thread, which asks a presenter for the next step.
        about: what else the status line says, see `status_words`.

    Raises:
        HaloError: as the stream does; `ReplyStopped` on an interrupt. What had arrived is
            shown before.
    """
    reply = stream.reply

    def finish() -> None:
        # An impatient second interrupt must not cost the last frame.
        with bridge.uninterrupted():
            stream.stop()
            screen.finish(status_words(reply, **about))

    stream.open()
    shown_state = stream.state
    try:
        # Held back while something is painted: half a frame could be neither taken back nor gone on from.
        with bridge.uninterrupted():
            screen.begin(shown_state)
        dirty, started = False, False
        while not stream.ended:
            event = stream.next_event(pacer.wait_s() if dirty else _LOOK_S)
            if event is not None or stream.state != shown_state:
                dirty = True
            first_text = not started and reply.first_text_s is not None
            if dirty and (first_text or pacer.wait_s() == 0):
                started = started or first_text
                shown_state = stream.state
                with bridge.uninterrupted():
                    screen.paint(shown_state)
                dirty = False
            elif not dirty and event is None and not stream.ended:
                when_shown()
    except KeyboardInterrupt:
        with contextlib.suppress(KeyboardInterrupt):
            finish()
        raise _stopped(stream) from None
    except BaseException:
        with contextlib.suppress(KeyboardInterrupt):  # the error says more
            finish()
        raise
    finish()
    if reply.status == "stopped":  # by another thread, as a panel's button does
        raise _stopped(stream)
    return reply


def _stopped(stream: ReplyStream) -> HaloError:
    reply = stream.reply
    after = f" after {reply.elapsed_s:.1f} s" if reply.elapsed_s is not None else ""
    left = (
        "the message had left, so the agent may still act on it"
        if stream.may_have_arrived
        else "the message had not been sent"
    )
    error = ReplyStopped(
        f"Stopped{after}. {what_is_kept(reply)}; {left}. The next message goes on from here."
    )
    error.reply, error.arrived = reply, "maybe" if stream.may_have_arrived else "no"
    return error
