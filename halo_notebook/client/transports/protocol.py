"""A transport sends one request and returns the answer's raw bytes as they arrive. Its promises:

- It raises only `NotConnected`, `Silent`, `BrokeOff` and `Unreadable` (and this package's errors).
- `NotConnected` means that nothing was sent; with any other error the message may have arrived.
- What fails before there is a connection is `NotConnected`, whatever it is: see `no_connection`.
- It calls `Outgoing.leaves` before the first byte may leave, and `Outgoing.has_left` after the last.
- It sends a message at most once: it does not retry, and it follows no redirect.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

_MAX_CAUSES = 20
_REFUSED = (ConnectionRefusedError, socket.gaierror, socket.herror)
_BEFORE_A_CONNECTION = {
    *(("httpx", name) for name in ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError")),
    *(("httpx", name) for name in ("InvalidURL", "UnsupportedProtocol")),
    *(("httpcore", name) for name in ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError")),
    *(("httpcore", "UnsupportedProtocol"), ("aiohttp", "ClientConnectorError"), ("aiohttp", "InvalidURL")),
    *(("aiohttp", "ConnectionTimeoutError"), ("urllib3", "NewConnectionError")),
    *(("urllib3", "ConnectTimeoutError"), ("requests", "ConnectTimeout")),
}
"""What HTTP libraries raise before they send anything, by their package and name: none is imported for it."""


class TransportError(Exception):
    """What a transport raises; its text says why, and may be empty."""


class NotConnected(TransportError):
    """There was no connection: nothing was sent."""


class NotTrusted(NotConnected):
    """The other side's certificate is not trusted; another try would not help."""


class Silent(TransportError):
    """Nothing arrived for too long; see `Outgoing.silent`."""


class BrokeOff(TransportError):
    """The connection failed before the answer had ended."""


class Unreadable(TransportError):
    """The answer's bytes cannot be decoded."""


class Clock:
    """Counts the seconds of an exchange; a replay uses its own."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def now_s(self) -> float:
        """Seconds since the request was written."""
        return time.perf_counter() - self._began

    def set_to(self, seconds: float) -> None:
        """Continue to count from there."""
        self._began = time.perf_counter() - seconds

    async def sleep(self, seconds: float) -> None:
        """Wait before the message is sent again."""
        await asyncio.sleep(seconds)


def no_connection(error: BaseException, why: str = "") -> NotConnected:
    """The error of a transport that failed before there was a connection; `why` in place of its text."""
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if message := _certificates_fault(cause):
            return NotTrusted(message)
        cause = cause and (cause.__cause__ or cause.__context__)
    return NotConnected(why or str(error) or type(error).__name__)


def unsent(error: BaseException) -> BaseException:
    """What a transport raised instead of an answer; `NotConnected` where Python or a library says so, as in
    a caller's own transport."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    if isinstance(error, _REFUSED) or kinds & _BEFORE_A_CONNECTION or _certificates_fault(error):
        return no_connection(error)
    return error


def _certificates_fault(error: BaseException | None) -> str:
    """What an `ssl.SSLCertVerificationError` says, by its attribute: a browser's Python has no ssl."""
    message = getattr(error, "verify_message", "")
    return message if isinstance(message, str) else ""


@dataclass(frozen=True)
class Outgoing:
    """A POST request. Its repr shows no secret.

    Attributes:
        connect_s: seconds to wait for a connection.
        silence_s: seconds to wait for the first byte and between chunks.
        leaves: called just before the first byte may leave.
        has_left: called when all bytes have left.
        turn: the `AsyncReplyStream`, for a replay.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    connect_s: float
    silence_s: float
    leaves: Callable[[], object] = lambda: None
    has_left: Callable[[], object] = lambda: None
    turn: Any = None

    def silent(self) -> Silent:
        """The error when nothing has arrived for `silence_s`."""
        return Silent(f"silent for {self.silence_s:g} s")


async def _nothing_to_close() -> None:
    pass


@dataclass(frozen=True)
class Incoming:
    """An answer, from the moment that its head has arrived.

    Attributes:
        headers: their names are in lower case.
        chunks: gives its body as it arrives, as it was encoded.
        aclose: closes it, whether or not it was read to its end.
    """

    status: int
    headers: Mapping[str, str]
    chunks: Callable[[], AsyncIterator[bytes]]
    aclose: Callable[[], Awaitable[object]] = _nothing_to_close


@runtime_checkable
class Transport(Protocol):
    """Sends messages. It may have a `source` (who answers, if not Halo), and be `offline` (it needs no key)
    with a `base_url` of its own."""

    async def send(self, outgoing: Outgoing) -> Incoming:
        """Send a request and return its answer as soon as the head has arrived."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class Passing(Protocol):
    """An exchange while it passes. `end` is called with the error that ended it, or None for its regular
    end; only the first call counts. `kept` waits until what has ended is kept."""

    def head(self, incoming: Incoming) -> None: ...

    def chunk(self, data: bytes) -> None: ...

    def end(self, error: BaseException | None) -> None: ...

    async def kept(self) -> None: ...


class Tap(Protocol):
    """Keeps what passes between a client and its agent, as a `Recorder` does, and changes nothing in it."""

    def begin(self, turn: Any) -> Passing:
        """A request of that turn, an `AsyncReplyStream`, is about to be sent."""
        ...
