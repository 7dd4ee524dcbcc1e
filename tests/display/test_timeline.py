"""A turn looks the same however it came to be seen, and stays small enough to be sent."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo_notebook.display.timeline import (
    MAX_ACTION_BYTES,
    MAX_ACTIONS,
    MAX_BLOCKS_BYTES,
    Timeline,
    View,
)
from halo_notebook.panel.views import MAX_STATIC_BYTES, static_html, turn_view
from halo_notebook.reply import Reply
from halo_notebook.session import Session, Turn
from halo_notebook.stream import JSON, Action, ActionSummary, Event, MalformedRecord, TextDelta

from ..harness import hostile


def reply_of(*events: Event | str) -> Reply:
    """A reply that has come to its end."""
    reply = Reply()
    for event in events:
        reply.add(TextDelta(event) if isinstance(event, str) else event, 0.1)
    reply.elapsed_s, reply.status, reply.state = 0.2, "complete", ""
    return reply


def go(number: int = 0) -> Action:
    return Action({"type": "go", "number": number})


class Page:
    """Puts frames together as a page does."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.open = ""
        self.places: dict[str, int | None] = {}

    def take(self, frame: View) -> None:
        self.blocks += cast("list[str]", frame["blocks"])
        # A page's script counts in UTF-16 units.
        units = self.open.encode("utf-16-le")[: 2 * cast(int, frame["keep"])]
        self.open = units.decode("utf-16-le") + str(frame["open"])
        for action in cast("list[dict[str, Any]]", frame["actions"]):
            assert action["id"] not in self.places
            self.places[action["id"]] = action["after"]
        for name, after in cast("list[tuple[str, int]]", frame["places"]):
            assert self.places[name] is None
            self.places[name] = after


def followed(events: list[Event | str], every: int) -> tuple[Page, View]:
    """A page that got a frame after every so many events, and the whole at the end."""
    reply = Reply()
    timeline, page = Timeline(reply), Page()
    for number, event in enumerate(events, 1):
        reply.add(TextDelta(event) if isinstance(event, str) else event, 0.1)
        if number % every == 0:
            page.take(timeline.frame())
            so_far = timeline.so_far()
            assert so_far["blocks"] == page.blocks
            assert so_far["open"] == page.open
    page.take(timeline.frame())
    reply.elapsed_s, reply.status = 0.2, "complete"
    return page, timeline.whole()


