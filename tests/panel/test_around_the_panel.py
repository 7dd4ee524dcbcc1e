"""A panel and what is around it: keys, reloads, restarts, other panels, lost messages, saved copies."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from halo_notebook import Session
from halo_notebook.session import Turn
from halo_notebook.stream import JSON, Action

from ..harness import hostile
from ..harness.images import HOSTILE_NAME, file, give, png
from ..harness.panel_page import AGENT, SHOW, PanelPage, opened, page_of, printed
from ..harness.replies import reply_of

if TYPE_CHECKING:
    from ..harness.lab import Lab, LabPage

pytestmark = pytest.mark.browser

IMAGES = """\
import base64, hashlib
images = agent.requests[-1].body["images"]
print([hashlib.sha256(base64.b64decode(each.partition(",")[2])).hexdigest() for each in images])
"""
TEN = """\
panels = [ChatPanel(f"s{max(number, 1)}", client=client, height="300px") for number in range(10)]
for start in range(0, 10, 2):
    display(HBox(panels[start:start + 2]))
"""
ALL_AT_ONCE = """\
sent = [panel.ask(f"words 60 {20 + number}") for number, panel in enumerate(panels)]
print(sum(len(each.result().text) > 0 for each in sent))
"""
CLOSE_ALL = """\
import threading
for panel in panels:
    panel.close()
time.sleep(0.5)
print([thread.name for thread in threading.enumerate() if thread.name.startswith("halo")
       and thread.name not in ("halo-io", "halo-worker_0", "halo-demo-agent")])
"""
LOSSY = """\
import random
from collections import Counter
random.seed(7)
lost = []
in_a_row = Counter()  # after two lost snapshots the page waits 20 s before it asks again
tell = panel.send
KINDS = {"begin", "frame", "turn", "queue", "answer", "beat", "sessions", "snapshot"}
SHARE = 0.4
def lossy(content):
    kind = content["kind"]
    if kind in KINDS and random.random() < SHARE and (in_a_row[kind] < 2 or SHARE == 1):
        lost.append(kind)
        in_a_row[kind] += 1
    else:
        in_a_row[kind] = 0
        tell(content)
