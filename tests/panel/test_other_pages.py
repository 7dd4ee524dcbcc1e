"""The panel in pages of VS Code, Colab, marimo and others: it looks as they do, and their keys reach them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from halo_notebook.panel.state import frames_of
from halo_notebook.panel.views import turn_view
from halo_notebook.session import Turn
from halo_notebook.stream import JSON, Action

from ..harness.contrast import CONTRASTS
from ..harness.host_page import HOSTS, Host, HostPage
from ..harness.pages import ARTEFACTS
from ..harness.panel_page import PanelPage
from ..harness.replies import reply_of

pytestmark = pytest.mark.browser

TEXT = """\
# A heading

Some *text* with `code`, a [link](https://example.com) and a table:

| a | b |
|---|---|
| 1 | 2 |

> A quotation.

```python
def greet(name: str) -> str:  # says hello
    return f"Hello {name}" * 2
```
"""
PAYLOAD: JSON = {"type": "ticket", "title": "x" * 300, "number": 17, "urgent": True, "tags": ["a"]}
NO_STORAGE = """
() => Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('denied'); } })
"""
KEPT = ("a", "0", "0", "Shift+Enter", "Control+Enter", "Control+a", "Control+z", "Control+ArrowLeft")


def turns() -> list[Any]:
    """A turn with a bit of everything, and a failed one."""
    good = Turn({"message": "Open a ticket, please"}, reply_of(TEXT, Action(PAYLOAD)))
    bad = Turn({"message": "And again"}, reply_of("This is"))
    bad.reply.status, bad.reply.error, bad.reply.may_have_arrived = (
        "failed",
        "The connection broke off.",
        True,
    )
    return [turn_view(turn, number, frames_of(turn)) for number, turn in enumerate([good, bad], 1)]


@pytest.fixture
def host_page() -> Iterator[HostPage]:
    """A page in which no script throws."""
    with HostPage(size=(900, 1100)) as page:
        yield page
        assert page.page_errors == []


def ground(panel: PanelPage) -> str:
    """Whether the panel is light or dark."""
    colour = panel.root.evaluate("root => getComputedStyle(root).backgroundColor")
    return "dark" if max(map(int, re.findall(r"\d+", colour))) < 60 else "light"


@pytest.mark.parametrize("name", HOSTS)
def test_the_panel_is_light_or_dark_as_its_page_is(host_page: HostPage, name: str) -> None:
    """Whatever the system prefers; and all text can be read."""
    host = HOSTS[name]
    host_page.open(host, *turns())
    panel = PanelPage(host_page)
    panel.button("Good reply", panel.turn(1)).click()
    panel.box.fill("A draft")
    panel.until(lambda: ground(panel) == host.scheme, f"a {host.scheme} panel")
    host_page.painted()
    contrasts = host_page.page.evaluate(CONTRASTS, ".halo-panel")
    assert len(contrasts) > 10
    assert {each: round(ratio, 2) for each, ratio in contrasts.items() if ratio < 4.5} == {}
    ARTEFACTS.mkdir(exist_ok=True)
    host_page.page.screenshot(path=ARTEFACTS / f"panel-in-{name.lower().replace(' ', '-')}.png")


def test_the_panel_changes_with_its_page(host_page: HostPage) -> None:
    """By a class, by an attribute, by a background that changes slowly; in a shadow root, too."""
    css = "#cell { transition: background 0.2s } .night #cell { background: black }"
    for shadow in (False, True):
        host_page.open(Host("light", css=css, shadow=shadow))
        panel = PanelPage(host_page)
        for change, scheme in (
            ("document.body.className = 'dark'", "dark"),
            ("document.body.className = ''", "light"),
            ("document.documentElement.setAttribute('theme', 'dark')", "dark"),
            ("document.documentElement.setAttribute('theme', 'light')", "light"),
            ("document.documentElement.className = 'night'", "dark"),
            ("document.documentElement.className = ''", "light"),
            ("document.documentElement.style.colorScheme = 'dark'", "light"),  # the page says light
            ("document.documentElement.removeAttribute('theme')", "dark"),
        ):
            host_page.page.evaluate(f"() => {{ {change} }}")
            panel.until(lambda: ground(panel) == scheme, f"a {scheme} panel after {change}")  # noqa: B023


@pytest.mark.parametrize("name", ["VS Code Dark Modern", "marimo light"])
def test_shortcuts_reach_the_page_and_other_keys_do_not(host_page: HostPage, name: str) -> None:
    """Wherever the focus is in the panel; what the page does with a key, the browser does not."""
    host_page.open(HOSTS[name], *turns())
    panel = PanelPage(host_page)
    panel.root.locator("pre").evaluate("pre => { pre.tabIndex = 0; }")
    for place in (
        panel.box,
        panel.root.get_by_role("searchbox"),
        panel.root.get_by_role("treeitem").first,
        panel.root.locator("pre"),
        panel.log,
    ):
        before = len(host_page.pressed())
        place.focus()
        for keys in ("Control+s", "Control+Shift+P", "F1", "Control+b", "Meta+k", "Alt+w"):
            panel.page.keyboard.press(keys)
        assert host_page.pressed()[before:] == ["s", "P", "F1", "b", "k", "w"]
        for keys in KEPT:
            panel.page.keyboard.press(keys)
        assert len(host_page.pressed()) == before + 6
    assert host_page.page.evaluate("saved.every(event => event.defaultPrevented)")
    assert host_page.page.evaluate("saved.length") == 10


def test_keys_stay_in_the_panel_when_what_has_the_focus_goes(host_page: HostPage) -> None:
    """A button that replaces itself, a row that a filter removes: the notebook does not get the next keys."""
    host_page.open(HOSTS["Colab light"], *turns())
    panel = PanelPage(host_page)
    for name in ("show all 300 characters", "show less"):
        panel.button(name).focus()
        panel.page.keyboard.press("Enter")
        panel.page.keyboard.press("0")
    panel.root.get_by_role("searchbox").fill("17")
    panel.root.get_by_role("treeitem").last.focus()
    panel.root.get_by_text("1 of 6").wait_for()
    panel.page.keyboard.press("0")
    panel.page.keyboard.press("ArrowDown")
    expect(panel.root.locator(".halo-row:focus")).to_have_text(re.compile("^number"))
    host_page.painted()
    assert host_page.pressed() == []


def test_esc_stops_only_from_an_empty_text_box(host_page: HostPage) -> None:
    """A reflex must not stop a reply: not with a text, nor from code, a filter, a menu or a note."""
    host_page.open(HOSTS["Colab light"], *turns())
    live = {
        **turns()[0],
        "key": "t3",
        "number": 3,
        "status": "streaming",
        "state": "",
        "open": "",
        "waiting": [],
    }
    host_page.tell("begin", epoch=1, seq=2, turn=live)
    panel = PanelPage(host_page)
    panel.wait_for_state("waiting")
    first = panel.turn(1)
    panel.button("Good reply", first).click()
    for place in (
        first.get_by_role("textbox", name="Note on this reply"),
        panel.root.get_by_role("searchbox").first,
        panel.root.get_by_role("treeitem").first,
        panel.button("Copy code", first),
        panel.log,
    ):
        place.focus()
        panel.page.keyboard.press("Escape")
    panel.box.fill("my next message")
    panel.box.press("Escape")
    panel.box.fill(" ")
    panel.box.press("Escape")
    panel.box.fill("")
    panel.box.press("Shift+Escape")
    panel.button(re.compile("^Session")).click()
    panel.page.keyboard.press("Escape")
    expect(panel.button("New conversation")).to_be_hidden()
    host_page.painted()
    assert host_page.sent("stop") == []
    panel.box.press("Escape")
    assert len(host_page.sent("stop")) == 1


def test_a_draft_survives_a_reload_and_a_new_panel(host_page: HostPage) -> None:
    """For each session; where the browser allows no storage, it lives as long as the page."""
    host = HOSTS["VS Code Light Modern"]
    host_page.open(host)
    panel = PanelPage(host_page)
    draft = "a draft \U0001f600 \u202e\n" * 20
    panel.box.fill(draft)
    host_page.tell("snapshot", **{**host_page.snapshot(session="other"), "epoch": 2})
    panel.until(lambda: panel.box.input_value() == "", "the other session")
    panel.box.fill("for the other")
    host_page.page.reload()
    host_page.start(host)
    panel.until(lambda: panel.box.input_value() == draft, "the draft after a reload")
    host_page.tell("snapshot", **{**host_page.snapshot(session="other"), "epoch": 2})
    panel.until(lambda: panel.box.input_value() == "for the other", "the other session's draft")
    panel.box.press("Enter")
    host_page.page.reload()
    host_page.page.evaluate(NO_STORAGE)
    host_page.start(host)
    panel = PanelPage(host_page)
    panel.box.fill("not kept")
    panel.box.press("Enter")
    assert host_page.sent("send")[0]["text"] == "not kept"


def test_a_note_survives_the_next_turn(host_page: HostPage) -> None:
    """A rating's note that is being written, in the focus or not, in a shadow root or not."""
    for name in ("Colab light", "marimo dark"):
        done = turns()
        host_page.open(HOSTS[name], *done)
        panel = PanelPage(host_page)
        panel.button("Good reply", panel.turn(2)).click()
        note = panel.turn(2).get_by_role("textbox", name="Note on this reply")
        note.press_sequentially("half a no")
        host_page.tell("turn", epoch=1, seq=2, turn={**done[1], "rating": {"value": "up", "note": ""}})
        host_page.tell("turn", epoch=1, seq=3, turn={**done[0], "key": "t3", "number": 3})
        panel.turn(3).wait_for()
        note.press_sequentially("te")
        panel.box.focus()
        host_page.tell("turn", epoch=1, seq=4, turn={**done[0], "key": "t4", "number": 4})
        panel.turn(4).wait_for()
        expect(note).to_have_value("half a note")


