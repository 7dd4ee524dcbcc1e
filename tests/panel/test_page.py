"""What a person does with the chat panel, in real front ends and a real Chromium.

A page takes seconds to load, so the tests of a class share one. They go through it in order, as
its user would; each says what it expects to find.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..display.test_pages import CONTRASTS
from ..harness import hostile

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from ..harness.lab import BrowserPage, Lab, LabPage
    from ..harness.voila import VoilaPage

pytestmark = pytest.mark.browser

AGENT = """\
import json, os, time
from IPython.display import display
from ipywidgets import HBox
from halo_notebook import Action, ActionSummary, ChatPanel, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY

def reply(request):
    word, *rest = request["message"].split()
    if word == "words":  # words COUNT PAUSE_MS
        count, pause_s = int(rest[0]), int(rest[1]) / 1000
        for number in range(1, count + 1):
            yield TextDelta(f"word{number}" + ("\\n\\n" if number % 25 == 0 else " "))
            yield pause_s
    elif word == "gate":  # waits in mid-reply for the file go-on
        yield TextDelta("The **first** half, ")
        yield Action({"type": "highlight", "selector": "#gate"})
        while not os.path.exists("go-on"):
            yield 0.02
        yield TextDelta("and the second.")
    elif word == "code":
        yield TextDelta("Here:\\n\\n```python\\ndef f(x):\\n    return x + 1\\n```\\n\\nThat is `it`.\\n")
    elif word == "actions":
        yield TextDelta("Before.\\n\\n")
        yield Action({"type": "ticket", "ticket": {"id": 2**63, "tags": ["a b", "c"], "note": "n" * 500}})
        yield TextDelta("Between.\\n\\n")
        yield Action({"type": "rows", "rows": [{"id": n, "name": f"row {n}"} for n in range(20_000)]})
        yield TextDelta("After.")
    elif word == "silence":
        yield 600.0
    else:
        yield TextDelta(f"You said: {request['message']}")

agent = DemoAgent(reply=reply, first_byte_s=0).start()
client = HaloClient(DEMO_KEY, base_url=agent.url)
"""
SHOW = """\
panel = ChatPanel("docs", client=client, title="Support", suggestions=["Hello there", "code"])
panel
"""

SHOW_ALL = """\
from halo_notebook import ChatPanel, DemoAgent, HaloClient
from halo_notebook.demo import DEMO_KEY
agent = DemoAgent(first_byte_s=0, chunk_s=0).start()
panel = ChatPanel(client=HaloClient(DEMO_KEY, base_url=agent.url), height="900px")
panel
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
print([thread.name for thread in threading.enumerate() if "halo-panel" in thread.name])
"""
LOSSY = """\
import random
random.seed(7)
lost = []
tell = panel._tell
KINDS = {"begin", "frame", "turn", "queue", "answer", "beat", "sessions", "snapshot"}
SHARE = 0.4
def lossy(content):
    if content["kind"] in KINDS and random.random() < SHARE:
        lost.append(content["kind"])
    else:
        tell(content)
panel._tell = lossy
"""
HOSTILE_AGENT = f"""\
import json, sys, time
sys.path.insert(0, {str(Path(hostile.__file__).parent)!r})
import hostile
from halo_notebook import Action, ChatPanel, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY

def reply(request):
    kind, name = request["message"].split(" ", 1)
    if kind == "text":
        yield TextDelta(hostile.TEXTS[name])
    elif kind == "payload":
        yield Action(hostile.PAYLOADS[name])
    else:
        yield TextDelta("You said so.")

agent = DemoAgent(reply=reply, first_byte_s=0).start()
panel = ChatPanel(client=HaloClient(DEMO_KEY, base_url=agent.url), height="600px")
panel
"""
HOSTILE_TURNS = """\
def go(kind, names):
    for name in names:
        reply = panel.ask(f"{kind} {name}").result()
        # The server drops more than a megabyte a second.
        time.sleep(len(json.dumps(reply.to_dict())) / 250_000)

go("text", hostile.TEXTS)
go("payload", hostile.PAYLOADS)
together = "\\n\\n".join(text[:2_000] for text in hostile.TEXTS.values() if text.strip())
go("message", [together[start:start + 9_000] for start in range(0, len(together), 9_000)])
panel._register.get('<img src=x onerror="window.__halo_pwned=1">')
panel._notice('<img src=x onerror="window.__halo_pwned=1">')
print(len(panel.session.turns))
"""
TURN_TO_THE_CELL = """\
%load_ext halo_notebook
magics = get_ipython().magics_manager.registry["HaloMagics"]
magics.connection.demo, magics.connection.demo_wanted = agent, True
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
UNSAFE = """
root => [...root.querySelectorAll('*')]
  .filter(one => one.matches('script, iframe, object, embed, link, meta, base, img, video, audio')
    || [...one.attributes].some(({ name, value }) => name.startsWith('on')
      || name.startsWith('data-commandlinker') || /^\\s*(javascript|vbscript|data):/i.test(value)))
  .map(one => one.outerHTML.slice(0, 200))
"""
# Whether the focus is in the panel, what it is on, and whether that can be seen.
FOCUSED = """
() => {
  const one = document.activeElement;
  const ringed = style => style.outlineStyle !== 'none' || style.boxShadow !== 'none';
  return [Boolean(one.closest('.halo-panel')), one.getAttribute('aria-label') ?? one.innerText,
    ringed(getComputedStyle(one)) || ringed(getComputedStyle(one.closest('.halo-box') ?? one))];
}
"""


