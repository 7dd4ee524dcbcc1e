"""A chat panel in a page, used as a person uses it, and the notebook around it.

`AGENT` is a cell with an agent whose replies the first word of a message chooses; `SHOW` shows a panel.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .lab import Lab, LabPage
    from .pages import BrowserPage

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
    elif word == "gate":  # waits in the middle of its reply for the file go-on
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


class PanelPage:
    """The `nth` panel in `within` on the page `browser`, once the kernel has told it its turns."""

    def __init__(self, browser: BrowserPage, within: Locator | Page | None = None, nth: int = 0) -> None:
        self.browser = browser
        self.page = browser.page
        self.root = (within or self.page).locator(".halo-panel").nth(nth)
        self.button(re.compile("^Session: (?!none yet$)")).wait_for(timeout=30_000)

    @property
    def box(self) -> Locator:
        return self.root.get_by_role("textbox", name="Message", exact=True)

    @property
    def log(self) -> Locator:
        return self.root.get_by_role("log")

    @property
    def turns(self) -> Locator:
        return self.root.locator("article[aria-label^='Turn']")

    @property
    def waiting(self) -> Locator:
        """The messages that are not yet turns."""
        return self.root.locator(".halo-waiting")

    def turn(self, number: int) -> Locator:
        return self.root.locator(f"article[aria-label='Turn {number}']")

    def number_of(self, turn: Locator) -> int:
        return int(str(turn.get_attribute("aria-label")).split()[1])

    def next_turn(self) -> Locator:
        """The turn after the last, whose number says more than how many are on the page."""
        return self.turn(self.number_of(self.turns.last) + 1 if self.turns.count() else 1)

    def button(self, name: str | re.Pattern[str], within: Locator | None = None) -> Locator:
        return (within or self.root).get_by_role("button", name=name, exact=isinstance(name, str))

    def say(self, text: str) -> Locator:
        """Type a message and press Enter; returns its turn, if it is the next."""
        turn = self.next_turn()
        self.box.fill(text)
        self.box.press("Enter")
        return turn

    def start(self, text: str, until: str) -> Locator:
        """Send a message, and wait for the beginning of its reply."""
        turn = self.say(text)
        turn.locator(".halo-reply", has_text=until).wait_for()
        return turn

    def ask(self, text: str, until: str | None = None) -> Locator:
        """Send a message, and wait for the end of its turn."""
        return self.ended(self.say(text), until)

    def ended(self, turn: Locator, until: str | None = None) -> Locator:
        self.button("Copy reply", turn).first.wait_for(state="attached", timeout=30_000)
        # Attached, since the browser leaves out what is far from what is in view.
        turn.locator("footer:not([hidden])").wait_for(state="attached", timeout=30_000)
        if until is not None:
            turn.locator(".halo-reply", has_text=until).wait_for(state="attached")
        return turn

    def reply(self, number: int) -> str:
        return str(self.turn(number).locator(".halo-reply").text_content()).strip()

    def wait_for_state(self, state: str) -> None:
        self.root.locator(".halo-state", has_text=state).wait_for(timeout=30_000)

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout} s for {what}: {self.root.inner_text()}"
            self.page.wait_for_timeout(50)

    def copied(self, part: str) -> str:
        """The text on the clipboard, once it holds `part`."""

        def clipboard() -> str:
            return str(self.page.evaluate("navigator.clipboard.readText()"))

        self.until(lambda: part in clipboard(), f"{part!r} on the clipboard")
        return clipboard()

    def hidden_from_bottom(self) -> float:
        """How many pixels of the transcript are below what is in view."""
        return float(self.log.evaluate("log => log.scrollHeight - log.clientHeight - log.scrollTop"))


@contextmanager
def page_of(server: Lab) -> Iterator[LabPage]:
    """A page in which no script throws and no dialog comes up."""
    from .lab import LabPage

    with LabPage(server) as page:
        page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield page
        wrong = [*page.page_errors, *page.dialogs, *page.browser_dialogs]
        assert not wrong, wrong


def opened(lab: LabPage, *cells: str) -> PanelPage:
    """A notebook whose first cells are the agent and the panel, both run."""
    lab.open_notebook([AGENT, SHOW, *cells])
    lab.run_cell(0)
    lab.run_cell(1)
    return PanelPage(lab, lab.cell_output(1))


def at_the_gate(panel: PanelPage, lab: LabPage) -> Locator:
    """Send a message whose reply stops in the middle, until `lab.let_go()`; returns its turn."""
    lab.hold()
    return panel.start("gate", "first")


def printed(lab: LabPage, cell: int) -> str:
    """What a cell prints when it is run (again)."""
    lab.run_cell(cell)
    return lab.printed(cell).strip()
