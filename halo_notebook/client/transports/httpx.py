"""The network, by httpx; and a caller's own httpx transport in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httpx

from .environment import certificates, not_set_up, proxy_for
from .protocol import BrokeOff, Incoming, NotConnected, Outgoing, TransportError, Unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# What httpx raises before it sends anything, whichever transport raises it.
_NOT_SENT = (httpx.ConnectError, httpx.InvalidURL, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_DEFAULTS = {"Accept": "*/*", "User-Agent": f"python-httpx/{httpx.__version__}"}


def network(base_url: str) -> HttpxTransport:
    """The network, as the environment says that `base_url` is reached. Raises `ConfigError`."""
    proxy = proxy_for(base_url)
    try:
        inner = httpx.AsyncHTTPTransport(
            verify=certificates(base_url),
            proxy=proxy,
            trust_env=False,
            # Each turn has a connection of its own: the server may close an idle one just as the message
            # leaves, and a message that may have arrived cannot be sent again.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise not_set_up("the proxy cannot be used" if proxy else error) from None
    return HttpxTransport(inner, reports=True)


class HttpxTransport:
    """Sends by an httpx transport.

    Unless it `reports` when bytes leave (httpx's `trace`), a message may have arrived once it is handed over.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, *, reports: bool = False) -> None:
        self._inner = inner
        self._reports = reports

    async def send(self, outgoing: Outgoing) -> Incoming:
        left = not self._reports
        if left:
            outgoing.leaves()

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            nonlocal left
            if name.endswith("send_request_headers.started"):
                left = True
                outgoing.leaves()
            elif name.endswith("send_request_body.complete"):
                outgoing.has_left()

        silence_s = outgoing.silence_s
        timeout = {"connect": outgoing.connect_s, "read": silence_s, "write": silence_s, "pool": None}
        request = httpx.Request(
            "POST",
            outgoing.url,
            headers={**_DEFAULTS, **outgoing.headers},
            content=outgoing.body,
            extensions={"timeout": timeout, "trace": trace},
        )
        try:
            response = await self._inner.handle_async_request(request)
        except Exception as error:
            raise mapped(error, outgoing, left=left) from error
        stream = cast("httpx.AsyncByteStream", response.stream)  # not by the response, which decodes

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in stream:
                    yield chunk
            except Exception as error:
                raise mapped(error, outgoing) from error

        return Incoming(response.status_code, response.headers, chunks, stream.aclose)

    async def aclose(self) -> None:
        await self._inner.aclose()


def mapped(error: Exception, outgoing: Outgoing, *, left: bool = True) -> Exception:
    """An exception of httpx as a `TransportError`; any other is returned as it is. `left`: whether a part of
    the message may have left."""
    why = str(error) or type(error).__name__
    match error:
        case TransportError():
            return error
        case httpx.ConnectTimeout():
            return NotConnected(f"no answer within {outgoing.connect_s:g} s")
        case httpx.ProxyError():
            return NotConnected(f"by the proxy: {why}")
        case httpx.HTTPError() | httpx.InvalidURL() if isinstance(error, _NOT_SENT) or not left:
            return NotConnected(why)
        case httpx.TimeoutException():
            return outgoing.silent()
        case httpx.DecodingError():
            return Unreadable(why)
        case httpx.NetworkError() | httpx.ProtocolError():
            return BrokeOff()
        case httpx.HTTPError() | httpx.StreamError() | httpx.InvalidURL() | httpx.CookieConflict():
            return BrokeOff(why)
    return error
