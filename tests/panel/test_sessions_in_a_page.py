"""The menu of sessions: one is found, named or opened from a file, by pointer and by keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ..harness.contrast import CONTRASTS
from ..harness.host_page import HOSTS, HostPage
from ..harness.images import HOSTILE_NAME, file
from ..harness.pages import ARTEFACTS
from ..harness.panel_page import PanelPage
from .test_other_pages import turns

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

SESSIONS = ["docs", "docs (2)", "Billing", HOSTILE_NAME, *(f"run {number}" for number in range(300))]


class TestSessions:
    """One page for all; the test answers what the panel asks of the kernel."""

    @pytest.fixture
    def panel(self, host_page: HostPage) -> PanelPage:
        """A panel whose menu of sessions is open."""
        return self.opened(host_page, "Colab light")

    @staticmethod
    def opened(host_page: HostPage, host: str) -> PanelPage:
        """A panel whose menu is open, and has the first messages of two sessions."""
        host_page.open(HOSTS[host], *turns())
        sessions = [{"name": name, "turns": 1} for name in SESSIONS]
        host_page.tell("sessions", epoch=1, seq=2, sessions=sessions)
        panel = PanelPage(host_page)
        panel.button(re.compile("^Session")).click()
        first = [
            {"name": "docs", "place": "Where is my <b>invoice</b>?"},
            {"name": "Billing", "place": HOSTILE_NAME},
        ]
        TestSessions.answer(host_page, first)
        return panel

    @staticmethod
    def answer(host_page: HostPage, found: list[dict[str, str]]) -> None:
        """Answer the last search."""
        host_page.tell("answer", cid=host_page.sent("find")[-1]["cid"], found=found)

    @staticmethod
    def box(panel: PanelPage) -> Locator:
        return panel.root.get_by_role("searchbox", name="Find a session, or name a new one")

    @staticmethod
    def listed(panel: PanelPage, *names: str) -> None:
        """Wait until these names are in the list, in order."""
        items = panel.root.locator(".halo-names :is(.halo-session-label, .halo-icon + span)")
        expect(items).to_have_text(names)

    def find(self, panel: PanelPage, host_page: HostPage, text: str, *found: str) -> None:
        """Type a text, and answer that these sessions have it in a message."""
        self.box(panel).fill(text)
        panel.until(lambda: host_page.sent("find")[-1]["text"] == text.strip(), "the search")
        self.answer(host_page, [{"name": name, "place": f"… {text} …"} for name in found])

    def test_a_session_is_found_by_name_and_by_what_was_said(
        self, panel: PanelPage, host_page: HostPage
    ) -> None:
        """Names first, then places in messages; nothing found is said; the text can name a new session."""
        expect(self.box(panel)).to_be_focused()
        panel.root.get_by_text("Where is my <b>invoice</b>?").wait_for()
        panel.root.get_by_text("104 more").wait_for()
        self.find(panel, host_page, "DOCS", "Billing", "docs")
        self.listed(panel, "docs", "docs (2)", "Billing", "New session “DOCS”")
        self.find(panel, host_page, "nowhere \u202e<b>")
        self.listed(panel, "New session “nowhere \\u202e<b>”")
        status = panel.root.locator(".halo-menu [role=status]")
        expect(status).to_have_text("No session has “nowhere \\u202e<b>”.")
        self.find(panel, host_page, "docs")
        self.listed(panel, "docs", "docs (2)")
        expect(status).to_be_hidden()

    def test_the_menu_is_used_by_keyboard(self, panel: PanelPage, host_page: HostPage) -> None:
        """Enter takes the first, the arrows move, Esc closes; the focus comes back to the panel."""
        keyboard = panel.page.keyboard
        self.find(panel, host_page, "bill")
        keyboard.press("Enter")
        assert host_page.sent("switch")[-1]["name"] == "Billing"
        expect(panel.box).to_be_focused()
        panel.button(re.compile("^Session")).press("Enter")
        self.find(panel, host_page, "docs")
        keyboard.press("ArrowDown")
        keyboard.press("ArrowDown")
        keyboard.press("Enter")
        assert host_page.sent("switch")[-1]["name"] == "docs (2)"
        panel.button(re.compile("^Session")).press("Enter")
        keyboard.press("ArrowUp")
        expect(panel.button("Open a conversation…")).to_be_focused()
        keyboard.press("ArrowDown")
        expect(self.box(panel)).to_be_focused()
        keyboard.press("Escape")
        expect(panel.button("New conversation")).to_be_hidden()
        expect(panel.button(re.compile("^Session"))).to_be_focused()
        host_page.painted()
        assert host_page.pressed() == []

    def test_what_is_about_to_be_chosen_stays_when_the_kernel_answers(
        self, panel: PanelPage, host_page: HostPage
    ) -> None:
        """A click is not lost; an item that goes takes the focus to the box, not to the notebook."""
        self.box(panel).fill("docs")
        item = panel.root.locator(".halo-named", has_text="docs").first
        item.evaluate("one => { window.held = one; }")
        panel.until(lambda: host_page.sent("find")[-1]["text"] == "docs", "the search")
        panel.page.keyboard.press("ArrowDown")
        self.answer(
            host_page, [{"name": "docs", "place": "about docs"}, {"name": "Billing", "place": "docs"}]
        )
        panel.root.get_by_text("about docs").wait_for()
        assert item.evaluate("one => one === window.held && one === document.activeElement")
        self.box(panel).fill("DOCS")
        panel.until(lambda: host_page.sent("find")[-1]["text"] == "DOCS", "the search")
        self.answer(host_page, [{"name": "Billing", "place": "docs"}])
        panel.root.locator(".halo-named", has_text="Billing").focus()
        host_page.page.evaluate("document.querySelector('.halo-menu [type=search]').value = 'docs'")
        panel.root.locator(".halo-menu [type=search]").dispatch_event("input")
        expect(self.box(panel)).to_be_focused()

    def test_enter_waits_for_what_the_kernel_finds(self, panel: PanelPage, host_page: HostPage) -> None:
        """A text that is typed fast names a new session only if no message has it."""
        for found, name in ((["Billing"], "Billing"), ([], "refund")):
            self.box(panel).fill("refund")
            self.box(panel).press("Enter")
            panel.root.get_by_text("Searching…").wait_for()
            before = len(host_page.sent("switch"))
            self.answer(host_page, [{"name": each, "place": "a refund"} for each in found])
            assert [each["name"] for each in host_page.sent("switch")[before:]] == [name]
            panel.button(re.compile("^Session")).click()

    def test_an_exported_conversation_is_opened(self, panel: PanelPage, host_page: HostPage) -> None:
        """The file goes to the kernel in parts; what it refuses is said in a line."""
        with host_page.page.expect_file_chooser() as chooser:
            panel.button("Open a conversation…").click()
        chooser.value.set_files(file(HOSTILE_NAME, b"x" * 1_500_000, "application/json"))
        for count in (1, 2):
            panel.until(lambda: len(host_page.sent("upload")) == count, "a part")  # noqa: B023
            host_page.answer("upload")
        [asked] = host_page.sent("open")
        assert (asked["which"], asked["name"]) == (host_page.sent("upload")[0]["which"], HOSTILE_NAME)
        error = "'x' is not an exported session (it is not JSON). Nothing was changed."
        host_page.tell("answer", cid=asked["cid"], error=error)
        panel.root.locator(".halo-notice", has_text=error).wait_for()
        assert panel.root.locator("img").count() == 0
        expect(panel.box).to_be_focused()

    @pytest.mark.parametrize("host", ["Colab dark", "VS Code Light High Contrast"])
    def test_the_menu_is_legible(self, host_page: HostPage, host: str) -> None:
        """Also at 320 pixels, with long and hostile names, which are text."""
        panel = self.opened(host_page, host)
        panel.root.evaluate("root => { root.style.width = '320px'; }")
        self.find(panel, host_page, "o", "Billing", HOSTILE_NAME)
        host_page.painted()
        contrasts = host_page.page.evaluate(CONTRASTS, ".halo-panel")
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
        assert panel.root.locator("img").count() == 0
        assert host_page.axe(".halo-panel") == []
        ARTEFACTS.mkdir(exist_ok=True)
        host_page.page.screenshot(path=ARTEFACTS / f"panel-menu-{host.split(maxsplit=1)[0]}.png")
