"""Users of cases that the tests share, and how their conversations ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from halo_notebook.checks import JudgedTurn

if TYPE_CHECKING:
    from halo_notebook import Evaluation

Turns = Sequence[JudgedTurn]


def two(conversation: Turns) -> str | None:
    """A user with two messages."""
    return ["one", "two", None][len(conversation)]


def endless(conversation: Turns) -> str:
    return f"message {len(conversation)}"


def ends(result: Evaluation) -> list[Any]:
    return [row["end_reason"] for row in result.rows() if row["end_reason"]]
