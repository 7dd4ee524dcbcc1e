"""The browser's `fetch`, the only access that a page has to the network.

What it promises:

- Bytes are passed on as they arrive; closing an answer, or cancelling a request, ends its connection.
- A message is sent once. Given a body that it can read again, Chromium sends a POST a second time, and
  a third, when a connection that it had kept breaks before the answer; nothing in `fetch` forbids it.
  So the body goes as a stream, which can be read only once. That takes https and HTTP/2 or later:
  over HTTP/1.1 the browser refuses it, with nothing sent. A browser that cannot stream a body would
  send the text "[object ReadableStream]" in its place; there, nothing is sent.
- A message may have arrived as soon as it is handed over: the browser does not say what becomes of it.
  So no failure allows sending it again.
- No cookies and no cache; redirects are not followed.

The service must allow the page's origin (CORS) and the headers `Authorization` and `Content-Type`, and
expose `X-Session-Id` and `X-Agent-Id`: without the first the conversation cannot continue. Bytes that
the browser still held when a connection broke are lost; it gives only the error then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from .protocol import BrokeOff, Incoming, Outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SENT = ("authorization", "content-type")
"""The browser sets the others itself, and a header that it does not know needs the service's permission."""
_UNDONE = ("content-encoding", "content-length")
"""They describe the bytes before the browser decoded them."""


class FetchTransport:
    """See the module."""

    async def send(self, outgoing: Outgoing) -> Incoming:
        import js
        from pyodide.ffi import to_js

        if not outgoing.url.startswith("https:"):
            raise ConfigError(
                "A browser sends a message only over https. Nothing was sent; check HALO_BASE_URL."
            )
        if not _streams_bodies():
            raise ConfigError(
                "This browser cannot stream a message, and might send it twice. Nothing was sent; open this "
                "page in Chrome or Edge."
            )
        aborter = js.AbortController.new()
        options = {
            "method": "POST",
            "headers": {name: value for name, value in outgoing.headers.items() if name.lower() in _SENT},
            "body": js.Response.new(to_js(outgoing.body)).body,
            "duplex": "half",  # without it a stream cannot be a body
            "signal": aborter.signal,
            "cache": "no-store",
            "credentials": "omit",
            "redirect": "manual",
        }
        outgoing.leaves()
        outgoing.has_left()
        try:
            options = to_js(options, dict_converter=js.Object.fromEntries)
            answer = await _within(js.fetch(outgoing.url, options), outgoing)
        except BaseException:
            aborter.abort()
            raise
        headers = {name.lower(): value for name, value in answer.headers if name.lower() not in _UNDONE}

        async def chunks() -> AsyncIterator[bytes]:
            if not answer.body:
                return
            reader = answer.body.getReader()
            while not (part := await _within(reader.read(), outgoing)).done:
                yield part.value.to_bytes()

        async def close() -> None:
            aborter.abort()

        # Of a redirect, the browser says neither which one it is nor where it leads.
        status = 302 if answer.type == "opaqueredirect" else answer.status
        return Incoming(status, headers, chunks, close)

    async def aclose(self) -> None:
        """There is nothing to close."""


def _streams_bodies() -> bool:
    """Whether a stream can be a request's body. Otherwise it becomes a text, which has a content type."""
    import js
    from pyodide.ffi import to_js

    options = {"method": "POST", "body": js.ReadableStream.new(), "duplex": "half"}
    request = js.Request.new("https://localhost", to_js(options, dict_converter=js.Object.fromEntries))
    return getattr(request, "duplex", None) == "half" and not request.headers.has("content-type")


async def _within(promise: Any, outgoing: Outgoing) -> Any:
    from pyodide.ffi import JsException

    try:
        async with asyncio.timeout(outgoing.silence_s):
            return await promise
    except TimeoutError as error:
        raise outgoing.silent() from error
    except JsException as error:
        raise BrokeOff(
            "the browser does not say why: the address, the network, no HTTP/2, or this page is not allowed "
            "(CORS)"
        ) from error
