"""A page that puts frames together has what a turn seen at once has; and each fits a message."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest

from halo_notebook.display.timeline import Timeline
from halo_notebook.panel import views
from halo_notebook.panel.views import Frames, View
from halo_notebook.reply import Reply
from halo_notebook.session import Session, Turn
from halo_notebook.stream import JSON, Action, ActionSummary, Event, MalformedRecord, TextDelta

from ..display.test_timeline import SAMPLES, go
from ..harness import hostile
from ..harness.looks import FORBIDDEN
from ..harness.replies import reply_of


class Page:
    """Puts frames together as a page does."""

    def __init__(self, live: Any = None) -> None:
        self.items: list[Any] = list(live["items"]) if live else []
        self.open: str = live["open"] if live else ""
        self.waiting: list[Any] = list(live["waiting"]) if live else []

    def take(self, frame: Any) -> None:
        self.waiting += frame["waiting"]
        for item in frame["items"]:
            waited = [action for action in self.waiting if action["id"] == item.get("waited")]
            self.waiting = [action for action in self.waiting if action not in waited]
            self.items.append({"action": waited[0]} if "waited" in item else item)
        # A page's script counts in UTF-16 units.
        units = self.open.encode("utf-16-le")[: 2 * frame["keep"]]
        self.open = units.decode("utf-16-le") + frame["open"]
        assert len({action["id"] for action in self.actions}) == len(self.actions)

    @property
    def actions(self) -> list[Any]:
        """The actions in order, those that wait last."""
        return [item["action"] for item in self.items if "action" in item] + self.waiting

    @property
    def html(self) -> str:
        """The text's HTML."""
        return "".join(item.get("html", "") for item in self.items) + self.open


def whole(reply: Reply) -> View:
    return Frames(Timeline(reply)).whole()


def turn_view(turn: Turn) -> View:
    return views.turn_view(turn, 1, Frames(Timeline(turn.reply)))


def actions(view: View) -> list[Any]:
    return [item["action"] for item in cast("list[Any]", view["items"]) if "action" in item]


@pytest.mark.parametrize("name", SAMPLES)
def test_frames_add_up_to_the_whole(name: str) -> None:
    """Whatever the frames, the page ends with the items that a turn seen at once has."""
    events, _ = SAMPLES[name]
    at_once = whole(reply_of(*events))
    for every in (1, 2, 3, 100):
        reply, page = Reply(), Page()
        frames = Frames(Timeline(reply))
        for number, event in enumerate(events, 1):
            reply.add(TextDelta(event) if isinstance(event, str) else event, 0.1)
            if number % every == 0:
                page.take(frames.frame())
                assert frames.so_far() == {"items": page.items, "open": page.open, "waiting": page.waiting}
        page.take(frames.frame())
        reply.elapsed_s, reply.status = 0.2, "complete"
        assert frames.whole() == at_once
        if name != "late link":
            assert cast("list[JSON]", at_once["items"])[: len(page.items)] == page.items


def test_a_frame_costs_what_is_new() -> None:
    """One long paragraph, a word at a time: the frames together are not much more than the whole."""
    text = [f"word{number} " for number in range(2_000)]
    reply = Reply()
    frames = Frames(Timeline(reply))
    sent = 0
    for word in text:
        reply.add(TextDelta(word), 0.1)
        sent += len(json.dumps(frames.frame()))
    overhead = len(json.dumps(Frames(Timeline(Reply())).frame()))
    assert sent - overhead * len(text) < 4 * len("".join(text))


def test_an_action_that_waits_is_sent_once() -> None:
    """Its payload comes when it arrives; when its block ends, only its id."""
    reply = Reply()
    frames = Frames(Timeline(reply))
    reply.add(TextDelta("Half a "), 0.1)
    reply.add(Action(["x" * 10_000]), 0.2)
    assert len(str(frames.frame())) > 10_000
    reply.add(TextDelta("sentence.\n\n"), 0.3)
    assert frames.frame()["items"] == [{"html": "<p>Half a sentence.</p>\n"}, {"waited": "a1"}]


def test_a_payload_is_exact() -> None:
    """Numbers and keys that `JSON.parse` would change go marked; all else goes as it is."""
    action = actions(whole(reply_of(Action({"__proto__": 2**63, "π": 1.10, "7": [1.0, 10, "\ue000"]}))))[0]
    marked = '{"__proto__":"\ue0009223372036854775808","π":1.1,"\ue0007":["\ue0001.0",10,"\ue000\ue000"]}'
    assert (action["json"], action["cut"]) == (marked, False)
    only_then = ActionSummary([{"type": "go", "number": 0}, {"x": 2}])
    both = actions(whole(reply_of("Text.\n\n", go(), only_then)))
    assert [(action["id"], json.loads(action["json"])) for action in both] == [
        ("a1", {"type": "go", "number": 0}),
        ("a2", {"x": 2}),
    ]


