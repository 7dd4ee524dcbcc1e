"""An evaluation turn by turn: a row per case × configuration × repeat × turn, sent or not."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import index
from typing import TYPE_CHECKING, Any

from ...display.text import one_line
from ...errors import InvalidRequest
from ..cases.columns import END, ROW_COLUMNS, columns_of
from ..file.label_lines import joined_notes, passes
from ..outcomes import AGENT, COMPLETE

if TYPE_CHECKING:
    import pandas as pd

    from ..cases.case import Conversation
    from ..file.state import RunState

TIMES = {"first_text_s": "first text", "elapsed_s": "whole reply"}  # the times, and what they are called


class _Value:
    """A list or a dict as a table's cell, not to be changed: pandas can sort it and group by it."""

    def __hash__(self) -> int:
        return hash(_hashable(self))

    # What it holds may have no order.

    def __lt__(self, other: Any) -> bool:
        return json.dumps(self, sort_keys=True) < json.dumps(other, sort_keys=True)

    def __gt__(self, other: Any) -> bool:
        return json.dumps(self, sort_keys=True) > json.dumps(other, sort_keys=True)


class _List(_Value, list[Any]): ...  # type: ignore[misc]  # a list has no hash


class _Dict(_Value, dict[str, Any]): ...  # type: ignore[misc]


def cell(value: Any) -> Any:
    """Any JSON as a table's cell."""
    match value:
        case list() | tuple():
            return _List(value)
        case dict():
            return _Dict(value)
    return value


def _hashable(value: Any) -> Any:
    match value:
        case dict():
            return frozenset((key, _hashable(item)) for key, item in value.items())
        case list():
            return tuple(map(_hashable, value))
    return value


def group_name(value: Any) -> str:
    """A value of metadata as the name of a group of cases: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def read_rows(state: RunState, chosen: Iterable[Conversation] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of the chosen conversations (None: all), read from the file one conversation at a time."""
    names = _columns(state)
    with state.opened() as file:
        for conversation in state.conversations.values() if chosen is None else chosen:
            for row in conversation_rows(state, conversation, state.lines(conversation, file)):
                yield {name: row.get(name) for name in names}


def _columns(state: RunState) -> list[str]:
    """All columns: of the turns, with users the end, of the checks, and of the metadata of any case."""
    of_users = [END] if any(each.case.user for each in state.conversations.values()) else []
    of_checks = (name for check in state.checks for name in columns_of(check))
    return [*ROW_COLUMNS, *of_users, *of_checks, *_metadata(state)]


def _metadata(state: RunState) -> list[str]:
    names = (name for each in state.conversations.values() for name in each.case.metadata)
    return list(dict.fromkeys(names))


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def rows_frame(
    state: RunState, *, failed: bool = False, chosen: Mapping[str, range] | None = None
) -> pd.DataFrame:
    """All rows, or those that failed, see `Evaluation.df` and `Evaluation.failures`.

    Or those of the `chosen` conversations: their keys, each with its rows' numbers in `Evaluation.df`.
    """
    from .dataframes import TEXT, table_of

    types: dict[str, Any] = {
        **dict.fromkeys(("repeat", "turn"), "int64"),
        **dict.fromkeys((*TIMES, "queue_wait_s"), "float64"),
        **dict.fromkeys(("case", "config", "status", "cause", "message", "text", "error"), TEXT),
        **dict.fromkeys(("session_id", "agent_id", END), TEXT),
        "started_at": "datetime64[ms, UTC]",
        "retries": "Int64",
        "label": "boolean",
        "label note": TEXT,
        "expect": "object",  # otherwise whole numbers with a gap would become floats
    }
    for check in state.checks:
        # A column of booleans can be negated and used as a mask although a value is missing.
        types |= dict(zip(columns_of(check), ("boolean", "float64", TEXT), strict=True))
    rows = list(read_rows(state, None if chosen is None else [state.conversations[key] for key in chosen]))
    for name in _metadata(state):
        given = (each.case.metadata.get(name) for each in state.conversations.values())
        # pandas neither sorts nor groups values of several types.
        if len({_kind(value) for value in given if value is not None}) > 1:
            for row in rows:
                row[name] = None if row[name] is None else group_name(row[name])
    frame = table_of(rows, _columns(state), types)
    if chosen is not None:
        return frame.set_axis(list(chain.from_iterable(chosen.values())), axis="index")
    return frame[[is_failure(state, row) for row in rows]] if failed else frame


def conversation_of(state: RunState, row: int) -> Conversation:
    """The conversation of that row. Raises `InvalidRequest`."""
    of_rows = [each for each in state.conversations.values() for _ in state.turns(each)]
    number = row_number(row)
    if number is None or number >= len(of_rows):
        raise InvalidRequest(
            f"Row {one_line(repr(row), 40)} does not exist. The result has {len(of_rows):,} rows, numbered "
            "from 0."
        )
    return of_rows[number]


