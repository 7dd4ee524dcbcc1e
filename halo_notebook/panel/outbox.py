"""The messages that a panel has yet to send, in order, one turn of a session at a time.

What it promises:

- A message is in one place: in its session's `Outbox` until its turn begins, then in its session.
- It is ``waiting``, ``held`` or ``sending``. Until it is being sent it can be taken back.
- Stop, and a turn from here that is stopped or fails, hold what waits behind it. A message that comes
  later, or is released later, is not held for that turn, even if the turn is not quite over.
- A message that is refused stays, held, with the reason.
- The result of a message is resolved after the page has been told and callbacks have been called.

It runs on the loop; only a `Sent` may be used on any thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from ..concurrency.loop import in_worker, post
from ..display.text import one_line
from ..errors import HaloError, InvalidRequest, ReplyStopped, UsageError
from . import follower
from .state import Message, Outbox, PanelState

if TYPE_CHECKING:
    from ..client.sync import HaloClient
    from ..reply import Reply
    from ..session import Session, Turn

_log = logging.getLogger(__name__)
_HELD = (
    "Held back: a turn before it was stopped or failed. The message was not sent and the session is kept; "
    "send it from the panel, or send it again."
)


class Sent(Future["Reply"]):
    """A message on its way: its `result()` is the reply, and so is what it gives when awaited.

    Both raise the `HaloError` that the turn ended with, and `ReplyStopped` when the message was
    held back, since a turn before it was stopped or failed. A turn that was itself stopped gives
    its reply.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def result(self, timeout: float | None = None) -> Reply:
        """The reply; an interrupt ends the waiting for it, not the turn."""
        try:
            return super().result(timeout)
        except KeyboardInterrupt:
            raise HaloError(
                "Stopped waiting for the reply. The turn goes on and shows in the panel; panel.stop() ends "
                "it."
            ) from None

    def __await__(self) -> Generator[Any, None, Reply]:
        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        state = "ended" if self.done() else "on its way"
        return f"Sent({one_line(self._text, 40)!r}, {state})"


def check_text(value: object) -> None:
    """Raise `UsageError` unless `value` is a message."""
    if not isinstance(value, str):
        raise UsageError(f"A message is text, not {type(value).__name__}. Nothing was sent; write one.")
    if not value.strip():
        raise UsageError("The message is empty. Nothing was sent; write one.")


def put(state: PanelState, session: Session, message: Message) -> Outbox:
    """Have `message` wait behind those that wait already, on any thread; then `start` it on the loop."""
    outbox = state.outboxes.setdefault(session, Outbox(session))
    outbox.messages.append(message)
    message.sent.add_done_callback(
        lambda sent: post(_remove, state, outbox, message) if sent.cancelled() else None
    )
    state.note_status()
    return outbox


def stop(state: PanelState, session: Session) -> None:
    """Stop the turn of `session` that runs, and hold what waits."""
    outbox = state.outboxes.get(session)
    if outbox is not None:
        outbox.spare()
        if outbox.attempt is not None and any(each.state == "sending" for each in outbox.messages):
            outbox.attempt.cancel()  # its turn has not begun
        _hold(state, outbox)
    session.stop()


def take_back(state: PanelState, cid: str) -> None:
    """Forget a message that waits or is held."""
    outbox, message = _unsent(state, cid)
    message.sent.cancel()
    _remove(state, outbox, message)


def release(state: PanelState, cid: str) -> None:
    """Have a message that is held sent in its turn."""
    outbox, message = _unsent(state, cid)
    if message.sent.done():  # this is another try
        message.sent = Sent(message.text)
    message.state, message.error = "waiting", ""
    state.emit_queue()
    start(state, outbox)


def _unsent(state: PanelState, cid: str) -> tuple[Outbox, Message]:
    outbox = state.outboxes.get(state.session)
    for message in outbox.messages if outbox else ():
        if outbox and message.cid == cid and message.state != "sending":
            return outbox, message
    raise UsageError("That message waits no longer: it has been sent or taken back.")


