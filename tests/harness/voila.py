"""A real Voila, and a real browser in front of it: a notebook as its readers get it, without its code.

Voila runs a notebook again for each page that opens it, with a kernel of the page's own, and shows it when
all cells have ended; nothing can be run from the page but what widgets ask for.
"""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .pages import BrowserPage, notebook_of
from .servers import Server, write_json

if TYPE_CHECKING:
    from playwright.sync_api import Route

# It is made for a newer JupyterLab than the one in Voila's page, and fails there with an error.
NOT_FOR_VOILA = ("@jupyter-notebook/lab-extension",)

# A widget's place holds a script of this type until the widget is there.
SHOWN = """window.jupyterapp && document.querySelector('#main #rendered_cells')
  && !document.querySelector('#rendered_cells script[type="application/vnd.jupyter.widget-view+json"]')
"""


class Voila(Server):
    """Voila's server."""

    def __init__(self) -> None:
        super().__init__("voila")
        with socket.socket() as probe:
            # Voila announces the port that it was told, so 0 would not do. If this one is taken meanwhile, it
            # uses the next and says so.
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            "voila",
            "--no-browser",
            "--Voila.ip=127.0.0.1",
            f"--Voila.port={port}",
            f"--Voila.token={self.token}",
            f"--Voila.connection_dir_root={self._home}",
            *(f"--VoilaConfiguration.extension_denylist={name}" for name in NOT_FOR_VOILA),
            "--VoilaConfiguration.show_tracebacks=True",
            str(self.root),
        ]
        self._start(command)

    def _address(self, process: subprocess.Popen[bytes]) -> str | None:
        found = re.search(r"is running at:\s+(http://127\.0\.0\.1:\d+)", self.log)
        return found[1] if found else None

    def _first_request(self) -> str:
        return "voila/api/contents"


class VoilaPage(BrowserPage):
    """A browser with one notebook open on a `Voila`, which reaches no other host (for icons)."""

    def __init__(self, server: Voila) -> None:
        self.server = server
        self._path = server.root / f"notebook-{secrets.token_hex(4)}.ipynb"
        super().__init__()
        self.refuse_strangers()

    def open_notebook(self, cells: Sequence[str]) -> None:
        """Write a notebook with these code cells, open it and wait until its widgets are on the page."""
        write_json(self._path, notebook_of(cells))
        address = f"{self.server.url}/voila/render/{self._path.name}?token={self.server.token}"
        self.page.goto(address, timeout=60_000)
        self.wait_until(SHOWN, "the notebook to be shown", 60)

    def state(self) -> str:
        """What a failure should say about the page and the server."""
        body = self.page.inner_text("body")[:500]
        return f"{super().state()}\n  text: {body}\n  server's log: {self.server.log[-2000:]}"

    def _refuse(self, route: Route) -> None:
        self.strangers.append(route.request.url)
        route.fulfill(status=204)  # a refusal would be an error on the console