SAMPLES: dict[str, list[Event | str]] = {
    "prose": ["One *two* ", "three.\n\nFo", "ur $5 to $10.\n", "\nEnd 🚀 of", " it"],
    "an action between lines": ["Before.\n", go(1), "After.\n"],
    "an action in mid-sentence": ["Before, ", go(1), "and after.\n\nMore.\n\n", go(2), "End"],
    "an action in a fence": ["```py\na = 1\n", go(1), "b = 2\n```\n\nDone."],
    "an action in a table": ["| a | b |\n|---|---|\n", go(1), "| 1 | 2 |\n\nDone."],
    "an action in a formula": ["$$\nx\n", go(1), "y\n$$\n\nDone."],
    "actions in a list": ["1. one\n", go(1), "2. two\n", go(2), go(3), "3. three\n\nEnd"],
    "an action first": [go(1), "Text"],
    "actions alone": [go(1), go(2)],
    "a late link": ["See [it][1].\n\n", go(1), "More.\n\n[1]: https://example.com\n"],
    "nothing": [],
    "characters that are never shown": ["a\x1b\x00b\r\n", go(1), "\u202ec\n\n", go(2), "d"],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_frames_add_up_to_the_whole(name: str) -> None:
    """Whatever the frames, the page ends with the blocks and places that a turn seen at once has."""
    events = SAMPLES[name]
    whole = Timeline(reply_of(*events)).whole()
    for every in (1, 2, 3, 100):
        page, at_the_end = followed(events, every)
        assert at_the_end == {**whole, "actions": at_the_end["actions"]}
        ends = {action["id"]: action["after"] for action in cast("list[Any]", whole["actions"])}
        assert {action["id"]: action["after"] for action in cast("list[Any]", at_the_end["actions"])} == ends
        for id_, after in page.places.items():
            assert after in (None, ends[id_])
        # What was finished stays as it is, but for a link whose address came late.
        if name != "a late link":
            assert cast("list[str]", whole["blocks"])[: len(page.blocks)] == page.blocks


def test_an_action_stands_where_it_came() -> None:
    """At a line's end exactly there, also within a list; in mid-sentence after the paragraph."""

    def shown(name: str) -> list[str]:
        whole = Timeline(reply_of(*SAMPLES[name])).whole()
        blocks = cast("list[str]", whole["blocks"])
        parts = [" ".join(re.sub("<[^>]+>", " ", block).split()) for block in blocks]
        for action in reversed(cast("list[Any]", whole["actions"])):
            parts.insert(action["after"], action["id"])
        return parts

    assert shown("an action between lines") == ["Before.", "a1", "After."]
    assert shown("an action in mid-sentence") == ["Before, and after.", "a1", "More.", "a2", "End"]
    assert shown("an action in a fence") == ["a = 1 b = 2", "a1", "Done."]
    assert shown("an action in a formula") == ["$$ x y $$", "a1", "Done."]
    assert shown("actions in a list")[:2] == ["one", "a1"]
    assert [part for part in shown("actions in a list") if part.startswith("a")] == ["a1", "a2", "a3"]
    assert shown("an action first") == ["a1", "Text"]


def test_a_link_that_is_defined_late_is_a_link_in_the_end() -> None:
    """The finished turn has it, though the frames could not."""
    page, whole = followed(SAMPLES["a late link"], 1)
    assert "<a " not in page.blocks[0]
    assert 'href="https://example.com"' in cast("list[str]", whole["blocks"])[0]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.text(alphabet="ab *`#-|$\n[]()1.>~🚀", min_size=1, max_size=30),
            st.builds(go, st.integers(0, 9)),
        ),
        max_size=12,
    ),
    st.integers(1, 4),
)
def test_any_reply_ends_the_same(events: list[Event | str], every: int) -> None:
    """For any Markdown with actions in any place, followed or seen at once."""
    _, at_the_end = followed(events, every)
    assert at_the_end == Timeline(reply_of(*events)).whole()


def test_a_frame_costs_what_is_new() -> None:
    """One long paragraph, a word at a time: the frames together are not much more than the whole."""
    words = [f"word{number} " for number in range(2_000)]
    reply = Reply()
    timeline = Timeline(reply)
    sent = 0
    for word in words:
        reply.add(TextDelta(word), 0.1)
        sent += len(json.dumps(timeline.frame()))
    overhead = len(json.dumps(Timeline(Reply()).frame()))
    assert sent - overhead * len(words) < 4 * len("".join(words))


def test_a_payload_is_exact() -> None:
    """What JavaScript would write in another way is marked, and so is a key that it would move."""
    payload: JSON = {"__proto__": 2**63, "π": 1.10, "7": [1.0, 1e21, 10, "\ue000"], "deep": [[[["x"]]]]}
    action = cast("list[Any]", Timeline(reply_of(Action(payload))).whole()["actions"])[0]
    assert action["json"] == (
        '{"__proto__":"\ue0009223372036854775808","π":1.1,"\ue0007":["\ue0001.0","\ue0001e+21",10,"\ue000\ue000"],'
        '"deep":[[[["x"]]]]}'
    )
    assert action["cut"] is False


def test_what_only_the_summary_held_stands_at_the_end() -> None:
    """Each action once, numbered on."""
    whole = Timeline(
        reply_of("Text.\n\n", go(1), ActionSummary([{"type": "go", "number": 1}, {"x": 2}]))
    ).whole()
    actions = cast("list[Any]", whole["actions"])
    assert [(action["id"], json.loads(action["json"])) for action in actions] == [
        ("a1", {"type": "go", "number": 1}),
        ("a2", {"x": 2}),
    ]