class PanelPage:
    """One panel on a page, as a person uses it.

    Args:
        browser: the page.
        within: what the panel is in.
        nth: which of the panels in there.
    """

    def __init__(self, browser: BrowserPage, within: Locator | Page | None = None, nth: int = 0) -> None:
        self.browser = browser
        self.page = browser.page
        self.root = (within or self.page).locator(".halo-panel").nth(nth)
        self.root.wait_for(timeout=30_000)

    @property
    def box(self) -> Locator:
        return self.root.get_by_role("textbox", name="Message", exact=True)

    @property
    def log(self) -> Locator:
        return self.root.get_by_role("log")

    @property
    def turns(self) -> Locator:
        return self.root.locator("article[aria-label^='Turn']")

    def turn(self, number: int) -> Locator:
        return self.root.locator(f"article[aria-label='Turn {number}']")

    def button(self, name: str | re.Pattern[str], within: Locator | None = None) -> Locator:
        return (within or self.root).get_by_role("button", name=name, exact=isinstance(name, str))

    def say(self, text: str) -> None:
        """Type a message and press Enter."""
        self.box.fill(text)
        self.box.press("Enter")

    def ask(self, text: str, number: int, until: str | None = None) -> Locator:
        """Send a message that makes turn `number`, and wait for its end."""
        self.say(text)
        return self.ended(number, until)

    def ended(self, number: int, until: str | None = None) -> Locator:
        turn = self.turn(number)
        self.button("Copy reply", turn).first.wait_for(state="attached", timeout=30_000)
        # Attached, since the browser leaves out what is far from what is in view.
        turn.locator("footer:not([hidden])").wait_for(state="attached", timeout=30_000)
        if until is not None:
            turn.locator(".halo-reply", has_text=until).wait_for(state="attached")
        return turn

    def reply(self, number: int) -> str:
        return str(self.turn(number).locator(".halo-reply").text_content()).strip()

    def wait_for_state(self, state: str, timeout: float = 30) -> None:
        self.root.locator(".halo-state", has_text=state).wait_for(timeout=timeout * 1000)

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout} s for {what}: {self.root.inner_text()}"
            self.page.wait_for_timeout(50)

    def hidden_from_bottom(self) -> float:
        """How many pixels of the transcript are below what is in view."""
        distance: float = self.log.evaluate("log => log.scrollHeight - log.clientHeight - log.scrollTop")
        return distance


def opened(lab: LabPage, *cells: str) -> PanelPage:
    """A notebook whose first cells are the agent and the panel, both run."""
    lab.open_notebook([AGENT, SHOW, *cells])
    lab.run_cell(0)
    lab.run_cell(1)
    return PanelPage(lab, lab.cell_output(1))


def printed(lab: LabPage, cell: int) -> str:
    """What a cell prints when it is run (again)."""
    lab.run_cell(cell)
    return lab.cell_text(cell).strip()


def let_go(lab: LabPage) -> None:
    (lab.lab.root / "go-on").touch()


@pytest.fixture(autouse=True)
def gate(request: pytest.FixtureRequest) -> None:
    """The gate of each test is closed when it begins."""
    for name in ("lab_server", "notebook7_server"):
        if name in request.fixturenames:
            (request.getfixturevalue(name).root / "go-on").unlink(missing_ok=True)


Chat = tuple[PanelPage, "LabPage"]


def chat_on(server: Lab) -> Iterator[Chat]:
    """One page with a panel, and cells to look into the kernel."""
    from ..harness.lab import LabPage

    with LabPage(server) as page:
        page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        panel = opened(
            page,
            "print(len(agent.requests), [turn.message for turn in panel.session.turns])",
            "print(repr(panel.session.turns[-1].rating))",
            "print('computing', flush=True)\ntime.sleep(0.5)\ntotal = sum(range(150_000_000))",
            TURN_TO_THE_CELL,
            "%%halo -s docs\nfrom the cell",
            "agent.faults.append('cut text')",
        )
        yield panel, page


@pytest.fixture(scope="class")
def chat(lab_server: Lab) -> Iterator[Chat]:
    """A panel in JupyterLab, for all the tests of a class."""
    yield from chat_on(lab_server)


def clipboard(panel: PanelPage) -> str:
    text: str = panel.page.evaluate("navigator.clipboard.readText()")
    return text


