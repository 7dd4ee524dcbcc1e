"""The explorer of a result in a page without a server: the explorer answers each request of the page."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anywidget import AnyWidget

from halo_notebook.concurrency.loop import spawn

from .host_page import Host, HostPage
from .pages import ARTEFACTS

if TYPE_CHECKING:
    import pytest
    from playwright.sync_api import Locator

    from halo_notebook.panel.explorer import ResultExplorer

PLAIN = Host("light", css="body { margin: 8px }")


class ExplorerPage(HostPage):
    """A browser with an explorer in a page."""

    explorer: ResultExplorer

    def explore(self, explorer: ResultExplorer, monkeypatch: pytest.MonkeyPatch, host: Host = PLAIN) -> None:
        """Show an explorer, and wait until the page has its first rows."""
        self.explorer = explorer
        self.bytes: dict[str, list[int]] = {}
        """The sizes of the answers so far, by the kind of the request."""
        self.told: list[Any] = []
        told = self.told
        monkeypatch.setattr(AnyWidget, "send", lambda widget, content, buffers=None: told.append(content))

        def kernel(content: Any) -> list[Any]:
            spawn(explorer._handle(content)).result(30)
            answers, told[:] = told[:], []
            size = sum(len(json.dumps(answer, ensure_ascii=False).encode()) for answer in answers)
            self.bytes.setdefault(content["kind"], []).append(size)
            return answers

        self.page.set_default_timeout(10_000)
        self.load(host)
        self.asked_others: list[str] = []
        """What the page has asked for over the network since it was loaded."""
        self.page.on(
            "request",
            lambda request: (
                None if request.url.startswith("blob:") else self.asked_others.append(request.url)
            ),
        )
        self.page.expose_function("kernel", kernel)
        state = {
            "height": "640px",
            "_static_class": "",
            "_snapshot": explorer.get_state("_snapshot")["_snapshot"],
        }
        self.show(str(explorer._esm), str(explorer._css), state, host)
        self.rows.first.wait_for()

    @property
    def root(self) -> Locator:
        return self.page.locator(".halo-explorer")

    @property
    def search(self) -> Locator:
        return self.root.get_by_label("Search messages and replies")

    @property
    def grid(self) -> Locator:
        return self.root.get_by_role("grid")

    @property
    def rows(self) -> Locator:
        """The rows on the page that are filled, without the head."""
        return self.grid.locator("[role=row][aria-selected]")

    @property
    def pane(self) -> Locator:
        return self.root.locator(".halo-pane[aria-label='Open conversation']")

    def scheme(self) -> str:
        """Whether it is light or dark."""
        [red, *_] = re.findall(r"\d+", self.root.evaluate("root => getComputedStyle(root).backgroundColor"))
        return "dark" if int(red) < 128 else "light"

    def button(self, name: str, exact: bool = True) -> Locator:
        return self.root.get_by_role("button", name=name, exact=exact)

    def open_row(self, place: int) -> None:
        """Open the conversation at that place of the table, from 0."""
        to = "(grid, at) => { grid.scrollTop = at * grid.querySelector('.halo-probe').offsetHeight - 100; }"
        self.grid.evaluate(to, place)
        row = self.grid.locator(f"[data-place='{place}'][aria-selected]")
        row.click()
        self.grid.locator(f"[data-place='{place}'][aria-current]").wait_for()

    def pass_on(self) -> None:
        """Tell the page what the explorer has sent without a request."""
        messages, self.told[:] = self.told[:], []
        for message in messages:
            self.page.evaluate("message => tell(message)", message)

    def screenshot(self, name: str) -> None:
        """Save `artefacts/NAME.png`."""
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}.png", animations="disabled")

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout} s for {what}: {self.root.inner_text()}"
            self.page.wait_for_timeout(30)

    def found(self, words: str) -> None:
        """Wait until the line above the table says so."""
        self.root.locator(".halo-counts", has_text=words).wait_for()
        self.until(lambda: "searching" not in str(self.root.inner_text()), "the search to end")
