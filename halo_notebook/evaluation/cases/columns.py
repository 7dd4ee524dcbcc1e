"""The columns of the tables; neither a check nor metadata may have one of these names."""

from __future__ import annotations

# Of a turn, in their order; the columns of the checks and of the metadata follow.
ROW_COLUMNS = (
    *("case", "config", "repeat", "turn", "tags", "status", "cause", "started_at", "message", "expect"),
    *("text", "actions", "session_id", "agent_id", "first_text_s", "elapsed_s", "queue_wait_s", "retries"),
    *("error", "label", "label note"),
)
END = "end_reason"  # of a conversation with a user, in its last row
OFF_GOAL, ENDS = "off goal", "end_reasons"  # in the summary: how many, and how often which
_LIMITS = ("", " low", " high")
COLUMNS = (
    *(*ROW_COLUMNS, END),
    *("cases", "turns", "complete", "failed", "interrupted", "not asked", OFF_GOAL, ENDS, "agents"),
    *(
        f"{time} {figure}"
        for time in ("first_text_s", "elapsed_s")
        for figure in ("unanswered", *(f"{level}{limit}" for level in ("p50", "p95") for limit in _LIMITS))
    ),
)


def columns_of(check: str) -> tuple[str, str, str]:
    """The columns of a check: whether it passed, its score, its note."""
    return check, f"{check} score", f"{check} note"


def summary_columns_of(check: str) -> tuple[str, ...]:
    """The columns of a check in the summary."""
    figures = (f"{check}{figure}{limit}" for figure in ("", " score", " every time") for limit in _LIMITS)
    return (*figures, f"{check} n", f"{check} missing")
