"""An httpx transport over the browser's `fetch`, which is all the network that a page has.

What it promises:

- Bytes are passed on as they come; closing a response, or cancelling a request, ends its connection.
- A message is sent once. Given a body that it can read again, Chromium sends a POST a second time, and
  a third, when a connection that it had kept breaks before the answer; nothing in `fetch` forbids it.
  So the body goes as a stream, which can be read only once. That takes https and HTTP/2 or later:
  over HTTP/1.1 the browser refuses it, with nothing sent.
- It tells, by httpx's `trace` extension, that a message leaves as soon as it is handed over: what
  becomes of it then, the browser does not say. So a failure is never one that allows sending again.
- No cookies and no cache; redirects are not followed.

The service must allow the page's origin (CORS) and the headers `Authorization` and `Content-Type`, and
expose `X-Session-Id` and `X-Agent-Id`: without the first the conversation would not go on. Bytes that
the browser still held when a connection broke are lost; it gives no more than the error then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

_SENT = ("accept", "authorization", "content-type")
"""The others are the browser's own, and one that it does not know needs the service's leave."""
_UNDONE = ("content-encoding", "content-length")
"""Said of the bytes before the browser unpacked them."""


class FetchTransport(httpx.AsyncBaseTransport):
    """See the module."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; returns when the answer's head has come. Raises httpx's errors."""
        import js
        from pyodide.ffi import to_js

        if request.url.scheme != "https":
            raise httpx.UnsupportedProtocol("a browser sends a message once only over https")
        aborter = js.AbortController.new()
        options = {
            "method": request.method,
            "headers": {name: value for name, value in request.headers.items() if name in _SENT},
            "body": js.Response.new(to_js(await request.aread())).body,
            "duplex": "half",  # without it a stream is no body
            "signal": aborter.signal,
            "cache": "no-store",
            "credentials": "omit",
            "redirect": "manual",
        }
        silence_s = request.extensions.get("timeout", {}).get("read")
        if (trace := request.extensions.get("trace")) is not None:
            await trace("fetch.send_request_headers.started", {})
            await trace("fetch.send_request_body.complete", {})
        try:
            options = to_js(options, dict_converter=js.Object.fromEntries)
            answer = await _within(js.fetch(str(request.url), options), silence_s)
        except BaseException:
            aborter.abort()
            raise
        if answer.type == "opaqueredirect":  # the browser tells neither which nor where to
            return httpx.Response(302)
        headers = [(name, value) for name, value in answer.headers if name not in _UNDONE]
        return httpx.Response(answer.status, headers=headers, stream=_Body(answer.body, aborter, silence_s))


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer, as they come."""

    def __init__(self, body: Any, aborter: Any, silence_s: float | None) -> None:
        self._body = body
        self._aborter = aborter
        self._silence_s = silence_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body is None:
            return
        reader = self._body.getReader()
        while not (part := await _within(reader.read(), self._silence_s)).done:
            yield part.value.to_bytes()

    async def aclose(self) -> None:
        self._aborter.abort()


async def _within(promise: Any, silence_s: float | None) -> Any:
    from pyodide.ffi import JsException

    try:
        async with asyncio.timeout(silence_s):
            return await promise
    except TimeoutError as error:
        raise httpx.ReadTimeout("silence") from error
    except JsException as error:
        raise httpx.TransportError(
            "the browser does not say why: the address, the network, no HTTP/2, no leave for this page"
        ) from error