class TestWriting:
    """The text box, and what its keys do and do not do."""

    def test_a_suggestion_is_sent_with_a_click(self, chat: Chat) -> None:
        """An empty panel offers some; they go when something has been said."""
        panel, lab = chat
        lab.screenshot("panel-empty", cell=1)
        panel.button("Hello there").click()
        panel.ended(1, "You said: Hello there")
        assert panel.button("Hello there").count() == 0

    def test_enter_sends_and_shift_enter_makes_a_line(self, chat: Chat) -> None:
        """And neither runs the notebook's cell, which would wipe the panel."""
        panel, lab = chat
        prompts = lab.page.locator(".jp-InputPrompt").all_inner_texts()
        panel.box.press_sequentially("line one")
        panel.box.press("Shift+Enter")
        panel.box.press_sequentially("line two")
        assert panel.box.input_value() == "line one\nline two"
        panel.box.press("Enter")
        panel.ended(2, "You said: line one")
        assert panel.turn(2).locator(".halo-bubble-text").inner_text() == "line one\nline two"
        assert lab.page.locator(".jp-InputPrompt").all_inner_texts() == prompts
        assert panel.box.evaluate("box => box === document.activeElement")
        assert panel.box.input_value() == ""

    def test_no_key_reaches_the_notebook(self, chat: Chat) -> None:
        """Typed in the box, in the transcript or in a menu: no cell is made, deleted, run or changed."""
        panel, lab = chat
        before = lab.page.evaluate("harness.panel().content.model.toJSON().cells.map(cell => cell.source)")
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
        after = lab.page.evaluate("harness.panel().content.model.toJSON().cells.map(cell => cell.source)")
        assert after == before
        assert lab.page.locator(".jp-InputPrompt", has_text="[*]").count() == 0

    def test_an_input_method_is_not_cut_short(self, chat: Chat) -> None:
        """Enter that ends a composition sends nothing."""
        panel, _ = chat
        panel.box.fill("にほん")
        count = panel.turns.count()
        for event in ({"isComposing": True}, {"keyCode": 229}):
            panel.box.evaluate(
                "(box, extra) => box.dispatchEvent(new KeyboardEvent('keydown',"
                " { key: 'Enter', bubbles: true, cancelable: true, ...extra }))",
                event,
            )
        panel.page.wait_for_timeout(300)
        assert panel.turns.count() == count
        assert panel.box.input_value() == "にほん"
        panel.box.fill("")

    def test_up_recalls_what_was_sent(self, chat: Chat) -> None:
        """From the newest on, and Down comes back to the draft."""
        panel, _ = chat
        panel.box.press("ArrowUp")
        assert panel.box.input_value() == "line one\nline two"
        panel.box.press("ArrowUp")
        assert panel.box.input_value() == "Hello there"
        panel.box.press("ArrowDown")
        panel.box.press("ArrowDown")
        assert panel.box.input_value() == ""

    def test_the_box_grows_and_keeps_draft_and_focus(self, chat: Chat) -> None:
        """While a reply arrives and when it ends."""
        panel, lab = chat
        panel.say("gate")
        panel.turn(3).locator(".halo-reply", has_text="first").wait_for()
        height = panel.box.bounding_box()["height"]  # type: ignore[index]
        draft = "\n".join(f"draft {number}" for number in range(5))
        panel.box.fill(draft)
        assert panel.box.bounding_box()["height"] > 2 * height  # type: ignore[index]
        let_go(lab)
        panel.ended(3, "and the second.")
        assert panel.box.input_value() == draft
        assert panel.box.evaluate("box => box === document.activeElement")
        panel.box.fill("\n".join(["long"] * 60))
        root = panel.root.bounding_box()
        assert root and panel.box.bounding_box()["height"] < root["height"] / 2  # type: ignore[index]
        panel.box.fill("")

    @pytest.mark.parametrize("how", ["Escape", "button"])
    def test_stop_keeps_what_had_arrived(self, chat: Chat, how: str) -> None:
        """By Esc or by the button; the turn says that it was stopped."""
        panel, lab = chat
        number = panel.turns.count() + 1
        panel.say("gate")
        panel.turn(number).locator(".halo-reply", has_text="first").wait_for()
        panel.wait_for_state("streaming")
        if how == "Escape":
            panel.box.press("Escape")
        else:
            panel.button("Stop").last.click()
        turn = panel.ended(number, "The first half,")
        assert turn.get_by_text("stopped", exact=True).is_visible()
        panel.wait_for_state("stopped")
        lab.screenshot(f"panel-stopped-{how.lower()}", cell=1)

    def test_a_message_waits_for_its_turn_and_can_be_taken_back(self, chat: Chat) -> None:
        """What is typed while a reply arrives is in view as waiting; taken back, it is in the box again."""
        panel, lab = chat
        number = panel.turns.count() + 1
        panel.say("gate")
        panel.turn(number).locator(".halo-reply", has_text="first").wait_for()
        panel.say("second thoughts")
        panel.say("goes next")
        waiting = panel.root.locator(".halo-waiting")
        panel.until(lambda: waiting.count() == 2, "two messages that wait")
        lab.screenshot("panel-queued", cell=1)
        panel.button("Remove", waiting.nth(0)).click()
        panel.until(lambda: panel.box.input_value() == "second thoughts", "the text in the box")
        panel.box.fill("")
        let_go(lab)
        panel.ended(number + 1, "You said: goes next")
        assert waiting.count() == 0
        assert "'gate', 'goes next']" in printed(lab, 2)

    def test_a_long_message_is_refused_before_it_is_sent(self, chat: Chat) -> None:
        """A counter says how long it is; what is too long cannot be sent."""
        panel, _ = chat
        panel.box.fill("x" * 9_500)
        assert panel.root.get_by_text("9,500 of 10,000").is_visible()
        panel.box.fill("x" * 10_001)
        assert panel.root.get_by_text("too long").is_visible()
        assert panel.button("Send").last.is_disabled()
        panel.box.fill("")

    def test_nothing_went_wrong_in_the_page(self, chat: Chat) -> None:
        """No script threw, no dialog came up."""
        panel, lab = chat
        assert (panel.browser.page_errors, lab.dialogs, panel.browser.browser_dialogs) == ([], [], [])


