"""An evaluation as tables: its rows, its summary, its comparisons, and what to know about them.

Every rate comes with an interval whose unit is the case: repeats of a case are not independent.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from ..display.text import one_line
from ..display.wording import counted
from ..errors import InvalidRequest
from .intervals import pass_rate, quantiles
from .judging import NoVerdict
from .sender import COMPLETE, FAILED, INTERRUPTED
from .state import NOT_RUN, SKIPPED

if TYPE_CHECKING:
    import pandas as pd

    from .cases import Conversation
    from .state import RunState

Passes: TypeAlias = dict[str, dict[str, list[bool | None]]]
ALL_TAGS = "(all)"
BUSY = 0.2  # the share of the agent's times that this process may add to them before a note says so
TIMES = {"first_text_s": "first text", "elapsed_s": "whole reply"}  # the times, and what they are called


class Cell(list[Any]):
    """A list as a table's cell, not to be changed: pandas can sort it and group by it."""

    def __hash__(self) -> int:  # type: ignore[override]  # a list has none
        return hash(_hashable(list(self)))

    # Its items may have no order.

    def __lt__(self, other: list[Any]) -> bool:
        return json.dumps(self, sort_keys=True) < json.dumps(other, sort_keys=True)

    def __gt__(self, other: list[Any]) -> bool:
        return json.dumps(self, sort_keys=True) > json.dumps(other, sort_keys=True)


def _hashable(value: Any) -> Any:
    match value:
        case dict():
            return frozenset((key, _hashable(item)) for key, item in value.items())
        case list():
            return tuple(map(_hashable, value))
    return value


# --- Rows: case × configuration × repeat × turn, sent or not -----------------------------


def read_rows(state: RunState) -> Iterator[dict[str, Any]]:
    """The rows in order, read from the file one conversation at a time."""
    with state.opened() as file:
        for conversation in state.conversations.values():
            yield from conversation_rows(state, conversation, state.lines(conversation, file))


def rows_frame(state: RunState) -> pd.DataFrame:
    """All rows, see `Evaluation.df`."""
    from .report.frames import table_of

    return table_of(read_rows(state), state.checks)


