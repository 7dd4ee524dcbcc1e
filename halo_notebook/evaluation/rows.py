"""An evaluation turn by turn: a row for each case × configuration × repeat × turn, sent or not."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..display.text import one_line
from .sender import COMPLETE
from .state import NOT_RUN, SKIPPED, passes

if TYPE_CHECKING:
    import pandas as pd

    from .cases import Conversation
    from .state import RunState


def read_rows(state: RunState) -> Iterator[dict[str, Any]]:
    """The rows in order, read from the file one conversation at a time."""
    with state.path.open("rb") as file:
        for conversation in state.conversations.values():
            yield from conversation_rows(state, conversation, state.lines(conversation, file))


def conversation_rows(
    state: RunState, conversation: Conversation, lines: list[dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """The rows of a conversation, of which the file has these lines."""
    rows = []
    for number, (sent, line) in enumerate(zip(conversation.case.turns, lines, strict=True)):
        reply = line["reply"] if line else {}
        status, turn = state.status(conversation, number), state.turn(conversation, number)
        row: dict[str, Any] = {
            "case": conversation.case.id,
            "config": conversation.config,
            "repeat": conversation.repeat,
            "turn": number + 1,
            "tags": list(conversation.case.tags),
            "status": status,
            "message": sent.message,
            "text": reply.get("text"),
            "actions": reply.get("actions"),
            "session_id": reply.get("session_id"),
            "agent_id": reply.get("agent_id"),
            "first_text_s": reply.get("first_text_s"),
            "elapsed_s": reply.get("elapsed_s"),
            "queue_wait_s": line.get("queue_wait_s") if line else None,
            "retries": reply.get("retries"),
            "error": reply.get("error") or None,
        }
        for name in state.checks:
            score = turn.scores.get(name) if turn else None
            row[name] = passes(status, score)
            row[f"{name} note"] = score.note if score else ""
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


def failed_rows(state: RunState) -> pd.DataFrame:
    """The rows that did not pass every check that judged them, or are not complete."""
    import pandas as pd

    rows = list(read_rows(state))
    failed = [row["status"] != NOT_RUN and bool(why(state, row)) for row in rows]
    return pd.DataFrame(rows)[failed]


def worst_rows(state: RunState, count: int) -> pd.DataFrame:
    """For each of the worst cases its worst row, see `Evaluation.worst`."""
    import pandas as pd

    worst: dict[str, tuple[tuple[bool, int, float], dict[str, Any]]] = {}
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
            worst[case] = (
                rank,
                {
                    "row": number,
                    **{name: row[name] for name in ("case", "config", "repeat", "turn")},
                    "why": reason or "among the slowest",
                    "text": one_line(row["text"] or "", 120),
                    "elapsed_s": row["elapsed_s"],
                },
            )
    chosen = [row for _, row in heapq.nlargest(count, worst.values(), key=lambda ranked: ranked[0])]
    columns = ["row", "case", "config", "repeat", "turn", "why", "text", "elapsed_s"]
    frame = pd.DataFrame(chosen, columns=columns).set_index("row")
    frame.insert(4, "bad", [f"{bad[case]} of {rows[case]}" for case in frame["case"]])
    return frame
