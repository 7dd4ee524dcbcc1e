"""The columns of the tables; neither a check nor metadata may have one of these names."""

from __future__ import annotations

# Of a turn, in their order; the columns of the checks and of the metadata follow.
ROW_COLUMNS = (
    *("case", "config", "repeat", "turn", "tags", "status", "cause", "started_at", "message", "expect"),
    *("text", "actions", "session_id", "agent_id", "first_text_s", "elapsed_s", "queue_wait_s", "retries"),
    *("error", "label", "label note"),
)
_LIMITS = ("", " low", " high")
COLUMNS = (
    *ROW_COLUMNS,
    *("cases", "turns", "complete", "failed", "interrupted", "not asked", "agents"),
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
