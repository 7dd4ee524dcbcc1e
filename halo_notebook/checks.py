"""Ready-made checks, and what a check may accept and return.

A check is a function ``check(reply)`` or ``check(reply, expect)``, sync or async, where `expect` is what the
case expects. It returns a bool (pass or fail), a number from 0 to 1 (0.5 or more passes), a `Score`, or None
when it has nothing to say about the reply.

A failed assertion (also of pytest or unittest) is a fail, and a skipped test says nothing. A check that
raises anything else has failed to judge: the turn counts neither as passed nor as failed. Only an interrupt
ends the run.

The ready-made checks look only at what was received: the text, the actions, the times. Texts that are
canonically equal in Unicode are equal, such as an é of one character and one of two.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .display.lookalikes import canonical, difference

if TYPE_CHECKING:
    from .reply import Reply
    from .stream import JSON

Verdict: TypeAlias = "bool | float | Score | None"
Check: TypeAlias = Callable[..., "Verdict | Awaitable[Verdict]"]
PASSING = 0.5

__all__ = [
    "Check",
    "Score",
    "Verdict",
    "action",
    "actions_in_order",
    "agent_is",
    "autoevals_scorer",
    "contains",
    "faster_than",
    "json_schema",
    "matches",
    "no_action",
]


@dataclass(frozen=True, slots=True)
class Score:
    """What a check found.

    Attributes:
        passed: whether the reply passes; None when the check has nothing to say about it.
        value: from 0 to 1; 1.0 or 0.0 for a plain pass or fail.
        note: why, in one line.
    """

    passed: bool | None
    value: float | None = None
    note: str = ""


def check_name(check: Check) -> str:
    """The name of a check: its column in a table."""
    return str(getattr(check, "__name__", None) or type(check).__name__)


def contains(*texts: str, ignore_case: bool = True) -> Check:
    """Passes if the reply's text contains each of `texts`; without any, what the case expects.

    >>> from halo_notebook import Reply, TextDelta
    >>> reply = Reply()
    >>> reply.add(TextDelta("Your invoices are under Billing."), at_s=0.1)
    >>> contains("billing")(reply).passed
    True
    """

    def check(reply: Reply, expect: JSON = None) -> Score:
        wanted = texts or _expected_texts(expect)
        if not wanted:
            return Score(None)
        text = canonical(reply.text, ignore_case=ignore_case)
        missing = [each for each in wanted if canonical(each, ignore_case=ignore_case) not in text]
        return _score(not missing, _without(reply.text, missing[0]) if missing else "")

    return _named(check, "contains", *texts)


def matches(pattern: str, flags: int = 0) -> Check:
    """Passes if the regular expression `pattern` is found in the reply's text."""
    compiled, of_canonical = re.compile(pattern, flags), re.compile(canonical(pattern), flags)

    def check(reply: Reply) -> bool:
        found = compiled.search(reply.text) or of_canonical.search(canonical(reply.text))
        return found is not None

    return _named(check, "matches", pattern)


def action(type: str | None = None, /, **where: Any) -> Check:  # noqa: A002  # as payloads call it
    """Passes if the agent took an action of that type with these values.

    Args:
        type: the payload's `type`, or its `name` if it has no such type; None for any action.
        where: key → value at the top level of the payload, or a function of that value;
            ``a__b`` looks into an object: ``ticket__priority="high"``.
    """

    def check(reply: Reply) -> Score:
        found = any(_fits(payload, type, where) for payload in reply.actions)
        return _score(found, "" if found else f"{len(reply.actions)} other actions")

    values = [f"{key}={getattr(value, '__name__', repr(value))}" for key, value in where.items()]
    return _named(check, "action", *([type] if type else []), *values)


def no_action(type: str | None = None, /) -> Check:  # noqa: A002  # as payloads call it
    """Passes if the agent took no action, or none of that type."""
    return _named(
        lambda reply: not any(_fits(payload, type, {}) for payload in reply.actions),
        "no_action",
        *([type] if type else []),
    )


