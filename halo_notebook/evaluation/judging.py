"""Checks applied to replies.

What a check raises is its own failure to judge: never a pass, and never a failure of the agent.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..checks import PASSING, Score, check_name
from ..concurrency.usercode import UserCodeError, call, call_here
from ..display.text import one_line
from ..errors import InvalidRequest

if TYPE_CHECKING:
    from ..checks import Check, Verdict
    from ..reply import Reply
    from ..stream import JSON

Judge: TypeAlias = "Callable[[Reply, JSON], Verdict | Awaitable[Verdict]]"
Checks: TypeAlias = "Sequence[Check] | Mapping[str, Check] | Check"

# The columns of tables, beside those of the checks.
COLUMNS = (
    *("case", "config", "repeat", "turn", "tags", "status", "message", "text", "actions", "session_id"),
    *("agent_id", "first_text_s", "elapsed_s", "queue_wait_s", "retries", "error"),
    *("cases", "turns", "complete", "failed", "interrupted", "not asked", "agents"),
)


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
            scores[name] = NoVerdict(None, note=one_line(str(error)))
    return scores


async def ajudged(checks: Mapping[str, Judge], reply: Reply, expect: JSON) -> dict[str, Score]:
    """As `judged`, on the caller's loop."""
    scores = {}
    for name, check in checks.items():
        try:
            scores[name] = as_score(await call_here(check, reply, expect))
        except (UserCodeError, TypeError) as error:
            scores[name] = NoVerdict(None, note=one_line(str(error)))
    return scores


def as_score(verdict: Any) -> Score:
    """What a check returned, as a `Score`. Raises `TypeError` when a check may not return it."""
    match verdict:
        case Score():
            return verdict
        case None:
            return Score(None)
        case bool():
            return Score(verdict, float(verdict))
        case int() | float() if 0 <= verdict <= 1:
            return Score(verdict >= PASSING, float(verdict), f"score {verdict:.3g}")
        case _ if type(verdict).__module__ == "numpy" and hasattr(verdict, "item"):
            return as_score(verdict.item())
    given = verdict if isinstance(verdict, int | float) else type(verdict).__name__
    raise TypeError(f"a check returns a bool, a number from 0 to 1 or a Score, not {given}")
