"""A real JupyterLab or Notebook 7 (`Lab`), and a page with one notebook on it (`LabPage`).

The promise: each page starts with its own settings and its own kernel; waits are on conditions, with a bound,
and one that fails says what it waited for and what was on the page. It knows nothing of halo_notebook.
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
from .servers import Server

SETTINGS = {
    # No question about news on the first start, no request for them.
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # By default cells outside the viewport may not be in the page.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


class Lab(Server):
    """The server of JupyterLab ('lab') or Notebook 7 ('notebook')."""

    def __init__(self, *, front_end: Literal["lab", "notebook"] = "lab") -> None:
        super().__init__(front_end)
        self.front_end = front_end
        self._settings = self._home / "settings"
        self._workspaces = self._home / "workspaces"
        self.reset_settings()
        self._leave_out_voila(self._home / "config")
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
            path = self._settings / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))

    def end_kernels(self) -> None:
        """End every session and its kernel."""
        for session in self.request("GET", "api/sessions"):
            self.request("DELETE", f"api/sessions/{session['id']}")

    def _leave_out_voila(self, config: Path) -> None:
        # Voila adds itself to every Jupyter server of its environment.
        for name, settings in {
            "jupyter_server_config.json": {"ServerApp": {"jpserver_extensions": {"voila": False}}},
            "labconfig/page_config.json": {
                "disabledExtensions": {"@voila-dashboards/jupyterlab-preview": True}
            },
        }.items():
            path = config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))

    def _address(self, process: subprocess.Popen[bytes]) -> str | None:
        notice = self._runtime / f"jpserver-{process.pid}.json"
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return f"http://127.0.0.1:{json.loads(notice.read_text())['port']}"
        return None

    def _first_request(self) -> str:
        return "api/status"


class LabPage(BrowserPage):
    """A browser with one notebook open on a `Lab`.

    Example:
        def test_answer(lab):
            lab.open_notebook(["6 * 7"])
            lab.run_cell(0)
            lab.wait_for_text(0, "42")
    """

    def __init__(self, lab: Lab, *, size: tuple[int, int] = (1280, 900)) -> None:
        self.lab = lab
        self._path: Path | None = None
        lab.reset_settings()
        super().__init__(size=size)

    def open_notebook(self, cells: Sequence[str], *, timeout: float = 60) -> None:
        """Write a notebook with these code cells, open it and wait until its kernel is idle."""
        self._path = self.lab.root / f"notebook-{secrets.token_hex(4)}.ipynb"
        self._write(notebook_of(cells))
        self._go(timeout)

    def reopen(self, *, trusted: bool = True, new_kernel: bool = False, timeout: float = 60) -> None:
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
            self._write(notebook)
        self._go(timeout)

    @property
    def path(self) -> Path:
        """The file of the open notebook."""
        assert self._path is not None, "no notebook has been opened"
        return self._path

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

    def run_all(self, timeout: float = 60) -> None:
        """Run all cells and wait for the end of the last."""
        self.command("notebook:run-all-cells")
        self.kernel_idle(timeout)

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
        self.wait_until(
            f"document.body.dataset.jpThemeName === {json.dumps(name)}", f"the theme {name!r}", 30
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
        assert usual is not None
        assert box is not None
        self.page.set_viewport_size(
            {"width": usual["width"], "height": max(usual["height"], int(box["height"]) + 200)}
        )
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
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def _write(self, notebook: dict[str, Any]) -> None:
        self.path.write_text(json.dumps(notebook, indent=1))

    def _go(self, timeout: float) -> None:
        view = "notebooks" if self.lab.front_end == "notebook" else "doc/tree"
        self.page.goto(f"{self.lab.url}/{view}/{self.path.name}?token={self.lab.token}")
        self.wait_until("harness.ready()", "the notebook to be open and its kernel idle", timeout)

    def state(self) -> str:
        """What a failure should say about the page, its dialogs and the server."""
        return f"{super().state()}\n  dialogs: {self.dialogs}\n  server's log: {self.lab.log[-2000:]}"