def row_number(row: Any) -> int | None:
    """The number of a row that a user gave; None for what is not one."""
    try:
        number = -1 if isinstance(row, bool) else index(row)
    except TypeError:
        return None
    return number if number >= 0 else None


def conversation_rows(
    state: RunState, conversation: Conversation, lines: list[dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """The rows of a conversation, of which the file has these lines."""
    rows = []
    case, end, reason = conversation.case, state.end(conversation), state.end_reason(conversation)
    messages = state.case_turns(conversation)
    turns = state.turns(conversation)
    for number, (turn, line) in enumerate(zip(turns, lines, strict=True)):
        reply = line["reply"] if line else {}
        labels = state.labels.of(conversation.key, number, reply)
        row: dict[str, Any] = {
            "case": case.id,
            "config": conversation.config,
            "repeat": conversation.repeat,
            "turn": number + 1,
            "tags": cell(case.tags),
            "status": turn.status,
            "cause": turn.cause,
            "started_at": turn.started_at,
            # The user has not said it yet.
            "message": messages[number].message if number < len(messages) else None,
            "expect": cell(state.expected(conversation, number)),
            "text": reply.get("text"),
            "actions": cell(reply.get("actions")),
            **{name: reply.get(name) for name in ("session_id", "agent_id", *TIMES, "retries")},
            "queue_wait_s": line.get("queue_wait_s") if line else None,
            "error": reply.get("error") or None,
            "label": passes(labels),
            "label note": joined_notes(labels),
        }
        if number == len(turns) - 1 and reason:
            row[END] = reason
            if end is not None and end.failed:
                row["error"] = f"The simulated user failed: {end.note}"
        for check, judge in state.checks.items():
            score = turn.scores.get(check)
            note = score.note if score and not turn.missing else ""
            found = (turn.passes(check), turn.score(check), note)
            if judge.of_user and turn.status != COMPLETE:
                found = (None, None, "")  # it is the agent that failed
            row |= zip(columns_of(check), found, strict=True)
        rows.append(row | {name: cell(value) for name, value in case.metadata.items()})
    return rows


def is_failure(state: RunState, row: Mapping[str, Any]) -> bool:
    """Whether the agent is at fault: it did not complete its reply, or the reply fails a check."""
    return row["cause"] == AGENT or any(row[name] is False for name in state.checks_of_agent)


def why(state: RunState, row: Mapping[str, Any]) -> str:
    """Why a row is not a success, in one line; empty when it is."""
    if row["status"] != COMPLETE:
        # The first sentence of an error says what failed; the rest of it is in the row.
        what = (row["error"] or "").partition(". ")[0].rstrip(".")
        return f"{row['status']}: {what}" if what else str(row["status"])
    failed = [name for name in state.checks_of_agent if row[name] is False]
    noted = [f"{name} ({row[f'{name} note']})" if row[f"{name} note"] else name for name in failed]
    return f"failed {', '.join(noted)}" if noted else ""


def worst_rows(state: RunState, count: int) -> pd.DataFrame:
    """For each of the worst cases its worst row, see `Evaluation.worst`."""
    from .dataframes import table_of

    runs: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    worst: dict[str, tuple[tuple[bool, int, float], dict[str, Any]]] = {}
    number = 0
    with state.opened() as file:
        for conversation in state.conversations.values():
            rows = conversation_rows(state, conversation, state.lines(conversation, file))
            numbered = list(enumerate(rows, number))
            number += len(rows)
            if state.missing(conversation):
                continue  # as in the rates
            case = conversation.case.id
            failures = [(at, row) for at, row in numbered if is_failure(state, row)]
            runs[case] += 1
            failed[case] += bool(failures)
            for at, row in failures:
                checks = sum(row[name] is False for name in state.checks_of_agent)
                rank = (row["cause"] == AGENT, checks, row["elapsed_s"] or 0.0)
                if case not in worst or rank > worst[case][0]:
                    text = one_line(row["text"] or "", 120)
                    worst[case] = rank, {**row, "row": at, "why": why(state, row), "text": text}

    def rank_of(case: str) -> tuple[float, tuple[bool, int, float]]:
        return failed[case] / runs[case], worst[case][0]

    chosen = [
        {**worst[case][1], "failed": failed[case], "runs": runs[case]}
        for case in heapq.nlargest(count, worst, key=rank_of)
    ]
    columns = ["row", "case", "config", "repeat", "turn", "failed", "runs", "why", "message", "expect"]
    columns += ["text", "elapsed_s"]
    types = dict.fromkeys(("row", "repeat", "turn", "failed", "runs"), "int64")
    types |= {"elapsed_s": "float64", "expect": "object"}
    return table_of(chosen, columns, types).set_index("row")
