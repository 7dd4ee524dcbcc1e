"""Checks by a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .verdicts import PASSING, Check, Score, check_name, named

if TYPE_CHECKING:
    from ..reply import Reply
    from ..stream import JSON


def autoevals_scorer(scorer: Any, *, passing: float = PASSING) -> Check:
    """One of autoevals' scorers as a check: it gets the reply's text, and what the case expects.

    Args:
        scorer: such as ``autoevals.Levenshtein()``; called as ``scorer(output=…, expected=…)``.
        passing: the score from which a reply passes.
    """

    def check(reply: Reply, expect: JSON) -> Score:
        value = scorer(output=reply.text, expected=expect).score
        return Score(None if value is None else value >= passing, value)

    return named(check, check_name(scorer))
