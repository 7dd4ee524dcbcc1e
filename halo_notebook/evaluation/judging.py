"""Checks applied to replies.

A failed assertion is a fail, and a skipped test says nothing. What else a check raises is its own failure to
judge: never a pass, and never a failure of the agent. An interrupt ends the run.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ..checks import PASSING, Score, check_name
from ..concurrency.usercode import UserCodeError, call, call_here
from ..display.text import one_line
from ..errors import InvalidRequest
from .columns import COLUMNS

if TYPE_CHECKING:
    from ..checks import Check, Verdict
    from ..reply import Reply
    from ..stream import JSON

Judge: TypeAlias = "Callable[[Reply, JSON], Verdict | Awaitable[Verdict]]"
Checks: TypeAlias = "Sequence[Check] | Mapping[str, Check] | Check"


class NoVerdict(Score):
    """A check failed to judge; the note says why."""


def named_checks(checks: Checks) -> dict[str, Judge]:
    """The checks by their names, see `judge_of`. Raises `InvalidRequest` for no function and a name twice."""
    if isinstance(checks, Mapping):
        named = {str(name): check for name, check in checks.items()}
    else:
        named = {}
        for check in [checks] if callable(checks) else list(checks):
            name = check_name(check)
            if name in named:
                raise InvalidRequest(
                    f"Two checks are called {name!r}. Nothing was sent; give them as a dict, name to check."
                )
            named[name] = check
    for name, check in named.items():
        if name in COLUMNS or name.endswith(" note") or not name:
            raise InvalidRequest(
                f"A check cannot be called {name!r}, as a column is. Nothing was sent; give it another name."
            )
        if not callable(check):
            raise InvalidRequest(f"The check {name!r} is not a function. Nothing was sent; give a function.")
    return {name: judge_of(check) for name, check in named.items()}


def judge_of(check: Check) -> Judge:
    """A check as a function of a reply and what is expected of it; its verdict may be awaitable."""
    # Done once: reading a signature takes longer than most checks.
    return check if _takes_two(check) else lambda reply, expect: check(reply)


def _takes_two(check: Check) -> bool:
    try:
        parameters = inspect.signature(check).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    required = [each for each in places if each.default is each.empty]
    return len(required) >= 2 or (len(places) >= 2 and places[1].name == "expect")


def judged(checks: Mapping[str, Judge], reply: Reply, expect: JSON) -> dict[str, Score]:
    """What each check finds about a reply, from sync code."""
    scores = {}
    for name, check in checks.items():
        try:
            scores[name] = as_score(call(check, reply, expect))
        except (UserCodeError, TypeError) as error:
            scores[name] = _raised(error)
    return scores


async def ajudged(checks: Mapping[str, Judge], reply: Reply, expect: JSON) -> dict[str, Score]:
    """As `judged`, on the caller's loop."""
    scores = {}
    for name, check in checks.items():
        try:
            scores[name] = as_score(await call_here(check, reply, expect))
        except (UserCodeError, TypeError) as error:
            scores[name] = _raised(error)
    return scores


def _raised(failure: UserCodeError | TypeError) -> Score:
    """What it means that a check raised this, or returned what it may not."""
    error = failure.error if isinstance(failure, UserCodeError) else failure
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # a task group of the check
    # By name, since neither pytest nor unittest may be loaded; pytest says that its own are builtins.
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    of_pytest = ("_pytest", "OutcomeException") in kinds
    if isinstance(error, KeyboardInterrupt):
        raise error
    if isinstance(error, AssertionError) or (of_pytest and ("builtins", "Failed") in kinds):
        return Score(False, 0.0, one_line(str(error)) or _source_line(error))
    if (of_pytest and ("builtins", "Skipped") in kinds) or ("unittest", "SkipTest") in kinds:
        return Score(None, note=one_line(str(error)))
    return NoVerdict(None, note=one_line(str(failure)))


def _source_line(error: BaseException) -> str:
    """The line that raised: what an assertion without a message says."""
    frames = traceback.extract_tb(error.__traceback__)
    return one_line(frames[-1].line or "") if frames else ""


def as_score(verdict: Any) -> Score:
    """What a check returned, as a `Score`. Raises `TypeError` when a check may not return it."""
    match verdict:
        case Score():
            # Such as numpy's bool, and None for a note.
            return replace(verdict, passed=as_score(verdict.passed).passed, note=str(verdict.note or ""))
        case None:
            return Score(None)
        case bool():
            return Score(verdict, float(verdict))
        case int() | float() if 0 <= verdict <= 1:
            return Score(verdict >= PASSING, float(verdict), f"score {verdict:.3g}")
        case _ if type(verdict).__module__ == "numpy" and getattr(verdict, "size", 0) == 1:
            return as_score(verdict.item())
    given = verdict if isinstance(verdict, int | float) else type(verdict).__name__
    raise TypeError(f"a check returns a bool, a number from 0 to 1 or a Score, not {given}")