@pytest.mark.parametrize(
    "events",
    [
        ["x" * 400_000],
        ["- `'\"<&>` item\n" * 20_000],
        ["Para.\n\n" * 60_000],
        [Action(["y" * 100] * 20_000)],
        [Action([10**20] * 60_000)],
        [go(number) for number in range(1_000)],
        [Action("z" * 300_000) for _ in range(10)],
    ],
    ids=["one line", "markup", "paragraphs", "a payload", "large numbers", "actions", "payloads"],
)
def test_a_turn_fits_a_message(events: list[Event | str]) -> None:
    """Below 3 MB whatever came, with a note on what is not shown."""
    reply = reply_of(*events)
    view = turn_view(Turn({"message": "m" * 10_000}, reply))
    assert len(json.dumps(view, ensure_ascii=False).encode()) < 2_900_000
    assert len(actions(view)) <= views.MAX_ACTIONS
    assert all(len(action["json"].encode()) <= views.MAX_ACTION_BYTES for action in actions(view))
    html = Page({**view, "open": "", "waiting": []}).html
    assert len(html) <= 850_000
    is_cut = view["cut"] or any(action["cut"] for action in actions(view))
    assert is_cut or "characters are not shown here" in html or len(reply.text) < 250_000


def test_what_is_left_out_is_noted() -> None:
    """How many actions, and where the whole is."""
    view = whole(reply_of(*[go(number) for number in range(views.MAX_ACTIONS + 5)]))
    assert view["cut"] == "Not shown here: 5 actions. The reply in the kernel holds all."


def test_a_turn_says_whether_it_may_be_sent_again() -> None:
    """Not when it is complete; safely when the message cannot have arrived; else as a second time."""
    reply = reply_of("text")
    cases: list[tuple[Any, bool, str]] = [
        ("complete", True, ""),
        ("failed", False, "safe"),
        ("failed", True, "twice"),
        ("stopped", True, "twice"),
    ]
    for reply.status, reply.may_have_arrived, again in cases:
        assert turn_view(Turn({"message": "hi"}, reply))["again"] == again


def test_the_static_twin_shows_the_last_turns_within_its_bound() -> None:
    """Text, actions as nested HTML where they arrived, state; what is further back is counted."""
    session = Session("docs")
    shown = []
    for number in range(40):
        reply = reply_of(f"Answer {number}.\n\n", go(number), "filler " * 500, MalformedRecord("x", "json"))
        turn = Turn({"message": f"Question <{number}>"}, reply)
        session.turns.append(turn)
        shown.append((turn, turn_view(turn)))
    html = views.static_html(session, shown, "2026-01-02 03:04")
    assert len(html) < 1.1 * views.MAX_STATIC_BYTES
    assert re.search("Question &lt;39&gt;.*Answer 39\\..*action 1: go.*filler", html, re.DOTALL)
    assert "1 unreadable record" in html
    assert "Answer 0." not in html
    messages = html.count('class="halo-message')
    assert f"the first {40 - messages} not shown" in html
    assert "Halo session docs" in html and "as of 2026-01-02 03:04" in html and "40 turns" in html


def test_the_static_twin_of_hostile_replies_holds_no_live_markup() -> None:
    """No element, attribute or scheme that runs, whatever the text and the payloads are."""
    session = Session()
    samples: list[Event | str] = [*hostile.TEXTS.values()]
    for sample in samples + [Action(payload) for payload in hostile.PAYLOADS.values()]:
        turn = Turn({"message": str(sample)[:9_000]}, reply_of(sample))
        session.turns[:] = [turn]
        html = views.static_html(session, [(turn, turn_view(turn))], "now")
        assert not re.search(
            r"<(script|img|iframe|svg|style|form|input|object|embed|link|meta)\b", html, re.IGNORECASE
        )
        for tag in re.findall(r"<[a-z][^>]*>", html):
            assert not re.search(r"\son\w+\s*=|javascript:|data-commandlinker", tag, re.IGNORECASE), tag


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066x\u2069", "\x1b[31m", "\x9b", "a\x00b\x08", "\r\f\x85"])
def test_a_shortened_copy_holds_no_hidden_characters(hidden: str) -> None:
    """Neither the static copy of a reply too large for it nor the text that is copied from the page."""
    session = Session()
    turn = Turn({"message": f"ask {hidden} me"}, reply_of(f"{hidden}'<&word " * 60_000))
    session.turns.append(turn)
    view = turn_view(turn)
    html = views.static_html(session, [(turn, view)], "now")
    assert "characters are not shown here" in html and "word" in html
    assert not FORBIDDEN.search(html)
    assert not FORBIDDEN.search(json.dumps(view, ensure_ascii=False))
