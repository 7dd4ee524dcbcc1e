"""The ready-made checks of a whole conversation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook.checks import (
    Check,
    action_count_in_conversation,
    actions_in_conversation,
    at_most_turns,
    check_name,
    escalated,
    no_action_in_conversation,
)
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation.judging.checks import judge_of

from ..evaluation.agents import judged
from .test_replies import GO, TICKET, reply

if TYPE_CHECKING:
    from halo_notebook.reply import Reply
    from halo_notebook.stream import JSON

TEXT, GOES, OPENS = reply("Hello"), reply("", GO), reply("Done.", TICKET)


@pytest.mark.parametrize(
    ("check", "replies", "passes", "note"),
    [
        (actions_in_conversation("create_ticket", "navigate"), [GOES, TEXT, OPENS], True, ""),
        (actions_in_conversation("navigate", "create_ticket"), [reply("", TICKET, GO)], True, ""),
        (actions_in_conversation("navigate", "create_ticket"), [GOES, TEXT], False, "without create_ticket"),
        (actions_in_conversation("navigate", "navigate"), [GOES, TEXT], False, "without navigate"),
        (actions_in_conversation("navigate", "navigate"), [GOES, GOES], True, ""),
        (action_count_in_conversation(2), [GOES, OPENS], True, ""),
        (action_count_in_conversation(1, "navigate"), [GOES, OPENS], True, ""),
        (action_count_in_conversation(1, "navigate"), [GOES, GOES], False, "2 such actions"),
        (action_count_in_conversation(0, "navigate"), [OPENS], True, ""),
        (action_count_in_conversation(1, ticket__priority="high"), [GOES, OPENS], True, ""),
        (action_count_in_conversation(1), [reply("", summary=[GO])], True, ""),
        (no_action_in_conversation(), [TEXT, TEXT], True, ""),
        (no_action_in_conversation(), [GOES, TEXT], False, "1 such action"),
        (no_action_in_conversation("create_ticket"), [GOES, TEXT], True, ""),
        (at_most_turns(2), [TEXT, TEXT], True, ""),
        (at_most_turns(2), [TEXT, TEXT, TEXT], False, "3 turns"),
    ],
)
def test_checks_of_a_conversation(check: Check, replies: list[Reply], passes: bool, note: str) -> None:
    """Each looks at every turn, and says what it missed."""
    assert judge_of(check).of_conversation
    [score] = judged(check, *replies).values()
    assert (score.passed, score.note) == (passes, note)


@pytest.mark.parametrize(
    ("said", "signal"),
    [
        (reply("", {"type": "escalate"}), "turn 2: action escalate"),
        (reply("", {"name": "escalate", "type": "tool"}), "turn 2: action escalate"),
        (reply("", {"type": "create_ticket"}), "turn 2: ticket (create_ticket)"),
        (reply("", {"type": "createTicket"}), "turn 2: ticket (createTicket)"),
        (reply("", {"name": "ticket_opened"}), "turn 2: ticket (ticket_opened)"),
        (reply("", {"ticket": {"id": 7}}), "turn 2: ticket (unnamed action)"),
        (reply("", summary=[{"type": "escalate"}]), "turn 2: action escalate"),
        (reply("One moment. I\u2019LL get a\nteammate involved!"), 'turn 2: "i\'ll get a teammate involved"'),
        (reply("Ich hole eine Kollegin."), "turn 2: 'ich hole eine kollegin'"),
        (reply("", {"type": "close_ticket"}), ""),
        (reply("", {"type": "highlight", "selector": "#new-ticket"}), ""),
        (reply("", {"type": "escalated_before", "ticket": 3}), ""),
        (reply("", ["escalate"]), ""),
        (reply("You can open a ticket under Support."), ""),
    ],
)
def test_an_escalation_is_seen_by_its_signals(said: Reply, signal: str) -> None:
    """The tool, a new ticket, or a phrase; the note names it."""
    given: list[Check] = [
        escalated("Ich hole eine Kollegin"),
        escalated("Ich hole eine Kollegin", should=False),
    ]
    yes, no = judged(given, TEXT, said, TEXT).values()
    assert (yes.passed, no.passed) == (bool(signal), not signal)
    assert yes.note == no.note == (signal or "no sign of it")


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (actions_in_conversation, (), "at least one type of action"),
        (action_count_in_conversation, (-1,), "needs a whole number from 0, not -1"),
        (action_count_in_conversation, ("navigate",), "needs a whole number from 0, not 'navigate'"),
        (at_most_turns, (True,), "needs a whole number from 0, not True"),
        (escalated, ("",), "an empty phrase"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, arguments: tuple[JSON, ...], words: str) -> None:
    """In one line, when the check is made."""
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        make(*arguments)


def test_their_names_say_what_they_look_at() -> None:
    """A check and its opposite can stand in one table."""
    checks = [
        escalated(),
        escalated(should=False),
        at_most_turns(3),
        action_count_in_conversation(1, "go", a=2),
    ]
    names = ["escalated", "not escalated", "at_most_turns(3)", "action_count_in_conversation(1, go, a=2)"]
    assert [check_name(check) for check in checks] == names
