"""A reply in a cell while it arrives: when to repaint, and with what.

Repainting costs: the page renders each frame, and the Jupyter server drops messages when
they come too fast, the last ones first. So the first text is shown at once; then come at
most 20 frames a second, fewer as a frame gets larger or slower, within a fixed share of
the time and of the bytes; and the last frame always comes, whatever ends the reply.

What is painted is what the reply holds at that moment, not what has been handed over of
it: an interrupt shows all that had arrived.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from IPython.display import publish_display_data

from ..concurrency import loop as bridge
from ..display.blocks import ReplyRenderer, ShownText, wrap
from ..display.bundles import (
    MAX_TREES,
    action_text,
    json_bundle,
    labelled_payloads,
    status_bundle,
    status_html,
    status_text,
)
from ..display.text import terminal_text
from ..errors import HaloError, ReplyStopped
from ..reply import kept, status_words

if TYPE_CHECKING:
    from ..client.exchange import ReplyStream
    from ..reply import Reply
    from ..stream import JSON

MIN_INTERVAL_S = 0.05
MAX_TIME_SHARE = 0.25
MAX_BYTES_PER_S = 150_000
MAX_SINGLE_ACTIONS = 2
"""More actions than this at one repaint are shown as one tree: each alone would be a message
of its own, and a burst of them would be dropped."""
MAX_ACTION_OUTPUTS = 20
"""After so many, further actions go into one tree that grows: JupyterLab hides a cell's outputs
beyond the fiftieth, and the status line with them."""
_LOOK_S = 0.25
"""How often an idle stream is looked at for a new state, such as a retry."""


class Pacer:
    """Says when the next message may go out.

    Args:
        clock: gives seconds.
        interval_s: the least time between two messages.
        bytes_per_s: the most that goes out on average.

    >>> now = 0.0
    >>> pacer = Pacer(clock=lambda: now)
    >>> pacer.wait_s()
    0.0
    >>> pacer.spent(since=0.0, size=0)
    >>> pacer.wait_s()
    0.05
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        *,
        interval_s: float = MIN_INTERVAL_S,
        bytes_per_s: float = MAX_BYTES_PER_S,
    ) -> None:
        self.clock = clock
        self._interval_s = interval_s
        self._bytes_per_s = bytes_per_s
        self._due = clock()

    def wait_s(self) -> float:
        """Seconds until the next message may go out; 0.0 when it may now."""
        return max(0.0, self._due - self.clock())

    def spent(self, *, since: float, size: int) -> None:
        """Count a message of `size` bytes whose making began at `since`."""
        cost_s = (self.clock() - since) / MAX_TIME_SHARE
        # From when it was due: several messages in one go put the next off by as many intervals.
        self._due = max(self._due, since) + max(self._interval_s, cost_s, size / self._bytes_per_s)


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
    error = ReplyStopped(f"Stopped{after}. {kept(reply)}; {left}. The next message goes on from here.")
    error.reply = reply
    return error


