"""A real JupyterLab or Notebook 7, and a real Chromium in front of it.

The promise: each page starts with a browser profile, settings and a kernel of its own;
nothing of the user's Jupyter set-up is read or written; waits are on conditions, with a
bound, and one that ends says what it waited for and what was on the page.

`Lab` is the server, `LabPage` the browser with one notebook. `Server` and `BrowserPage` are
what `voila` needs of them, too. What they need is expected to be there: without Chromium or
a kernel a test fails, it is not skipped. They know nothing of halo_notebook.

Playwright's sync face keeps an event loop running in the thread that started it, and
`asyncio.run` fails there meanwhile. So it lasts no longer than tests with a browser follow
one another (`CHROMIUM`).
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Error,
    Locator,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

ARTEFACTS = Path(__file__).parents[2] / "artefacts"
# The first is the same engine without a desktop browser's own pages, which cost a third of the whole.
CHROMIUM_NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# What makes a process measure its coverage, which slows it by half. What these kernels run is measured in
# other tests, to the last tenth of a percent.
MEASURED = "COVERAGE_PROCESS_"
KNOWN_PAGE_ERRORS = (
    # Notebook 7.6 throws it on each load, while it reads its own settings.
    "Cannot read properties of undefined (reading 'schema')",
)
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

# What the pages answer through. `jupyterapp` is there because the server exposes it.
PAGE_SCRIPT = """
window.harness = {
  pending: 0,
  failures: [],
  panel() {
    if (!window.jupyterapp) return null;
    for (const widget of window.jupyterapp.shell.widgets('main')) {
      if (widget.sessionContext && widget.content && widget.content.widgets) return widget;
    }
    return null;
  },
  kernel() {
    const panel = this.panel();
    const session = panel && panel.sessionContext && panel.sessionContext.session;
    return (session && session.kernel) || null;
  },
  ready() {
    const panel = this.panel();
    const kernel = this.kernel();
    return Boolean(panel && panel.context.isReady && panel.sessionContext.isReady && kernel
      && kernel.connectionStatus === 'connected' && kernel.status === 'idle');
  },
  idle() {
    return this.pending === 0 && this.ready();
  },
  state() {
    const kernel = this.kernel();
    return {
      notebook: Boolean(this.panel()),
      kernel: kernel ? kernel.status + ', ' + kernel.connectionStatus : 'none',
      'commands running': this.pending,
      'commands failed': this.failures,
    };
  },
  // Starts a command and does not wait: some end with the last cell only.
  start(command, args) {
    const app = window.jupyterapp;
    app.shell.activateById(this.panel().id);
    this.pending += 1;
    app.commands.execute(command, args || {})
      .catch(error => this.failures.push(command + ': ' + error))
      .finally(() => { this.pending -= 1; });
  },
  startCell(index) {
    const notebook = this.panel().content;
    notebook.deselectAll();
    notebook.activeCellIndex = index;
    this.start('notebook:run-cell');
  },
};
"""


AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
AXE_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
RUN_AXE = """
async ([selector, tags]) => {
  // JupyterLab's body has no height and hides what overflows, which a browser applies to the window.
  // axe-core takes it for the body's own, and leaves out all rules about what can be seen.
  const { style } = document.body;
  const usual = style.minHeight;
  style.minHeight = '100vh';
  try {
    const { violations } = await axe.run(selector, {
      runOnly: tags,
      resultTypes: ['violations'],
      // axe-core is not in the frames of a page, and would wait for their answers.
      iframes: false,
    });
    return violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(({ html }) => html) }));
  } finally {
    style.minHeight = usual;
  }
}
"""


def chromium_path() -> str:
    """The Chromium to use: the first on the PATH, else the one that Playwright brought.

    Fails the test when there is none.
    """
    for name in CHROMIUM_NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if not Path(path).exists():
        pytest.fail("There is no Chromium on the PATH: `make test` installs one.", pytrace=False)
    return path


class Chromium:
    """One Chromium for the pages of all tests that follow one another.

    To start it takes as long as many a test. Whoever opens a page makes a context of its own,
    which is a profile of its own.
    """

    def __init__(self) -> None:
        self._browser: Browser | None = None
        self._stack = contextlib.ExitStack()

    def browser(self) -> Browser:
        """The one that is running, or a new one."""
        if self._browser is not None and not self._browser.is_connected():
            self.close()
        if self._browser is None:
            executable = chromium_path()
            playwright: Playwright = self._stack.enter_context(sync_playwright())
            try:
                self._browser = playwright.chromium.launch(
                    executable_path=executable, args=list(CHROMIUM_ARGS), timeout=60_000
                )
            except BaseException:
                self.close()
                raise
            self._stack.callback(self._browser.close)
        return self._browser

    def close(self) -> None:
        """End it, and the event loop that drives it. May be called twice."""
        self._browser = None
        self._stack.close()


CHROMIUM = Chromium()
atexit.register(CHROMIUM.close)


def notebook_of(cells: Sequence[str]) -> dict[str, Any]:
    """A notebook's JSON (nbformat 4) with these code cells, none of them run."""
    return {
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{index}",
                "source": source,
                "metadata": {},
                "outputs": [],
                "execution_count": None,
            }
            for index, source in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@dataclass(frozen=True)
