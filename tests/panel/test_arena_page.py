"""An arena's page: how it looks, its keys, and what hostile names and replies do in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from halo_notebook.panel.assets import bundle, styles
from halo_notebook.panel.blind import blinded
from halo_notebook.panel.state import frames_of
from halo_notebook.panel.views import turn_view
from halo_notebook.session import Turn
from halo_notebook.stream import Action

from ..harness import hostile
from ..harness.contrast import CONTRASTS
from ..harness.host_page import Host, HostPage
from .test_accessibility import TOO_WIDE
from .test_hostile_page import UNSAFE
from .test_other_pages import PAYLOAD, TEXT

if TYPE_CHECKING:
    from playwright.sync_api import Locator


pytestmark = pytest.mark.browser
ATTACK = '<img src=x onerror="window.__halo_pwned=1">'
LIGHT, DARK = Host("light", css=""), Host("dark", css="body { background: #181818 }")


def view_of(text: str, *actions: Any, **more: Any) -> Any:
    """A turn that has ended, as a column shows it before the vote."""
    from ..harness.replies import reply_of

    turn = Turn({"message": "Open a ticket, please"}, reply_of(text, *map(Action, actions)))
    view = turn_view(turn, 1, frames_of(turn)) | more
    shown = blinded({"kind": "turn", "epoch": 1, "seq": 1, "turn": view}, "A")
    assert shown is not None
    return shown["turn"]


class ArenaPage(HostPage):
    """A page with an arena; the test is its kernel."""

    names: tuple[str, ...] | None = None

    @property
    def root(self) -> Locator:
        return self.page.locator(".halo-arena")

    @property
    def box(self) -> Locator:
        return self.root.get_by_role("textbox", name="Message", exact=True)

    def button(self, name: str) -> Locator:
        return self.root.get_by_role("button", name=name, exact=True)

    def open_arena(self, host: Host, *columns: list[Any]) -> None:
        """Show an arena whose columns have these turns."""
        self.load(host)
        state = {
            "title": "Which is better?",
            "height": "800px",
            "placeholder": "Ask",
            "_columns": len(columns),
        }
        self.show(bundle("arena/arena.js"), styles("arena/arena.css"), state, host)
        for at, turns in enumerate(columns):
            content = self.snapshot(turns, session="AB"[at]) | {
                "sessions": [],
                "versions": None,
                "agent": None,
            }
            self.tell("snapshot", column=at, **content)
        self.whole(round=[len(turns) for turns in columns])

    def whole(self, **state: Any) -> None:
        """Tell how the whole is: nothing runs, unless `state` says so."""
        usual = {"labels": ["A", "B"], "names": self.names, "sessions": None, "busy": False}
        self.tell("arena", **{**usual, "round": None, "outcomes": None, **state})


@pytest.fixture
def page() -> Iterator[ArenaPage]:
    """A page in which no script throws."""
    with ArenaPage(size=(1000, 900)) as page:
        yield page
        assert page.page_errors == []


@pytest.mark.parametrize("host", [LIGHT, DARK], ids=["light", "dark"])
def test_it_is_legible_in_each_scheme_and_width(page: ArenaPage, host: Host) -> None:
    """axe-core finds nothing, all text has contrast, nothing is cut off: wide, and stacked at 320 pixels."""
    page.open_arena(host, [view_of(TEXT, PAYLOAD)], [view_of("Short.", again="twice", error="It broke off.")])
    columns = page.root.locator(".halo-arena-column")
    for width in (1000, 320):
        page.page.set_viewport_size({"width": width, "height": 900})
        page.whole(round=[1, 1])
        for outcomes in (None, ["won", "lost"]):
            page.names = ("short and sweet " * 5, "detailed") if outcomes else None
            page.whole(round=None if outcomes else [1, 1], outcomes=outcomes)
            page.root.get_by_text("You preferred A" if outcomes else "Which reply is best?").wait_for()
            page.painted()
            first, second = (columns.nth(at).bounding_box() for at in (0, 1))
            assert first and second and (first["y"] == second["y"]) == (width == 1000)
            assert page.axe(".halo-arena") == []
            contrasts = page.page.evaluate(CONTRASTS, ".halo-arena")
            assert len(contrasts) > 10
            assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
            assert page.root.evaluate(TOO_WIDE) == []
            assert page.root.evaluate("root => root.scrollWidth <= root.clientWidth")


def test_it_can_be_used_by_keyboard(page: ArenaPage) -> None:
    """A vote, sending again where replies failed, and a new conversation; the focus is never lost."""
    failed = [view_of("Sh", status="failed", error="broken", again=again) for again in ("safe", "twice")]
    page.open_arena(LIGHT, *([turn] for turn in failed))
    page.root.get_by_role("region", name="Column A", exact=True).wait_for()
    again = page.button("Send again to A, B")
    again.focus()
    page.page.keyboard.press("Enter")
    page.root.get_by_text("can make an agent act twice").wait_for()
    page.page.keyboard.press("Escape")
    page.painted()
    assert not page.sent("again")
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("Enter")  # the popover's own button has the focus
    assert [(each["column"], each["key"]) for each in page.sent("again")] == [(0, "t1"), (1, "t1")]

    page.answer_all("again")
    page.button("A is best").focus()
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Enter")
    assert [(each["choice"], each["round"]) for each in page.sent("vote")] == [("B", [1, 1])]
    page.answer("vote")
    page.names = ("one", "two")
    page.whole(outcomes=["lost", "won"])
    page.root.get_by_text("You preferred B: two.").wait_for()
    expect(page.box).to_be_focused()
    page.root.get_by_role("region", name="Column B: two", exact=True).wait_for()
    page.button("New conversation").last.click()
    assert len(page.sent("new")) == 1
    page.answer("new")
    page.painted()
    assert page.pressed() == []


def test_a_message_that_is_not_taken_is_kept(page: ArenaPage) -> None:
    """It goes to all columns with an id for each; while a round runs, Stop stands in place of Send."""
    page.open_arena(LIGHT, [], [])
    page.whole()
    page.box.fill("Hello")
    page.box.press("Enter")
    (sent,) = page.sent("send")
    assert sent["text"] == "Hello" and len({*sent["cids"], sent["cid"]}) == 3 and "column" not in sent
    page.tell("answer", cid=sent["cid"], error="No agent. Nothing was sent.")
    page.root.get_by_text("No agent. Nothing was sent.").first.wait_for()
    page.button("Edit").click()
    expect(page.box).to_have_value("Hello")
    expect(page.root.get_by_text("not sent").filter(visible=True)).to_have_count(0)
    page.box.press("Enter")
    page.answer("send")
    page.whole(busy=True)
    page.button("Stop").wait_for()
    page.box.fill("More")
    page.box.press("Enter")
    page.painted()
    assert page.box.input_value() == "More" and len(page.sent("send")) == 2
    page.button("Stop").click()
    assert len(page.sent("stop")) == 1
    expect(page.button("Add images")).to_be_hidden()


def test_hostile_names_and_replies_do_nothing(page: ArenaPage) -> None:
    """They are text: as names, in replies, payloads, messages and errors."""
    texts = [
        view_of(text[:3_000], key=f"t{at}", number=at) for at, text in enumerate(hostile.TEXTS.values(), 1)
    ]
    payloads = [
        view_of(ATTACK, payload, key=f"t{at}", number=at, asked=ATTACK, error=ATTACK)
        for at, payload in enumerate(list(hostile.PAYLOADS.values())[:40], 1)
        if len(str(payload)) < 5_000
    ]
    page.names = (ATTACK, "\u202e\x1b[31m" + ATTACK)
    page.open_arena(LIGHT, texts[-30:], payloads)
    page.whole(outcomes=["won", ATTACK])
    page.root.get_by_text("You preferred A: <img").wait_for()
    page.button("Export").click()
    page.tell("notice", text=ATTACK)
    page.root.locator(".halo-notice", has_text=ATTACK).wait_for()
    page.painted()
    assert page.page.evaluate("() => [window.__halo_pwned, ({}).polluted]") == [None, None]
    assert page.root.evaluate(UNSAFE) == []
    assert page.browser_dialogs == []
