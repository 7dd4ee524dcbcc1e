"""Checks applied to replies: what a check may take and return, and its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from halo_notebook.checks import Score, action, check_name, contains, faster_than
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation.judging import as_score, judge_of, named_checks
from halo_notebook.reply import Reply

if TYPE_CHECKING:
    from halo_notebook.stream import JSON


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        (True, Score(True, 1.0)),
        (False, Score(False, 0.0)),
        (0.5, Score(True, 0.5, "score 0.5")),
        (0.49, Score(False, 0.49, "score 0.49")),
        (1, Score(True, 1.0, "score 1")),
        (None, Score(None)),
        (Score(False, 0.2, "why"), Score(False, 0.2, "why")),
        (np.bool_(True), Score(True, 1.0)),
        (np.float32(0.25), Score(False, 0.25, "score 0.25")),
    ],
)
def test_what_a_check_may_give(verdict: Any, score: Score) -> None:
    """A bool, a number from 0 to 1, a Score, or nothing."""
    assert as_score(verdict) == score


@pytest.mark.parametrize("verdict", ["yes", float("nan"), [True], object(), 85, -0.1])
def test_what_a_check_may_not_give(verdict: Any) -> None:
    """It is no pass and no fail."""
    with pytest.raises(TypeError, match="a bool, a number from 0 to 1 or a Score"):
        as_score(verdict)


def test_a_check_may_take_what_is_expected() -> None:
    """As its second argument, required or called `expect`; another default is its own."""

    def one(reply: Reply) -> bool:
        return True

    def two(reply: Reply, wanted: str) -> bool:
        return wanted == "x"

    def named(reply: Reply, expect: JSON = None) -> bool:
        return expect == "x"

    def own(reply: Reply, limit: int = 3) -> bool:
        return limit == 3

    for check in (one, two, named, own):
        assert judge_of(check)(Reply(), "x") is True


def test_checks_have_names() -> None:
    """Their own, or those of a dict; two of one name are refused."""
    assert list(named_checks([contains("a"), contains("b"), len])) == ["contains(a)", "contains(b)", "len"]
    assert list(named_checks({"short": len})) == ["short"]
    assert list(named_checks(len)) == ["len"]
    assert check_name(action("go", a=1)) == "action(go, a=1)"
    assert check_name(faster_than(total_s=2)) == "faster_than(total_s=2)"
    with pytest.raises(InvalidRequest, match="Two checks are called 'contains'"):
        named_checks([contains(), contains()])
    with pytest.raises(InvalidRequest, match="'x' is not a function"):
        named_checks({"x": 3})  # type: ignore[dict-item]