panel.send = lossy
"""
STRICT = """
() => {
  const policy = document.createElement('meta');
  policy.httpEquiv = 'Content-Security-Policy';
  policy.content = "script-src 'self' 'unsafe-inline' 'unsafe-eval'";
  document.head.append(policy);
}
"""
SOURCES = "harness.panel().content.model.toJSON().cells.map(cell => cell.source)"


def hostile_export() -> bytes:
    """An exported session whose texts, payloads and images attack the page."""
    session = Session(HOSTILE_NAME)
    images: JSON = [
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "https://evil.example/a.png",
    ]
    payloads = [each for each in hostile.PAYLOADS.values() if len(json.dumps(each)) < 500]
    texts = "\n\n".join(text[:500] for text in hostile.TEXTS.values() if text.strip())
    for message in (HOSTILE_NAME, texts[:9_000], "There is a needle in it"):
        reply = reply_of(texts, *map(Action, payloads))
        session.turns.append(Turn({"message": message, "images": images}, reply, session=session))
    return session.to_json().encode("utf-8", "replace")


@pytest.mark.kernel
class TestNotebook:
    """A notebook and its panel. The tests share a page, in any order: each shows the panel again."""

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, lab_server: Lab) -> Iterator[LabPage]:
        """A page of JupyterLab, with a panel and cells that show it again."""
        with page_of(lab_server) as page:
            opened(page, "display(panel)", "panel", IMAGES)
            yield page

    @pytest.fixture
    def panel(self, lab: LabPage) -> PanelPage:
        """A new panel on the session, in its cell only."""
        lab.command("notebook:clear-all-cell-outputs")
        lab.run_cell(1)
        return PanelPage(lab, lab.cell_output(1))

    def test_enter_sends_and_shift_enter_makes_a_line(self, panel: PanelPage, lab: LabPage) -> None:
        """And neither runs the notebook's cell, which would wipe the panel."""
        turn = panel.next_turn()
        expect(lab.page.locator(".jp-InputPrompt", has_text="[*]")).to_have_count(0)
        prompts = lab.page.locator(".jp-InputPrompt").all_inner_texts()
        panel.box.press_sequentially("line one")
        panel.box.press("Shift+Enter")
        panel.box.press_sequentially("line two")
        expect(panel.box).to_have_value("line one\nline two")
        panel.box.press("Enter")
        panel.ended(turn, "You said: line one")
        expect(turn.locator(".halo-bubble-text")).to_have_text("line one\nline two")
        assert lab.page.locator(".jp-InputPrompt").all_inner_texts() == prompts
        expect(panel.box).to_be_focused()
        expect(panel.box).to_have_value("")

    def test_no_key_reaches_the_notebook(self, panel: PanelPage, lab: LabPage) -> None:
        """Typed in the box, in the transcript or in a menu: no cell is made, deleted, run or changed."""
        panel.ask("hello")
        before = lab.page.evaluate(SOURCES)
        letters = ["d", "d", "a", "b", "m", "y", "x", "z", "0", "0"]
        for place, keys in (
            (panel.box, letters),
            (panel.log, [*letters, "Shift+Enter", "Control+Enter", "Alt+Enter"]),
            (panel.button("Copy message").first, letters),
            (panel.root, letters),
        ):
            place.focus()
            for key in keys:
                panel.page.keyboard.press(key)
        panel.box.fill("x")
        panel.box.press("Shift+Enter")
        panel.box.fill("")
        lab.painted()
        assert lab.page.evaluate(SOURCES) == before
        assert lab.page.locator(".jp-InputPrompt", has_text="[*]").count() == 0

    def test_the_notebooks_shortcuts_work_from_the_text_box(self, panel: PanelPage, lab: LabPage) -> None:
        """Ctrl+S saves the notebook, Ctrl+Shift+C opens the commands; Ctrl+A and Ctrl+C are the box's."""
        lab.save()  # while one save runs, the notebook ignores another
        panel.box.fill("a draft")
        with lab.page.expect_request(lambda request: request.method == "PUT"):
            panel.box.press("Control+s")
        panel.box.press("Control+a")
        panel.box.press("Control+c")
        assert panel.copied("draft") == "a draft"
        for place in (panel.box, panel.log):
            place.press("Control+Shift+c")
            commands = lab.page.locator(".lm-CommandPalette-input, .jp-CommandPalette input").last
            commands.wait_for()
            commands.press("Escape")
            commands.wait_for(state="hidden")
        panel.box.fill("")

    @pytest.mark.timeout(240)
    def test_nothing_is_lost_when_the_page_goes(self, panel: PanelPage, lab: LabPage) -> None:
        """A reload in the middle of a reply shows what has come and streams on; so do other views."""
        first = panel.number_of(panel.ask("before"))
        number = panel.number_of(panel.start("words 300 20", "word20 "))
        lab.run_cell(2)
        second = PanelPage(lab, lab.cell_output(2))
        second.turn(number).locator(".halo-reply", has_text="word30 ").wait_for()
        second.box.fill("a draft")
        expect(panel.box).to_have_value("a draft")

        lab.save()
        assert "a draft" not in lab.path.read_text()
        lab.page.reload()
        lab.page.wait_for_function("() => window.harness && harness.panel()")
        panel = PanelPage(lab, lab.cell_output(1))
        panel.turn(number).locator(".halo-reply", has_text="word60 ").wait_for()
        expect(panel.box).to_have_value("a draft")
        assert panel.reply(first) == "You said: before"
        words = [f"word{number}" for number in range(1, 301)]
        panel.ended(panel.turn(number), "word300")
        assert panel.reply(number).split() == words

        lab.command("notebook:clear-all-cell-outputs")
        panel.root.wait_for(state="detached")
        lab.run_cell(3)
        again = PanelPage(lab, lab.cell_output(3))
        again.ended(again.turn(number), "word300")
        assert again.reply(number).split() == words
        expect(again.box).to_have_value("a draft")
        again.ask("last", "You said: last")

    def test_an_image_goes_whole_to_the_agent_and_stays_with_an_edited_message(
        self, panel: PanelPage, lab: LabPage
    ) -> None:
        """In parts to the kernel; its name does nothing, and its thumbnail is there after a reload."""
        data = png(40, os.urandom(1_500_000))
        give(panel.box, "paste", file(HOSTILE_NAME, data))
        panel.root.get_by_role("group", name="Images to send").get_by_role("img").wait_for()
        turn = panel.ask("look", "You said: look")
        digest = hashlib.sha256(data).hexdigest()
        assert printed(lab, 4) == f"['{digest}']"
        number = panel.number_of(turn)
        panel.button("Edit message", turn).press("Enter")
        panel.page.keyboard.type(" closer")
        panel.page.keyboard.press("Enter")
        panel.ended(panel.turn(number), "You said: look closer")
        assert printed(lab, 4) == f"['{digest}']"
        image = panel.turn(number).get_by_role("img")
        panel.until(lambda: image.evaluate("one => one.complete && one.naturalWidth > 0"), "the image")
        lab.screenshot("panel-image", cell=1)
        panel.button(re.compile("^Previous version: docs")).press("Enter")
        panel.turn(number).locator(".halo-reply", has_text="You said: look").wait_for()
        assert lab.page.evaluate("window.__halo_pwned") is None

    def test_a_hostile_export_is_opened_and_does_nothing(self, panel: PanelPage, lab: LabPage) -> None:
        """From the menu of sessions, found again by what was said in it; all in it is text."""
        strangers: list[str] = []
        own = (lab.lab.url, "data:", "blob:", "about:")
        lab.page.on("request", lambda one: strangers.append(one.url) if not one.url.startswith(own) else None)
        shown = panel.turns.count()
        sessions = panel.button(re.compile("^Session"))
        box = panel.root.get_by_role("searchbox", name=re.compile("^Find a session"))
        sessions.click()
        with lab.page.expect_file_chooser() as chooser:
            panel.button("Open a conversation…").click()
        chooser.value.set_files(file(f"{HOSTILE_NAME}.json", hostile_export(), "application/json"))
        panel.root.get_by_text("The next message starts a new conversation").first.wait_for()
        expect(panel.turns).to_have_count(3)
        lab.painted()
        assert panel.root.locator("img, script, iframe, svg[onload]").count() == 0
        sessions.click()
        box.fill("A NEEDLE in it")
        panel.root.locator(".halo-place-found", has_text="a needle in it").wait_for()
        lab.screenshot("panel-session-search", cell=1)
        box.fill("docs")
        panel.root.locator(".halo-named", has_text="docs").first.click()
        expect(panel.turns).to_have_count(shown)
        lab.painted()
        assert lab.page.evaluate("window.__halo_pwned") is None
        assert strangers == []

    @pytest.mark.timeout(240)
    def test_a_kernel_that_is_gone_leaves_no_dead_button(self, panel: PanelPage, lab: LabPage) -> None:
        """What was said stays, a turn that ran is marked, the draft can be copied; the cell runs again."""
        last = panel.number_of(panel.ask("last"))
        panel.say("silence")
        panel.wait_for_state("waiting")
        panel.box.fill("a draft")
        lab.command("notebook:restart-kernel")
        lab.page.locator(".jp-Dialog .jp-mod-accept").click()
        panel.wait_for_state("kernel gone")
        panel.root.get_by_role("note").wait_for()
        panel.root.get_by_text("Interrupted: the kernel went away").wait_for()
        assert panel.reply(last) == "You said: last"
        expect(panel.box).to_have_value("a draft")
        panel.button("Copy draft").wait_for()
        for name in ("Send", "Good reply", "Bad reply"):
            for each in panel.button(name).all():
                expect(each, name).to_be_disabled()
        expect(panel.box).not_to_be_editable()
        lab.screenshot("panel-gone", cell=1)
        lab.kernel_idle()
        lab.run_cell(0)
        lab.run_cell(1)
        panel = PanelPage(lab, lab.cell_output(1))
        expect(panel.box).to_have_value("a draft")
        panel.ask("again", "You said: again")


