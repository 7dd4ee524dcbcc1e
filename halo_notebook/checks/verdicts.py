"""What a check may accept and return."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..display.text import one_line, whole_text
from ..errors import InvalidRequest

if TYPE_CHECKING:
    from ..reply import Reply

PASSING = 0.5
C = TypeVar("C", bound=Callable[..., Any])

Verdict: TypeAlias = "bool | float | Score | None"
Check: TypeAlias = Callable[..., "Verdict | Awaitable[Verdict]"]


@dataclass(frozen=True, slots=True)
class JudgedTurn:
    """A turn of the conversation that a check sees: what was sent, and the reply."""

    message: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Score:
    """What a check found.

    Attributes:
        passed: whether the reply passes; None when the check has nothing to say about it.
        value: from 0 to 1; by default 1.0 for a pass and 0.0 for a fail.
        note: why, in one line.

    Raises:
        TypeError: when `passed` is neither a bool nor a number nor None, or `value` is not a number.
        ValueError: when a number is not from 0 to 1.

    >>> Score(True, note="42 words")
    Score(passed=True, value=1.0, note='42 words')
    """

    passed: bool | None
    value: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        passed, value, share = plain(self.passed), plain(self.value), None
        if not isinstance(passed, bool | None):
            share = number(passed, "passed", "a bool or None")
            passed = share >= PASSING
        if value is not None:
            value = number(value, "value")
        elif passed is not None:
            value = (1.0 if passed else 0.0) if share is None else share
        object.__setattr__(self, "passed", passed)
        object.__setattr__(self, "value", value)
        note: Any = self.note
        if not isinstance(note, str) or not note.isascii():
            object.__setattr__(self, "note", "" if note is None else whole_text(str(note)))


class NoVerdict(Score):
    """A check could not judge, and the note says why. A check may return it, instead of raising."""


def number(given: Any, name: str, otherwise: str = "") -> float:
    """A number from 0 to 1 as a float. Raises `TypeError` and `ValueError`, as `Score` does."""
    or_otherwise = f"{otherwise} or " if otherwise else ""
    if isinstance(given, str | bytes) or not hasattr(given, "__float__"):
        raise TypeError(f"{name} must be {or_otherwise}a number from 0 to 1, not {type(given).__name__}")
    try:
        value = float(given)
    except OverflowError:  # a whole number of hundreds of digits
        value = math.inf
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be {or_otherwise}a number from 0 to 1, not {value:.5g}")
    return value


def plain(value: Any) -> Any:
    """Numpy's bool, and what else numpy and torch wrap around a single value, as Python's own."""
    if value is None or type(value) is bool:
        return value
    # By duck typing, since none of these packages may be loaded.
    if hasattr(value, "item") and getattr(value, "shape", None) is not None:
        return value.item()
    return value


def check_name(check: Check) -> str:
    """The name of a check: its column in a table."""
    return whole_text(str(getattr(check, "__name__", None) or type(check).__name__))


def shown_values(values: Mapping[str, Any]) -> list[str]:
    """``key=value`` for each of them, as a check's name shows it. Raises `InvalidRequest`."""
    shown = []
    for key, value in values.items():
        try:
            shown.append(f"{key}={getattr(value, '__name__', None) or repr(value)}")
        except Exception as error:  # noqa: BLE001  # that is the value's own code
            why = one_line(f"{type(error).__name__}: {error}")
            raise InvalidRequest(
                f"The check's name cannot show the value of {key!r} ({why}). Nothing was sent; give another."
            ) from None
    return shown


def named(check: Any, name: str, *about: str) -> Check:
    """Give a check a name that distinguishes it from others of its kind."""
    check.__name__ = f"{name}({', '.join(about)})" if about else name
    return check  # type: ignore[no-any-return]


def of_user(check: C) -> C:
    """Mark a check as one of the simulated user, and not of the agent; returns it. Usable as a decorator.

    Its failures are not the agent's: they are in no list of failures, and the summary counts the
    conversations that fail such a check as off goal.
    """
    check.of_user = True  # type: ignore[attr-defined]
    return check
