"""One exchange: a message is sent until it is taken, and its reply is read to its end.

What it promises:

- A message that may have arrived is never sent again: one message can open a ticket, and the API has no
  idempotency key. Only a message that certainly did not arrive is sent again (no connection, 429, 503 with
  `Retry-After`), and once with a fresh user token after a 403.
- The text received so far stays on `reply`, whatever ends the exchange.
- Times count from the moment the request is written: they include no queueing and no connecting.

Only what the API documents has a meaning here; an unknown status or header is handled like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..concurrency.loop import on_io_thread
from ..errors import ConnectionFailed, HaloError, IdentityError, ReplyUnreadable, UsageError
from ..reply import Reply
from ..stream import JSON, Event, StreamParser, TextDelta, decode_json
from .client import request_headers, running_loop
from .failures import MAY_HAVE_ARRIVED, retry_wait_s, status_error, transport_error
from .masking import MASK, Mask, shown
from .transports.body import Body
from .transports.protocol import Clock, Incoming, Outgoing, unsent
from .user_tokens import CallUser, call_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from .client import Client
    from .request import Request
    from .secrets import Secret
    from .transports.protocol import Passing

MAX_RETRY_WAIT_S = 60.0
"""A longer `Retry-After` is reported, not waited for."""
NOT_OPEN = (
    "This stream is not open. Nothing was sent; write 'with client.stream(…) as events:' ('async with' for "
    "an AsyncHaloClient) and read the events inside."
)
MAX_REPLY_BYTES = 16 * 1024 * 1024
"""A reply that is longer, by more than `max_record_bytes`, ends there as failed."""
_BACKOFF_S = 0.5
_MAX_ERROR_BODY_BYTES = 64 * 1024
_MAX_ID_CHARS = 1_000
_MAX_CAUSES = 100
_ERROR_BODY_S = 5.0
_TEXT_FIELDS = ("response", "message", "text", "reply", "content")

_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class AsyncReplyStream:
    """One turn on the wire: an async context manager that iterates the reply's events.

    Args:
        call: calls the user's callables. Default: on a thread.

    Attributes:
        request: what is sent.
        reply: what has been received; it grows, and is kept whatever ends the stream.
        path: below the base URL.
        tries: how often the request has been sent.
        partly_left: whether a part of it, and not all, has left, as far as the transport reports it.
        attended: whether somebody can let a `Replay` by steps continue. Set it before the stream is entered.
        clock: what the reply's times are taken from.
        secrets: the key, and the user tokens that were sent lately; what is received is masked.
    """

    def __init__(
        self, client: Client, request: Request, call: CallUser = call_in_thread, path: str = "/chat/stream"
    ) -> None:
        self.request = request
        self.reply = Reply()
        self.attended = False
        self.clock = Clock()
        self.path = path
        self.tries = 0
        self.partly_left = False
        self.source = client.source
        self.secrets = [] if client.offline else [client.settings.api_key, *client.recent_tokens]
        self._client = client
        self._settings = client.settings
        self._call = call
        self._incoming: Incoming | None = None
        self._passing: Passing | None = None
        self._mask: Mask  # of the answer
        self._batches: AsyncGenerator[list[Event], None] | None = None
        self._unread: list[Event] = []  # of a batch, the next one last

    async def __aenter__(self) -> AsyncReplyStream:
        """Send the request until it is taken."""
        if self._batches is not None:
            raise UsageError(
                "This stream has been opened before. Nothing was sent; create one for each turn."
            )
        running_loop()
        self._batches = self._run()
        self._client.last = self.reply
        try:
            incoming = self._incoming = await self._send_until_taken()
        except BaseException as error:
            self.end(error)
            if self._passing is not None:
                await self._passing.kept()
            raise
        sent_id = _checked_id(self.request.body.get("session_id"))
        self.reply.session_id = _id_in(incoming.headers.get("x-session-id", "")) or sent_id
        self.reply.agent_id = _id_in(incoming.headers.get("x-agent-id", ""))
        self.reply.set_state("waiting for the agent")
        return self

    def __aiter__(self) -> AsyncReplyStream:
        if self._batches is None:
            raise UsageError(NOT_OPEN)
        return self

    async def __anext__(self) -> Event:
        assert self._batches is not None, "it is iterated"
        while not self._unread:
            self._unread = (await anext(self._batches))[::-1]
        return self._unread.pop()

    async def to_end(self) -> Reply:
        """Read the rest of the reply and return it, without its events. Raises as iterating does."""
        if self._batches is None:
            raise UsageError(NOT_OPEN)
        async for _ in self._batches:
            pass
        return self.reply

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connection. A reply that has not ended is marked as stopped."""
        try:
            if self._batches is not None:
                await self._batches.aclose()
        finally:
            self.end(None)
            # It knows this stream, too: left in a circle, both would wait for Python's garbage collector.
            incoming, self._incoming = self._incoming, None
            if incoming is not None:
                await self._close(incoming)

    async def _run(self) -> AsyncGenerator[list[Event], None]:
        incoming = self._incoming
        assert incoming is not None, "opening made it"
        whole = None if self.path == "/chat/stream" else _WholeAnswer()
        parser = whole or StreamParser(max_record_bytes=self._settings.max_record_bytes)
        try:
            try:
                body = self._body(incoming)
                async for chunk in incoming.chunks():
                    for piece in self._cleared(body, chunk):
                        yield self._taken_in(parser.feed(piece))
                if end := self._end_of(body):
                    yield self._taken_in(parser.feed(end))
            except BaseException as error:
                if self._stays(error):
                    raise
                raise self._mapped(error) from error
            finally:
                # A broken stream may still hold something that was received.
                rest = self._taken_in(parser.feed(self._unmasked()) + parser.close())
            failure = self._failure(incoming, whole)
            yield rest
            if failure is not None:
                raise failure
        except BaseException as error:
            self.end(error)
            raise
        self.end(None, complete=True)

    def _taken_in(self, events: list[Event]) -> list[Event]:
        """Add the events to the reply and return them: the caller may leave the loop after any of them."""
        if events:
            self.reply.set_state("streaming")
            at_s = self.clock.now_s()
            for event in events:
                self.reply.add(event, at_s)
        return events

    def _failure(self, incoming: Incoming, whole: _WholeAnswer | None) -> ReplyUnreadable | None:
        """The error if an answer that has ended is not a reply. Copies the fields of `whole` to the reply."""
        reply = self.reply
        declared = incoming.headers.get("content-type", "")
        if whole is not None:
            if whole.content is None:
                return ReplyUnreadable(
                    f"The answer is not a JSON object. Its text and the session are kept. {MAY_HAVE_ARRIVED}."
                )
            reply.raw = whole.content
            reply.session_id = _checked_id(whole.content.get("session_id")) or reply.session_id
            reply.agent_id = _checked_id(whole.content.get("agent_id")) or reply.agent_id
        elif declared and not declared.lower().startswith("text/plain"):
            return ReplyUnreadable(
                f"The answer is declared as {shown(declared, 60, self.secrets)}, not as the text/plain of "
                "a reply, so it may not be the agent's. Its text and the session are kept; check "
                f"HALO_BASE_URL. {MAY_HAVE_ARRIVED}."
            )
        return None

    def end(self, error: BaseException | None, *, complete: bool = False) -> None:
        """Note on the reply why it has ended; only the first reason counts."""
        reply = self.reply
        if reply.status != "streaming":
            return
        reply.elapsed_s = self.clock.now_s()
        reply.state = ""
        # The status comes last: a thread that sees it takes the other attributes as final.
        if complete:
            reply.status = "complete"
        elif isinstance(error, HaloError):
            error.reply = reply
            reply.may_have_arrived = error.arrived == "maybe"
            reply.error = str(error)
            reply.status = "failed"
        elif isinstance(error, Exception):
            reply.error = type(error).__name__
            reply.status = "failed"
        else:
            reply.status = "stopped"
        reply.watchers.tell(reply)

    async def _send_until_taken(self) -> Incoming:
        """Send the request, again only while it certainly has not arrived; return the answer with 200."""
        refused: Secret | None = None
        reply = self.reply
        while True:
            token = await self._client.user_token_for(self.request, self._call, refused)
            try:
                return await self._send_once(token)
            except IdentityError:
                asks = callable(self.request.user_token) and not self._client.offline
                if refused is not None or not asks:
                    raise
                refused = token
                reply.may_have_arrived = False
            except HaloError as error:
                if isinstance(error, ConnectionFailed):
                    self._client.look_again()
                wait_s = retry_wait_s(error, reply.retries, first_s=_BACKOFF_S, longest_s=MAX_RETRY_WAIT_S)
                if wait_s is None or reply.retries >= self._settings.max_retries:
                    raise
                reply.retries += 1
                reply.may_have_arrived = False
                self.reply.set_state(f"not taken yet, trying again in {wait_s:g} s")
                await self.clock.sleep(wait_s)
                self.reply.set_state("connecting")

    async def _send_once(self, token: Secret | None) -> Incoming:
        if token is not None:
            self._client.recent_tokens.append(token)
            self.secrets.append(token)
        transport, settings = self._client.transport_here(), self._settings
        outgoing = Outgoing(
            settings.base_url + self.path,
            request_headers(settings.api_key.reveal()),
            _written(self.request, token),
            settings.connect_timeout_s,
            settings.silence_timeout_s,
            self._leaves,
            self._has_left,
            self,
        )
        self.tries += 1
        self.partly_left = False
        self.clock = Clock()
        self.reply.may_have_arrived = False
        if (tap := self._client.record) is not None:
            self._passing = tap.begin(self)
        try:
            incoming = await transport.send(outgoing)
        except BaseException as error:
            if self._stays(error):
                raise
            raise self._mapped(error) from error
        in_one_piece = incoming.status != 200 or self.path != "/chat/stream"
        self._mask = Mask(self.secrets, in_one_piece=in_one_piece)
        headers = self._mask.headers(incoming.headers)
        incoming = Incoming(incoming.status, headers, incoming.chunks, incoming.aclose)
        self.reply.may_have_arrived = True
        self.partly_left = False
        if self._passing is not None:
            self._passing.head(incoming)
        if incoming.status == 200:
            return incoming
        try:
            raise status_error(incoming, await self._error_body(incoming), self.secrets)
        finally:
            await self._close(incoming)

    def _leaves(self) -> None:
        self.reply.may_have_arrived = self.partly_left = True

    def _has_left(self) -> None:
        self.partly_left = False
        self.clock = Clock()
        self.reply.set_state("waiting for the agent")

    def _body(self, incoming: Incoming) -> Body:
        return Body(incoming.headers, MAX_REPLY_BYTES + self._settings.max_record_bytes)

    def _cleared(self, body: Body, chunk: bytes) -> Iterator[bytes]:
        """The next of the answer's bytes: decoded, masked, bounded."""
        for piece in body.feed(chunk):
            if certain := self._mask.feed(piece):
                yield self._passed(certain)

    def _end_of(self, body: Body) -> bytes:
        """The last of the answer's bytes."""
        rest = self._passed(self._mask.feed(body.close())) + self._unmasked()
        if self._passing is not None:
            self._passing.end(None)
        return rest

    def _unmasked(self) -> bytes:
        """What the mask has held back."""
        return self._passed(self._mask.close())

    def _passed(self, chunk: bytes) -> bytes:
        if self._passing is not None and chunk:
            self._passing.chunk(chunk)
        return chunk

    async def _error_body(self, incoming: Incoming) -> bytes:
        """The start of an error's body; if it breaks off, what came before."""
        read = bytearray()
        # A body that breaks off or never ends does not matter: the status says what has to be said.
        try:
            async with asyncio.timeout(_ERROR_BODY_S):
                body = self._body(incoming)
                async for chunk in incoming.chunks():
                    for piece in self._cleared(body, chunk):
                        read += piece
                    if len(read) >= _MAX_ERROR_BODY_BYTES:
                        break
                else:
                    read += self._end_of(body)
        except Exception:  # noqa: BLE001  # of any kind
            read += self._unmasked()
        return bytes(read[:_MAX_ERROR_BODY_BYTES])

    async def _close(self, incoming: Incoming) -> None:
        try:
            with contextlib.suppress(Exception):  # of a caller's transport; the reply is what it is by now
                await incoming.aclose()
        finally:
            if self._passing is not None:
                self._passing.end(GeneratorExit())  # it was not read to its end
                await self._passing.kept()

    def _raised(self, error: BaseException) -> BaseException:
        return error if self._incoming is not None else unsent(error)

    def _stays(self, error: BaseException) -> bool:
        """Note the error that ended the exchange; returns whether it is raised as it is."""
        raised = self._raised(error)
        if self._passing is not None:
            self._passing.end(raised)
        if isinstance(raised, (SystemExit, KeyboardInterrupt)):
            return not on_io_thread()  # there no interrupt comes, so the caller's transport raised it
        return isinstance(raised, HaloError) or not isinstance(raised, Exception)

    def _mapped(self, error: BaseException) -> HaloError:
        """What the transport raised, as one of this package's errors."""
        raised = self._raised(error)
        _clear_frames(error)
        host = urlsplit(self._settings.base_url).netloc
        answered = self._incoming is not None
        return transport_error(raised, self.reply, host, self.secrets, answered=answered)