def test_a_message_is_edited_by_keyboard(host_page: HostPage) -> None:
    """Esc cancels, an empty or long text is not sent, Enter sends; a refused one can be edited further."""
    host_page.open(HOSTS["Colab light"], *turns())
    panel = PanelPage(host_page)
    first = panel.turn(1)
    button = panel.button("Edit message", first)
    box = first.get_by_role("textbox", name="Edit message")
    button.press("Enter")
    box.fill("something else")
    box.press("Escape")
    expect(box).to_be_hidden()
    expect(button).to_be_focused()
    button.press("Enter")
    expect(box).to_have_value("Open a ticket, please")
    first.get_by_text("this one is kept. The same message can make the agent act twice.").wait_for()
    for text in (" ", "x" * 10_001):
        box.fill(text)
        expect(panel.button("Send", first)).to_be_disabled()
        box.press("Enter")
    first.get_by_text("10,001 of 10,000 characters: too long to send").wait_for()
    box.fill("Open two tickets\n\nplease")
    box.press("Shift+Enter")
    host_page.painted()
    assert host_page.sent("edit") == []
    box.press("Enter")
    assert [each["text"] for each in host_page.sent("edit")] == ["Open two tickets\n\nplease\n"]
    expect(box).to_be_hidden()
    host_page.tell("answer", cid=host_page.sent("edit")[0]["cid"], error="That turn still runs.")
    panel.button("Edit", panel.waiting).click()
    expect(box).to_have_value("Open two tickets\n\nplease\n")
    expect(panel.waiting).to_have_count(0)
    box.press("Escape")
    host_page.painted()
    assert host_page.sent("stop") == []