class NotebookScreen:
    """A reply as a cell's outputs: the text, each action as a tree, the status line.

    Args:
        reply: what to show; it grows.
        pacer: told what each message costs.
        metadata: gives what is written beside the text under the key `halo`.
        images: whether remote images are shown; else they are links.
    """

    def __init__(
        self, reply: Reply, pacer: Pacer, metadata: Callable[[], dict[str, JSON]], *, images: bool = False
    ) -> None:
        self._reply = reply
        self._pacer = pacer
        self._metadata = metadata
        self._text = ShownText(images=images)
        self._display_id = f"halo-{uuid.uuid4().hex}"
        self._part = 0
        self._actions_shown = 0
        self._action_outputs = 0
        self._rest: list[JSON] = []  # the actions of the one tree that grows
        self._state = ""

    def begin(self, state: str) -> None:
        self._state = state
        self._publish_text(status_html([state + " …"]), plain_text=state + " …")
        _warm_up()

    def paint(self, state: str) -> None:
        since = self._pacer.clock()
        if self._take_text():
            html = self._text.renderer.html() + self._text.end_html()
            self._publish_text(wrap(html), update=True, since=since)
        elif not self._part and state != self._state:
            self._state = state
            self._publish_text(status_html([state + " …"]), update=True, since=since)
        self._show_actions()

    def finish(self, words: Sequence[str]) -> None:
        self._take_text()
        html = self._text.renderer.finish() + self._text.end_html()
        html = wrap(html) if self._part else status_html(["no text"])
        # Only the last frame has its plain text beside it: it would double the bytes of each.
        plain_text = self._text.shown(self._reply.text) or "(no text)"
        self._publish_text(html, update=True, plain_text=plain_text)
        self._show_actions()
        self._show_payloads(self._reply.summary_only, len(self._reply.action_events))
        self._publish(status_bundle(words), {})

    def _take_text(self) -> bool:
        """Take in what has come; whether anything had."""
        text, self._part = self._reply.text_since(self._part)
        self._text.append(text)
        return bool(text)

    def _publish_text(
        self, html: str, *, plain_text: str | None = None, update: bool = False, since: float | None = None
    ) -> None:
        data = {"text/html": html}
        if plain_text is not None:
            data["text/plain"] = plain_text
        self._publish(
            data,
            {"halo": self._metadata()},
            since=since,
            transient={"display_id": self._display_id},
            update=update,
        )

    def _show_actions(self) -> None:
        events = self._reply.action_events[self._actions_shown :]
        self._show_payloads([event.payload for event in events], self._actions_shown)
        self._actions_shown += len(events)

    def _show_payloads(self, payloads: list[JSON], before: int) -> None:
        how: dict[str, Any] = {}
        most = MAX_SINGLE_ACTIONS
        if payloads and self._action_outputs >= MAX_ACTION_OUTPUTS:
            how = {"transient": {"display_id": f"{self._display_id}-rest"}, "update": bool(self._rest)}
            before -= len(self._rest)
            payloads = self._rest = self._rest + payloads
            most = 0
        for payload, label in labelled_payloads(payloads, before=before, most=most):
            since = self._pacer.clock()
            metadata = {"application/json": {"root": label}}
            self._publish(json_bundle(payload, label), metadata, since=since, **how)
            self._action_outputs += 1

    def _publish(
        self, data: dict[str, Any], metadata: dict[str, Any], *, since: float | None = None, **how: Any
    ) -> None:
        since = self._pacer.clock() if since is None else since
        publish_display_data(data=data, metadata=metadata, **how)
        size = sum(
            len(value) if isinstance(value, str) else len(json.dumps(value)) for value in data.values()
        )
        self._pacer.spent(since=since, size=size)


@cache
def _warm_up() -> None:
    """Make a process's first frame as quick as the others, while the agent is waited for."""
    ReplyRenderer().append("`a` [b](https://example.com)\n\n```python\nc\n```\n\n")


class TerminalScreen:
    """A reply as plain text in a terminal, printed as it comes."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._part = 0
        self._actions_shown = 0
        self._line_open = False

    def begin(self, state: str) -> None:
        pass  # a terminal's line cannot be taken back everywhere

    def paint(self, state: str) -> None:
        text, self._part = self._reply.text_since(self._part)
        self._write(terminal_text(text))
        events = self._reply.action_events[self._actions_shown :]
        self._show([event.payload for event in events])
        sys.stdout.flush()

    def finish(self, words: Sequence[str]) -> None:
        self.paint("")
        self._show(self._reply.summary_only)
        self._end_line()
        self._write(f"{status_text(words)}\n")
        sys.stdout.flush()

    def _show(self, payloads: list[JSON]) -> None:
        for payload, label in labelled_payloads(payloads, before=self._actions_shown, most=MAX_TREES):
            self._end_line()
            self._write(f"{action_text(payload, label)}\n")
        self._actions_shown += len(payloads)

    def _end_line(self) -> None:
        if self._line_open:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            self._line_open = not text.endswith("\n")
