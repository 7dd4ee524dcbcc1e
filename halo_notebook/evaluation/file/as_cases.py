"""What users said in an evaluation, as cases of fixed messages."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..cases.case import digest
from ..outcomes import COMPLETE, INTERRUPTED

if TYPE_CHECKING:
    from ..cases.case import Case, Conversation
    from .state import RunState

ORIGIN = "simulated_case"  # the metadata that names the case


def fixed_cases(state: RunState) -> list[Case]:
    """See `Evaluation.as_cases`."""
    return list({case.id: case for case in _as_sent(state).values() if case.turns}.values())


def users_words(state: RunState) -> dict[str, dict[str, str]]:
    """Configuration → case with a user → a digest of what its users said, in whichever repeats.

    Raises `UsageError` when the file cannot be read.
    """
    said: dict[str, dict[str, set[tuple[str, ...]]]] = {config: {} for config in state.sources}
    for each in _of(state):
        if each.case.user is not None and any(turn.at is not None for turn in state.turns(each)):
            words = tuple(turn.message for turn in state.case_turns(each))
            said[each.config].setdefault(each.case.id, set()).add(words)
    return {
        config: {case: digest([list(each) for each in sorted(words)]) for case, words in by_case.items()}
        for config, by_case in said.items()
    }


def with_same_words(one: RunState, other: RunState) -> tuple[RunState, RunState]:
    """Both results, to be compared by what was sent.

    Where a user is only in one of them, each of its conversations is a case of its own, as in `as_cases`.
    """
    return _where_others_are_fixed(one, other), _where_others_are_fixed(other, one)


def _where_others_are_fixed(state: RunState, other: RunState) -> RunState:
    known = {case.content_key for case in {each.case.id: each.case for each in _of(other)}.values()}
    own = {each.key for each in _of(state) if each.case.user and each.case.content_key not in known}
    if not own:
        return state
    made, sent = copy.copy(state), _as_sent(state)
    made.conversations = {
        # One that has not ended has a row more than messages.
        key: replace(each, case=sent[key], repeat=1)
        if key in own and len(sent[key].turns) == len(state.turns(each))
        else each
        for key, each in state.conversations.items()
    }
    return made


def _of(state: RunState) -> Iterable[Conversation]:
    return state.conversations.values()


def _as_sent(state: RunState) -> dict[str, Case]:
    """The case of each conversation, by its key: with a user, what was sent, under an id of its own."""
    found: dict[str, Case] = {}
    ids = {each.case.id for each in state.conversations.values() if each.case.user is None}
    runs = Counter(each.case.id for each in state.conversations.values())
    configs = len(state.sources)
    for key, conversation in state.conversations.items():
        case = conversation.case
        if case.user is not None:
            count = runs[case.id]
            about = [conversation.config] if count > 1 and configs > 1 else []
            about += [str(conversation.repeat)] if count > configs else []
            case = replace(_fixed(state, conversation), id=" · ".join([case.id, *about]))
            while case.id in ids:  # it is the id of another case
                case = replace(case, id=case.id + "+")
            ids.add(case.id)
        found[key] = case
    return found


def _fixed(state: RunState, conversation: Conversation) -> Case:
    """The conversation's messages that the agent may have got, as a case."""
    case, states = conversation.case, state.turns(conversation)
    turns = [
        turn
        for turn, known in zip(state.case_turns(conversation), states, strict=False)
        if known.status in (COMPLETE, INTERRUPTED)
    ]
    made = replace(case, turns=tuple(turns), user=None, metadata={**case.metadata, ORIGIN: case.id})
    # What is expected of the last reply is not expected of the one at which it was cut short.
    return made if state.outcome(conversation) == COMPLETE else replace(made, expect=None)