HOSTILE_NAME = '"><img src=x onerror="window.__halo_pwned=1">\u202e' + "x" * 200


def test_versions_are_named_as_text(host_page: HostPage) -> None:
    """A session's name is a tooltip; without a turn yet, a version is reached from the end of the page."""
    host_page.open(HOSTS["VS Code Dark Modern"], *turns())
    panel = PanelPage(host_page)
    versions = {str(number): {"names": ["docs", HOSTILE_NAME], "at": 0} for number in (2, 3)}
    host_page.tell("sessions", epoch=1, seq=2, sessions=[], versions=versions)
    panel.button(re.compile("^Next version", re.DOTALL)).nth(1).click()
    assert host_page.sent("switch")[-1]["name"] == HOSTILE_NAME
    panel.turn(2).get_by_text("1/2").wait_for()
    host_page.painted()
    assert panel.root.locator("img").count() == 0
    assert host_page.page.evaluate("window.__halo_pwned") is None
    host_page.page.screenshot(path=ARTEFACTS / "panel-versions-dark.png")


WHEEL = "log => log.dispatchEvent(new WheelEvent('wheel', { deltaY: -100, bubbles: true }))"


@pytest.mark.parametrize("begin", ["wheel", "ArrowUp", "PageUp", "Home"])
def test_new_text_does_not_stop_a_reader_who_begins_to_scroll_up(host_page: HostPage, begin: str) -> None:
    """Browsers scroll in small steps, and Firefox gives up the rest if the page scrolls meanwhile."""
    done = turns()
    host_page.open(HOSTS["Colab light"], *({**done[0], "key": f"t{n}", "number": n} for n in range(1, 9)))
    panel = PanelPage(host_page)
    jump = panel.button(re.compile("Jump to latest|New below"))

    def grow(number: int) -> None:
        turn = {**done[0], "key": f"t{number}", "number": number}
        host_page.tell("turn", epoch=1, seq=number, turn=turn)
        panel.turn(number).wait_for(state="attached")
        host_page.painted()  # the panel follows when sizes have changed, which it hears of after a frame

    grow(9)
    panel.until(lambda: panel.hidden_from_bottom() < 1, "the end to be in view")
    expect(jump).to_be_hidden()
    # No browser has scrolled when the event comes: it does so later, if at all.
    if begin == "wheel":
        panel.log.evaluate(WHEEL)
    else:
        panel.log.evaluate(
            "(log, key) => log.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))", begin
        )
    panel.log.evaluate("log => { log.scrollTop -= 5; }")
    before = panel.turn(9).bounding_box()
    grow(10)
    assert panel.turn(9).bounding_box() == before
    expect(jump).to_be_visible()
    panel.log.evaluate("log => { log.scrollTop = log.scrollHeight; }")
    expect(jump).to_be_hidden()
    grow(11)
    panel.until(lambda: panel.hidden_from_bottom() < 1, "the end to be in view again")


