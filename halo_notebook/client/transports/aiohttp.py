"""Messages over aiohttp, for many streams at once.

What it promises, beside what each transport does: a connection that was idle for `REUSED_WITHIN_S` is not
used again, since the server may be closing it just as a message leaves. And what came before something that
cannot be read is given, though aiohttp drops what it finds in the same packet.

httpx's own transport takes more of one core for 30 streams than their server does, and on one
client 100 streams wait for each other, which would show in the agent's times. A single turn
does not use this one: httpx needs no further package and supports SOCKS proxies.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, StreamWriter
from yarl import URL

from .environment import certificates, proxy_for
from .protocol import BrokeOff, Incoming, Outgoing, no_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

REUSED_WITHIN_S = 2.0
_TO_READ_S = 0.05
_MAX_LINE_BYTES = 100 * 1024  # as httpx


class AiohttpTransport:
    """See the module. All requests go to `base_url`, which decides on certificates and proxies.

    Raises:
        ConfigError: when the environment cannot be followed.
    """

    def __init__(self, base_url: str) -> None:
        proxy = proxy_for(base_url, ("http", "https"))
        self._proxy = URL(str(proxy.url)) if proxy else None
        user = b64encode(b":".join(proxy.raw_auth)).decode() if proxy and proxy.raw_auth else None
        self._proxy_headers = {"Proxy-Authorization": f"Basic {user}"} if user else None
        self._trusted = certificates(base_url)
        self._connector: _Connector | None = None
        self._common: _Common | None = None

    def _opened(self) -> _Connector:
        if self._connector is None:
            # asyncio reads into 256 KiB at a time. glibc maps that from the system for each read, at about
            # 100 us of CPU time per message, until it has freed a larger block once.
            bytearray(1024 * 1024)
            self._connector = _Connector(limit=0, ssl=self._trusted, keepalive_timeout=REUSED_WITHIN_S)
        return self._connector

    def _common_to(self, outgoing: Outgoing) -> _Common:
        common = self._common
        if common is None or (common.url, common.headers) != (outgoing.url, outgoing.headers):
            common = self._common = _Common(outgoing.url, outgoing.headers, self._proxy, self._proxy_headers)
        return common

    async def send(self, outgoing: Outgoing) -> Incoming:
        common = self._common_to(outgoing)
        try:
            connection = await self._opened().connect(common.request, [], _limits(outgoing.connect_s))
        except Exception as error:
            raise _mapped(error, outgoing, left=False) from error
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None, "it has just been opened"
        assert transport is not None, "it has just been opened"
        silence = _Silence(outgoing.silence_s, transport.abort)
        try:
            protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=False,
                max_line_size=_MAX_LINE_BYTES,
                max_field_size=_MAX_LINE_BYTES,
            )
            outgoing.leaves()
            silence.broken()
            await StreamWriter(protocol, asyncio.get_running_loop()).write(common.written(outgoing.body))
            silence.broken()
            outgoing.has_left()
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, content = await protocol.read()
        except BaseException as error:
            silence.end()
            transport.abort()  # else it would continue to send what it still holds
            connection.close()
            if isinstance(error, Exception):
                cause = TimeoutError("silence") if silence.was_too_long else error
                raise _mapped(cause, outgoing, left=True) from error
            raise

        async def chunks() -> AsyncIterator[bytes]:
            silence.broken()
            try:
                while chunk := await content.readany():
                    silence.broken()
                    yield chunk
                if silence.was_too_long:  # a body without a length ends with its connection
                    raise aiohttp.ClientPayloadError
            except Exception as error:
                content.set_exception(None)  # type: ignore[arg-type]  # what came before it can be read then
                if rest := content.read_nowait():
                    yield rest
                cause = TimeoutError("silence") if silence.was_too_long else error
                raise _mapped(cause, outgoing, left=True) from error
            finally:
                silence.end()

        async def close() -> None:
            silence.end()
            if content.is_eof():
                connection.release()
            else:
                connection.close()

        headers: dict[str, str] = {}
        for given, value in message.headers.items():
            name = given.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Incoming(message.code, headers, chunks, close)

    async def aclose(self) -> None:
        """Close the connections."""
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()


class _Common:
    """What all messages to a URL with the same headers have in common. aiohttp's session would make a request
    and a response for each of them, which takes a quarter of what a message takes."""

    def __init__(
        self, url: str, headers: Mapping[str, str], proxy: URL | None, proxy_headers: dict[str, str] | None
    ) -> None:
        self.url, self.headers = url, headers
        self.request = aiohttp.ClientRequest(
            "POST",
            URL(url),
            headers=headers,
            proxy=proxy,
            proxy_headers=proxy_headers,
            loop=asyncio.get_running_loop(),
        )
        given = ((name, value) for name, value in self.request.headers.items() if name != "Content-Length")
        lines = [f"POST {self.request.url.raw_path_qs} HTTP/1.1", *map(": ".join, given), "Content-Length: "]
        self._head = "\r\n".join(lines).encode()

    def written(self, body: bytes) -> bytes:
        """The message with that body."""
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)


@lru_cache(maxsize=8)
def _limits(connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s)


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = cast("partial[ResponseHandler]", partial(_Answer, loop=self._loop))


class _Answer(ResponseHandler):
    """Reads answers as aiohttp does, but keeps what came before something unreadable."""

    _content: aiohttp.StreamReader | None = None  # after the head, until the next request

    def set_response_params(self, **settings: Any) -> None:
        self._content = None
        super().set_response_params(**settings)

    def feed_data(self, data: Any, *args: Any) -> None:
        message, content = data
        if message.code >= 200:
            self._content = content
        super().feed_data(data, *args)

    def resume_reading(self, *args: Any, **settings: Any) -> None:
        # Called for each chunk of a body that is read; without a pause it would only look for one again.
        if self._reading_paused:
            super().resume_reading(*args, **settings)

    def data_received(self, data: bytes) -> None:
        begins = 0
        while self._content is None and self.exception() is None:
            if not (ends := _end_of_head(data, begins) or data.find(b"\n", begins) + 1):
                break
            super().data_received(data[begins:ends])
            begins = ends
        if self.exception() is None:
            super().data_received(data[begins:])
        if self._content is not None and self.exception() is not None and not self._content.is_eof():
            # Else the reader would wait until it is silent for too long.
            self._content.set_exception(aiohttp.ClientPayloadError())


def _end_of_head(data: bytes, begins: int) -> int:
    """Where the head ends that begins there, if all of it is there and no line is odd; else 0."""
    end = data.find(b"\r\n\r\n", begins)
    is_plain = end >= 0 and data.find(b"\n\n", begins, end) < 0 and data.find(b"\n\r\n", begins, end) < 0
    return end + 4 if is_plain else 0


class _Silence:
    """Calls `too_long` when nothing has arrived for `limit_s`.

    Its timer is checked when it expires instead of being set again by each chunk.
    """

    def __init__(self, limit_s: float, too_long: Callable[[], object]) -> None:
        self.was_too_long = False
        self._limit_s = limit_s
        self._too_long = too_long
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
            # A loop that was held up has yet to read what has arrived meanwhile.
            self._doubted = True
            self._timer = self._loop.call_later(_TO_READ_S, self._look)
        else:
            self.was_too_long = True
            self._too_long()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _mapped(error: Exception, outgoing: Outgoing, *, left: bool) -> Exception:
    """An exception of aiohttp as a `TransportError`; any other is returned as it is.

    `left`: whether a part of the message may have left.
    """
    match error:
        case TimeoutError() if not left:
            return no_connection(error, f"no answer within {outgoing.connect_s:g} s")
        case aiohttp.ClientResponseError() if not left:  # its text would show the proxy's password
            return no_connection(error, f"by the proxy: {error.status} {error.message}")
        case aiohttp.ClientProxyConnectionError() if not left:
            return no_connection(error, f"by the proxy: {error}")
        case _ if not left:
            return no_connection(error)
        case TimeoutError():
            return outgoing.silent()
        # The server closed, a reset, a body cut short: the message may have left.
        case aiohttp.ClientError() | HttpProcessingError() | OSError():
            return BrokeOff()
    return error