def actions_in_order(*types: str) -> Check:
    """Passes if actions of these types came in this order; there may be others between them."""

    def check(reply: Reply) -> bool:
        payloads = iter(reply.actions)
        return all(any(_fits(payload, wanted, {}) for payload in payloads) for wanted in types)

    return _named(check, "actions_in_order", *types)


def faster_than(*, first_text_s: float | None = None, total_s: float | None = None) -> Check:
    """Passes if the first text came, and the reply ended, within these seconds."""
    limits = {"first_text_s": first_text_s, "total_s": total_s}

    def check(reply: Reply) -> Score:
        times = (("first text", reply.first_text_s, first_text_s), ("total", reply.elapsed_s, total_s))
        slow = [
            f"{name} {took if took is None else round(took, 3)} s"
            for name, took, limit in times
            if limit is not None and (took is None or took > limit)
        ]
        return _score(not slow, ", ".join(slow))

    return _named(check, "faster_than", *(f"{name}={limit}" for name, limit in limits.items() if limit))


def json_schema(schema: Mapping[str, Any], type: str | None = None) -> Check:  # noqa: A002  # as above
    """Passes if each action of that type (None: each) fits the JSON schema, and there is one.

    Needs the package jsonschema.
    """
    import jsonschema

    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.check_schema(dict(schema))

    def check(reply: Reply) -> Score:
        payloads = [payload for payload in reply.actions if _fits(payload, type, {})]
        if not payloads:
            return _score(False, "no such action")
        problem = next((error for payload in payloads for error in validator.iter_errors(payload)), None)
        return _score(problem is None, problem.message[:200] if problem else "")

    return _named(check, "json_schema", *([type] if type else []))


def agent_is(agent_id: str) -> Check:
    """Passes if that agent answered."""
    return _named(lambda reply: _score(reply.agent_id == agent_id, str(reply.agent_id)), "agent_is", agent_id)


def autoevals_scorer(scorer: Any, *, passing: float = PASSING) -> Check:
    """One of autoevals' scorers as a check: it gets the reply's text, and what the case expects.

    Args:
        scorer: such as ``autoevals.Levenshtein()``; called as ``scorer(output=…, expected=…)``.
        passing: the score from which a reply passes.
    """

    def check(reply: Reply, expect: JSON) -> Score:
        value = scorer(output=reply.text, expected=expect).score
        return Score(None if value is None else value >= passing, value)

    return _named(check, check_name(scorer))


def _score(passed: bool, note: str) -> Score:
    return Score(passed, float(passed), note)


def _without(text: str, wanted: str) -> str:
    how = difference(canonical(text), canonical(wanted))
    return f"without {wanted!r}" + (f" ({how})" if how else "")


def _fits(payload: JSON, type_: str | None, where: Mapping[str, Any]) -> bool:
    if not isinstance(payload, dict):
        return type_ is None and not where
    if type_ is not None and not any(_equal(payload.get(name), type_) for name in ("type", "name")):
        return False
    return all(_holds(payload, path.split("__"), wanted) for path, wanted in where.items())


def _holds(value: JSON, path: Sequence[str], wanted: Any) -> bool:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    if callable(wanted):
        return bool(wanted(value))
    return _equal(value, wanted)


def _equal(value: JSON, wanted: Any) -> bool:
    if isinstance(value, str) and isinstance(wanted, str):
        return canonical(value) == canonical(wanted)
    # Python holds True equal to 1, and JSON does not.
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _expected_texts(expect: JSON) -> tuple[str, ...]:
    if isinstance(expect, str):
        return (expect,)
    return tuple(each for each in expect if isinstance(each, str)) if isinstance(expect, list) else ()


def _named(check: Any, name: str, *about: str) -> Check:
    """Give a check a name that distinguishes it from others of its kind."""
    check.__name__ = f"{name}({', '.join(about)})" if about else name
    return check  # type: ignore[no-any-return]
