"""A real JupyterLab or Notebook 7 (`Lab`), and a page with one notebook on it (`LabPage`).

Each page starts with its own settings and its own kernel. It knows nothing of halo_notebook.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Locator, expect

from .pages import ARTEFACTS, BrowserPage, notebook_of
from .servers import Server, write_json

SETTINGS: dict[str, dict[str, Any]] = {
    # No question about news on the first start, no request for them.
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # By default cells outside the viewport may not be in the page.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}

# They have nothing to do with a cell or a widget, and take a third of the time that a page needs to load.
UNUSED = [
    *("audio", "celltags", "csvviewer", "debugger", "extensionmanager", "fileeditor", "help"),
    *("htmlviewer", "hub", "imageviewer", "inspector", "launcher", "logconsole", "markdownviewer"),
    *("mermaid", "pdf", "pluginmanager", "settingeditor", "tooltip"),
    *("vega5", "video"),
]
UNUSED_PLUGINS = [
    *(f"{name}-extension" for name in UNUSED),
    # These need one of those, and would write errors to the console.
    *("notebook-extension:language-server", "notebook-extension:update-raw-mimetype"),
    "workspaces-extension:sidebar",
]


class Lab(Server):
    """The server of JupyterLab ('lab') or Notebook 7 ('notebook')."""

    def __init__(self, *, front_end: Literal["lab", "notebook"] = "lab") -> None:
        super().__init__(front_end)
        self._settings = self._home / "settings"
        self._workspaces = self._home / "workspaces"
        self.reset_settings()
        # Voila adds itself to every Jupyter server of its environment.
        write_json(
            self._home / "config/jupyter_server_config.json",
            {"ServerApp": {"jpserver_extensions": {"voila": False}}},
        )
        write_json(
            self._home / "config/labconfig/page_config.json",
            {
                "disabledExtensions": {
                    "@voila-dashboards/jupyterlab-preview": True,
                    **{f"@jupyterlab/{name}": True for name in UNUSED_PLUGINS},
                }
            },
        )
        module, app = ("jupyterlab", "LabApp") if front_end == "lab" else ("notebook", "JupyterNotebookApp")
        command = [
            module,
            "--no-browser",
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            f"--ServerApp.root_dir={self.root}",
            f"--ServerApp.allow_root={not os.getuid()}",
            f"--IdentityProvider.token={self.token}",
            f"--{app}.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        environment = {
            "JUPYTERLAB_SETTINGS_DIR": str(self._settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(self._workspaces),
        }
        self._start(command, environment)

    def reset_settings(self) -> None:
        """Give the front end the settings that every page starts with."""
        shutil.rmtree(self._settings, ignore_errors=True)
        # They contain the list of recent files, each of which a page asks for.
        shutil.rmtree(self._workspaces, ignore_errors=True)
        for name, settings in SETTINGS.items():
            self.change_settings(name, **settings)

    def change_settings(self, name: str, **settings: Any) -> None:
        """Give the pages that are loaded from now on these settings of an extension."""
        write_json(self._settings / f"{name}.jupyterlab-settings", settings)

    def end_kernels(self) -> None:
        """End every session and its kernel."""
        for session in self.request("GET", "api/sessions"):
            self.request("DELETE", f"api/sessions/{session['id']}")

    def _address(self, process: subprocess.Popen[bytes]) -> str | None:
        notice = self._home / f"runtime/jpserver-{process.pid}.json"
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return f"http://127.0.0.1:{json.loads(notice.read_text())['port']}"
        return None

    def _first_request(self) -> str:
        return "api/status"


class LabPage(BrowserPage):
    """A browser with one notebook open on a `Lab`."""

    def __init__(self, lab: Lab, *, size: tuple[int, int] = (1280, 900)) -> None:
        self.lab = lab
        self.path = lab.root / f"notebook-{secrets.token_hex(4)}.ipynb"
        """The file of the open notebook."""
        lab.reset_settings()
        super().__init__(size=size)

    def open_notebook(self, cells: Sequence[str]) -> None:
        """Write a notebook with these code cells, open it and wait until its kernel is idle."""
        self.hold()
        write_json(self.path, notebook_of(cells))
        self._go()

    def hold(self) -> None:
        """Hold the replies that wait for the file go-on: an earlier page may have let its own go."""
        (self.lab.root / "go-on").unlink(missing_ok=True)

    def let_go(self) -> None:
        """Let the replies that wait for the file go-on arrive."""
        (self.lab.root / "go-on").touch()

    def reopen(self, *, trusted: bool = True, new_kernel: bool = False) -> None:
        """Save, and open the saved file in a fresh page.

        Unless `trusted`, the file is changed as by another program, so that its outputs are not trusted.
        """
        self.save()
        self.page.goto("about:blank")
        if new_kernel:
            self.lab.end_kernels()
        if not trusted:
            notebook = self.saved()
            notebook["metadata"]["changed_by"] = "another program"
            write_json(self.path, notebook)
        self._go()

    def saved(self) -> dict[str, Any]:
        """The JSON of the notebook's file (nbformat 4)."""
        notebook: dict[str, Any] = json.loads(self.path.read_text())
        return notebook

    def start_cell(self, index: int) -> None:
        """Run one cell and return at once."""
        self.page.evaluate("index => harness.startCell(index)", index)

    def run_cell(self, index: int, timeout: float = 30) -> None:
        """Run one cell and wait for its end (its output may be painted a moment later)."""
        self.start_cell(index)
        self.kernel_idle(timeout)

    def run_all(self) -> None:
        """Run all cells and wait for the end of the last."""
        self.command("notebook:run-all-cells")
        self.kernel_idle(60)

    def command(self, name: str, **arguments: Any) -> None:
        """Start any command of the front end, with the notebook as its target."""
        self.page.evaluate("([name, args]) => harness.start(name, args)", [name, arguments])

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self.command("notebook:interrupt-kernel")

    def kernel_idle(self, timeout: float = 30) -> None:
        """Wait until all commands have ended and the kernel is idle."""
        self.wait_until("harness.idle()", "every command to end and the kernel to be idle", timeout)

    def save(self) -> None:
        """Save the notebook and wait until it is in its file."""
        self.command("docmanager:save")
        self.wait_until(
            "harness.pending === 0 && !harness.panel().context.model.dirty", "the notebook to be saved", 30
        )

    def set_theme(self, name: str) -> None:
        """Switch to 'JupyterLab Dark' or 'JupyterLab Light' and wait until it is shown."""
        self.command("apputils:change-theme", theme=name)
        # JupyterLab throws if the theme is switched again while its splash screen fades.
        shown = f"document.body.dataset.jpThemeName === {json.dumps(name)}"
        self.wait_until(
            f"{shown} && !document.getElementById('jupyterlab-splash')", f"the theme {name!r}", 30
        )

    def cell(self, index: int) -> Locator:
        """The cell with its input and output."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def cell_output(self, index: int) -> Locator:
        """The cell's outputs."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def cell_text(self, index: int) -> str:
        """The text that is visible in the cell's outputs."""
        return self.cell_output(index).inner_text()

    def printed(self, index: int) -> str:
        """All that the cell has printed, which may not yet be painted."""
        outputs = self.page.evaluate(
            "index => harness.panel().content.widgets[index].model.outputs.toJSON()", index
        )
        return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")

    def wait_for_text(self, index: int, text: str, timeout: float = 30) -> None:
        """Wait until the text is visible in the cell's outputs (runs of spaces count as one)."""
        expect(self.cell_output(index)).to_contain_text(text, timeout=timeout * 1000, use_inner_text=True)

    @property
    def dialogs(self) -> list[str]:
        """The texts of the front end's own dialogs that are open."""
        return self.page.locator(".jp-Dialog").all_inner_texts()

    def screenshot(self, name: str, *, cell: int | None = None) -> Path:
        """Save `artefacts/NAME.png`: the page, or one cell of it."""
        ARTEFACTS.mkdir(exist_ok=True)
        path = ARTEFACTS / f"{name}.png"
        if cell is None:
            self.page.screenshot(path=path, animations="disabled")
            return path
        # The notebook scrolls in a box of its own, and a picture shows only what is inside the box.
        target, usual = self.cell(cell), self.page.viewport_size
        box = target.bounding_box()
        assert usual and box
        self.page.set_viewport_size({**usual, "height": max(usual["height"], int(box["height"]) + 200)})
        try:
            target.screenshot(path=path, animations="disabled")
        finally:
            self.page.set_viewport_size(usual)
        return path

    def close(self) -> None:
        """Close the page, end the kernels and remove the notebook."""
        try:
            super().close()
        finally:
            self.lab.end_kernels()
            self.path.unlink(missing_ok=True)

    def _go(self) -> None:
        view = "notebooks" if self.lab.name == "notebook" else "doc/tree"
        self.page.goto(f"{self.lab.url}/{view}/{self.path.name}?token={self.lab.token}")
        self.wait_until("harness.ready()", "the notebook to be open and its kernel idle", 60)

    def state(self) -> str:
        """What a failure should say about the page, its dialogs and the server."""
        return f"{super().state()}\n  dialogs: {self.dialogs}\n  server's log: {self.lab.log[-2000:]}"
