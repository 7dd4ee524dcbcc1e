"""Messages over aiohttp, for many streams at once.

What it promises:

- It tells when a message begins to leave and when all of it has, so that one that may have arrived
  is known as such.
- What it raises is httpx's: `ConnectError`, `ConnectTimeout` and `ProxyError` when nothing was
  sent, and only then.
- Bytes are passed on as they come.
- A connection that was idle for `REUSED_WITHIN_S` is not used again: a server may be closing it
  just as a message goes out.

httpx's own transport takes more of one core for 30 streams than their server does, and on one
client 100 streams wait for each other, which would show in the agent's times. A single turn
goes without this one: it needs no further package and knows every proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx

from ..settings import is_loopback

if TYPE_CHECKING:
    from ..request import Answer

REUSED_WITHIN_S = 2.0
_TO_READ_S = 0.05


class AiohttpTransport:
    """See the module; a `Sender` for a client.

    Args:
        base_url: where all requests will go: it decides on certificates and proxies.
    """

    traces = True

    def __init__(self, base_url: str) -> None:
        # Without https no certificates are needed, and loading them takes its time.
        self._ssl = httpx.create_ssl_context() if base_url.startswith("https:") else True
        # A proxy from the environment must not see what goes to this machine.
        self._trust_env = not is_loopback(base_url)
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl, keepalive_timeout=REUSED_WITHIN_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._trust_env,
            )
        return self._session

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        *,
        connect_s: float,
        silence_s: float,
        leaves: Callable[[], object],
        has_left: Callable[[], object],
    ) -> Answer:
        """See `Sender`."""
        silence = _Silence(silence_s)
        try:
            async with asyncio.timeout(None) as waiting:
                silence.too_long = partial(waiting.reschedule, 0)
                answer = await self._opened().post(
                    url,
                    headers=headers,
                    data=_Message(content, leaves, has_left, silence),
                    allow_redirects=False,
                    # Its own time for a silence is set anew by each packet, which is too dear.
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
                )
        except BaseException as error:
            silence.end()
            if isinstance(error, Exception):
                raise _as_httpx(error) from error
            raise
        silence.too_long = answer.close
        if "Content-Encoding" in answer.headers:  # which nobody asked for, and httpx undoes
            stream = _Body(_Answer(answer, silence))
            return httpx.Response(answer.status, headers=answer.raw_headers, stream=stream)
        return _Answer(answer, silence)

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _Message(aiohttp.Payload):
    """What is sent; it tells when it leaves.

    aiohttp's own kind for bytes warns of a large one, which would hold up the loop only for a moment.
    """

    _value: bytes

    def __init__(
        self,
        content: bytes,
        leaves: Callable[[], object],
        has_left: Callable[[], object],
        silence: _Silence,
    ) -> None:
        super().__init__(content)
        self._size = len(content)
        self._leaves = leaves
        self._has_left = has_left
        self._silence = silence

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: Any) -> None:
        self._leaves()
        self._silence.broken()
        connection = writer.transport
        try:
            await writer.write(self._value)
        except BaseException:
            # Closed in the usual way, it would go on sending what it still holds.
            if connection is not None:
                connection.abort()
            raise
        self._silence.broken()
        self._has_left()


class _Answer:
    """An answer's head, and its body as it comes."""

    def __init__(self, answer: aiohttp.ClientResponse, silence: _Silence) -> None:
        self.status_code: int = answer.status
        self.headers: Mapping[str, str] = answer.headers
        self._answer = answer
        self._silence = silence

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        silence = self._silence
        silence.broken()
        try:
            async for chunk in self._answer.content.iter_any():
                silence.broken()
                yield chunk
        except Exception as error:
            raise _as_httpx(TimeoutError("silence") if silence.was_too_long else error) from error
        finally:
            silence.end()

    async def aclose(self) -> None:
        self._silence.end()
        # One that was read to its end has given its connection back by then.
        self._answer.close()


class _Silence:
    """Ends what is waited for when nothing has come for `limit_s`, from the first time that it is broken.

    Its clock is looked at when it may be too late, and not set anew each time.

    Attributes:
        too_long: ends it.
        was_too_long: whether it has.
    """

    too_long: Callable[[], object]

    def __init__(self, limit_s: float) -> None:
        self.was_too_long = False
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._doubted = False

    def broken(self) -> None:
        self._since = self._loop.time()
        if self._timer is None:
            self._look()

    def _look(self) -> None:
        ends = self._since + self._limit_s
        if ends > self._loop.time():
            self._doubted = False
            self._timer = self._loop.call_at(ends, self._look)
        elif not self._doubted:
            # A loop that something else held up has yet to read what has come meanwhile.
            self._doubted = True
            self._timer = self._loop.call_later(_TO_READ_S, self._look)
        else:
            self.was_too_long = True
            self.too_long()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer, for httpx to decode."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer.aiter_bytes()

    async def aclose(self) -> None:
        await self._answer.aclose()


def _as_httpx(error: Exception) -> Exception:
    """What aiohttp raised, as what it means to a sender. Another kind is returned as it is."""
    why = str(error) or type(error).__name__
    match error:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout(why)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return httpx.ProxyError(why)
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(why)
        case aiohttp.InvalidURL():
            return httpx.UnsupportedProtocol(why)
        case TimeoutError():
            return httpx.ReadTimeout(why)
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError(why)
        # A server that closes, a reset, a body cut short: at whichever point, the message may have left.
        case aiohttp.ClientError() | OSError():
            return httpx.ReadError(why)
    return error