class TestNotebook7(TestNotebook):
    """The same in Notebook 7, whose keys, reload and restart are its own."""

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, notebook7_server: Lab) -> Iterator[LabPage]:
        """A page of Notebook 7."""
        with page_of(notebook7_server) as page:
            opened(page, "display(panel)", "panel", IMAGES)
            yield page


@pytest.mark.ci
class TestOnOnePage:
    """Many panels, lost messages and a refused panel: the tests share a page, in this order."""

    CELLS = (
        *(AGENT, TEN, ALL_AT_ONCE, CLOSE_ALL),
        *(SHOW, LOSSY, "KINDS, SHARE = {'turn'}, 1", "print(sorted(set(lost)))"),
        *('panel = ChatPanel("strict", client=client)\npanel', 'reply = panel.ask("hello").result()'),
    )

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, lab_server: Lab) -> Iterator[LabPage]:
        """A page of JupyterLab with the cells of all tests."""
        from ..harness.lab import LabPage

        with LabPage(lab_server) as page:
            page.open_notebook(cls.CELLS)
            page.run_cell(0)
            yield page

    @pytest.mark.kernel
    @pytest.mark.timeout(240)
    def test_many_panels_do_not_cross(self, lab: LabPage) -> None:
        """Ten on a page stream at once, two of them on one session; closed, they leave nothing."""
        lab.run_cell(1)
        views = [PanelPage(lab, lab.cell_output(1), number) for number in range(10)]
        lab.run_cell(2, timeout=60)
        words = [f"word{number}" for number in range(1, 61)]
        lab.screenshot("panel-ten", cell=1)
        for number, view in enumerate(views):
            box = view.root.bounding_box()
            assert box
            assert box["width"] > 300
            turns = 2 if number < 2 else 1
            view.ended(view.turn(turns), "word60")
            for turn in range(1, turns + 1):
                assert view.reply(turn).split() == words, number
            expect(view.turns).to_have_count(turns)
        lab.run_cell(3)
        lab.wait_for_text(3, "[]")
        lab.page.wait_for_function("() => document.querySelectorAll('.halo-panel').length === 0")
        assert lab.page_errors == []

    @pytest.mark.timeout(240)
    def test_messages_lost_on_the_way_are_recovered(self, lab: LabPage) -> None:
        """Whatever is dropped on the way, the reader ends with exactly the reply's text."""
        lab.run_cell(4)
        panel = PanelPage(lab, lab.cell_output(4))
        lab.run_cell(5)
        words = [f"word{number}" for number in range(1, 121)]
        for number in range(1, 4):
            panel.ask("words 120 10", "word120")
            assert panel.reply(number).split() == words
        # The last word of a turn is lost for certain: silence tells the page.
        lab.run_cell(6)
        panel.ask("words 120 5", "word120")
        assert panel.reply(4).split() == words
        assert "'frame'" in printed(lab, 7)
        assert lab.page_errors == []

    @pytest.mark.timeout(240)
    def test_a_page_that_forbids_the_panel_shows_a_copy_and_why(self, lab: LabPage) -> None:
        """With a Content-Security-Policy without blob:, the transcript is in the place of the panel."""
        lab.command("notebook:clear-all-cell-outputs")
        lab.page.evaluate(STRICT)
        lab.run_cell(8)
        lab.run_cell(9)
        lab.wait_for_text(8, "You said: hello")
        lab.wait_for_text(8, "script-src blob:")
        lab.screenshot("panel-strict-csp", cell=8)
        lab.painted()
        assert not lab.page.locator(".halo-panel").count()
        assert lab.cell_text(8).startswith("Halo session strict")