class TestReading:
    """What is shown of a reply."""

    def test_a_reply_grows_as_it_arrives(self, chat: Chat) -> None:
        """Formatted, with its action in place, before the agent has ended."""
        panel, lab = chat
        panel.say("gate")
        reply = panel.turn(1).locator(".halo-reply")
        reply.locator("strong", has_text="first").wait_for()
        reply.get_by_text("#gate").wait_for()
        panel.wait_for_state("streaming")
        assert "second" not in reply.inner_text()
        lab.screenshot("panel-streaming", cell=1)
        let_go(lab)
        panel.ended(1, "The first half, and the second.")
        panel.wait_for_state("ready")

    def test_code_is_highlighted_and_copied(self, chat: Chat) -> None:
        """Exactly as the agent wrote it; so are a message and a reply."""
        panel, _ = chat
        turn = panel.ask("code", 2)
        block = turn.locator("pre")
        assert block.locator("span[style*='keyword']", has_text="def").count() == 1
        block.hover()
        panel.button("Copy code", turn).click()
        panel.until(lambda: clipboard(panel) == "def f(x):\n    return x + 1\n", "the code on the clipboard")
        panel.button("Copy message", turn).click()
        panel.until(lambda: clipboard(panel) == "code", "the message on the clipboard")
        panel.button("Copy reply", turn).click()
        panel.until(lambda: clipboard(panel).startswith("Here:\n\n```python\n"), "the reply's source")

    def test_actions_stand_where_they_came(self, chat: Chat) -> None:
        """Between the paragraphs before and after them."""
        panel, lab = chat
        turn = panel.ask("actions", 3, "After.")
        order: list[str] = turn.locator(".halo-reply").evaluate(
            "reply => [...reply.children].map(child => child.classList.contains('halo-action')"
            " ? 'action' : child.innerText.trim())"
        )
        assert order == ["Before.", "action", "Between.", "action", "After."]
        lab.screenshot("panel-actions", cell=1)

    def test_a_tree_folds_and_copies(self, chat: Chat) -> None:
        """By pointer and by keyboard; numbers are exact, and a path leads to its value."""
        panel, _ = chat
        card = panel.turn(3).locator(".halo-action").nth(0)
        tree = card.get_by_role("tree")
        ticket = tree.get_by_role("treeitem").filter(has_text="ticket").filter(has_text="keys").last
        assert tree.get_by_text("9223372036854775808").count() == 0
        ticket.click()
        assert tree.get_by_text("9223372036854775808").is_visible()
        assert ticket.get_attribute("aria-expanded") == "true"
        panel.page.keyboard.press("ArrowLeft")
        assert ticket.get_attribute("aria-expanded") == "false"
        panel.page.keyboard.press("ArrowRight")
        tags = tree.get_by_role("treeitem").filter(has_text="tags")
        tags.click()
        item = tree.get_by_role("treeitem").filter(has_text="a b")
        item.click()
        panel.button(re.compile("Copy path"), card).click()
        panel.until(lambda: clipboard(panel) == "$.ticket.tags[0]", "the path")
        panel.button("Copy JSON", card).click()
        panel.until(lambda: '"id": 9223372036854775808' in clipboard(panel), "the whole")
        assert json.loads(clipboard(panel))["ticket"]["id"] == 2**63

    def test_long_strings_open(self, chat: Chat) -> None:
        """Shortened until somebody wants the whole."""
        panel, _ = chat
        card = panel.turn(3).locator(".halo-action").nth(0)
        note = card.get_by_role("treeitem").filter(has_text="note")
        assert "n" * 300 not in note.inner_text()
        panel.button(re.compile("show all 500"), note).click()
        assert "n" * 500 in note.inner_text()

    def test_twenty_thousand_rows_stay_usable(self, chat: Chat) -> None:
        """Few rows are made at a time; the filter finds one among all of them."""
        panel, lab = chat
        card = panel.turn(3).locator(".halo-action").nth(1)
        card.get_by_role("treeitem").filter(has_text="rows").filter(has_text="20,000 items").click()
        rows = card.get_by_role("treeitem")
        rows.filter(has_text="[0 … 999]").click()
        rows.filter(has_text="[0 … 99]").click()
        assert 100 < rows.count() < 500
        card.get_by_role("searchbox").fill("row 19999")
        card.get_by_text("1 of 60,").wait_for(timeout=5_000)
        card.get_by_role("treeitem").filter(has_text='"row 19999"').wait_for()
        assert rows.count() < 20
        lab.screenshot("panel-filter", cell=1)
        card.get_by_role("searchbox").fill("row")
        card.get_by_text("more matches").wait_for(timeout=5_000)
        assert rows.count() < 800
        card.get_by_role("searchbox").fill("")
        panel.until(lambda: 100 < rows.count() < 500, "the whole tree again, as it was")
        panel.button("Expand all", card).click()
        assert rows.count() <= 700

    def test_the_reader_is_followed_or_left_alone(self, chat: Chat) -> None:
        """At the bottom the new is in view; further up nothing moves, and a button leads back."""
        panel, lab = chat
        panel.say("words 500 10")
        turn = panel.turn(4)
        turn.locator(".halo-reply", has_text="word150 ").wait_for()
        assert panel.hidden_from_bottom() < 60
        panel.log.hover()
        panel.page.mouse.wheel(0, -600)
        panel.until(lambda: panel.hidden_from_bottom() > 300, "the reader to be further up")
        top = panel.log.evaluate("log => log.scrollTop")
        turn.locator(".halo-reply", has_text="word300 ").wait_for()
        assert abs(panel.log.evaluate("log => log.scrollTop") - top) < 5
        jump = panel.button(re.compile("Jump to latest|New below"))
        assert jump.is_visible()
        lab.screenshot("panel-scrolled-up", cell=1)
        jump.click()
        panel.until(lambda: panel.hidden_from_bottom() < 60, "the bottom")
        panel.ended(4, "word500")
        panel.until(lambda: panel.hidden_from_bottom() < 60, "the bottom after the end")
        assert not jump.is_visible()

    def test_a_failed_turn_can_be_sent_again(self, chat: Chat) -> None:
        """The error is one line; sending again says that it may act twice, and asks."""
        panel, lab = chat
        lab.run_cell(7)
        turn = panel.ask("break off", 5, "This reply will be cut")
        assert "The connection broke off" in turn.locator(".halo-error").inner_text()
        panel.wait_for_state("failed")
        lab.screenshot("panel-failed", cell=1)
        requests = printed(lab, 2).split()[0]
        panel.button("Send again", turn).first.click()
        assert turn.get_by_text("can make the agent act twice").is_visible()
        lab.screenshot("panel-send-again", cell=1)
        assert printed(lab, 2).split()[0] == requests
        panel.button("Cancel", turn).click()
        panel.button("Send again", turn).first.click()
        panel.button("Send again", turn.get_by_role("group", name="Send again?")).click()
        panel.ended(6, "You said: break off")
        assert int(printed(lab, 2).split()[0]) == int(requests) + 1

    def test_a_turn_tells_its_time_agent_and_timings(self, chat: Chat) -> None:
        """In a quiet line under the reply."""
        panel, _ = chat
        panel.turn(6).scroll_into_view_if_needed()
        foot = panel.turn(6).locator("footer").inner_text()
        assert re.search(r"\d\d:\d\d · agent_demo · first text \d\.\d\d s · \d\.\d\d s in all", foot), foot

    def test_a_rating_is_kept_in_the_kernel(self, chat: Chat) -> None:
        """Up or down, with a note; it is on the turn and in the export."""
        panel, lab = chat
        number = panel.turns.count() + 1
        turn = panel.ask("rate me", number, "You said")
        turn.hover()
        panel.button("Good reply", turn).click()
        panel.until(lambda: "Rating(value='up', note='')" in printed(lab, 3), "the rating")
        turn.get_by_role("textbox", name="Note on this reply").fill("Short & good")
        panel.button("Save", turn).click()
        panel.until(lambda: "Rating(value='up', note='Short & good')" in printed(lab, 3), "the note")
        assert panel.button("Good reply", turn).get_attribute("aria-pressed") == "true"

    def test_the_conversation_is_exported(self, chat: Chat) -> None:
        """As Markdown and as JSON, by the browser's own download."""
        panel, _ = chat
        for what, name in (("Markdown", "docs.md"), ("JSON", "docs.json")):
            panel.button("Export").click()
            with panel.page.expect_download() as download:
                panel.button(what).click()
            assert download.value.suggested_filename == name
            text = Path(download.value.path()).read_text()
            assert "Short & good" in text and "You said: rate me" in text

    def test_sessions_can_be_switched(self, chat: Chat) -> None:
        """To another name and back; a new conversation keeps the old one beside it."""
        panel, lab = chat
        panel.box.fill("a draft for docs")
        panel.button(re.compile("^Session")).click()
        lab.screenshot("panel-sessions", cell=1)
        panel.root.get_by_role("textbox", name=re.compile("^Name of a session")).fill("other")
        panel.page.keyboard.press("Enter")
        panel.root.locator(".halo-empty-title").wait_for()
        assert panel.box.input_value() == ""
        panel.ask("hello", 1, "You said: hello")
        panel.button(re.compile("^Session: other")).click()
        panel.button(re.compile("^docs")).click()
        panel.root.get_by_text("You said: rate me").wait_for()
        assert panel.box.input_value() == "a draft for docs"
        panel.box.fill("")
        panel.button(re.compile("^Session: docs")).click()
        panel.button("New conversation").click()
        panel.root.locator(".halo-empty-title").wait_for()
        panel.button(re.compile("^Session: docs")).click()
        assert panel.button(re.compile("^docs-1 ")).is_visible()
        panel.page.keyboard.press("Escape")
        assert not panel.button("New conversation").is_visible()
        assert panel.button(re.compile("^Session: docs")).evaluate("one => one === document.activeElement")

    def test_a_cells_turn_shows_here(self, chat: Chat) -> None:
        """And the panel's own turn in the session that `%%halo` goes on with."""
        panel, lab = chat
        lab.run_cell(5)
        lab.run_cell(6)
        panel.ended(1, "You said: from the cell")
        panel.ask("from the panel", 2, "You said: from the panel")
        assert "['from the cell', 'from the panel']" in printed(lab, 2)

    def test_while_the_kernel_computes_the_panel_says_so(self, chat: Chat) -> None:
        """What was typed stays in view as queued, and goes out when the kernel is free.

        On ipykernel 7 a click is served on another thread, unless the cell holds the interpreter
        for itself, as this one does.
        """
        panel, lab = chat
        lab.start_cell(4)
        lab.wait_for_text(4, "computing")
        panel.page.wait_for_timeout(600)
        panel.say("while busy")
        panel.wait_for_state("kernel busy")
        assert panel.root.locator(".halo-waiting").get_by_text("queued: the kernel is busy").is_visible()
        lab.screenshot("panel-busy", cell=1)
        panel.ended(3, "You said: while busy")
        panel.wait_for_state("ready")
        assert panel.root.locator(".halo-waiting").count() == 0

    def test_nothing_went_wrong_in_the_page(self, chat: Chat) -> None:
        """No script threw, no dialog came up."""
        panel, lab = chat
        assert (panel.browser.page_errors, lab.dialogs, panel.browser.browser_dialogs) == ([], [], [])


