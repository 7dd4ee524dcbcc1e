"""Ready-made checks of one reply: its text, its actions, its times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..display.lookalikes import canonical, difference
from ..display.wording import counted
from ..errors import InvalidRequest
from .payloads import fits
from .verdicts import Check, Score, named, shown_values

if TYPE_CHECKING:
    from ..reply import Reply
    from ..stream import JSON


def contains(*texts: str | float, ignore_case: bool = True) -> Check:
    """Passes if the reply's text contains each of `texts`; without any, what the case expects.

    A case may expect a text, a number (42 or 42.0: the text ``42``) or a list of these; where it expects
    nothing, the check gives no verdict. Anything else, such as an object or an empty text, raises
    `InvalidRequest` before a message is sent.

    >>> from halo_notebook import Reply, TextDelta
    >>> reply = Reply()
    >>> reply.add(TextDelta("Your invoices are under Billing."), at_s=0.1)
    >>> contains("billing")(reply).passed
    True
    """

    given = _texts(list(texts), "contains() was given") if texts else ()

    def check(reply: Reply, expect: JSON = None) -> Score:
        wanted = given or expected(expect)
        if not wanted:
            return Score(None)
        text = canonical(reply.text, ignore_case=ignore_case)
        missing = [each for each in wanted if canonical(each, ignore_case=ignore_case) not in text]
        return _score(not missing, _without(reply.text, missing[0]) if missing else "")

    def expected(expect: JSON) -> tuple[str, ...]:
        return () if given or expect is None else _texts(expect, "contains() looks for what is expected,")

    check.may_expect = expected  # type: ignore[attr-defined]  # asked before a message is sent
    return named(check, "contains", *given)


def matches(pattern: str, flags: int = 0) -> Check:
    """Passes if the regular expression `pattern` is found in the reply's text."""
    compiled, of_canonical = re.compile(pattern, flags), re.compile(canonical(pattern), flags)

    def check(reply: Reply) -> bool:
        found = compiled.search(reply.text) or of_canonical.search(canonical(reply.text))
        return found is not None

    return named(check, "matches", pattern)


def action(type: str | None = None, /, **where: Any) -> Check:  # noqa: A002  # as payloads call it
    """Passes if the agent took an action of that type with these values.

    Args:
        type: the payload's `type`, or its `name` if it has no such type; None for any action.
        where: key → value at the top level of the payload, or a function of that value;
            ``a__b`` looks into an object: ``ticket__priority="high"``.
    """

    def check(reply: Reply) -> Score:
        found = any(fits(payload, type, where) for payload in reply.actions)
        return _score(found, "" if found else counted(len(reply.actions), "other action"))

    return named(check, "action", *([type] if type else []), *shown_values(where))


def no_action(type: str | None = None, /) -> Check:  # noqa: A002  # as payloads call it
    """Passes if the agent took no action, or none of that type."""
    return named(
        lambda reply: not any(fits(payload, type, {}) for payload in reply.actions),
        "no_action",
        *([type] if type else []),
    )


def actions_in_order(*types: str) -> Check:
    """Passes if actions of these types came in this order; there may be others between them."""
    if not types:
        raise InvalidRequest("actions_in_order() needs at least one type of action.")

    def check(reply: Reply) -> bool:
        payloads = iter(reply.actions)
        return all(any(fits(payload, wanted, {}) for payload in payloads) for wanted in types)

    return named(check, "actions_in_order", *types)


def faster_than(*, first_text_s: float | None = None, total_s: float | None = None) -> Check:
    """Passes if the first text came, and the reply ended, within these seconds."""
    if first_text_s is None and total_s is None:
        raise InvalidRequest("faster_than() needs first_text_s or total_s.")
    limits = {"first_text_s": first_text_s, "total_s": total_s}

    def check(reply: Reply) -> Score:
        times = (("first text", reply.first_text_s, first_text_s), ("total", reply.elapsed_s, total_s))
        slow = [
            f"{name} {took if took is None else round(took, 3)} s"
            for name, took, limit in times
            if limit is not None and (took is None or took > limit)
        ]
        return _score(not slow, ", ".join(slow))

    return named(
        check, "faster_than", *shown_values({name: limit for name, limit in limits.items() if limit})
    )


def json_schema(schema: Mapping[str, Any], type: str | None = None) -> Check:  # noqa: A002  # as above
    """Passes if each action of that type (None: each) fits the JSON schema, and there is one.

    Needs the package jsonschema.
    """
    import jsonschema

    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.check_schema(dict(schema))

    def check(reply: Reply) -> Score:
        payloads = [payload for payload in reply.actions if fits(payload, type, {})]
        if not payloads:
            return _score(False, "no such action")
        problem = next((error for payload in payloads for error in validator.iter_errors(payload)), None)
        return _score(problem is None, problem.message[:200] if problem else "")

    return named(check, "json_schema", *([type] if type else []))


def agent_is(agent_id: str) -> Check:
    """Passes if that agent answered."""
    return named(lambda reply: _score(reply.agent_id == agent_id, str(reply.agent_id)), "agent_is", agent_id)


def _score(passed: bool, note: str) -> Score:
    return Score(passed, note=note)


def _without(text: str, wanted: str) -> str:
    how = difference(canonical(text), canonical(wanted))
    return f"without {wanted!r}" + (f" ({how})" if how else "")


def _texts(given: JSON, what: str) -> tuple[str, ...]:
    """The texts to look for. Raises `InvalidRequest`."""
    texts = [_text(each) for each in (given if isinstance(given, list) else [given])]
    if not texts or not all(texts):
        raise InvalidRequest(f"{what} {str(given)[:80]!r}: it takes texts that are not empty, and numbers.")
    return tuple(map(str, texts))


def _text(given: JSON) -> str | None:
    """A text or number as the text to look for; None for anything else."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    if isinstance(given, float) and given.is_integer():
        given = int(given)  # as which a column with a gap holds it
    try:
        return str(given)
    except ValueError:  # Python writes no more than some thousand digits
        raise InvalidRequest("contains() cannot write so large a number: give it as a text.") from None