class Violation:
    """A rule of axe-core that elements of a page break."""

    id: str
    impact: str
    """'minor', 'moderate', 'serious' or 'critical'."""
    nodes: tuple[str, ...]
    """The elements' HTML."""


class Server:
    """A server that shows notebooks, on a loopback port, with folders of its own for everything.

    Args:
        name: what a failure calls it.
        command: the module to run and its arguments.
        start_timeout: seconds to wait for the server's first answer.

    Attributes:
        root: the folder whose files it serves.
        url: its address, without a slash at the end.
        token: the token that each request needs.
    """

    url: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.token = secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True)
        self._home = Path(self._folder.name)
        self.root = self._home / "root"
        self.root.mkdir()
        self._runtime = self._home / "runtime"
        self._log_path = self._home / "log"
        self._write_kernelspec(self._home / "data")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def request(self, method: str, path: str) -> Any:
        """One call of the server's REST interface; the answer's JSON, or None when it has none."""
        response = httpx.request(
            method,
            f"{self.url}/{path}",
            headers={"Authorization": f"token {self.token}"},
            timeout=30,
            trust_env=False,
        )
        response.raise_for_status()
        return response.json() if response.content else None

    def stop(self) -> None:
        """End the server with its kernels. May be called twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._folder.cleanup()

    def _start(
        self, command: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None
    ) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("HALO_", MEASURED))
        }
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **inherited,
                    "IPYTHONDIR": str(self._home / "ipython"),
                    "JUPYTER_CONFIG_DIR": str(self._home / "config"),
                    "JUPYTER_DATA_DIR": str(self._home / "data"),
                    "JUPYTER_RUNTIME_DIR": str(self._runtime),
                    # The kernelspec in our data folder goes before the environment's.
                    "JUPYTER_PREFER_ENV_PATH": "0",
                    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                    **(environment or {}),
                },
                cwd=self.root,
                # A group of its own: Ctrl-C in the tests' terminal is for the tests.
                start_new_session=True,
            )
        try:
            self._wait_for_answer(self._process, timeout)
        except BaseException:
            self.stop()
            raise

    def _address(self, process: subprocess.Popen[bytes]) -> str | None:
        """Where the server listens, once it has said so."""
        raise NotImplementedError

    def _first_request(self) -> str:
        """A path that answers when the server is up."""
        raise NotImplementedError

    def _write_kernelspec(self, data: Path) -> None:
        spec = data / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(
            json.dumps(
                {
                    "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                    "display_name": "Python 3 (ipykernel)",
                    "language": "python",
                    "metadata": {"debugger": False},
                }
            )
        )

    def _wait_for_answer(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and process.poll() is None:
            if address := self._address(process):
                self.url = address
                with contextlib.suppress(httpx.TransportError):
                    self.request("GET", self._first_request())
                    return
            # The server tells nobody that it is up, so it is asked.
            time.sleep(0.05)
        ended = process.poll()
        pytest.fail(
            f"The {self.name} server "
            + (f"ended with {ended}" if ended is not None else f"did not answer within {timeout:g} s")
            + f". Its log:\n{self.log[-3000:]}",
            pytrace=False,
        )


class Lab(Server):
    """JupyterLab's or Notebook 7's server.

    Args:
        front_end: 'lab' for JupyterLab, 'notebook' for Notebook 7.
        start_timeout: seconds to wait for the server's first answer.
    """

    def __init__(self, *, front_end: Literal["lab", "notebook"] = "lab", start_timeout: float = 90) -> None:
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
        self._start(command, start_timeout, environment)

    def reset_settings(self) -> None:
        """Put the front end's settings back to what every test starts with."""
        shutil.rmtree(self._settings, ignore_errors=True)
        # It holds the list of recent files, and a page asks for each of them.
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
        # It adds itself to every Jupyter server of its environment; `Voila` runs it alone.
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