@pytest.fixture(scope="class")
def shown(lab_server: Lab) -> Iterator[Chat]:
    """A panel that shows a bit of everything."""
    from ..harness.lab import LabPage

    with LabPage(lab_server) as page:
        page.open_notebook([SHOW_ALL])
        page.run_cell(0)
        panel = PanelPage(page, page.cell_output(0))
        for number, message in enumerate(
            ("Show me Markdown", "How do I set up event tracking?", "/fault cut text", "Open a ticket"), 1
        ):
            panel.ask(message, number)
        panel.button("Good reply", panel.turn(2)).click()
        yield panel, page


class TestWritingInNotebook7(TestWriting):
    """The same in Notebook 7."""

    @pytest.fixture(scope="class")
    @classmethod
    def chat(cls, notebook7_server: Lab) -> Iterator[Chat]:
        """A panel in Notebook 7, for all the tests of the class."""
        yield from chat_on(notebook7_server)


class TestReadingInNotebook7(TestReading):
    """The same in Notebook 7."""

    @pytest.fixture(scope="class")
    @classmethod
    def chat(cls, notebook7_server: Lab) -> Iterator[Chat]:
        """A panel in Notebook 7, for all the tests of the class."""
        yield from chat_on(notebook7_server)


class TestLooks:
    """How it looks and reads: themes, widths, contrast, accessibility."""

    WIDTHS = (1280, 420)

    @pytest.mark.parametrize("width", WIDTHS)
    @pytest.mark.parametrize("theme", ["Light", "Dark"])
    def test_it_can_be_read_and_used_by_all(self, shown: Chat, theme: str, width: int) -> None:
        """axe-core finds nothing, each text has a contrast of 4.5 to 1, and nothing is cut off."""
        panel, lab = shown
        lab.page.set_viewport_size({"width": width, "height": 1100})
        lab.set_theme(f"JupyterLab {theme}")
        try:
            for number in (1, 2, 4):
                panel.turn(number).scroll_into_view_if_needed()
                lab.screenshot(f"panel-{theme.lower()}-{width}-{number}", cell=0)
            assert lab.axe(".halo-panel") == []
            contrasts = lab.page.evaluate(CONTRASTS, ".halo-panel")
            assert len(contrasts) > 10
            assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
            assert panel.root.evaluate(TOO_WIDE) == []
        finally:
            lab.set_theme("JupyterLab Light")
            lab.page.set_viewport_size({"width": 1280, "height": 900})

    def test_it_fits_a_width_of_320_pixels(self, shown: Chat) -> None:
        """In a narrow column, as beside another widget."""
        panel, lab = shown
        panel.root.evaluate("root => { root.parentElement.style.width = '320px'; }")
        try:
            box = panel.root.bounding_box()
            assert box and box["width"] <= 320
            lab.screenshot("panel-320", cell=0)
            assert panel.root.evaluate("root => root.scrollWidth <= root.clientWidth")
            assert panel.box.bounding_box()["width"] > 150  # type: ignore[index]
            assert lab.axe(".halo-panel") == []
        finally:
            panel.root.evaluate("root => { root.parentElement.style.width = ''; }")

    def test_it_can_be_used_by_keyboard_alone(self, shown: Chat) -> None:
        """Tab reaches every control in view, each shows its focus, and each has a name."""
        panel, _ = shown
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
        assert "Conversation" in names and "Copy reply" in names
        assert [name for name in names if not name] == []
        assert [name for name, visible in seen if not visible] == []

    def test_a_screen_reader_hears_the_reply_once(self, shown: Chat) -> None:
        """The transcript is a log that is not read out by itself; a quiet voice says what matters."""
        panel, _ = shown
        assert panel.log.get_attribute("aria-live") == "off"
        panel.page.evaluate(LISTEN)
        panel.ask("Where are my invoices?", 5)
        panel.until(lambda: any("action" in words for words in panel.page.evaluate("heard")), "the reply")
        heard: list[str] = panel.page.evaluate("heard")
        assert heard[0] == "Message sent" and len(heard) <= 4
        assert heard[-1].startswith("Invoices live under") and heard[-1].endswith("1 action")


