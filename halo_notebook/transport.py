"""An httpx transport for many streams at once, over aiohttp.

What it promises:

- It tells, by httpx's `trace` extension, when a request begins to leave and when all of it has,
  so that a message that may have arrived is known as such.
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

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx

from .settings import is_loopback

if TYPE_CHECKING:
    import aiohttp

REUSED_WITHIN_S = 2.0

Trace = Callable[[str, dict[str, Any]], Awaitable[None]]


class AiohttpTransport(httpx.AsyncBaseTransport):
    """See the module.

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
        import aiohttp

        if self._session is None:
            told = aiohttp.TraceConfig()
            # With a connection in hand, the request is what comes next.
            told.on_connection_create_end.append(_leaves)
            told.on_connection_reuseconn.append(_leaves)
            told.on_request_chunk_sent.append(_has_left)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl, keepalive_timeout=REUSED_WITHIN_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._trust_env,
                trace_configs=[told],
            )
        return self._session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; returns when the answer's head has come. Raises httpx's errors."""
        import aiohttp

        wait_s = request.extensions.get("timeout", {})
        try:
            response = await self._opened().request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=await request.aread(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=wait_s.get("connect"), sock_read=wait_s.get("read")
                ),
                trace_request_ctx=request.extensions.get("trace"),
            )
        except Exception as error:
            raise _as_httpx(error) from error
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer, as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except Exception as error:
            raise _as_httpx(error) from error

    async def aclose(self) -> None:
        # One that was read to its end has given its connection back by then.
        self._response.close()


async def _leaves(session: Any, context: Any, params: Any) -> None:
    await _tell(context, "send_request_headers.started")


async def _has_left(session: Any, context: Any, params: Any) -> None:
    await _tell(context, "send_request_body.complete")


async def _tell(context: Any, name: str) -> None:
    trace: Trace | None = context.trace_request_ctx
    if trace is not None:
        await trace(name, {})


def _as_httpx(error: Exception) -> Exception:
    """What aiohttp raised, as what it means to a sender. Another kind is returned as it is."""
    import aiohttp

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
