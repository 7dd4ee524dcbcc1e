"""Votes on replies to the same message: as a table, and which configuration people prefer.

The unit is the conversation: of each, the first vote counts, if all replies of its round were complete. Names
were still hidden then, and further votes depend on it. What ended a reply early may not be its agent. A tie
and "both bad" say nothing about the preference; their numbers are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

from ...errors import check_installed
from ..statistics.intervals import pass_rate

if TYPE_CHECKING:
    import pandas as pd

    from ...recording.ratings import Vote
    from ...session import Session

VOTE_COLUMNS = ("time", "message", "columns", "winner", "outcome", "blind", "counted")


@dataclass(frozen=True)
class Ballot:
    """The vote on one round.

    Attributes:
        vote: of one of its turns.
        message: what all configurations got.
        counted: whether it is the first vote of its conversation, and all replies of the round were complete.
    """

    vote: Vote
    message: str
    counted: bool


def ballots(sessions: Iterable[Session]) -> list[Ballot]:
    """The votes on the turns of `sessions`, each round once, in the order in which they were cast."""
    found: dict[str, Ballot] = {}
    for session in sessions:
        voted = [turn for turn in session.turns if turn.vote]
        for turn in voted:
            assert turn.vote is not None
            # A branch or an export may hold a copy of a turn.
            counted = turn is voted[0] and turn.reply.status == "complete"
            counted = counted and found.get(turn.vote.round, Ballot(turn.vote, "", True)).counted
            found[turn.vote.round] = Ballot(turn.vote, turn.masked_message, counted)
    return sorted(found.values(), key=lambda ballot: ballot.vote.at)


def votes_frame(cast: Sequence[Ballot], configs: Sequence[str]) -> pd.DataFrame:
    """One row per vote; `attrs["preferences"]` holds the rows of `preferences_frame` as dicts."""
    check_installed("A table of votes", "eval", "pandas", outcome="The votes are kept")
    import pandas as pd

    rows = [
        {
            "time": datetime.fromisoformat(ballot.vote.at),
            "message": ballot.message,
            "columns": ballot.vote.configs,
            "winner": ballot.vote.winner or None,
            "outcome": "win" if ballot.vote.winner else ballot.vote.outcome,
            "blind": ballot.vote.blind,
            "counted": ballot.counted,
        }
        for ballot in cast
    ]
    frame = pd.DataFrame(rows, columns=list(VOTE_COLUMNS))
    frame.attrs["preferences"] = _preferences(cast, configs)
    return frame


def preferences_frame(cast: Sequence[Ballot], configs: Sequence[str]) -> pd.DataFrame:
    """One row per pair of configurations, from the votes that count."""
    check_installed("A table of votes", "eval", "pandas", outcome="The votes are kept")
    import pandas as pd

    return pd.DataFrame(_preferences(cast, configs))


def _preferences(cast: Sequence[Ballot], configs: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for a, b in combinations(configs, 2):
        votes = [each.vote for each in cast if each.counted and {a, b} <= {*each.vote.configs}]
        wins = [vote.winner == a for vote in votes if vote.winner in (a, b)]
        rate = pass_rate({number: [won] for number, won in enumerate(wins)})
        outcomes = [vote.outcome for vote in votes if not vote.winner]
        rows.append(
            {
                "a": a,
                "b": b,
                "a wins": sum(wins),
                "b wins": len(wins) - sum(wins),
                "ties": outcomes.count("tie"),
                "both bad": outcomes.count("both bad"),
                "prefer a": rate.estimate,
                "prefer a low": rate.low,
                "prefer a high": rate.high,
                "p": _exact_p(sum(wins), len(wins)) if wins else None,
            }
        )
    return rows


def _exact_p(wins: int, count: int) -> float:
    """The two-sided exact binomial test of an even chance."""
    tail = sum(comb(count, fewer) for fewer in range(min(wins, count - wins) + 1))
    return float(min(1, 2 * tail / 2**count))