class TestLife:
    """Reloads, second views, restarts."""

    @pytest.mark.timeout(240)
    def test_nothing_is_lost_when_the_page_goes(self, lab: LabPage) -> None:
        """A reload in mid-reply shows what has come and streams on; so do other views."""
        panel = opened(lab, "display(panel)", "panel")
        panel.ask("first", 1, "You said: first")
        panel.say("words 300 30")
        panel.turn(2).locator(".halo-reply", has_text="word20 ").wait_for()

        lab.run_cell(2)
        second = PanelPage(lab, lab.cell_output(2))
        second.turn(2).locator(".halo-reply", has_text="word30 ").wait_for()
        second.box.fill("a draft")
        assert panel.box.input_value() == "a draft"
        second.box.fill("")

        lab.save()
        lab.page.reload()
        lab.page.wait_for_function("() => window.harness && harness.panel()")
        panel = PanelPage(lab, lab.cell_output(1))
        panel.turn(2).locator(".halo-reply", has_text="word60 ").wait_for()
        assert panel.reply(1) == "You said: first"
        words = [f"word{number}" for number in range(1, 301)]
        panel.ended(2, "word300")
        assert panel.reply(2).split() == words

        lab.command("notebook:clear-all-cell-outputs")
        panel.root.wait_for(state="detached")
        lab.run_cell(3)
        again = PanelPage(lab, lab.cell_output(3))
        assert again.reply(2).split() == words
        again.ask("last", 3, "You said: last")
        assert lab.page_errors == []

    @pytest.mark.timeout(240)
    def test_a_kernel_that_is_gone_leaves_no_dead_button(self, lab: LabPage) -> None:
        """What was said stays, a turn that ran is marked, the draft can be copied; re-running goes on."""
        panel = opened(lab)
        panel.ask("first", 1, "You said: first")
        panel.say("silence")
        panel.wait_for_state("waiting")
        panel.box.fill("a draft")
        lab.command("notebook:restart-kernel")
        lab.page.locator(".jp-Dialog .jp-mod-accept").click()
        panel.wait_for_state("kernel gone")
        assert panel.root.get_by_role("note").is_visible()
        assert panel.root.get_by_text("Interrupted: the kernel went away").is_visible()
        assert panel.reply(1) == "You said: first"
        assert panel.box.input_value() == "a draft"
        assert panel.button("Copy draft").is_visible()
        for name in ("Send", "Good reply", "Bad reply"):
            for each in panel.button(name).all():
                assert each.is_disabled(), name
        assert not panel.box.is_editable()
        lab.screenshot("panel-gone", cell=1)
        lab.kernel_idle()
        lab.run_cell(0)
        lab.run_cell(1)
        PanelPage(lab, lab.cell_output(1)).ask("again", 1, "You said: again")


