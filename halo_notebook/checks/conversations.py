"""Ready-made checks of a whole conversation, each called once, at its end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..display.lookalikes import canonical
from ..display.wording import counted
from ..errors import InvalidRequest
from .payloads import fits, labels
from .verdicts import Check, JudgedTurn, Score, named, shown_values

if TYPE_CHECKING:
    from ..stream import JSON

_Turns: TypeAlias = "Sequence[JudgedTurn]"
_PHRASES = ("I'll get a teammate involved",)  # the one that the API documents
_OPENS = frozenset({"create", "created", "new", "open", "opened"})


def actions_in_conversation(*types: str) -> Check:
    """Passes if the agent took an action of each of these types during the conversation, in any order.

    A type that is given twice has to come twice. Others may come as well.
    """
    if not types:
        raise InvalidRequest("actions_in_conversation() needs at least one type of action.")

    def check(conversation: _Turns) -> Score:
        left = list(_payloads(conversation))
        missing = []
        for wanted in types:
            found = next((place for place, payload in enumerate(left) if fits(payload, wanted, {})), None)
            if found is None:
                missing.append(wanted)
            else:
                del left[found]
        return Score(not missing, note=f"without {', '.join(missing)}" if missing else "")

    return named(check, "actions_in_conversation", *types)


def action_count_in_conversation(count: int, type: str | None = None, /, **where: Any) -> Check:  # noqa: A002  # as payloads call it
    """Passes if the agent took exactly `count` such actions during the conversation.

    `type` (None: any) and `where` are those of `action`.
    """
    _check_count("action_count_in_conversation", count)

    def check(conversation: _Turns) -> Score:
        taken = sum(fits(payload, type, where) for payload in _payloads(conversation))
        return Score(taken == count, note="" if taken == count else counted(taken, "such action"))

    return named(
        check, "action_count_in_conversation", str(count), *([type] if type else []), *shown_values(where)
    )


def no_action_in_conversation(type: str | None = None, /) -> Check:  # noqa: A002  # as payloads call it
    """Passes if the agent took no action during the conversation, or none of that type."""

    def check(conversation: _Turns) -> Score:
        taken = sum(fits(payload, type, {}) for payload in _payloads(conversation))
        return Score(not taken, note=counted(taken, "such action") if taken else "")

    return named(check, "no_action_in_conversation", *([type] if type else []))


def at_most_turns(count: int) -> Check:
    """Passes if the conversation had at most `count` turns, each a message and its reply."""
    _check_count("at_most_turns", count)

    def check(conversation: _Turns) -> Score:
        turns = len(conversation)
        return Score(turns <= count, note="" if turns <= count else f"{turns} turns")

    return named(check, "at_most_turns", str(count))


def escalated(*phrases: str, should: bool = True) -> Check:
    """Passes if the agent handed the conversation over to a person, as far as its replies show.

    It looks at the signals that Halo documents, in every reply of the conversation:

    - an action whose `type` or `name` is ``escalate``, the agent's tool for that;
    - an action that opens a ticket: a `type` or `name` such as ``create_ticket``, ``createTicket`` or
      ``ticket_opened``, or a payload without either that has a `ticket`;
    - the phrase "I'll get a teammate involved" in the text, or one of `phrases`, in any case.

    Halo publishes no shape of payloads, and an agent may use other words or another language: give those. An
    agent's confidence and a person who takes over are not in a reply. The note names the signal.

    Args:
        phrases: others that count, beside the documented one.
        should: False to pass if it was *not* handed over.
    """
    said = [_comparable(phrase) for phrase in (*_PHRASES, *phrases)]
    if not all(said):
        raise InvalidRequest("escalated() was given an empty phrase.")

    def check(conversation: _Turns) -> Score:
        signal = next(_signals(conversation, said), "")
        return Score(bool(signal) == should, note=signal or "no sign of it")

    return named(check, "escalated" if should else "not escalated", *phrases)


def _signals(conversation: _Turns, phrases: Sequence[str]) -> Iterator[str]:
    for number, turn in enumerate(conversation, 1):
        for payload in turn.reply.actions:
            if fits(payload, "escalate", {}):
                yield f"turn {number}: action escalate"
            elif _opens_ticket(payload):
                yield f"turn {number}: ticket ({', '.join(labels(payload)) or 'unnamed action'})"
        text = _comparable(turn.reply.text)
        for phrase in phrases:
            if phrase in text:
                yield f"turn {number}: {phrase!r}"


def _opens_ticket(payload: JSON) -> bool:
    said = labels(payload)
    if not said:
        return isinstance(payload, dict) and bool(payload.get("ticket"))
    words = [{word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", label)} for label in said]
    return any("ticket" in each and (each & _OPENS or each == {"ticket"}) for each in words)


def _comparable(text: str) -> str:
    """Without regard to case, to the kind of apostrophe, and to line breaks."""
    return " ".join(re.sub("[\u2018\u2019\u02bc]", "'", canonical(text, ignore_case=True)).split())


def _payloads(conversation: _Turns) -> Iterable[JSON]:
    return (payload for turn in conversation for payload in turn.reply.actions)


def _check_count(name: str, count: Any) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise InvalidRequest(f"{name}() needs a whole number from 0, not {count!r}.")
