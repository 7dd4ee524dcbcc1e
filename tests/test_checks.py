"""What a reply can be held to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from halo_notebook.checks import (
    Check,
    Score,
    action,
    actions_in_order,
    agent_is,
    as_score,
    autoevals_scorer,
    check_name,
    checked_checks,
    contains,
    faster_than,
    json_schema,
    judge_of,
    matches,
    no_action,
)
from halo_notebook.errors import InvalidRequest
from halo_notebook.reply import Reply
from halo_notebook.stream import JSON, Action, ActionSummary, TextDelta


def reply(text: str = "", *payloads: JSON, summary: list[JSON] | None = None) -> Reply:
    made = Reply()
    if text:
        made.add(TextDelta(text), 0.2)
    for payload in payloads:
        made.add(Action(payload), 0.3)
    if summary:
        made.add(ActionSummary(summary), 0.4)
    made.elapsed_s, made.agent_id = 1.5, "agent_1"
    return made


TICKET: JSON = {"type": "create_ticket", "ticket": {"priority": "high", "open": True, "count": 1}}
GO: JSON = {"name": "navigate"}


@pytest.mark.parametrize(
    ("check", "about", "expect", "passes"),
    [
        (contains("BILLING"), reply("Under billing."), None, True),
        (contains("BILLING", ignore_case=False), reply("Under billing."), None, False),
        (contains("a", "b"), reply("a"), None, False),
        (contains(), reply("Your name is Ada."), "Ada", True),
        (contains(), reply("Your name is Ada."), ["Ada", "Grace"], False),
        (contains(), reply("Anything"), None, None),
        (matches(r"\bTM-\d+"), reply("Ticket TM-42 is open"), None, True),
        (matches(r"^TM"), reply("Ticket TM-42"), None, False),
        (action("create_ticket"), reply("", TICKET), None, True),
        (action("navigate"), reply("", GO), None, True),
        (action("create_ticket"), reply("", GO), None, False),
        (action("create_ticket"), reply("", summary=[TICKET]), None, True),
        (action("create_ticket", ticket__priority="high"), reply("", TICKET), None, True),
        (action("create_ticket", ticket__priority="low"), reply("", TICKET), None, False),
        (action(ticket__count=lambda count: count > 0), reply("", TICKET), None, True),
        (action(ticket__open=1), reply("", TICKET), None, False),
        (action(ticket__nothing__here=1), reply("", TICKET), None, False),
        (action(), reply("", [1, 2]), None, True),
        (action(), reply("text"), None, False),
        (no_action(), reply("text"), None, True),
        (no_action(), reply("", GO), None, False),
        (no_action("create_ticket"), reply("", GO), None, True),
        (actions_in_order("navigate", "create_ticket"), reply("", GO, [1], TICKET), None, True),
        (actions_in_order("create_ticket", "navigate"), reply("", GO, TICKET), None, False),
        (faster_than(first_text_s=0.5, total_s=2), reply("text"), None, True),
        (faster_than(first_text_s=0.1), reply("text"), None, False),
        (faster_than(first_text_s=0.5), reply(), None, False),
        (faster_than(total_s=1), reply("text"), None, False),
        (json_schema({"required": ["ticket"]}), reply("", TICKET), None, True),
        (json_schema({"required": ["ticket"]}), reply("", TICKET, GO), None, False),
        (json_schema({"required": ["ticket"]}, "create_ticket"), reply("", TICKET, GO), None, True),
        (json_schema({}), reply("text"), None, False),
        (agent_is("agent_1"), reply("text"), None, True),
        (agent_is("agent_2"), reply("text"), None, False),
    ],
)
def test_ready_checks(check: Check, about: Reply, expect: JSON, passes: bool | None) -> None:
    """Each passes what it says, and nothing else."""
    assert as_score(judge_of(check)(about, expect)).passed is passes


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        (True, Score(True, 1.0)),
        (False, Score(False, 0.0)),
        (0.5, Score(True, 0.5, "score 0.5")),
        (0.49, Score(False, 0.49, "score 0.49")),
        (1, Score(True, 1.0, "score 1")),
        (None, Score(None)),
        (Score(False, 0.2, "why"), Score(False, 0.2, "why")),
        (np.bool_(True), Score(True, 1.0)),
        (np.float32(0.25), Score(False, 0.25, "score 0.25")),
    ],
)
def test_what_a_check_may_give(verdict: Any, score: Score) -> None:
    """A bool, a number from 0 to 1, a Score, or nothing."""
    assert as_score(verdict) == score


@pytest.mark.parametrize("verdict", ["yes", float("nan"), [True], object(), 85, -0.1])
def test_what_a_check_may_not_give(verdict: Any) -> None:
    """It is no pass and no fail."""
    with pytest.raises(TypeError, match="a bool, a number from 0 to 1 or a Score"):
        as_score(verdict)


def test_a_check_may_take_what_is_expected() -> None:
    """As its second argument, required or called `expect`; another default is its own."""

    def one(reply: Reply) -> bool:
        return True

    def two(reply: Reply, wanted: str) -> bool:
        return wanted == "x"

    def named(reply: Reply, expect: JSON = None) -> bool:
        return expect == "x"

    def own(reply: Reply, limit: int = 3) -> bool:
        return limit == 3

    for check in (one, two, named, own):
        assert judge_of(check)(reply(), "x") is True


def test_checks_have_names() -> None:
    """Their own, or those of a dict; two of one name are refused."""
    assert list(checked_checks([contains("a"), contains("b"), len])) == ["contains(a)", "contains(b)", "len"]
    assert list(checked_checks({"short": len})) == ["short"]
    assert list(checked_checks(len)) == ["len"]
    assert check_name(action("go", a=1)) == "action(go, a=1)"
    assert check_name(faster_than(total_s=2)) == "faster_than(total_s=2)"
    with pytest.raises(InvalidRequest, match="Two checks are called 'contains'"):
        checked_checks([contains(), contains()])
    with pytest.raises(InvalidRequest, match="'x' is no function"):
        checked_checks({"x": 3})  # type: ignore[dict-item]


def test_an_autoevals_scorer_is_a_check() -> None:
    """It gets the text and what is expected; its score decides."""

    class Levenshtein:
        def __call__(self, *, output: str, expected: Any) -> Any:
            return SimpleNamespace(score=1.0 if output == expected else 0.2)

    check = autoevals_scorer(Levenshtein())
    assert check_name(check) == "Levenshtein"
    assert judge_of(check)(reply("same"), "same") == Score(True, 1.0)
    assert judge_of(check)(reply("same"), "other") == Score(False, 0.2)
