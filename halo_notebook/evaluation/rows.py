"""An evaluation turn by turn: a row per case × configuration × repeat × turn, sent or not."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..display.text import one_line
from .sender import COMPLETE
from .state import NOT_RUN, SKIPPED

if TYPE_CHECKING:
    import pandas as pd

    from .cases import Conversation
    from .state import RunState

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