def _remove(state: PanelState, outbox: Outbox, message: Message) -> None:
    if message in outbox.messages:
        outbox.messages.remove(message)
    state.emit_queue()
    state.note_status()


def _hold(state: PanelState, outbox: Outbox, errors: Mapping[Message, HaloError] | None = None) -> None:
    """Hold what waits, and let those know who wait for a reply; first what the panel says of itself."""
    messages = [message for message in outbox.messages if message.state != "held"]
    for message in messages:
        message.state = "held"
    state.emit_queue()
    state.note_status()
    for message in messages:
        if not message.sent.done():
            message.sent.set_exception((errors or {}).get(message) or ReplyStopped(_HELD))


def _hold_behind(state: PanelState, outbox: Outbox, reply: Reply) -> None:
    """The turn that runs has changed: what waits behind it is held when it has not come to its end."""
    if reply.status != "streaming":
        outbox.spare()
    if reply.status in ("stopped", "failed"):
        _hold(state, outbox)


def start(state: PanelState, outbox: Outbox) -> None:
    """Send what waits."""
    if outbox.running is not None or outbox.session.busy:
        state.emit_queue()
    state.note_status()
    if outbox.running is None:
        outbox.running = asyncio.ensure_future(_send_all(state, outbox))


async def _send_all(state: PanelState, outbox: Outbox) -> None:
    try:
        while outbox.next is not None:
            await outbox.session.idle()
            message = outbox.next  # until now it could be taken back or held
            if message is not None:
                outbox.attempt = asyncio.ensure_future(_send(state, outbox, message))
                await asyncio.wait({outbox.attempt})
    finally:
        outbox.running = outbox.attempt = None


async def _send(state: PanelState, outbox: Outbox, message: Message) -> None:
    """Send one message and resolve its result when its reply has ended."""
    sent, turn, error = message.sent, None, None
    if not sent.set_running_or_notify_cancel():
        _remove(state, outbox, message)
        return
    message.state = "sending"
    try:
        client, fields = await in_worker(_prepared, state, message)
        async with outbox.session.aturn(
            client, message.text, call=state.home.call_in_thread, **fields
        ) as stream:
            turn = outbox.session.turns[-1]
            _begin(state, outbox, message, turn)
            stream.attended = True  # by whoever sees the panel say what it waits for
            async with stream as events:
                async for _ in events:
                    pass
    except Exception as caught:  # noqa: BLE001  # whatever it is, it belongs to this message
        error = caught
    if turn is None:
        _refuse(state, outbox, message, error)
        return
    await follower.turn_ended(outbox.session, turn)
    if error is None:
        sent.set_result(turn.reply)
    else:
        sent.set_exception(error)


def _prepared(state: PanelState, message: Message) -> tuple[HaloClient, dict[str, Any]]:
    """Whom to ask, by the settings as they are now, and with which request fields."""
    client = state.client or state.connection.client()
    if message.exact:
        return client, message.fields
    if not isinstance(state.fields, Mapping) or not all(isinstance(name, str) for name in state.fields):
        raise InvalidRequest("panel.fields must be a dict with string keys. Nothing was sent; mend it.")
    fields = {**state.fields, **message.fields}
    if "message" in fields:
        raise InvalidRequest("There is no field 'message'. Nothing was sent; leave it out of the fields.")
    return client, fields


def _begin(state: PanelState, outbox: Outbox, message: Message, turn: Turn) -> None:
    """The message has become a turn; the panel may show another session by now."""
    outbox.messages.remove(message)
    outbox.spare = turn.reply.watchers.add(partial(_hold_behind, state, outbox))
    state.cids[turn] = message.cid


def _refuse(state: PanelState, outbox: Outbox, message: Message, error: Exception | None) -> None:
    """Keep a message of which no turn came, with the reason."""
    if not isinstance(error, HaloError):
        _log.error("A panel's message could not be sent", exc_info=error)
        error = HaloError(f"The message could not be sent ({type(error).__name__}). The session is kept.")
    message.error = str(error)
    _hold(state, outbox, {message: error})