class TestLifeInNotebook7(TestLife):
    """The same in Notebook 7."""

    @pytest.fixture
    def lab(self, notebook7: LabPage) -> LabPage:
        """Its page."""
        return notebook7


class TestMessages:
    """What goes between the kernel and the page, which is the same in every front end."""

    @pytest.mark.timeout(240)
    def test_many_panels_do_not_cross(self, lab: LabPage) -> None:
        """Ten on a page stream at once, two of them on one session; closed, they leave nothing."""
        lab.open_notebook([AGENT, TEN, ALL_AT_ONCE, CLOSE_ALL])
        lab.run_cell(0)
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
            view.ended(turns, "word60")
            for turn in range(1, turns + 1):
                assert view.reply(turn).split() == words, number
            assert view.turns.count() == turns
        lab.run_cell(3)
        lab.wait_for_text(3, "[]")
        lab.page.wait_for_function("() => document.querySelectorAll('.halo-panel').length === 0")
        assert lab.page_errors == []

    @pytest.mark.timeout(240)
    def test_lost_messages_are_made_good(self, lab: LabPage) -> None:
        """Whatever is dropped on the way, the reader ends with exactly the reply's text."""
        panel = opened(lab, LOSSY, "KINDS, SHARE = {'turn'}, 1", "print(sorted(set(lost)))")
        lab.run_cell(2)
        words = [f"word{number}" for number in range(1, 121)]
        for number in range(1, 4):
            panel.ask("words 120 20", number, "word120")
            assert panel.reply(number).split() == words
        # The last word of a turn is lost for certain: silence tells the page.
        lab.run_cell(3)
        panel.ask("words 120 5", 4, "word120")
        assert panel.reply(4).split() == words
        assert "'frame'" in printed(lab, 4)
        assert lab.page_errors == []


