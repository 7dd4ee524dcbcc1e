"""What the payload of an action says. No shape of it is published: `type` and `name` are likely labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..display.lookalikes import canonical

if TYPE_CHECKING:
    from ..stream import JSON

_LABELS = ("type", "name")


def labels(payload: JSON) -> list[str]:
    """What the payload says that it is, in one way or two."""
    given = [payload.get(name) for name in _LABELS] if isinstance(payload, dict) else []
    return [label for label in given if isinstance(label, str)]


def fits(payload: JSON, type_: str | None, where: Mapping[str, Any]) -> bool:
    """Whether the payload is of that type, and has these values, see `checks.action`."""
    if not isinstance(payload, dict):
        return type_ is None and not where
    if type_ is not None and not any(_equal(payload.get(name), type_) for name in _LABELS):
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
