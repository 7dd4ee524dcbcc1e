"""The messages that a panel has yet to send, in order, one at a time for each session.

What it promises:

- A message is in one place: in its session's `Outbox` until its turn begins, then in its session.
- Until it is being sent it can be taken back.
- Stop holds what waits, and so does a turn from here that is stopped or fails. A message that is added or
  released after that is not held for that turn, even if the turn has not quite ended.
- A message that is refused stays, held, with the reason.
- A panel that is closed sends nothing that waits.
- The result of a message is set after the page has been updated and the callbacks are on their way.

It runs on the loop; `Sent`, `put`, `stop` and `close` may be used on any thread, and keep their order.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ..concurrency.interrupts import LINGER_S, InterruptInbox
from ..concurrency.loop import post
from ..concurrency.usercode import UserCodeError, ends, kernels_loop
from ..display.text import one_line
from ..errors import HaloError, InvalidRequest, ReplyStopped, UsageError
from . import follower
from .pictures import image_views
from .state import Fields, Message, PanelState

if TYPE_CHECKING:
    from ..client.client import Client
    from ..reply import Reply
    from ..session import Session, Turn

_log = logging.getLogger(__name__)
_HELD = (
    "Held back: an earlier turn was stopped or failed. The message was not sent and the session is kept; "
    "send it from the panel, or send it again."
)
_CLOSED = "Held back: the panel was closed. The message was not sent and the session is kept; send it again."


class Sent(Future["Reply"]):
    """A message that was sent from a panel: `result()` or `await` gives its reply.

    Both raise the `HaloError` with which the turn ended, and `ReplyStopped` if the message was held
    back because an earlier turn was stopped or failed. A turn that was itself stopped gives its reply.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def result(self, timeout: float | None = None) -> Reply:
        """Wait for the reply. An interrupt ends the waiting, not the turn."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        with InterruptInbox() as inbox:
            self.add_done_callback(lambda _: inbox.wake())
            while not self.done() and not inbox.stopped and (left_s := until - time.monotonic()) > 0:
                inbox.wait(left_s)
            if inbox.stopped:
                inbox.linger_s = LINGER_S if kernels_loop() else 0.0
                raise HaloError(
                    "Stopped waiting for the reply. The turn continues in the panel; panel.stop() ends it."
                )
        return super().result(0)

    def __await__(self) -> Generator[Any, None, Reply]:
        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        state = "ended" if self.done() else "on its way"
        return f"Sent({one_line(self._text, 40)!r}, {state})"


def put(
    state: PanelState,
    session: Session,
    text: str,
    fields: Mapping[str, Any],
    *,
    cid: str = "",
    exact: bool = False,
    pictures: Sequence[str] = (),
) -> Sent:
    """Send a message behind those that wait, on any thread. See `Message`.

    Raises:
        UsageError: when `text` is not a message.
    """
    if not isinstance(text, str):
        raise UsageError(f"A message must be a string, not {type(text).__name__}. Nothing was sent.")
    if not text.strip():
        raise UsageError("The message is empty. Nothing was sent; write one.")
    message = Message(cid or uuid.uuid4().hex, text, Fields(fields), exact, sent := Sent(text), pictures)
    message.images = image_views(fields.get("images"))
    state.outbox(session).messages.append(message)
    sent.add_done_callback(lambda _: post(_remove, state, session, message) if sent.cancelled() else None)
    state.note_status()
    post(_start, state, session, message)
    return sent


def _start(state: PanelState, session: Session, message: Message) -> None:
    """Let a message wait, and send what waits."""
    outbox = state.outbox(session)
    message.state = "waiting"
    if outbox.running is not None or session.busy:
        state.note_queue()
    if outbox.running is None:
        outbox.running = asyncio.ensure_future(_send_all(state, session))


def stop(state: PanelState, session: Session) -> None:
    """Stop the turn of `session` that runs, and hold what waits; on any thread."""
    post(_stop, state, session)


def _stop(state: PanelState, session: Session) -> None:
    _hold_all(state, session)
    session.stop_turn()


def close(state: PanelState) -> str:
    """Hold what waits in a panel that has been closed, on any thread; a line that says what is not sent."""
    outboxes = list(state.outboxes.items())  # the loop may add one meanwhile
    messages = [each for _, outbox in outboxes for each in [*outbox.messages]]
    texts = [one_line(each.text, 60) for each in messages if each.state != "sending"]
    for session, _ in outboxes:
        post(_hold_all, state, session)
    names = ", ".join(map(repr, texts))
    return f"Not sent, since the panel was closed: {names}. The session is kept." if texts else ""


def _hold_all(state: PanelState, session: Session) -> None:
    outbox = state.outbox(session)
    outbox.unwatch()
    if outbox.running is not None and any(message.state == "sending" for message in outbox.messages):
        outbox.running.cancel()  # the message's turn has not begun
        outbox.running = None
    _hold(state, session)


def take_back(state: PanelState, cid: str) -> None:
    """Forget a message that waits or is held."""
    message = _unsent(state, cid)
    message.sent.cancel()
    _remove(state, state.session, message)


def drop_held(state: PanelState, session: Session) -> None:
    """Forget the messages that are held."""
    for message in [each for each in state.outbox(session).messages if each.state == "held"]:
        message.sent.cancel()
        _remove(state, session, message)


def release(state: PanelState, cid: str) -> None:
    """Let a message that is held wait again."""
    message = _unsent(state, cid)
    if message.sent.done():  # this is another try
        message.sent = Sent(message.text)
    message.error = None
    _start(state, state.session, message)
    state.note_queue()


def _unsent(state: PanelState, cid: str) -> Message:
    for message in state.outbox(state.session).messages:
        if message.cid == cid and message.state != "sending":
            return message
    raise UsageError("That message is no longer waiting: it was sent or taken back.")


def _remove(state: PanelState, session: Session, message: Message) -> None:
    messages = state.outbox(session).messages
    if message in messages:
        messages.remove(message)
    state.note_queue()


def _hold(state: PanelState, session: Session) -> None:
    """Hold what waits. Callers that wait for a reply get the error after the panel shows it."""
    messages = [message for message in state.outbox(session).messages if message.state not in ("new", "held")]
    for message in messages:
        message.state = "held"
    state.note_queue()
    for message in messages:
        if not message.sent.done():
            message.sent.set_exception(message.error or ReplyStopped(_CLOSED if state.closed else _HELD))


async def _send_all(state: PanelState, session: Session) -> None:
    outbox = state.outbox(session)
    while True:
        await session.idle()
        # Until now it could be taken back or held.
        message = next((each for each in outbox.messages if each.state == "waiting"), None)
        if message is None or state.closed:
            break
        if message.sent.set_running_or_notify_cancel():
            message.state = "sending"
            await _send(state, session, message)
        else:
            _remove(state, session, message)
    outbox.running = None


async def _send(state: PanelState, session: Session, message: Message) -> None:
    """Send one message, and set its result when its reply has ended."""
    outbox, sent = state.outbox(session), message.sent
    turn: Turn | None = None
    error: BaseException | None = None

    def hold_behind(reply: Reply) -> None:
        if reply.status != "streaming":
            outbox.unwatch()
        if reply.status in ("stopped", "failed"):
            _hold(state, session)

    try:
        client, fields = _prepared(state, message)
        call = state.home.call_in_thread
        async with session.aturn(client, message.text, call=call, **fields) as stream:
            turn = session.turns[-1]
            outbox.messages.remove(message)
            state.cids[turn] = message.cid
            outbox.unwatch = turn.reply.watchers.add(hold_behind)
            stream.attended = True  # by whoever sees the panel say what it waits for
            async with stream as events:
                async for _ in events:
                    pass
    except BaseException as caught:
        if ends(asyncio.current_task(), caught):
            raise
        # Whatever it is, it belongs to this message: what is sent as context may run a user's code.
        error = caught if isinstance(caught, Exception) else UserCodeError(caught)
    if turn is None:
        if not isinstance(error, HaloError):
            _log.error("A panel's message could not be sent", exc_info=error)
            error = HaloError(f"The message could not be sent ({type(error).__name__}). The session is kept.")
        message.error = error
        _hold(state, session)
        return
    await follower.turn_ended(session, turn)
    if error is None:
        sent.set_result(turn.reply)
    else:
        sent.set_exception(error)


def _prepared(state: PanelState, message: Message) -> tuple[Client, Mapping[str, Any]]:
    """The client for the current settings, and the request fields to send."""
    client = state.client or state.connection.client()
    given = state.fields if isinstance(state.fields, Mapping) else {}
    if message.exact:
        # A turn's request has no token; that of the panel belongs to its user.
        if "user_token" in given and given.get("user_id") == message.fields.get("user_id"):
            return client, {"user_token": given["user_token"], **message.fields}
        return client, message.fields
    if not isinstance(state.fields, Mapping) or not all(isinstance(name, str) for name in state.fields):
        raise InvalidRequest("panel.fields must be a dict with string keys. Nothing was sent; fix it.")
    fields = {**state.fields, **message.fields}
    if "message" in fields:
        raise InvalidRequest("Unknown field 'message'. Nothing was sent; leave it out of the fields.")
    return client, fields
