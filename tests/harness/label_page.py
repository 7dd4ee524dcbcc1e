"""The labelling of replies in a page without a server: the panel answers each request of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anywidget import AnyWidget

from halo_notebook.concurrency.loop import spawn

from .host_page import Host, HostPage

if TYPE_CHECKING:
    import pytest
    from playwright.sync_api import Locator

    from halo_notebook.panel.label_panel import LabelPanel

PLAIN = Host("light", css="body { margin: 8px }")


class LabelPage(HostPage):
    """A browser with replies to label in a page."""

    panel: LabelPanel

    def start_labelling(self, panel: LabelPanel, monkeypatch: pytest.MonkeyPatch, host: Host = PLAIN) -> None:
        """Show a panel, and wait until the page has its first reply, or the end."""
        self.panel = panel
        told: list[Any] = []
        monkeypatch.setattr(AnyWidget, "send", lambda widget, content, buffers=None: told.append(content))

        def kernel(content: Any) -> list[Any]:
            spawn(self.panel._handle(content)).result(30)
            answers, told[:] = told[:], []
            return answers

        self.load(host)
        self.page.expose_function("kernel", kernel)
        state = {"height": "640px", "_static_class": ""}
        self.show(str(panel._esm), str(panel._css), state, host)
        self.progress.filter(has_text="labelled").wait_for()

    @property
    def root(self) -> Locator:
        return self.page.locator(".halo-labeller")

    @property
    def progress(self) -> Locator:
        """How many are labelled. A screen reader hears of it before it is painted."""
        return self.root.locator(".halo-progress-words")

    @property
    def reply(self) -> Locator:
        """The conversation that is shown."""
        return self.root.locator(".halo-pane")

    @property
    def note(self) -> Locator:
        return self.root.get_by_role("textbox", name="Note")

    def button(self, name: str) -> Locator:
        return self.root.get_by_role("button", name=name)

    def labelled(self, count: int, total: int) -> None:
        """Wait until so many are labelled, and the next reply is shown."""
        self.progress.get_by_text(f"{count} of {total} labelled", exact=True).wait_for()
