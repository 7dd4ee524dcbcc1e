"""The figures of an evaluation: passes and times by case, and a summary of them.

Every rate comes with an interval whose unit is the case: repeats of a case are not independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import InvalidRequest
from .intervals import pass_rate
from .rows import TIMES
from .sender import COMPLETE, FAILED, INTERRUPTED
from .state import NOT_RUN, SKIPPED
from .times import time_quantiles

if TYPE_CHECKING:
    import pandas as pd

    from .cases import Conversation
    from .state import RunState

Passes: TypeAlias = dict[str, dict[str, list[bool | None]]]
ALL_TAGS = "(all)"


def passes_by_case(state: RunState, check: str, tag: str | None = None) -> Passes:
    """See `Evaluation.passed`."""
    if check not in state.checks:
        raise InvalidRequest(f"No check named {check!r}. Checks: {', '.join(state.checks) or 'none'}.")
    result: Passes = {name: {} for name in state.sources}
    for conversation in state.tagged(tag):
        found = [turn.passes(check) for turn in state.turns(conversation)]
        judged = [each for each in found if each is not None]
        missing = state.missing(conversation)
        if judged or missing:
            held = result[conversation.config].setdefault(conversation.case.id, [])
            held.append(None if missing else all(judged))
    return result


def times_by_case(state: RunState, name: str, tag: str | None = None) -> dict[str, dict[str, list[float]]]:
    """See `Evaluation.times`."""
    result: dict[str, dict[str, list[float]]] = {config: {} for config in state.sources}
    for conversation in state.tagged(tag):
        values = [getattr(turn, name) for turn in state.turns(conversation) if turn.status == COMPLETE]
        held = result[conversation.config].setdefault(conversation.case.id, [])
        held += [value for value in values if value is not None]
    return result


def summary_frame(state: RunState, *, by_tag: bool) -> pd.DataFrame:
    """See `Evaluation.summary`."""
    import pandas as pd

    from .report.frames import Table

    tags = [tag for each in state.conversations.values() for tag in each.case.tags]
    groups = [None, *dict.fromkeys(tags)] if by_tag else [None]
    rows = {
        (config, ALL_TAGS if tag is None else tag): _summary_row(state, config, tag)
        for config in state.sources
        for tag in groups
    }
    index = pd.MultiIndex.from_tuples(list(rows), names=["config", "tag"])
    frame = Table(list(rows.values()), index=index)
    return frame if by_tag else frame.droplevel("tag")


def _summary_row(state: RunState, config: str, tag: str | None) -> dict[str, Any]:
    conversations = [each for each in state.tagged(tag) if each.config == config]
    counts = Counter(turn.status for each in conversations for turn in state.turns(each))
    row: dict[str, Any] = {
        "cases": len({each.case.id for each in conversations}),
        "turns": counts.total(),
        **{status: counts[status] for status in (COMPLETE, FAILED, INTERRUPTED)},
        "not asked": counts[SKIPPED] + counts[NOT_RUN],
        **{check: pass_rate(passes_by_case(state, check, tag)[config]) for check in state.checks},
    }
    for name in TIMES:
        found = time_quantiles(times_by_case(state, name, tag)[config])
        row[f"{name} p50"], row[f"{name} p95"] = found.p50.estimate, found.p95.estimate
    names, source = ", ".join(sorted(agents(state, conversations))), state.sources[config]
    row["agents"] = f"{names} ({source})" if names and source else names
    return row


def agents(state: RunState, conversations: Iterable[Conversation]) -> Counter[str]:
    """Who answered, and how often."""
    turns = (turn for each in conversations for turn in state.turns(each))
    return Counter(turn.agent_id for turn in turns if turn.agent_id)
