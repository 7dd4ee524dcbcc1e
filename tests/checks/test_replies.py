"""The ready-made checks of a reply."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from halo_notebook.checks import (
    Check,
    Score,
    action,
    action_count_in_conversation,
    actions_in_order,
    agent_is,
    autoevals_scorer,
    check_name,
    contains,
    faster_than,
    json_schema,
    matches,
    no_action,
)
from halo_notebook.errors import InvalidRequest
from halo_notebook.reply import Reply
from halo_notebook.stream import JSON, Action, ActionSummary, TextDelta

from ..evaluation.agents import judged


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
        (contains("café"), reply("Un cafe\u0301."), None, True),
        (contains("cafe\u0301", ignore_case=False), reply("Un café."), None, True),
        (contains(), reply("Ångström"), "\u212bngstro\u0308m", True),
        (contains("cafe"), reply("Un cafe\u0301."), None, False),
        (matches("caf.$"), reply("Un cafe\u0301"), None, True),
        (matches("[é]$"), reply("Un cafe\u0301"), None, True),
        (matches(r"e\u0301$"), reply("Un cafe\u0301"), None, True),
        (action("créer", nom="e\u0301"), reply("", {"type": "cre\u0301er", "nom": "é"}), None, True),
        (no_action("créer"), reply("", {"type": "cre\u0301er"}), None, False),
        (actions_in_order("créer"), reply("", {"name": "cre\u0301er"}), None, True),
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
def test_ready_made_checks(check: Check, about: Reply, expect: JSON, passes: bool | None) -> None:
    """Each passes what its docstring says, and nothing else."""
    [score] = judged(check, about, expect=expect).values()
    assert score.passed is passes


def test_a_note_says_how_texts_differ_that_look_alike() -> None:
    """By the code points, since both look the same in the note."""
    [score] = judged(contains("1 000 €"), reply("It is 1\u202f000 €.")).values()
    assert score.note == "without '1 000 €' (it has U+202F NARROW NO-BREAK SPACE in it)"
    [score] = judged(contains("Ada"), reply("Grace")).values()
    assert score.note == "without 'Ada'"


def test_an_autoevals_scorer_is_a_check() -> None:
    """It gets the text and what is expected; its score decides."""

    class Levenshtein:
        def __call__(self, *, output: str, expected: Any) -> Any:
            return SimpleNamespace(score=1.0 if output == expected else 0.2)

    check = autoevals_scorer(Levenshtein())
    assert check_name(check) == "Levenshtein"
    assert judged(check, reply("same"), expect="same") == {"Levenshtein": Score(True, 1.0)}
    assert judged(check, reply("same"), expect="other") == {"Levenshtein": Score(False, 0.2)}


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (contains, ("",)),
        (contains, (["Ada"],)),
        (contains, (True,)),
        (contains, ("Ada", None)),
        (faster_than, ()),
        (actions_in_order, ()),
    ],
)
def test_a_check_that_would_look_for_nothing_is_refused(make: Any, arguments: tuple[Any, ...]) -> None:
    """When it is made: it would pass whatever the agent says."""
    with pytest.raises(InvalidRequest, match=f"{make.__name__}\\(\\) "):
        make(*arguments)


class Unshown:
    def __repr__(self) -> str:
        raise OSError("no\nrepr")


@pytest.mark.parametrize(
    "value", [10**5000, [10**5000], {"a": -(10**5000)}, Unshown(), [Unshown()]], ids=range(5)
)
def test_a_value_that_cannot_be_written_is_refused(value: Any) -> None:
    """A check is called after what it looks for."""
    for make in (action, partial(action_count_in_conversation, 1)):
        with pytest.raises(InvalidRequest, match="check's name cannot show the value of 'b'") as raised:
            make("a", b=value)
        assert "\n" not in str(raised.value)
    with pytest.raises(InvalidRequest, match="cannot show the value of 'total_s'"):
        faster_than(total_s=value)
    assert check_name(action("a", b=lambda number: number == value)) == "action(a, b=<lambda>)"


@pytest.mark.parametrize(
    ("expect", "text", "passes"),
    [
        (42, "It is 42.", True),
        (42, "It is 41.", False),
        (42.0, "It is 42.", True),
        (2.5, "It costs 2.5 €", True),
        (-3, "It is -3 °C", True),
        (0, "None", False),
        ([42, "Ada"], "Ada has 42.", True),
        ([42, "Ada"], "Ada has 41.", False),
    ],
)
def test_a_number_is_expected_as_its_text(expect: JSON, text: str, passes: bool) -> None:
    """As a whole number, it is the same with and without a decimal point."""
    [score] = judged(contains(), reply(text), expect=expect).values()
    assert score.passed is passes
    assert (
        judged(contains(*(expect if isinstance(expect, list) else [expect])), reply(text)).popitem()[1]
        == score
    )
