"""The sync client: exchanges run on the I/O thread, which hands their events to the thread that waits."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Unpack

from ..concurrency.interrupts import Inbox, wait
from ..concurrency.loop import spawn
from ..concurrency.pulled import Pulled
from ..errors import UsageError
from .aio import AsyncHaloClient
from .client import Client
from .exchange import NOT_OPEN, AsyncReplyStream
from .secrets import hide_token

if TYPE_CHECKING:
    from ..reply import Reply
    from ..stream import Event
    from .request import Request, RequestFields


class HaloClient(Client):
    """Talks to a Halo agent from sync code, in a notebook's cell too.

    Network I/O runs on a thread of its own; an interrupt (Ctrl-C, the kernel's Stop) closes the connection
    and keeps the text received so far.

    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
    ...     reply = client.ask("My name is Ada")
    >>> reply.status, reply.text[:16]
    ('complete', 'Nice to meet you')
    """

    @property
    def aio(self) -> AsyncHaloClient:
        """An async client with the same settings and connections."""
        made = AsyncHaloClient.__new__(AsyncHaloClient)
        made.__dict__ = self.__dict__
        return made

    def stream(self, message: str, **fields: Unpack[RequestFields]) -> ReplyStream:
        """Send `message`; the result is a context manager that iterates the events.

        See `AsyncHaloClient.stream` for arguments and errors.
        """
        hide_token(fields)
        return ReplyStream(self, self.prepare(message, **fields))

    def ask(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` and return the streamed reply once it has ended. See `stream`."""
        hide_token(fields)
        with self.stream(message, **fields) as stream:
            return stream.to_end()

    def chat(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` to the endpoint that answers in one piece. See `AsyncHaloClient.chat`."""
        hide_token(fields)
        with ReplyStream(self, self.prepare(message, **fields), path="/chat") as stream:
            return stream.to_end()

    def close(self) -> None:
        """Close the connections. The client can be used again; it opens new ones."""
        wait(spawn(self.aclose()))

    def __enter__(self) -> HaloClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class ReplyStream:
    """One turn on the wire, for sync code: a context manager that iterates the reply's events.

    Leaving it early closes the connection and keeps the text received so far.

    Attributes:
        exchange: the `AsyncReplyStream` that it runs.
        request, reply, secrets: as there.
        inbox: where the thread that reads this waits; `user_token` callables are called there.
    """

    def __init__(
        self, client: Client, request: Request, path: str = "/chat/stream", inbox: Inbox | None = None
    ) -> None:
        self.inbox = inbox or Inbox()
        self.exchange = AsyncReplyStream(client, request, self.inbox.call, path)
        self.request, self.reply, self.secrets = request, self.exchange.reply, self.exchange.secrets
        self._events = Pulled(self._run(), self.inbox)
        self._gives_events = True
        self._opened = False

    def open(self, *, events: bool = True) -> None:
        """Start sending, without waiting for an answer. Entering does it too, and waits.

        Without `events`, no event is given: only the reply is read.
        """
        if not self._opened:
            self._opened, self._gives_events = True, events
            self._events.start()

    def __enter__(self) -> ReplyStream:
        self.open()
        try:
            self.next_event()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self.next_event()
            if event is not None:
                yield event
            elif self.ended:
                return

    def to_end(self) -> Reply:
        """Read the rest of the reply and return it, without its events. Raises as iterating does."""
        for _ in self:
            pass
        return self.reply

    def next_event(self, timeout_s: float = math.inf) -> Event | None:
        """Return the next event; None when the server has just answered, when none came in time, and at
        the end (then `ended` is true).

        Raises:
            HaloError: when the message was not taken or the reply broke off.
            KeyboardInterrupt: on an interrupt.
        """
        if not self._opened:
            raise UsageError(NOT_OPEN)
        return None if self.ended else self._events.get(timeout_s)

    @property
    def ended(self) -> bool:
        """Whether the last event has been given."""
        return self._events.ended

    def ask_to_stop(self) -> None:
        """Ask from any thread to stop the stream; the thread that reads it then reaches its end."""
        self._events.cancel()

    def stop(self) -> None:
        """Close the connection and keep the text received so far. Does nothing after the end.

        For the thread that reads this stream; `ask_to_stop` is for the others.
        """
        self._events.stop()
        self.end(None)  # never opened, or closing takes longer than is waited for

    def end(self, error: BaseException | None) -> None:
        """Note on the reply why it has ended; only the first reason counts."""
        self.exchange.end(error)

    async def _run(self) -> AsyncGenerator[Event | None, None]:
        """On the I/O thread: None when the server has answered, then the events."""
        async with self.exchange as events:
            if not self._gives_events:
                await events.to_end()
                return
            yield None
            async for event in events:
                yield event
