"""A real browser, and one page in it with a note of what went wrong there.

The browser is Chromium, or with TEST_BROWSER=firefox in the environment the system's Firefox, which
Playwright drives through WebDriver BiDi.

The promise: each page starts with its own browser profile. Without the browser a test fails; it is not
skipped.

Playwright's sync API keeps an event loop running in the thread that started it, and `asyncio.run` fails there
meanwhile. So the browser is closed before the first test that does not need it (`BROWSER`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Error,
    Playwright,
    Route,
    expect,
    sync_playwright,
)

ARTEFACTS = Path(__file__).parents[2] / "artefacts"
TIMEOUT_MS = 30_000  # of an action and of an expectation
expect.set_options(timeout=TIMEOUT_MS)
# The first is the same engine without the desktop browser's own pages, which take a third of the time.
CHROMIUM_NAMES = (
    *("chromium-headless-shell", "chromium", "chromium-browser"),
    *("google-chrome", "google-chrome-stable"),
)
FIREFOX_NAMES = ("firefox-esr", "firefox")
FIREFOX = os.environ.get("TEST_BROWSER") == "firefox"
CHROMIUM_ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
KNOWN_PAGE_ERRORS = (
    # Notebook 7.6 throws it on each load, while it reads its own settings.
    "Cannot read properties of undefined (reading 'schema')",
    """can't access property "schema", t.plugins[W.id] is undefined""",
)
FIREFOX_PREFERENCES = {
    # A list of downloads would take the focus from the page, and with it the keys that a test presses.
    "browser.download.alwaysOpenPanel": False
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


class RunningBrowser:
    """One browser for all tests that follow one another, because starting it takes long.

    It is the first on the PATH, or else Playwright's Chromium; without one, the test fails.
    """

    def __init__(self) -> None:
        self._browser: Browser | None = None
        self._stack = contextlib.ExitStack()
        self.downloads = Path()  # the folder into which the browser saves files

    def browser(self) -> Browser:
        """Return the running browser, or start one."""
        if self._browser is not None and not self._browser.is_connected():
            self.close()
        if self._browser is None:
            with contextlib.ExitStack() as stack:
                self.downloads = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                browser = _started(stack.enter_context(sync_playwright()), self.downloads)
                stack.callback(browser.close)
                self._browser, self._stack = browser, stack.pop_all()
        return self._browser

    def close(self) -> None:
        """Close it, and the event loop that drives it. May be called twice."""
        self._browser = None
        self._stack.close()


def _started(playwright: Playwright, downloads: Path) -> Browser:
    on_path = filter(None, map(shutil.which, FIREFOX_NAMES if FIREFOX else CHROMIUM_NAMES))
    executable = next(on_path, "" if FIREFOX else playwright.chromium.executable_path)
    if not Path(executable).is_file():
        name = "Firefox" if FIREFOX else "Chromium"
        pytest.fail(f"There is no {name} on the PATH: `make test` installs one.", pytrace=False)
    if FIREFOX:
        # This channel is the stock browser; the default is one that Playwright has changed.
        return playwright.firefox.launch(
            channel="moz-firefox",
            executable_path=executable,
            downloads_path=downloads,
            firefox_user_prefs=dict(FIREFOX_PREFERENCES),
            timeout=60_000,
        )
    return playwright.chromium.launch(
        executable_path=executable, downloads_path=downloads, args=CHROMIUM_ARGS, timeout=60_000
    )


BROWSER = RunningBrowser()
OPEN_PAGES: list[BrowserPage] = []
"""What a failing test is reported with."""
atexit.register(BROWSER.close)


def notebook_of(cells: Sequence[str]) -> dict[str, Any]:
    """A notebook's JSON (nbformat 4) with these code cells, none of them run."""
    code: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {
        "cells": [{**code, "id": f"cell-{index}", "source": source} for index, source in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@dataclass(frozen=True)
class Violation:
    """A rule of axe-core that elements of a page, given as HTML, break."""

    id: str
    impact: str
    nodes: tuple[str, ...]


class BrowserPage:
    """A browser with one page of `size` CSS pixels, and a note of what went wrong in it.

    `page` is Playwright's, for everything that has no method here.
    """

    def __init__(self, *, size: tuple[int, int] = (1280, 900)) -> None:
        self.page_errors: list[str] = []  # exceptions that no script caught, except `KNOWN_PAGE_ERRORS`
        self.console_errors: list[str] = []
        self.browser_dialogs: list[str] = []  # `alert`, `confirm` and `prompt`, all dismissed
        self.strangers: list[str] = []  # addresses on other hosts, after `refuse_strangers`
        self._context = BROWSER.browser().new_context(
            viewport={"width": size[0], "height": size[1]},
            # Some tests have an https server with a certificate of their own.
            ignore_https_errors=True,
        )
        self._context.add_init_script(PAGE_SCRIPT)
        self.page = self._context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("pageerror", self._note_page_error)
        self.page.on("console", self._note_console)
        self.page.on("dialog", self._note_dialog)
        OPEN_PAGES.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the page, with its profile."""
        OPEN_PAGES.remove(self)
        self._context.close()

    def axe(self, selector: str) -> list[Violation]:
        """What axe-core finds wrong in the elements that match the selector, which must exist.

        It applies the rules of WCAG 2.2, levels A and AA, and its own best practices.
        """
        if not AXE.exists():
            pytest.fail(f"{AXE} is not there: `make test` installs axe-core.", pytrace=False)
        assert self.page.locator(selector).count(), f"Nothing on the page fits {selector!r}."
        # Not as a script element, which a page's Content-Security-Policy may refuse.
        if not self.page.evaluate("() => Boolean(window.axe)"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate(RUN_AXE, [selector, list(AXE_TAGS)])
        return [Violation(each["id"], each["impact"], tuple(each["nodes"])) for each in found]

    def refuse_strangers(self) -> None:
        """Let the page reach no other host, and note the addresses that it asks for."""
        self._context.route(lambda url: urlsplit(url).hostname not in {None, "127.0.0.1"}, self._refuse)

    def wait_until(self, condition: str, what: str, timeout: float) -> None:
        """Wait at most `timeout` seconds until a JavaScript expression, which `what` describes, is true."""
        try:
            self.page.wait_for_function(f"() => {condition}", timeout=timeout * 1000)
        except Error as error:
            said = f"Waited {timeout:g} s for {what}. {error.message}\n{self.state()}"
            raise AssertionError(said) from error

    def painted(self) -> None:
        """Wait until the page has painted what has happened so far: before a test says what has not happened.

        A widget paints in the next animation frame.
        """
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def downloaded(self, start: Callable[[], object]) -> tuple[str, str]:
        """Call `start`, which makes the page save a file; return the name and the text of that file."""
        if not FIREFOX:
            with self.page.expect_download() as download:
                start()
            return download.value.suggested_filename, Path(download.value.path()).read_text()
        # Playwright leaves out a download that Firefox reports without the navigation that caused it.
        start()
        for _ in range(100):
            for path in BROWSER.downloads.iterdir():
                if text := path.read_text():
                    path.unlink()
                    return path.name, text
            self.page.wait_for_timeout(100)
        raise AssertionError(f"No file was saved in 10 s.\n{self.state()}")

    def state(self) -> str:
        """What a failure should say about the page."""
        harness = self.page.evaluate("() => window.harness && harness.state()")
        return f"  page: {harness}\n  page errors: {self.page_errors}\n  console: {self.console_errors}"

    def as_failed(self, name: str) -> str:
        """The page's state, and the text of its panels; saves a picture of it as `artefacts/NAME.png`."""
        name = re.sub(r"[^\w-]+", "-", name)[:100]
        try:
            ARTEFACTS.mkdir(exist_ok=True)
            self.page.screenshot(path=ARTEFACTS / f"{name}.png", timeout=5_000)
            panels = self.page.locator(".halo-panel").all_inner_texts()
            return f"{self.state()}\n  panels: {[panel[:500] for panel in panels]}"
        except Error as error:  # the page may be what has failed
            return f"  {error.message}"

    def _refuse(self, route: Route) -> None:
        self.strangers.append(route.request.url)
        route.abort()

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