def _written(request: Request, token: Secret | None) -> bytes:
    """The request as it is sent. Here, so that no frame of an error holds it."""
    user = {} if token is None else {"user_token": token.reveal()}
    return _as_json({**request.body, **user}).encode("utf-8", "replace")


def _clear_frames(error: BaseException) -> None:
    """Clear the local variables in the traceback of `error` and its causes: they may contain the headers."""
    errors: list[BaseException | None] = [error]
    for each in errors:
        if each is not None and len(errors) < _MAX_CAUSES:
            traceback.clear_frames(each.__traceback__)
            errors += [each.__cause__, each.__context__]


class _WholeAnswer:
    """Reads an answer in one piece, as a `StreamParser` does; `content` is its JSON object, or None."""

    def __init__(self) -> None:
        self.content: dict[str, JSON] | None = None
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        self._body += data
        return []

    def close(self) -> list[Event]:
        text = self._body.decode("utf-8", "replace")
        # What is not JSON, or only a part of it, is kept as it came.
        with contextlib.suppress(ValueError):
            content = decode_json(text)
            if isinstance(content, dict):
                self.content = content
                said = (content.get(name) for name in _TEXT_FIELDS)
                text = next((each for each in said if isinstance(each, str)), "")
        return [TextDelta(text)] if text else []


def _id_in(header: str) -> str | None:
    """The id in a header; None if the header has several values, which are joined by commas."""
    values = {value.strip() for value in header.split(",")}
    return _checked_id(values.pop()) if len(values) == 1 else None


def _checked_id(value: JSON) -> str | None:
    """The id as received; None for a value that is not safe to show and to send back."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID_CHARS or not value.isprintable():
        return None
    return None if MASK in value else value
