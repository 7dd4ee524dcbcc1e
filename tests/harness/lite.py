"""The JupyterLite site, where Python runs in the page, and a real browser in front of it.

`make lite` builds the site; without it a test fails. `Secure` serves an agent over https and HTTP/2 to pages
of another origin, as a browser requires of a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import json
import secrets
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import hypercorn.asyncio
import hypercorn.config
import pytest
import trustme

from halo_notebook.client.transports.protocol import Outgoing, Transport, TransportError

from .pages import BrowserPage

SITE = Path(__file__).parents[2] / "notebooks/lite/_site"
OPEN = """
async ([path, content]) => {
  const { serviceManager, commands } = window.jupyterapp;
  await serviceManager.contents.save(path, { type: 'notebook', format: 'json', content });
  await commands.execute('docmanager:open', { path, factory: 'Notebook' });
}
"""


class Site:
    """The files of `notebooks/lite/_site` on a loopback port."""

    def __init__(self) -> None:
        if not (SITE / "jupyter-lite.json").exists():
            pytest.fail(f"{SITE} is not there: `make lite` makes it.", pytrace=False)
        files = functools.partial(_Files, directory=str(SITE))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), files)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the base's name
        pass


class LitePage(BrowserPage):
    """A browser with one notebook open on a `Site`; no other host is reached."""

    def __init__(self, site: Site) -> None:
        self.site = site
        super().__init__()
        self.refuse_strangers()
        # The harness's script in the page needs the application.
        settings = json.loads((SITE / "jupyter-lite.json").read_text())
        settings["jupyter-config-data"]["exposeAppInBrowser"] = True
        self.page.route(f"{site.url}/jupyter-lite.json*", lambda route: route.fulfill(json=settings))

    def open_notebook(self, content: dict[str, Any]) -> None:
        """Open a notebook, given as its JSON, and wait until Python has started."""
        content["metadata"] = {"kernelspec": {"name": "python", "display_name": "Python (Pyodide)"}}
        self.page.goto(f"{self.site.url}/lab/index.html?reset")
        self.page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget")
        self.page.evaluate("() => window.jupyterapp.restored.then(() => null)")
        self.page.evaluate(OPEN, [f"{secrets.token_hex(4)}.ipynb", content])
        self.wait_until("harness.ready()", "Python to start", 90)

    def run_cells(self, *indices: int, timeout: float = 60) -> None:
        """Run these cells, one after the other, and wait for the end of the last."""
        for index in indices:
            self.page.evaluate("index => harness.startCell(index)", index)
        self.wait_until("harness.idle()", "the last cell", timeout)

    def notebook(self) -> dict[str, Any]:
        """The notebook's JSON as it stands in the page."""
        read = "() => harness.panel().content.model.toJSON()"
        return cast("dict[str, Any]", self.page.evaluate(read))

    def printed(self, index: int) -> str:
        """What this cell has printed, and its error."""
        outputs = self.notebook()["cells"][index]["outputs"]
        texts = [output.get("text") or output.get("evalue") or "" for output in outputs]
        return "".join("".join(text) for text in texts)


CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-expose-headers": "x-session-id, x-agent-id",
}


class Secure:
    """Serves the answers of a transport over https with HTTP/2, for pages of any origin.

    If the transport raises, the connection breaks. `bodies` has the bodies of all requests but preflights.
    """

    def __init__(self, transport: Transport) -> None:
        self.bodies: list[bytes] = []
        self._transport = transport
        self._folder = tempfile.TemporaryDirectory()
        home = Path(self._folder.name)
        made = trustme.CA().issue_cert("127.0.0.1")
        made.private_key_and_cert_chain_pem.write_to_path(home / "pem")
        self._inner = str(home / "socket")
        self._config = hypercorn.config.Config.from_mapping(
            bind=[f"unix:{self._inner}"],
            certfile=str(home / "pem"),
            keyfile=str(home / "pem"),
            alpn_protocols=["h2"],
            graceful_timeout=0.1,
            loglevel="CRITICAL",
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._folder.cleanup()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        outer = await asyncio.start_server(self._connect, sock=self._listener)
        await hypercorn.asyncio.serve(
            cast("Any", self._application), self._config, shutdown_trigger=cast("Any", self._stopping.wait)
        )
        outer.close()
        self._break()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on to hypercorn, which can break a stream of HTTP/2, but not the connection."""
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._inner)
        self._connections |= {writer, inner_writer}
        pairs = ((reader, inner_writer), (inner_reader, writer))
        pumps = [asyncio.ensure_future(_pump(*pair)) for pair in pairs]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, inner_writer):
            each.transport.abort()
            self._connections.discard(each)
        await asyncio.gather(*pumps)

    def _break(self) -> None:
        for writer in self._connections:
            writer.transport.abort()

    async def _application(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        end = {"type": "http.response.body", "body": b""}
        if scope["method"] == "OPTIONS":
            await send(_start(204, {}))
            await send(end)
            return
        self.bodies.append(body)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        url = f"https://127.0.0.1{scope['path']}"
        try:
            answer = await self._transport.send(Outgoing(url, headers, body, connect_s=10, silence_s=10))
        except TransportError:
            self._break()
            return
        await send(_start(answer.status, answer.headers))
        async for chunk in answer.chunks():
            await send({**end, "body": chunk, "more_body": True})
        await send(end)


def _start(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    head = [(name.encode(), value.encode()) for name, value in {**headers, **CORS}.items()]
    return {"type": "http.response.start", "status": status, "headers": head}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
