"""The panel can be read and used by all: themes, widths, contrast, keyboard, screen readers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..harness.contrast import CONTRASTS
from ..harness.images import file, give, png
from ..harness.panel_page import PanelPage, page_of

if TYPE_CHECKING:
    from ..harness.lab import Lab, LabPage

pytestmark = [pytest.mark.browser, pytest.mark.ci]

SHOW_ALL = """\
from halo_notebook import ChatPanel, DemoAgent, HaloClient
from halo_notebook.demo import DEMO_KEY
agent = DemoAgent(first_byte_s=0, chunk_s=0).start()
panel = ChatPanel(client=HaloClient(DEMO_KEY, base_url=agent.url), height="900px")
panel
"""
# What stands out of the panel, but for what scrolls in itself.
TOO_WIDE = """
root => [...root.querySelectorAll('*')]
  .filter(one => !one.closest('pre, .halo-wide, .halo-tree, svg')
    && one.getBoundingClientRect().right > root.getBoundingClientRect().right + 1)
  .map(one => one.outerHTML.slice(0, 100))
"""
LISTEN = """
() => {
  const voice = document.querySelector('.halo-panel [aria-live=polite]');
  window.heard = [];
  new MutationObserver(() => heard.push(voice.textContent.trim()))
    .observe(voice, { childList: true, characterData: true, subtree: true });
}
"""
# Whether the focus is in the panel, what it is on, and whether that can be seen.
FOCUSED = """
() => {
  const one = document.activeElement;
  const ringed = style => style.outlineStyle !== 'none' || style.boxShadow !== 'none';
  const name = one.getAttribute('aria-label') ?? (one.labels?.[0] ?? one).innerText;
  return [Boolean(one.closest('.halo-panel')), name,
    ringed(getComputedStyle(one)) || ringed(getComputedStyle(one.closest('.halo-box, .halo-edit') ?? one))];
}
"""


class TestAccessibility:
    """One page with a bit of everything."""

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, lab_server: Lab) -> Iterator[LabPage]:
        """The page."""
        with page_of(lab_server) as page:
            page.open_notebook([SHOW_ALL])
            page.run_cell(0)
            yield page

    @pytest.fixture(scope="class")
    @classmethod
    def panel(cls, lab: LabPage) -> PanelPage:
        """Markdown, actions, an error, a rating, versions, images, and the forms that keep and edit."""
        panel = PanelPage(lab, lab.cell_output(0))
        for message in (
            "Show me Markdown",
            "How do I set up event tracking?",
            "/fault cut text",
            "Open a ticket",
        ):
            panel.ask(message)
        give(panel.box, "paste", file("a shot.png", png(60)))
        panel.root.get_by_role("group", name="Images to send").get_by_role("img").wait_for()
        panel.ask("Look at this")
        panel.button("Edit message", panel.turn(5)).click()
        panel.page.keyboard.press("Enter")
        panel.ended(panel.turn(5))
        panel.turn(5).get_by_text("2/2").wait_for()
        give(panel.box, "paste", file("another.png", png(60)))
        panel.button("Edit message", panel.turn(1)).click()
        panel.button("Good reply", panel.turn(2)).click()
        panel.button("More for this turn", panel.turn(2)).click()
        panel.button("Keep as a test case", panel.turn(2)).click()
        return panel

    @pytest.mark.parametrize(
        ("theme", "width"),
        [("Light", 1280), ("Light", 420), ("Dark", 1280), ("Dark", 420)],
    )
    def test_it_is_legible_in_each_theme(
        self, panel: PanelPage, lab: LabPage, theme: str, width: int
    ) -> None:
        """axe-core finds nothing, each text has a contrast of 4.5 to 1, and nothing is cut off."""
        lab.page.set_viewport_size({"width": width, "height": 1100})
        lab.set_theme(f"JupyterLab {theme}")
        try:
            for number in (1, 2, 4, 5):
                panel.turn(number).scroll_into_view_if_needed()
                lab.painted()
            panel.button("Keep case", panel.turn(2)).scroll_into_view_if_needed()
            lab.screenshot(f"panel-{theme.lower()}-{width}", cell=0)
            panel.button(re.compile("^Session")).click()
            lab.screenshot(f"panel-{theme.lower()}-{width}-menu", cell=0)
            lab.painted()
            assert lab.axe(".halo-panel") == []
            contrasts = lab.page.evaluate(CONTRASTS, ".halo-panel")
            assert len(contrasts) > 10
            assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
            assert panel.root.evaluate(TOO_WIDE) == []
        finally:
            panel.page.keyboard.press("Escape")
            lab.set_theme("JupyterLab Light")
            lab.page.set_viewport_size({"width": 1280, "height": 900})

    def test_it_fits_a_width_of_320_pixels(self, panel: PanelPage, lab: LabPage) -> None:
        """In a narrow column, as beside another widget."""
        panel.root.evaluate("root => { root.parentElement.style.width = '320px'; }")
        try:
            lab.painted()
            box = panel.root.bounding_box()
            assert box and box["width"] <= 320
            panel.button("Keep case", panel.turn(2)).scroll_into_view_if_needed()
            lab.screenshot("panel-320", cell=0)
            assert panel.root.evaluate(TOO_WIDE) == []
            assert panel.root.evaluate("root => root.scrollWidth <= root.clientWidth")
            assert panel.box.bounding_box()["width"] > 150  # type: ignore[index]
            assert lab.axe(".halo-panel") == []
        finally:
            panel.root.evaluate("root => { root.parentElement.style.width = ''; }")

    def test_it_can_be_used_by_keyboard_only(self, panel: PanelPage) -> None:
        """Tab reaches every control in view, each shows its focus, and each has a name."""
        panel.button(re.compile("^Session")).focus()
        # By key, so that the browser shows where the focus is.
        panel.page.keyboard.press("Tab")
        panel.page.keyboard.press("Shift+Tab")
        seen = []
        for _ in range(80):
            here = panel.page.evaluate(FOCUSED)
            if not here[0]:
                break
            seen.append((here[1], here[2]))
            panel.page.keyboard.press("Tab")
        names = [name for name, _ in seen]
        assert names[-1] == "Message", (names, here)
        assert {"Conversation", "Copy reply", "More for this turn", "Keep case"} <= set(names)
        assert {"Edit message", "Previous version: default", "Remove another.png", "Add images"} <= set(names)
        assert [name for name in names if not name] == []
        assert [name for name, visible in seen if not visible] == []

    def test_a_screen_reader_hears_the_reply_once(self, panel: PanelPage, lab: LabPage) -> None:
        """The transcript is a log that is not read out automatically; a live region says what matters."""
        assert panel.log.get_attribute("aria-live") == "off"
        panel.page.evaluate(LISTEN)
        panel.ask("Where are my invoices?")
        panel.until(lambda: any("action" in words for words in panel.page.evaluate("heard")), "the reply")
        lab.painted()
        heard: list[str] = panel.page.evaluate("heard")
        assert heard[0] == "Message sent" and len(heard) <= 4
        assert heard[-1].startswith("Invoices live under") and heard[-1].endswith("1 action")
