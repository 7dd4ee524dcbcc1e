"""The sync client: the async one on the I/O thread, whose events it hands to the thread that waits."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from ..concurrency import loop as bridge
from ..errors import UsageError
from .aio import AsyncHaloClient, AsyncReplyStream
from .exchange import NOT_OPEN, Exchange

if TYPE_CHECKING:
    from ..reply import Reply
    from ..stream import JSON, Event
    from .request import Request, RequestFields
    from .secrets import Secret


class HaloClient:
    """Talks to a Halo agent from sync code, in a notebook's cell too.

    It takes the arguments of `AsyncHaloClient` and raises the same errors. Network I/O runs
    on a thread of its own; an interrupt (Ctrl-C, the kernel's Stop) closes the connection
    and keeps the text received so far.

    Attributes:
        aio: the async client that it runs.

    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
    ...     reply = client.ask("My name is Ada")
    >>> reply.status, reply.text[:16]
    ('complete', 'Nice to meet you')
    """

    def __init__(self, api_key: str | Secret | None = None, **settings: Any) -> None:
        self.aio = AsyncHaloClient(api_key, **settings)

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self.aio.base_url

    @property
    def source(self) -> str:
        """Who answers, if not Halo: ``demo agent``, ``replay of FILE``, …; empty for Halo."""
        return self.aio.source

    def stream(self, message: str, **fields: Unpack[RequestFields]) -> ReplyStream:
        """Send `message`; the result is a context manager that iterates the events.

        See `AsyncHaloClient.stream` for arguments and errors.
        """
        return ReplyStream(self.aio, self.aio.prepare(message, **fields))

    def ask(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` and return the streamed reply once it has ended. See `stream`."""
        return _to_end(self.stream(message, **fields))

    def chat(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` to the endpoint that answers in one piece.

        See `AsyncHaloClient.chat`.
        """
        return _to_end(self.chat_stream(message, **fields))

    def chat_stream(self, message: str, **fields: Unpack[RequestFields]) -> ReplyStream:
        """As `stream`, from the endpoint that answers in one piece: its text is one event."""
        return ReplyStream(self.aio, self.aio.prepare(message, **fields), path="/chat")

    def prepare(self, message: str, **fields: Unpack[RequestFields]) -> Request:
        """Check a request without sending it. Raises as `stream` does at once."""
        return self.aio.prepare(message, **fields)

    def dry_run(self, request: Request, path: str = "/chat/stream") -> dict[str, JSON]:
        """The exact request as JSON, its secrets as 'set'; nothing is sent."""
        return self.aio.dry_run(request, path)

    def debug(self) -> dict[str, JSON]:
        """One snapshot of the client's state that can be shared: secrets are 'set' or 'unset'."""
        return self.aio.debug()

    def close(self) -> None:
        """Close the connections. The client can be used again; it opens new ones."""
        bridge.io_thread.run(self.aio.aclose())

    def __enter__(self) -> HaloClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, api_key set)"


def _to_end(stream: ReplyStream) -> Reply:
    with stream as events:
        for _ in events:
            pass
    return stream.reply


class ReplyStream:
    """One turn on the wire, for sync code: a context manager that iterates the reply's events.

    `exchange`, `request`, `reply`, `state`, `may_have_arrived` and `attended` are those of
    `AsyncReplyStream`.
    Leaving it early closes the connection and keeps what had arrived.
    """

    def __init__(self, client: AsyncHaloClient, request: Request, path: str = "/chat/stream") -> None:
        self._channel: bridge.Channel[Event | _Opened | _Ended | _Stop] = bridge.Channel()
        self._stream = AsyncReplyStream(client, request, self._channel.call, path)
        self._pumping: Any = None
        self._ended: _Ended | None = None

    @property
    def exchange(self) -> Exchange:
        return self._stream.exchange

    @property
    def request(self) -> Request:
        return self._stream.request

    @property
    def reply(self) -> Reply:
        return self._stream.reply

    @property
    def state(self) -> str:
        return self._stream.state

    @property
    def may_have_arrived(self) -> bool:
        return self._stream.may_have_arrived

    @property
    def attended(self) -> bool:
        return self._stream.attended

    @attended.setter
    def attended(self, attended: bool) -> None:
        self._stream.attended = attended

    def open(self) -> None:
        """Start sending, without waiting for an answer. Entering does it too, and waits."""
        if self._pumping is None:
            self._pumping = bridge.io_thread.submit(self._pump())

    def __enter__(self) -> ReplyStream:
        self.open()
        try:
            self.next_event(None)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self.next_event(None)
            if event is not None:
                yield event
            elif self._ended:
                return

    def next_event(self, timeout_s: float | None) -> Event | None:
        """Return the next event; None when the server has just answered, when none came
        within `timeout_s`, and at the end (then `ended` is true).

        Raises:
            HaloError: when the message was not taken or the reply broke off.
        """
        if self._pumping is None:
            raise UsageError(NOT_OPEN)
        if self._ended is None:
            try:
                item = self._channel.get(timeout_s)
            except queue.Empty:
                return None
            if isinstance(item, _Opened):
                return None
            if isinstance(item, _Stop):
                self.stop()
                return None
            if not isinstance(item, _Ended):
                return item
            self._ended = item
            if item.error is not None:
                raise item.error
        return None

    @property
    def ended(self) -> bool:
        """Whether the last event has been given."""
        return self._ended is not None

    def ask_to_stop(self) -> None:
        """Have the thread that reads this stream stop it. From any thread, and at any time."""
        self._channel.put(_Stop())

    def stop(self) -> None:
        """Close the connection, keeping what had arrived. Does nothing after the end.

        For the thread that reads this stream; `ask_to_stop` is for the others.
        """
        if self._pumping is None:
            self._stream.exchange.end(None)  # never sent, and never will be by who stops it
        if self._pumping is None or self._ended:
            return
        self._pumping.cancel()
        deadline = time.monotonic() + bridge.STOP_WAIT_S
        with contextlib.suppress(queue.Empty):
            while not isinstance(
                self._channel.get(max(0.0, deadline - time.monotonic()), calls=False), _Ended
            ):
                pass
        self._ended = _Ended(None)
        self._stream.exchange.end(None)  # in case that closing takes longer than is waited for

    async def _pump(self) -> None:
        """On the I/O thread: hand the events over to the thread that waits for them."""
        error: BaseException | None = None
        try:
            async with self._stream as events:
                self._channel.put(_Opened())
                async for event in events:
                    self._channel.put(event)
        except BaseException as caught:
            error = caught
            if not isinstance(caught, Exception):
                raise
        finally:
            # A cancelled stream has no error: whoever cancelled it knows.
            self._channel.put(_Ended(error if isinstance(error, Exception) else None))


class _Opened:
    """The server has answered 200."""


class _Stop:
    """Somebody asks for the end."""


@dataclass(frozen=True)
class _Ended:
    error: Exception | None
