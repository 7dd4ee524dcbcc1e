"""What users said in an evaluation, as cases of fixed messages."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from .sender import COMPLETE, INTERRUPTED

if TYPE_CHECKING:
    from .cases import Case, Conversation
    from .state import RunState

ORIGIN = "simulated_case"  # the metadata that names the case


def fixed_cases(state: RunState) -> list[Case]:
    """See `Evaluation.as_cases`."""
    found: dict[str, Case] = {}
    runs = Counter(each.case.id for each in state.conversations.values())
    configs = len(state.sources)
    for conversation in state.conversations.values():
        case = conversation.case
        if case.user is None:
            found.setdefault(case.id, case)
            continue
        case = _fixed(state, conversation)
        if not case.turns:
            continue
        if runs[conversation.case.id] > 1:
            about = [conversation.config] if configs > 1 else []
            about += [str(conversation.repeat)] if runs[conversation.case.id] > configs else []
            case = replace(case, id=" · ".join([case.id, *about]))
        while case.id in found:  # the id of another case
            case = replace(case, id=case.id + "+")
        found[case.id] = case
    return list(found.values())


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
