"""Messages over httpx, or over a caller's own httpx transport."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import httpcore
import httpx

from .environment import SOCKS, certificates, not_set_up, proxy_for
from .protocol import (
    BrokeOff,
    Incoming,
    NotConnected,
    Outgoing,
    TransportError,
    Unreadable,
    no_connection,
    unsent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_DEFAULTS = {"Accept": "*/*", "User-Agent": f"python-httpx/{httpx.__version__}"}


def network(base_url: str) -> HttpxTransport:
    """A transport to `base_url` with the environment's proxy and certificates. Raises `ConfigError`."""
    proxy, trusted = proxy_for(base_url), certificates(base_url)
    if proxy and proxy.url.scheme == "https":
        proxy.ssl_context = trusted
    try:
        inner = httpx.AsyncHTTPTransport(
            verify=trusted,
            proxy=proxy,
            trust_env=False,
            # Each turn has a connection of its own: the server may close an idle one just as the message
            # leaves, and a message that may have arrived cannot be sent again.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
    except ImportError:
        raise not_set_up(f"a proxy with {SOCKS[0]}:// needs: pip install 'httpx[socks]'") from None
    return HttpxTransport(inner, reports=True)


class HttpxTransport:
    """Sends by an httpx transport.

    Unless it is known that it `reports` its steps (httpx's `trace`), a message may have arrived once it is
    handed over, until one is reported.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, *, reports: bool = False) -> None:
        self._inner = inner
        self._reports = reports

    async def send(self, outgoing: Outgoing) -> Incoming:
        left = False if self._reports else None  # None: not known
        if left is None:
            outgoing.leaves()
        of_proxy = False
        now = asyncio.get_running_loop().time

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            nonlocal left, of_proxy
            left = left or False
            if "request" in info:  # a proxy is asked for a tunnel before
                of_proxy = info["request"].method == b"CONNECT"
            if of_proxy:
                return
            if name.endswith("send_request_headers.started"):
                left = True
                outgoing.leaves()
                limit.reschedule(None)
            elif name.endswith("send_request_headers.failed"):
                # HTTP/1.1 checks them before it writes them.
                left = not isinstance(info["exception"], httpcore.LocalProtocolError)
            elif name.endswith("send_request_body.complete"):
                outgoing.has_left()
            elif name.endswith("receive_response_headers.started"):
                # Interim answers (1xx), of which there may be any number, do not prolong it.
                limit.reschedule(now() + outgoing.silence_s)

        silence_s = outgoing.silence_s
        timeout = {"connect": outgoing.connect_s, "read": silence_s, "write": silence_s, "pool": None}
        try:
            request = httpx.Request(
                "POST",
                outgoing.url,
                headers={**_DEFAULTS, **outgoing.headers},
                content=outgoing.body,
                extensions={"timeout": timeout, "trace": trace},
            )
            async with asyncio.timeout(outgoing.connect_s if self._reports else None) as limit:
                response = await self._inner.handle_async_request(request)
        except Exception as error:
            raise mapped(error, outgoing, left=left) from error
        stream = cast("httpx.AsyncByteStream", response.stream)  # not by the response, which decodes

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in stream:
                    yield chunk
            except Exception as error:
                raise mapped(error, outgoing, left=True) from error

        return Incoming(response.status_code, response.headers, chunks, stream.aclose)

    async def aclose(self) -> None:
        await self._inner.aclose()


def mapped(error: Exception, outgoing: Outgoing, *, left: bool | None) -> Exception:
    """An exception of httpx as a `TransportError`; any other is returned as it is.

    `left`: whether a part of the message may have left; None when only the kind of exception can tell.
    """
    why = str(error) or type(error).__name__
    match error:
        case TransportError():
            return error
        case _ if left is False or (left is None and isinstance(unsent(error), NotConnected)):
            if isinstance(error, httpx.ProxyError):
                why = f"by the proxy: {why}"
            elif isinstance(error, (httpx.TimeoutException, TimeoutError)):
                why = f"no answer within {outgoing.connect_s:g} s"
            elif isinstance(error, httpx.ConnectError) and not str(error):  # such as a server without https
                why = "closed before TLS was set up"
            return no_connection(error, why)
        case httpx.TimeoutException() | TimeoutError():
            return outgoing.silent()
        case httpx.DecodingError():
            return Unreadable(why)
        case httpx.NetworkError() | httpx.ProtocolError():
            return BrokeOff()
        case httpx.HTTPError() | httpx.StreamError() | httpx.InvalidURL() | httpx.CookieConflict():
            return BrokeOff(why)
    return error
