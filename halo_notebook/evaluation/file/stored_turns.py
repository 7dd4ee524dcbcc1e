"""The turns of an evaluation as its file has them: with their replies, for checks, readers and users."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from ...checks import JudgedTurn, NoVerdict
from ...reply import reply_from
from ..judging.checks import seen_of
from ..judging.concurrent_checks import Ended

if TYPE_CHECKING:
    from ..cases.case import Conversation
    from ..judging.checks import Judge
    from .state import RunState, TurnState

_UNJUDGED = NoVerdict(None)


def ended_turns(
    state: RunState, conversation: Conversation, file: BinaryIO
) -> Iterator[tuple[int, JudgedTurn]]:
    """The turns of a conversation that have ended, in order, from the open file, each with its number."""
    messages = state.case_turns(conversation)
    for number, line in enumerate(state.lines(conversation, file)):
        if line is not None:
            yield number, JudgedTurn(messages[number].message, reply_from(line["reply"]))


def read_turns(state: RunState, conversation: Conversation) -> list[JudgedTurn]:
    """The turns of a conversation that have ended, in order. Raises `UsageError`."""
    with state.opened() as file:
        return [turn for _, turn in ended_turns(state, conversation, file)]


def unjudged(state: RunState) -> Iterator[Ended]:
    """The turns that have ended and that checks have not judged, or could not judge, and these checks."""
    with contextlib.ExitStack() as stack:
        file: BinaryIO | None = None
        for conversation in state.conversations.values() if state.checks else ():
            turns = state.turns(conversation)
            if all(known.at is None for known in turns):
                continue
            last, unanswered = state.last_turn(conversation), state.unanswered(conversation)
            open_ = {
                number: checks
                for number, known in enumerate(turns)
                if known.at is not None
                and number != unanswered
                and (checks := _open_checks(state, conversation, known, is_last=number == last))
            }
            if not open_:
                continue
            file = file or stack.enter_context(state.opened())
            said: list[JudgedTurn] = []
            for number, turn in ended_turns(state, conversation, file):
                said.append(turn)
                if number in open_:
                    seen = seen_of(conversation, said, is_last=number == last)
                    yield Ended(conversation.key, number, seen, open_[number])


def _open_checks(
    state: RunState, conversation: Conversation, turn: TurnState, *, is_last: bool
) -> dict[str, Judge]:
    """The checks that have still to judge a turn."""
    if turn.missing:
        return {}  # whatever they find, it does not count
    return {
        name: check
        for name, check in state.checks.items()
        if (is_last or not check.of_conversation)
        and check.judges(conversation.case)
        and isinstance(turn.scores.get(name, _UNJUDGED), NoVerdict)
    }