class BrowserPage:
    """A browser with one page, and a note of what went wrong in it.

    Args:
        size: width and height of the page in CSS pixels.

    Attributes:
        page: Playwright's page, for what has no method here.
        page_errors: the exceptions that no script in the page caught, except those that a
            front end is known to throw by itself (`KNOWN_PAGE_ERRORS`).
        console_errors: what the page logged as an error, with the address it came from.
        browser_dialogs: the texts of `alert`, `confirm` and `prompt` (all are dismissed).
    """

    page: Page

    def __init__(self, *, size: tuple[int, int] = (1280, 900)) -> None:
        self.page_errors: list[str] = []
        self.console_errors: list[str] = []
        self.browser_dialogs: list[str] = []
        self._context = CHROMIUM.browser().new_context(
            viewport={"width": size[0], "height": size[1]},
            # Some pages ask servers of the tests' own for something, which vouch for themselves.
            ignore_https_errors=True,
        )
        self._context.add_init_script(PAGE_SCRIPT)
        self.page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", self._note_page_error)
        self.page.on("console", self._note_console)
        self.page.on("dialog", self._note_dialog)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the page, with its profile."""
        self._context.close()

    def axe(self, selector: str) -> list[Violation]:
        """What axe-core finds wrong with the elements that fit the selector, and what is in them.

        It applies the rules of WCAG 2.2, levels A and AA, and its own best practices.

        Raises:
            AssertionError: no element fits, or axe-core is not installed.
        """
        if not AXE.exists():
            pytest.fail(f"{AXE} is not there: `make test` installs axe-core.", pytrace=False)
        assert self.page.locator(selector).count(), f"Nothing on the page fits {selector!r}."
        # Not as a script element, which a page's Content-Security-Policy may refuse.
        if not self.page.evaluate("() => Boolean(window.axe)"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate(RUN_AXE, [selector, list(AXE_TAGS)])
        return [Violation(each["id"], each["impact"], tuple(each["nodes"])) for each in found]

    def _note_page_error(self, error: Error) -> None:
        if error.message not in KNOWN_PAGE_ERRORS:
            self.page_errors.append(str(error))

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.console_errors.append(f"{message.text} ({message.location['url']})")

    def _note_dialog(self, dialog: Dialog) -> None:
        if dialog.type == "beforeunload":
            dialog.accept()
        else:
            self.browser_dialogs.append(dialog.message)
            dialog.dismiss()


class LabPage(BrowserPage):
    """A browser with one notebook open on a `Lab`.

    Args:
        lab: the server.
        size: width and height of the page in CSS pixels.

    Example:
        def test_answer(lab):
            lab.open_notebook(["6 * 7"])
            lab.run_cell(0)
            lab.wait_for_text(0, "42")
    """

    def __init__(self, lab: Lab, *, size: tuple[int, int] = (1280, 900)) -> None:
        self.lab = lab
        self._path: Path | None = None
        self._view = ""
        lab.reset_settings()
        super().__init__(size=size)

    def open_notebook(
        self, cells: Sequence[str], *, view: Literal["document", "lab"] = "document", timeout: float = 60
    ) -> None:
        """Write a notebook with these code cells, open it and wait until its kernel is idle.

        Args:
            cells: the source of each cell.
            view: 'document' shows the notebook alone, 'lab' the whole of JupyterLab;
                Notebook 7 has the one view.
            timeout: seconds until the kernel must be idle.
        """
        self._path = self.lab.root / f"notebook-{secrets.token_hex(4)}.ipynb"
        self._write(notebook_of(cells))
        self._view = "notebooks" if self.lab.front_end == "notebook" else "doc/tree"
        if view == "lab" and self.lab.front_end == "lab":
            self._view = f"lab/workspaces/{self._path.stem}/tree"
        self._go(timeout)

    def reopen(self, *, trusted: bool = True, new_kernel: bool = False, timeout: float = 60) -> None:
        """Save, and open the saved file in a fresh page.

        Args:
            trusted: False changes the file as another program would, so that its outputs
                are no longer trusted.
            new_kernel: end the kernel first.
            timeout: seconds until the kernel must be idle.
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
        """The notebook's JSON as it stands in its file (nbformat 4)."""
        notebook: dict[str, Any] = json.loads(self.path.read_text())
        return notebook

    def start_cell(self, index: int) -> None:
        """Run one cell and return at once."""
        self.page.evaluate("index => harness.startCell(index)", index)

    def run_cell(self, index: int, timeout: float = 30) -> None:
        """Run one cell and wait for its end (its output may be painted a moment later)."""
        self.start_cell(index)
        self.kernel_idle(timeout)

    def run_all(self, *, wait: bool = True, timeout: float = 60) -> None:
        """Run all cells; unless `wait` is False, wait for the end of the last."""
        self.command("notebook:run-all-cells")
        if wait:
            self.kernel_idle(timeout)

    def command(self, name: str, **arguments: Any) -> None:
        """Start any command of the front end, with the notebook as its target."""
        self.page.evaluate("([name, args]) => harness.start(name, args)", [name, arguments])

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self.command("notebook:interrupt-kernel")

    def kernel_idle(self, timeout: float = 30) -> None:
        """Wait until every command that was started has ended and the kernel is idle."""
        self._wait_for("harness.idle()", "every command to end and the kernel to be idle", timeout)

    def save(self) -> None:
        """Save the notebook and wait until it is in its file."""
        self.command("docmanager:save")
        self._wait_for(
            "harness.pending === 0 && !harness.panel().context.model.dirty", "the notebook to be saved", 30
        )

    def set_theme(self, name: str) -> None:
        """Switch to 'JupyterLab Dark' or 'JupyterLab Light' and wait until it is on."""
        self.command("apputils:change-theme", theme=name)
        self._wait_for(f"document.body.dataset.jpThemeName === {json.dumps(name)}", f"the theme {name!r}", 30)

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
        # The notebook scrolls in a box of its own, and what is outside the box is not in a picture.
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
        self.page.goto(f"{self.lab.url}/{self._view}/{self.path.name}?token={self.lab.token}")
        self._wait_for("harness.ready()", "the notebook to be open and its kernel idle", timeout)

    def _wait_for(self, condition: str, what: str, timeout: float) -> None:
        try:
            self.page.wait_for_function(f"() => {condition}", timeout=timeout * 1000)
        except Error as error:
            state = self.page.evaluate("() => harness.state()")
            raise AssertionError(
                f"Waited {timeout:g} s for {what}. {error.message}\n  page: {state}\n"
                f"  dialogs: {self.dialogs}\n  page errors: {self.page_errors}\n"
                f"  console errors: {self.console_errors}\n  server's log: {self.lab.log[-2000:]}"
            ) from error
