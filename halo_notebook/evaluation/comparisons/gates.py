"""Gates: requirements on a result that pass, or raise one line with which a test or a notebook fails.

A result without runs never passes. Missing runs say nothing about the agent, so they count neither way; the
fewer there are, the less is certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRequest, RequirementFailed
from ..statistics.intervals import Interval, pass_rate
from ..statistics.paired import no_worse

if TYPE_CHECKING:
    from ..statistics.intervals import Runs


def require_rate(
    check: str,
    passed: Mapping[str, Mapping[Any, list[bool | None]]],
    at_least: float,
    *,
    sure: bool,
    path: Path,
) -> None:
    """Raise `RequirementFailed` unless the check passes often enough in each of the configurations.

    See `Evaluation.require`; `passed` is what `Evaluation.passed` returns.
    """
    wanted = _fraction("at_least", at_least)
    failed = []
    for config, by_case in passed.items():
        rate = pass_rate(by_case)
        if why := _why_not(rate, wanted, sure=sure):
            failed.append(f"{config!r} {why}{rate}")
    if failed or not passed:
        raise RequirementFailed(
            f"Check {check!r} must pass in at least {wanted * 100:.4g}% of the cases, but "
            f"{'; '.join(failed) or 'it has no configurations'}. All replies are kept in {path.name!r}; see "
            "result.worst()."
        )


def _why_not(rate: Interval, wanted: float, *, sure: bool) -> str:
    """Why a rate is not enough, in words that go before it; empty where it is."""
    if rate.low is None or rate.high is None:
        return "has "  # no result
    if sure:
        return "" if rate.low >= wanted else "is not certainly above: "
    return "is certainly below: " if rate.high < wanted else ""


def require_no_worse(
    check: str,
    sides: Mapping[str, tuple[Runs, Runs]],
    margin: float,
    *,
    path: Path,
    unpaired: Mapping[str, str],
) -> None:
    """Raise `RequirementFailed` unless the check certainly passes about as often as in a baseline.

    See `Evaluation.require_no_worse`; `sides` has each configuration's passes in the baseline and now, by
    case, and `unpaired` says of the other configurations on which side they are.
    """
    allowed = _fraction("margin", margin)
    todo = "to leave it out, choose another with config="
    failed = [f"{config!r} is only in {where} ({todo})" for config, where in unpaired.items()]
    for config, (before, now) in sides.items():
        found = no_worse(before, now, allowed)
        if not found.certain:
            failed.append(f"{config!r} {found}")
    if failed or not sides:
        raise RequirementFailed(
            f"Check {check!r} must not pass less often than in the baseline, but "
            f"{'; '.join(failed) or 'it has no configurations'}. All replies are kept in {path.name!r}; see "
            "result.compare_with(baseline)."
        )


def _fraction(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN neither
        raise InvalidRequest(f"{name} must be from 0 to 1, not {value!r}. Nothing was checked.")
    return float(value)