def conversation_rows(
    state: RunState, conversation: Conversation, lines: list[dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """The rows of a conversation, of which the file has these lines."""
    rows = []
    turns = zip(conversation.case.turns, state.turns(conversation), lines, strict=True)
    for number, (sent, turn, line) in enumerate(turns, 1):
        reply = line["reply"] if line else {}
        row: dict[str, Any] = {
            "case": conversation.case.id,
            "config": conversation.config,
            "repeat": conversation.repeat,
            "turn": number,
            "tags": Cell(conversation.case.tags),
            "status": turn.status,
            "message": sent.message,
            "text": reply.get("text"),
            "actions": Cell(reply["actions"]) if line else None,
            **{name: reply.get(name) for name in ("session_id", "agent_id", *TIMES)},
            "queue_wait_s": line.get("queue_wait_s") if line else None,
            "retries": reply.get("retries"),
            "error": reply.get("error") or None,
        }
        for name in state.checks:
            row[name] = turn.passes(name)
            row[f"{name} note"] = turn.scores[name].note if name in turn.scores else ""
        rows.append(row)
    return rows


def why(state: RunState, row: Mapping[str, Any]) -> str:
    """Why a row is not a success, in one line; empty when it is."""
    if row["status"] != COMPLETE:
        # The first sentence of an error says what failed; the rest of it is in the row.
        what = (row["error"] or "").partition(". ")[0].rstrip(".")
        return f"{row['status']}: {what}" if what else str(row["status"])
    failed = [name for name in state.checks if row[name] is False]
    noted = [f"{name} ({row[f'{name} note']})" if row[f"{name} note"] else name for name in failed]
    return f"failed {', '.join(noted)}" if noted else ""


def worst_rows(state: RunState, count: int) -> pd.DataFrame:
    """For each of the worst cases its worst row, see `Evaluation.worst`."""
    from .report.frames import Table

    columns = ["row", "case", "config", "repeat", "turn", "why", "text", "elapsed_s"]
    worst: dict[str, tuple[tuple[bool, int, float], list[Any]]] = {}
    bad: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for number, row in enumerate(read_rows(state)):
        if row["status"] in (SKIPPED, NOT_RUN):
            continue  # the reason is in another row
        case, reason = row["case"], why(state, row)
        rows[case] += 1
        bad[case] += bool(reason)
        failed = sum(row[name] is False for name in state.checks)
        rank = (row["status"] != COMPLETE, failed, row["elapsed_s"] or 0.0)
        if case not in worst or rank > worst[case][0]:
            text, reason = one_line(row["text"] or "", 120), reason or "among the slowest"
            shown = {**row, "row": number, "why": reason, "text": text}
            worst[case] = rank, [shown[name] for name in columns]
    chosen = [row for _, row in heapq.nlargest(count, worst.values(), key=lambda ranked: ranked[0])]
    frame = Table(chosen, columns=columns).set_index("row")
    frame.insert(4, "bad", [f"{bad[case]} of {rows[case]}" for case in frame["case"]])
    return frame


# --- Figures ----------------------------------------------------------------------------


def headline(state: RunState) -> str:
    """One line: how many conversations, and what became of them."""
    outcomes = Counter(map(state.outcome, state.conversations.values()))
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    return f"{counted(len(state.conversations), 'conversation')}: {shown or 'none'}"


def passes_by_case(state: RunState, check: str, tag: str | None = None) -> Passes:
    """See `Evaluation.passed`."""
    if check not in state.checks:
        raise InvalidRequest(f"No check named {check!r}. Checks: {', '.join(state.checks) or 'none'}.")
    result: Passes = {name: {} for name in state.sources}
    for conversation in state.tagged(tag):
        found = [turn.passes(check) for turn in state.turns(conversation)]
        judged = [each for each in found if each is not None]
        not_started = state.outcome(conversation) == NOT_RUN
        if judged or not_started:
            held = result[conversation.config].setdefault(conversation.case.id, [])
            held.append(None if not_started else all(judged))
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
        values = chain.from_iterable(times_by_case(state, name, tag)[config].values())
        row[f"{name} p50"], row[f"{name} p95"] = quantiles(list(values))
    agents, source = ", ".join(sorted(_agents(state, conversations))), state.sources[config]
    row["agents"] = f"{agents} ({source})" if agents and source else agents
    return row


def _agents(state: RunState, conversations: Iterable[Conversation]) -> Counter[str]:
    """Who answered, and how often."""
    turns = (turn for each in conversations for turn in state.turns(each))
    return Counter(turn.agent_id for turn in turns if turn.agent_id)


def notes(state: RunState) -> list[str]:
    """See `Evaluation.notes`."""
    found = []
    if state.interrupted:
        found.append("It was stopped before all messages were sent; the same call resumes it.")
    if state.cut_lines:
        found.append(
            f"{counted(len(state.cut_lines), 'line')} of {state.path.name!r}, cut short by a crash, "
            f"{'was' if len(state.cut_lines) == 1 else 'were'} skipped."
        )
    incomplete = [state.first_incomplete(each) for each in state.conversations.values()]
    cut = sum(status == INTERRUPTED or (number > 0 and status != COMPLETE) for status, number in incomplete)
    if cut:
        was, their, counts = ("was", "its", "It counts") if cut == 1 else ("were", "their", "They count")
        found.append(
            f"{counted(cut, 'conversation')} {was} interrupted after {their} message may have been sent. "
            f"{counts} as failed. If sending it twice is safe, rerun with resume='interrupted'."
        )
    for config in state.sources:
        agents = _agents(state, (each for each in state.conversations.values() if each.config == config))
        if len(agents) > 1:
            shown = ", ".join(f"{agent} ({count})" for agent, count in agents.most_common(5))
            found.append(f"More than one agent answered as {config!r}: {one_line(shown)}.")
    turns = [turn for each in state.conversations.values() for turn in state.turns(each)]
    ended = [turn for turn in turns if turn.status == COMPLETE]
    for name in state.checks:
        errors = [score.note for turn in ended if isinstance(score := turn.scores.get(name), NoVerdict)]
        if errors:
            found.append(
                f"Check {name!r} failed on {counted(len(errors), 'turn')} (first error: {errors[0]}); these "
                "are left out of its rate."
            )
        unjudged = sum(name not in turn.scores for turn in ended)
        if unjudged:
            found.append(f"Check {name!r} has not judged {counted(unjudged, 'turn')} yet; rescore() does.")
    times = sorted(turn.first_text_s for turn in ended if turn.first_text_s is not None)
    if times and state.lag_s > BUSY * times[len(times) // 2]:
        found.append(
            f"This machine was too busy: data waited {state.lag_s:.2g} s (p90) before it was read, so times "
            "are too long by about that. Lower the concurrency, or judge afterwards with rescore()."
        )
    return found
