"""A person writes, reads, copies, rates, exports and switches sessions in a panel in JupyterLab.

A page takes seconds to load, so the tests share one. Only the first needs a panel without turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from halo_notebook.evaluation import read_cases

from ..harness.panel_page import PanelPage, at_the_gate, opened, page_of, printed

if TYPE_CHECKING:
    from ..harness.lab import Lab, LabPage

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

REQUESTS, RATING, COMPUTE, USE_AGENT, CELL_TURN, CUT, FROM_FILE = range(2, 9)
CELLS = (
    "print(len(agent.requests), [turn.message for turn in panel.session.turns])",
    "print(repr(panel.session.turns[-1].rating))",
    # `PyDLL` keeps the interpreter's lock, as a long computation does.
    "import ctypes\nlibrary = ctypes.PyDLL(None)\nopen('computing', 'w').close()\nlibrary.usleep(3_000_000)",
    """\
%load_ext halo_notebook
magics = get_ipython().magics_manager.registry["HaloMagics"]
magics.connection.demo, magics.connection.demo_wanted = agent, True
""",
    "%%halo -s docs\nfrom the cell",
    "agent.faults.append('cut text')",
    """\
from halo_notebook import Session
from halo_notebook.kernel import kernel_state
old = Session()
old.ask(client, "Of another day")
kernel_state(get_ipython())[1].add(Session.load(old.export("talk.json")), "talk")
panel.session_name = "talk"
""",
)


@pytest.fixture(scope="class")
def lab(lab_server: Lab) -> Iterator[LabPage]:
    """One page for all tests."""
    with page_of(lab_server) as page:
        yield page


@pytest.fixture(scope="class")
def panel(lab: LabPage) -> PanelPage:
    """A panel, and cells to look into the kernel."""
    return opened(lab, *CELLS)


class TestConversation:
    """From the first message on."""

    def test_a_suggestion_is_sent_with_a_click(self, panel: PanelPage, lab: LabPage) -> None:
        """An empty panel offers some; they go when something has been said."""
        lab.screenshot("panel-empty", cell=1)
        panel.button("Hello there").click()
        panel.ended(panel.turn(1), "You said: Hello there")
        expect(panel.button("Hello there")).to_have_count(0)

    def test_an_input_method_is_not_cut_short(self, panel: PanelPage) -> None:
        """Enter that ends a composition sends nothing."""
        before = panel.turns.count()
        panel.box.fill("にほん")
        for event in ({"isComposing": True}, {"keyCode": 229}):
            panel.box.evaluate(
                "(box, extra) => box.dispatchEvent(new KeyboardEvent('keydown',"
                " { key: 'Enter', bubbles: true, cancelable: true, ...extra }))",
                event,
            )
        panel.browser.painted()
        assert (panel.turns.count(), panel.waiting.count()) == (before, 0)
        assert panel.box.input_value() == "にほん"
        panel.box.fill("")

    def test_up_recalls_what_was_sent(self, panel: PanelPage) -> None:
        """From the newest on, and Down comes back to the draft."""
        panel.ask("older")
        panel.ask("line one\nline two", "You said: line one")
        for key, text in (
            ("Up", "line one\nline two"),
            ("Up", "older"),
            ("Down", "line one\nline two"),
            ("Down", ""),
        ):
            panel.box.press(f"Arrow{key}")
            expect(panel.box).to_have_value(text)

    def test_a_long_message_is_refused_before_it_is_sent(self, panel: PanelPage) -> None:
        """A counter says how long it is; what is too long cannot be sent."""
        panel.box.fill("x" * 9_500)
        panel.root.get_by_text("9,500 of 10,000").wait_for()
        panel.box.fill("x" * 10_001)
        panel.root.get_by_text("too long").wait_for()
        expect(panel.button("Send").last).to_be_disabled()
        panel.box.fill("")

    def test_a_reply_grows_while_the_next_message_is_written(self, panel: PanelPage, lab: LabPage) -> None:
        """Formatted, with its action in place; the box grows with the draft, and keeps it and the focus."""
        turn = at_the_gate(panel, lab)
        reply = turn.locator(".halo-reply")
        reply.locator("strong", has_text="first").wait_for()
        reply.get_by_text("#gate").wait_for()
        panel.wait_for_state("streaming")
        assert "second" not in reply.inner_text()
        lab.screenshot("panel-streaming", cell=1)
        height = panel.box.evaluate("box => box.offsetHeight")
        draft = "\n".join(f"draft {number}" for number in range(5))
        panel.box.fill(draft)
        panel.until(
            lambda: panel.box.evaluate("box => box.offsetHeight") > 2 * height, "the box to fit its text"
        )
        lab.let_go()
        panel.ended(turn, "The first half, and the second.")
        panel.wait_for_state("ready")
        expect(panel.box).to_have_value(draft)
        expect(panel.box).to_be_focused()
        panel.box.fill("\n".join(["long"] * 60))
        lab.painted()
        assert panel.root.evaluate(
            "root => root.querySelector('textarea').offsetHeight < root.offsetHeight / 2"
        )
        panel.box.fill("")

    @pytest.mark.parametrize("how", ["Escape", "button"])
    def test_stop_keeps_the_text_received_so_far(self, panel: PanelPage, lab: LabPage, how: str) -> None:
        """By Esc or by the button; the turn says that it was stopped."""
        turn = at_the_gate(panel, lab)
        panel.wait_for_state("streaming")
        panel.box.press("Escape") if how == "Escape" else panel.button("Stop").last.click()
        panel.ended(turn, "The first half,")
        turn.get_by_text("stopped", exact=True).wait_for()
        panel.wait_for_state("stopped")
        lab.screenshot(f"panel-stopped-{how.lower()}", cell=1)

    def test_a_message_waits_for_its_turn_and_can_be_taken_back(self, panel: PanelPage, lab: LabPage) -> None:
        """What is typed while a reply arrives is in view as waiting; taken back, it is in the box again."""
        at_the_gate(panel, lab)
        panel.say("second thoughts")
        turn = panel.say("goes next")
        expect(panel.waiting).to_have_count(2)
        lab.screenshot("panel-queued", cell=1)
        panel.button("Remove", panel.waiting.nth(0)).click()
        expect(panel.box).to_have_value("second thoughts")
        panel.box.fill("")
        lab.let_go()
        panel.ended(turn, "You said: goes next")
        expect(panel.waiting).to_have_count(0)
        assert "'gate', 'goes next']" in printed(lab, REQUESTS)

    def test_code_is_highlighted_and_copied(self, panel: PanelPage) -> None:
        """Exactly as the agent wrote it; so are a message and a reply."""
        turn = panel.ask("code")
        block = turn.locator("pre")
        expect(block.locator("span[style*='keyword']", has_text="def")).to_have_count(1)
        block.hover()
        panel.button("Copy code", turn).click()
        assert panel.copied("def f") == "def f(x):\n    return x + 1\n"
        panel.button("Copy message", turn).click()
        assert panel.copied("code") == "code"
        panel.button("Copy reply", turn).click()
        assert panel.copied("Here").startswith("Here:\n\n```python\n")

    def test_a_rating_is_kept_in_the_kernel_and_exported(self, panel: PanelPage, lab: LabPage) -> None:
        """Up or down, with a note; it is on the turn and in the exports, which the browser downloads."""
        turn = panel.ask("rate me", "You said")
        turn.hover()
        panel.button("Good reply", turn).click()
        panel.until(lambda: "Rating(value='up', note='')" in printed(lab, RATING), "the rating")
        turn.get_by_role("textbox", name="Note on this reply").fill("Short & good")
        panel.button("Save", turn).click()
        panel.until(lambda: "Rating(value='up', note='Short & good')" in printed(lab, RATING), "the note")
        expect(panel.button("Good reply", turn)).to_have_attribute("aria-pressed", "true")
        foot = turn.locator("footer").inner_text()
        assert re.search(r"\d\d:\d\d · agent_demo · first text \d\.\d\d s · total \d\.\d\d s", foot), foot
        for form, name in (("Markdown", "docs.md"), ("JSON", "docs.json")):
            panel.button("Export").click()
            saved_as, text = lab.downloaded(panel.button(form).click)
            assert saved_as == name
            assert "Short & good" in text and "You said: rate me" in text

    def test_a_turn_is_kept_as_a_test_case(self, panel: PanelPage, lab: LabPage) -> None:
        """By keyboard, from the menu of the turn, with what is expected and tags; the panel says where."""
        turn = panel.ask("keep me", "You said")
        more = panel.button("More for this turn", turn)
        more.press("Enter")
        panel.button("Keep as a test case", turn).press("Enter")
        form = turn.get_by_role("form", name="Keep as a test case")
        panel.page.keyboard.type("keep & <b>me</b>")
        panel.page.keyboard.press("Tab")
        panel.page.keyboard.type("from a panel, short")
        lab.screenshot("panel-keep", cell=1)
        panel.page.keyboard.press("Enter")
        turn.get_by_text("Kept in 'cases.jsonl' as 'keep-me-").wait_for()
        expect(form).to_be_hidden()
        expect(more).to_be_focused()
        case = read_cases(lab.lab.root / "cases.jsonl")[-1]
        assert (case.turns[-1].message, case.expect) == ("keep me", "keep & <b>me</b>")
        assert case.tags == ("from a panel", "short")
        more.click()
        panel.button("Keep as a test case", turn).click()
        panel.page.keyboard.press("Escape")
        expect(form).to_be_hidden()
        expect(more).to_be_focused()

    def test_actions_stand_where_they_arrived(self, panel: PanelPage, lab: LabPage) -> None:
        """Between the paragraphs before and after them."""
        turn = panel.ask("actions", "After.")
        order: list[str] = turn.locator(".halo-reply").evaluate(
            "reply => [...reply.children].map(child => child.classList.contains('halo-action')"
            " ? 'action' : child.innerText.trim())"
        )
        assert order == ["Before.", "action", "Between.", "action", "After."]
        lab.screenshot("panel-actions", cell=1)

    def test_a_tree_folds_and_copies(self, panel: PanelPage) -> None:
        """By pointer and by keyboard; numbers are exact, a path leads to its value, long strings open."""
        card = panel.ask("actions", "After.").locator(".halo-action").nth(0)
        tree = card.get_by_role("tree")
        ticket = tree.get_by_role("treeitem").filter(has_text="ticket").filter(has_text="keys").last
        assert tree.get_by_text("9223372036854775808").count() == 0
        ticket.click()
        tree.get_by_text("9223372036854775808").wait_for()
        expect(ticket).to_have_attribute("aria-expanded", "true")
        panel.page.keyboard.press("ArrowLeft")
        expect(ticket).to_have_attribute("aria-expanded", "false")
        panel.page.keyboard.press("ArrowRight")
        tree.get_by_role("treeitem").filter(has_text="tags").click()
        tree.get_by_role("treeitem").filter(has_text="a b").click()
        panel.button(re.compile("Copy path"), card).click()
        assert panel.copied("$") == "$.ticket.tags[0]"
        panel.button("Copy JSON", card).click()
        assert json.loads(panel.copied('"id": 9223372036854775808'))["ticket"]["id"] == 2**63
        note = tree.get_by_role("treeitem").filter(has_text="note")
        assert "n" * 300 not in note.inner_text()
        panel.button(re.compile("show all 500"), note).click()
        expect(note).to_contain_text("n" * 500)

    def test_twenty_thousand_rows_stay_usable(self, panel: PanelPage, lab: LabPage) -> None:
        """Few rows are made at a time; the filter finds one among all of them."""
        card = panel.ask("actions", "After.").locator(".halo-action").nth(1)
        rows = card.get_by_role("treeitem")
        for label in ("20,000 items", "[0 … 999]", "[0 … 99]"):
            rows.filter(has_text=label).last.click()
        panel.until(lambda: 100 < rows.count() < 500, "the first rows")
        search = card.get_by_role("searchbox")
        search.fill("row 19999")
        card.get_by_text("1 of 60,").wait_for(timeout=5_000)
        rows.filter(has_text='"row 19999"').wait_for()
        panel.until(lambda: rows.count() < 20, "only the row that was found")
        lab.screenshot("panel-filter", cell=1)
        search.fill("row")
        card.get_by_text("more matches").wait_for(timeout=5_000)
        assert rows.count() < 800
        search.fill("")
        panel.until(lambda: 100 < rows.count() < 500, "the whole tree again, as it was")
        panel.button("Expand all", card).click()
        lab.painted()
        assert rows.count() <= 700

    def test_the_reader_is_followed_or_left_alone(self, panel: PanelPage, lab: LabPage) -> None:
        """At the bottom the new is in view; further up nothing moves, and a button leads back."""
        turn = panel.start("words 500 6", "word150 ")
        panel.until(lambda: panel.hidden_from_bottom() < 60, "the new to be in view")
        panel.log.hover()
        panel.page.mouse.wheel(0, -600)
        panel.until(lambda: panel.hidden_from_bottom() > 300, "the reader to be further up")
        top = panel.log.evaluate("log => log.scrollTop")
        turn.locator(".halo-reply", has_text="word300 ").wait_for()
        assert abs(panel.log.evaluate("log => log.scrollTop") - top) < 5
        jump = panel.button(re.compile("Jump to latest|New below"))
        expect(jump).to_be_visible()
        lab.screenshot("panel-scrolled-up", cell=1)
        jump.press("Enter")
        expect(panel.box).to_be_focused()
        panel.until(lambda: panel.hidden_from_bottom() < 60, "the bottom")
        panel.ended(turn, "word500")
        panel.until(lambda: panel.hidden_from_bottom() < 60, "the bottom after the end")
        expect(jump).to_be_hidden()

    def test_a_failed_turn_can_be_sent_again(self, panel: PanelPage, lab: LabPage) -> None:
        """The error is one line; sending again says that it may act twice, and asks."""
        lab.run_cell(CUT)
        turn = panel.ask("break off", "This reply will be cut")
        expect(turn.locator(".halo-error")).to_contain_text("The connection broke off")
        panel.wait_for_state("failed")
        requests = int(printed(lab, REQUESTS).split()[0])
        panel.button("Send again", turn).first.click()
        turn.get_by_text("can make the agent act twice").wait_for()
        lab.screenshot("panel-send-again", cell=1)
        panel.button("Cancel", turn).click()
        assert int(printed(lab, REQUESTS).split()[0]) == requests
        again = panel.next_turn()
        panel.button("Send again", turn).first.click()
        panel.button("Send again", turn.get_by_role("group", name="Send again?")).click()
        panel.ended(again, "You said: break off")
        assert int(printed(lab, REQUESTS).split()[0]) == requests + 1

    def test_sessions_can_be_switched(self, panel: PanelPage, lab: LabPage) -> None:
        """To another name and back; a new conversation keeps the old one beside it."""
        panel.ask("first in docs")
        panel.box.fill("a draft for docs")
        panel.button(re.compile("^Session")).click()
        lab.screenshot("panel-sessions", cell=1)
        panel.root.get_by_role("searchbox", name="Find a session, or name a new one").fill("other")
        panel.page.keyboard.press("Enter")
        panel.root.locator(".halo-empty-title").wait_for()
        expect(panel.box).to_have_value("")
        panel.ask("hello", "You said: hello")
        panel.button(re.compile("^Session: other")).click()
        panel.button(re.compile("^docs")).click()
        panel.root.get_by_text("You said: first in docs").wait_for()
        expect(panel.box).to_have_value("a draft for docs")
        panel.box.fill("")
        panel.button(re.compile("^Session: docs")).click()
        panel.button("New conversation").click()
        panel.root.locator(".halo-empty-title").wait_for()
        panel.button(re.compile("^Session: docs")).click()
        panel.button(re.compile("^docs-1 ")).wait_for()
        panel.page.keyboard.press("Escape")
        expect(panel.button("New conversation")).to_be_hidden()
        expect(panel.button(re.compile("^Session: docs"))).to_be_focused()

    def test_a_session_from_a_file_says_that_it_starts_anew(self, panel: PanelPage, lab: LabPage) -> None:
        """Below its turns until the next message, and then below that message."""
        lab.run_cell(FROM_FILE)
        panel.log.get_by_text("Of another day").first.wait_for()
        told = "a new conversation for the agent, which"
        panel.root.get_by_text(f"The next message starts {told} gets 2 earlier messages").wait_for()
        lab.screenshot("panel-from-file", cell=1)
        turn = panel.ask("And now?", "You said: And now?")
        turn.get_by_text(f"{told} got 2 earlier messages as its history").wait_for()
        expect(panel.root.get_by_text("The next message starts")).to_be_hidden()
        panel.button(re.compile("^Session: talk")).click()
        panel.button(re.compile("^docs ")).click()
        panel.log.get_by_text("Of another day").first.wait_for(state="detached")

    def test_a_sent_message_is_edited(self, panel: PanelPage, lab: LabPage) -> None:
        """In another conversation, as the panel says; the arrows lead from the one to the other and back."""
        panel.button(re.compile("^Session")).click()
        panel.root.get_by_role("searchbox", name="Find a session, or name a new one").fill("edited")
        panel.page.keyboard.press("Enter")
        panel.button(re.compile("^Session: edited")).wait_for()  # the session before may be empty, too
        for message in ("one", "two", "three"):
            panel.ask(message)
        panel.turn(2).hover()
        panel.button("Edit message", panel.turn(2)).click()
        box = panel.turn(2).get_by_role("textbox", name="Edit message")
        expect(box).to_have_value("two")
        lab.screenshot("panel-edit", cell=1)
        panel.page.keyboard.type(" b")
        panel.page.keyboard.press("Enter")
        panel.ended(panel.turn(2), "You said: two b")
        expect(panel.turns).to_have_count(2)
        told = "a new conversation for the agent, which got 2 earlier messages as its history"
        panel.turn(2).get_by_text(told).wait_for()
        panel.turn(2).get_by_text("2/2").wait_for()
        expect(panel.root.get_by_text("The next message starts")).to_be_hidden()
        lab.screenshot("panel-versions", cell=1)
        panel.button("Previous version: edited").press("Enter")
        panel.turn(3).wait_for()
        expect(panel.button("Next version: edited (2)", panel.turn(2))).to_be_focused()
        panel.page.keyboard.press("Enter")
        panel.turn(2).get_by_text("two b").first.wait_for()
        panel.button(re.compile("^Session: edited")).click()
        panel.button(re.compile("^docs ")).click()
        panel.button(re.compile("^Session: docs")).wait_for()

    def test_a_cells_turn_shows_here(self, panel: PanelPage, lab: LabPage) -> None:
        """And the panel's own turn in the session that `%%halo` continues."""
        lab.run_cell(USE_AGENT)
        turn = panel.next_turn()
        lab.run_cell(CELL_TURN)
        panel.ended(turn, "You said: from the cell")
        panel.ask("from the panel", "You said: from the panel")
        assert "'from the cell', 'from the panel']" in printed(lab, REQUESTS)

    def test_while_the_kernel_computes_the_panel_says_so(self, panel: PanelPage, lab: LabPage) -> None:
        """What was typed stays in view as queued, and goes out when the kernel is free.

        On ipykernel 7 a click is served on another thread, unless the cell holds the interpreter
        for itself, as this one does.
        """
        computing = lab.lab.root / "computing"
        computing.unlink(missing_ok=True)
        lab.start_cell(COMPUTE)
        panel.until(computing.exists, "the computation to begin")
        turn = panel.say("while busy")
        panel.wait_for_state("kernel busy")
        panel.waiting.get_by_text("queued: the kernel is busy").wait_for()
        lab.screenshot("panel-busy", cell=1)
        panel.ended(turn, "You said: while busy")
        panel.wait_for_state("ready")
        expect(panel.waiting).to_have_count(0)
