"""Two evaluations side by side: which configurations and cases of a result belong to which of another one.

Cases belong together when they send the same messages with the same fields, whatever their ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from ..errors import InvalidRequest

if TYPE_CHECKING:
    from .cases import Case
    from .state import RunState

T = TypeVar("T")


class Pairing:
    """The configurations and cases of a result and of its baseline that belong together.

    Attributes:
        configs: pairs of names, of the baseline and of the result.
        before, now: a case's id → its name on both sides, which is its id in the result.
        changed: how many pairs have other expectations.
    """

    def __init__(self, before: RunState, now: RunState, config: str | None) -> None:
        self.configs = _paired_configs(list(before.sources), list(now.sources), config)
        cases_before, cases_now = _by_content(before), _by_content(now)
        self.now = {case.id: case.id for case in cases_now.values()}
        self.before = {
            case.id: cases_now[key].id if key in cases_now else _free(case.id, self.now)
            for key, case in cases_before.items()
        }
        both = [(case, cases_now[key]) for key, case in cases_before.items() if key in cases_now]
        self.changed = sum(_expected(case) != _expected(other) for case, other in both)


def renamed(by_case: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """What is known by case, with other names of the cases."""
    return {names[case]: value for case, value in by_case.items()}


def _paired_configs(before: list[str], now: list[str], config: str | None) -> list[tuple[str, str]]:
    """Those of one name; where each side has only one, whatever its name. Raises `InvalidRequest`."""
    wanted = now if config is None else [name for name in now if name == config]
    common = [(name, name) for name in wanted if name in before]
    if common:
        return common
    if len(wanted) == len(before) == 1:
        return [(before[0], wanted[0])]
    raise InvalidRequest(
        f"No configuration {f'named {config!r} ' if config is not None else ''}is in both results "
        f"({', '.join(before)}; {', '.join(now)}). Nothing was compared; give configurations the same name."
    )


def _by_content(state: RunState) -> dict[tuple[str, int], Case]:
    """The cases by what they send; of equal ones, the n-th belongs to the n-th."""
    cases = {each.case.id: each.case for each in state.conversations.values()}
    copies: Counter[str] = Counter()
    made = {}
    for case in cases.values():
        key = case.content_key
        copies[key] += 1
        made[key, copies[key]] = case
    return made


def _free(name: str, taken: Iterable[str]) -> str:
    """A name for a case that only the baseline has."""
    while name in taken:
        name += " (before)"
    return name


def _expected(case: Case) -> list[object]:
    return [case.expected(turn) for turn in range(len(case.turns))]
