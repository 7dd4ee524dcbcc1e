"""A timeline only grows, and a reply ends the same however it came to be seen."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo_notebook.display.blocks import FinishedBlock
from halo_notebook.display.timeline import Item, ShownAction, Timeline, sections
from halo_notebook.reply import Reply
from halo_notebook.stream import Action, ActionSummary, Event, TextDelta

from ..harness.replies import reply_of


def go(number: int = 0) -> Action:
    return Action({"type": "go", "number": number})


def whole(*events: Event | str) -> list[Item]:
    """The items of a reply that is read after its end."""
    timeline = Timeline(reply_of(*events))
    timeline.end()
    return timeline.resolved()


def words(items: list[Item]) -> list[str]:
    """Each block's text without its tags, and each action's number."""
    return [
        " ".join(re.sub("<[^>]+>", " ", item.html).split())
        if isinstance(item, FinishedBlock)
        else f"a{item.number}"
        for item in items
    ]


SAMPLES: dict[str, tuple[list[Event | str], str]] = {
    "prose": (
        ["A *b* ", "c.\n\nFo", "ur $5 to $10.\n", "\nEnd 🚀 of", " it"],
        "A b c. | Four $5 to $10. | End 🚀 of it",
    ),
    "between paragraphs": (["Before.\n\n", go(1), "After.\n"], "Before. | a1 | After."),
    "before a blank line": (["Before.\n", go(1), "\nAfter.\n"], "Before. | a1 | After."),
    "between lines": (["Before.\n", go(1), "after.\n\nMore."], "Before. after. | a1 | More."),
    "in a sentence": (["A, ", go(1), "b.\n\nMore.\n\n", go(2), "End"], "A, b. | a1 | More. | a2 | End"),
    "after a heading": (["# Title\n", go(1), "Text"], "Title | a1 | Text"),
    "in a fence": (["```py\na = 1\n", go(1), "b = 2\n```\n", go(2), "End"], "a = 1 b = 2 | a1 | a2 | End"),
    "in a table": (["| a | b |\n|---|---|\n", go(1), "| 1 | 2 |\n\nEnd"], "a b 1 2 | a1 | End"),
    "in a formula": (["$$\nx\n", go(1), "y\n$$\n\nEnd"], "$$ x y $$ | a1 | End"),
    "in a list": (["1. x\n", go(1), "2. y\n\n", go(2), go(3), "3. z\n\nEnd"], "x y z | a1 | a2 | a3 | End"),
    "in an indented line": (["Text\n\n  ", go(1), " more\n\nEnd"], "Text | more | a1 | End"),
    "first": ([go(1), "Text"], "a1 | Text"),
    "without text": ([go(1), go(2)], "a1 | a2"),
    "late link": (["A [b][1].\n\n", go(1), "C.\n\n[1]: https://example.com\n"], "A b . | a1 | C. | "),
    "nothing": ([], ""),
    "never shown": (["a\x1b\x00b\r\n\n", go(1), "\u202ec\n\n", go(2), "d"], "ab | a1 | c | a2 | d"),
}
"""Events, and the blocks and actions in their order."""


def followed(events: list[Event | str], every: int) -> Timeline:
    """A timeline that is read after every so many events; nothing final changes."""
    timeline = Timeline(reply := Reply())
    seen: list[Item] = []
    for number, event in enumerate(events, 1):
        reply.add(TextDelta(event) if isinstance(event, str) else event, 0.1)
        if number % every == 0:
            timeline.read()
            assert timeline.items[: len(seen)] == seen
            seen = list(timeline.items)
            shown = [item for item in [*seen, *timeline.waiting] if not isinstance(item, FinishedBlock)]
            assert [action.number for action in shown] == list(range(1, len(reply.action_events) + 1))
    reply.elapsed_s, reply.status = 0.2, "complete"
    timeline.end()
    assert timeline.items[: len(seen)] == seen
    assert not timeline.waiting
    assert timeline.text.open_html == ""
    return timeline


@pytest.mark.parametrize("name", SAMPLES)
def test_a_reply_ends_the_same_whenever_it_is_read(name: str) -> None:
    """Whatever it is read in, a timeline grows to the items of a reply that is read at once."""
    events, order = SAMPLES[name]
    items = whole(*events)
    assert " | ".join(words(items)) == order
    for every in (1, 2, 3, 100):
        timeline = followed(events, every)
        assert timeline.resolved() == items
        changed = [now for now, then in zip(items, timeline.items, strict=True) if now != then]
        # Only the finished block with a link that is defined later differs at the end.
        assert changed == items[: name == "late link"]
        assert str(changed).count('href="https://example.com"') == len(changed)


TEXT = st.text(alphabet="ab *`#-|$\n[]()1.>~🚀", min_size=1, max_size=30)


@settings(deadline=None, max_examples=150)
@given(st.lists(TEXT | st.builds(go, st.integers(0, 9)), max_size=12), st.integers(1, 4))
def test_any_reply_ends_the_same(events: list[Event | str], every: int) -> None:
    """For any Markdown with actions in any place; and an action never changes how the text looks."""
    items = whole(*events)
    assert followed(events, every).resolved() == items
    texts = "".join(event for event in events if isinstance(event, str))
    assert [item for item in items if isinstance(item, FinishedBlock)] == whole(texts)


def test_what_only_the_summary_held_stands_at_the_end() -> None:
    """Each action once, numbered on."""
    *_, last = items = whole("Text.\n\n", go(1), ActionSummary([go(1).payload, {"x": 2}]))
    assert words(items) == ["Text.", "a1", "a2"]
    assert isinstance(last, ShownAction) and last.payload == {"x": 2}


def test_items_are_divided_after_each_run_of_actions() -> None:
    """Each section holds its blocks, the actions after them, and where the next block begins."""
    items = whole(go(1), "One.\n\nTwo.\n\n", go(2), go(3), "Three.\n\nFour.")
    divided = [(words([*each.blocks]), words([*each.actions]), each.end) for each in sections(items, 27)]
    assert divided == [([], ["a1"], 0), (["One.", "Two."], ["a2", "a3"], 12), (["Three.", "Four."], [], 27)]
    assert not sections([], 0)[0].actions