class TestHostile:
    """An agent that attacks the page."""

    @pytest.mark.timeout(300)
    def test_no_sample_does_anything(self, lab: LabPage) -> None:
        """Texts, payloads, keys, labels, messages, session names: no script, no request, nothing but text."""
        strangers: list[str] = []
        lab.page.on(
            "request",
            lambda request: (
                strangers.append(request.url)
                if not request.url.startswith((lab.lab.url, "data:", "blob:", "about:"))
                else None
            ),
        )
        lab.open_notebook([HOSTILE_AGENT, HOSTILE_TURNS])
        lab.run_cell(0)
        panel = PanelPage(lab, lab.cell_output(0))
        lab.run_cell(1, timeout=200)
        count = int(lab.cell_text(1).split()[0])
        assert count > 100
        panel.ended(count)
        while (earlier := panel.button(re.compile("Show earlier"))).is_visible():
            before = panel.turns.count()
            earlier.click()
            panel.until(lambda: panel.turns.count() > before, "earlier turns")  # noqa: B023
        assert panel.turns.count() == count
        for card in panel.root.get_by_role("button", name="Expand all").all():
            card.evaluate("button => button.click()")
        panel.button(re.compile("^Session")).click()
        panel.page.wait_for_timeout(500)
        assert lab.page.evaluate("() => [window.__halo_pwned, ({}).polluted]") == [None, None]
        assert strangers == []
        assert (lab.page_errors, lab.dialogs, lab.browser_dialogs) == ([], [], [])
        assert panel.root.evaluate(UNSAFE) == []
        # No character that reorders text or hides in it is on the page, but what a person typed.
        shown: str = panel.root.evaluate(
            "root => [...root.querySelectorAll('.halo-reply, .halo-tree, .halo-action, .halo-menu')]"
            ".map(one => one.textContent).join('')"
        )
        assert re.findall("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]", shown) == []


class TestStaticTwin:
    """What a cell shows where no widget can be."""

    @pytest.mark.timeout(240)
    def test_a_saved_notebook_shows_the_conversation(self, lab: LabPage) -> None:
        """Hidden beside the live panel; shown by nbconvert, and in a notebook reopened without its kernel."""
        panel = opened(lab)
        panel.ask("code", 1)
        panel.ask("said last", 2, "You said: said last")
        static = lab.cell_output(1).locator(".halo-static")
        panel.until(lambda: "said last" in str(static.text_content()), "the twin's update")
        assert not static.is_visible()
        lab.save()
        subprocess.run(
            [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level", "ERROR", lab.path.name],
            cwd=lab.lab.root,
            check=True,
            timeout=60,
        )
        exported = lab.path.with_suffix(".html")
        browser = lab.page.context.browser
        assert browser is not None
        context = browser.new_context(java_script_enabled=False)
        try:
            context.set_offline(True)
            page = context.new_page()
            page.goto(exported.as_uri(), wait_until="domcontentloaded")
            assert page.get_by_text("You said: said last").is_visible()
            assert page.get_by_text("Halo session docs").is_visible()
            page.screenshot(path=lab.screenshot("panel-nbconvert").as_posix())
        finally:
            context.close()
            exported.unlink()

        lab.reopen(new_kernel=True)
        static.get_by_text("You said: said last").wait_for()
        lab.page.wait_for_timeout(1_500)
        assert "model not found" not in lab.cell_output(1).inner_text()
        assert "Loading widget" not in lab.cell_output(1).inner_text()
        lab.screenshot("panel-reopened", cell=1)

        lab.reopen(new_kernel=True, trusted=False)
        static.get_by_text("You said: said last").wait_for()
        lab.screenshot("panel-reopened-untrusted", cell=1)


class TestElsewhere:
    """In other front ends."""

    def test_in_voila(self, voila: VoilaPage) -> None:
        """A page without code: the panel talks to its kernel all the same."""
        voila.open_notebook([AGENT, SHOW])
        panel = PanelPage(voila)
        panel.ask("actions", 1, "After.")
        panel.ask("hello from Voila", 2, "You said: hello from Voila")
        assert voila.axe(".halo-panel") == []
        from ..harness.lab import ARTEFACTS

        voila.page.screenshot(path=ARTEFACTS / "panel-voila.png")
        assert voila.page_errors == []
