"""What a person thinks of a reply: a rating, or a vote on it beside the replies of other configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["up", "down", ""]
Outcome: TypeAlias = Literal["won", "lost", "tie", "both bad"]


@dataclass(frozen=True)
class Rating:
    """What a person thought of a turn.

    Attributes:
        value: ``up``, ``down``, or empty for only a note.
    """

    value: Verdict = ""
    note: str = ""


@dataclass(frozen=True)
class Vote:
    """What a person preferred when several configurations had answered the same message.

    Attributes:
        round: an id, the same for the turns that were compared.
        config: the configuration of the turn that has this vote.
        configs: all of them, in the order of their columns.
        outcome: ``won``, ``lost``, ``tie`` or ``both bad``, for this turn.
        winner: the preferred configuration; empty for a tie and for ``both bad``.
        blind: whether the names were hidden.
        at: when, in UTC.
    """

    round: str
    config: str
    configs: tuple[str, ...]
    outcome: Outcome
    winner: str
    blind: bool
    at: str