@pytest.mark.parametrize(
    "events",
    [
        ["x" * 400_000],
        ["- `'\"<&>` item\n" * 20_000],
        ["Para.\n\n" * 60_000],
        [Action(["y" * 100] * 20_000)],
        [go(number) for number in range(1_000)],
        [Action("z" * 300_000) for _ in range(10)],
    ],
    ids=["one line", "markup", "paragraphs", "a payload", "actions", "payloads"],
)
def test_a_turn_fits_a_message(events: list[Event | str]) -> None:
    """Below 3 MB whatever came, with a note on what is not shown."""
    reply = reply_of(*events)
    turn = Turn({"message": "m" * 10_000}, reply)
    view = turn_view(turn, 1, Timeline(reply))
    assert len(json.dumps(view, ensure_ascii=False).encode()) < 2_900_000
    actions = cast("list[Any]", view["actions"])
    assert len(actions) <= MAX_ACTIONS
    assert all(len(action["json"].encode()) <= MAX_ACTION_BYTES for action in actions)
    assert sum(len(block) for block in cast("list[str]", view["blocks"])) <= MAX_BLOCKS_BYTES + 50_000
    assert view["cut"] or any(action["cut"] for action in actions) or len(reply.text) < 500_000


def test_what_is_left_out_is_said() -> None:
    """How many actions, and where the whole is."""
    view = Timeline(reply_of(*[go(number) for number in range(MAX_ACTIONS + 5)])).whole()
    assert view["cut"] == "Not shown here: 5 actions. The reply in the kernel holds all."


def test_a_turn_says_whether_it_may_be_sent_again() -> None:
    """Not when it is complete; safely when the message cannot have arrived; else as a second time."""

    def again(status: str, *, arrived: bool) -> JSON:
        reply = reply_of("text")
        reply.status, reply.may_have_arrived = cast(Any, status), arrived
        return turn_view(Turn({"message": "hi"}, reply), 1, Timeline(reply))["again"]

    assert again("complete", arrived=True) == ""
    assert again("failed", arrived=False) == "safe"
    assert again("failed", arrived=True) == "twice"
    assert again("stopped", arrived=True) == "twice"


def test_the_static_twin_shows_the_last_turns_within_its_bound() -> None:
    """Text, actions as nested HTML, state; what is further back is counted."""
    session = Session("docs")
    views = []
    for number in range(40):
        reply = reply_of(f"Answer {number}.\n\n", go(number), "filler " * 500, MalformedRecord("x", "json"))
        turn = Turn({"message": f"Question <{number}>"}, reply)
        session.turns.append(turn)
        views.append((turn, turn_view(turn, number + 1, Timeline(reply))))
    html = static_html(session, views, "2026-01-02 03:04")
    assert len(html) < 1.1 * MAX_STATIC_BYTES
    assert "Question &lt;39&gt;" in html and "Answer 39." in html and "action 1: go" in html
    assert "1 unreadable record" in html
    assert "Answer 0." not in html
    shown = html.count('class="halo-message')
    assert f"the first {40 - shown} not shown" in html
    assert "Halo session docs" in html and "as of 2026-01-02 03:04" in html and "40 turns" in html


def test_the_static_twin_of_hostile_replies_holds_no_live_markup() -> None:
    """No element, attribute or scheme that runs, whatever the text and the payloads are."""
    session = Session()
    views = []
    samples: list[Event | str] = [*hostile.TEXTS.values()]
    samples += [Action(payload) for payload in hostile.PAYLOADS.values()]
    for number, sample in enumerate(samples, 1):
        reply = reply_of(sample)
        turn = Turn({"message": str(sample)[:9_000]}, reply)
        views.append((turn, turn_view(turn, number, Timeline(reply))))
    for view in views:
        session.turns[:] = [view[0]]
        html = static_html(session, [view], "now")
        assert not re.search(
            r"<(script|img|iframe|svg|style|form|input|object|embed|link|meta)\b", html, re.IGNORECASE
        )
        for tag in re.findall(r"<[a-z][^>]*>", html):
            assert not re.search(r"\son\w+\s*=|javascript:|data-commandlinker", tag, re.IGNORECASE), tag