def test_a_page_without_a_kernel_says_within_a_minute_that_nobody_answers(host_page: HostPage) -> None:
    """On the page and to a screen reader; what was typed stays, and goes out when somebody answers."""
    host_page.page.clock.install()
    host_page.open(HOSTS["Colab light"])
    panel = PanelPage(host_page)
    voice = panel.root.locator("[aria-live=polite]")
    panel.box.fill("hello")
    panel.box.press("Enter")
    assert voice.text_content() == ""
    host_page.page.clock.run_for(20_000)
    expect(panel.waiting.get_by_text("queued: the kernel is busy")).to_be_visible()
    host_page.page.clock.run_for(39_000)
    panel.wait_for_state("no answer")
    expect(panel.root.get_by_role("note").get_by_text("No answer for 30 seconds")).to_be_visible()
    expect(panel.waiting.get_by_text("no answer yet")).to_be_visible()
    expect(voice).to_contain_text("No answer for 30 seconds")
    expect(panel.box).to_be_editable()
    host_page.page.screenshot(path=ARTEFACTS / "panel-no-answer.png")
    host_page.tell("snapshot", **host_page.snapshot())
    host_page.page.clock.run_for(1_000)
    expect(panel.root.get_by_role("note")).to_be_hidden()
    assert {each["cid"] for each in host_page.sent("send")} == {host_page.sent("send")[0]["cid"]}
    assert len(host_page.sent("send")) == 2
    host_page.answer("send")
    expect(voice).to_have_text("Message sent")
