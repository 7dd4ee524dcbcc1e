"""How configurations differ: each check's rate and score, and the times, paired by case; and case by case."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

from ...display.text import writable
from ...display.wording import counted
from ...errors import InvalidRequest
from ..statistics.paired import (
    Comparison,
    TimeComparison,
    compare_passes,
    compare_scores,
    compare_times,
    holm,
)
from ..tables.rows import TIMES, cell

if TYPE_CHECKING:
    import pandas as pd

    from ..statistics.intervals import Runs
    from ..tables.by_case import Figures

Key: TypeAlias = "str | tuple[str, ...]"
Found: TypeAlias = "Comparison | TimeComparison"


@dataclass(frozen=True)
class Side:
    """What is compared: a configuration's results by case, for each check and each time.

    Cases are named by what pairs them, such as their ids.
    """

    name: str
    passed: Mapping[str, Mapping[str, Sequence[bool | None]]]
    scores: Mapping[str, Runs]  # of the checks that are `graded`, see `Figures`
    times: Mapping[str, Runs]
    rows: Mapping[str, Sequence[int]]
    messages: Mapping[str, str]  # the first of each case
    said: Mapping[str, str]  # a digest of what the users of each case said, if it has users


def side_of(figures: Figures, config: str, said: Mapping[str, Mapping[str, str]]) -> Side:
    """A configuration as one side of a comparison, with what `users_words` found.

    Raises `InvalidRequest` if there is none of that name.
    """
    chosen = figures.of(config)
    return Side(
        config,
        {check: chosen.passed(check) for check in figures.checks},
        {check: chosen.scores(check) for check in figures.checks if check in figures.graded},
        {name: chosen.times(name) for name in TIMES},
        chosen.rows(),
        {run.conversation.case.id: run.conversation.case.opening for run in chosen.runs},
        said.get(config, {}),
    )


class Comparisons(dict[Key, Found]):
    """What is compared → how it differs; shows as a line each.

    The keys are the names of checks and times, and `<check> score` for mean scores. Where several
    configurations or groups of cases are compared, they are tuples: the configuration, the group, the name.

    Attributes:
        labels: what the parts of a key before the name are: ``config``, ``tag`` or a column of metadata.
        family: how many p-values there are, which are adjusted together; see `holm`.
    """

    def __init__(
        self, found: Mapping[tuple[str, ...], Found], labels: Sequence[str], sides: Sequence[Side]
    ) -> None:
        tested = {key: each for key, each in found.items() if isinstance(each, Comparison)}
        adjusted = {**found, **holm(tested)}
        super().__init__({key if labels else key[-1]: each for key, each in adjusted.items()})
        self.labels = tuple(labels)
        self.family = sum(each.p_value is not None for each in tested.values())
        self._sides = sides

    @property
    def cases(self) -> pd.DataFrame:
        """A row per case: its first message, both rates, the difference, and its rows; worst first.

        The columns of a check are `<check>: <configuration>` and `<check>: <other> - <first>`, those of its
        mean score, if it has one, begin with `<check> score`, and `rows: <configuration>` are the numbers of
        the rows of `df`. The case whose rate falls the most in any check comes first, and of equal ones the
        one whose score does. One without a result on either side has a missing difference and comes last.
        """
        from ..tables.dataframes import Table

        rows = []
        for case in dict.fromkeys(case for side in self._sides for case in side.rows):
            messages = [side.messages[case] for side in self._sides if case in side.messages]
            row: dict[str, Any] = {"case": case, "message": messages[0]}
            rates: list[float] = []
            scores: list[float] = []
            for check in self._sides[0].passed:
                passed = [(side.name, side.passed.get(check, {}).get(case)) for side in self._sides]
                rates += _add_changes(row, check, passed)
                if any(check in side.scores for side in self._sides):
                    graded = [(side.name, side.scores.get(check, {}).get(case)) for side in self._sides]
                    scores += _add_changes(row, f"{check} score", graded)
            row |= {f"rows: {side.name}": cell(list(side.rows.get(case, ()))) for side in self._sides}
            rank = [
                (min(changes), sum(changes)) if changes else (math.inf, 0.0) for changes in (rates, scores)
            ]
            rows.append((rank, row))
        return Table([row for _, row in sorted(rows, key=lambda ranked: ranked[0])])

    def lines(self) -> Iterator[tuple[list[str], Comparison]]:
        """The labels and the name of each figure, and how it differs."""
        for key, found in self.items():
            *labels, name = key if isinstance(key, tuple) else (key,)
            shown = TIMES.get(name, name)
            if isinstance(found, Comparison):
                yield [*labels, shown], found
            else:
                yield [*labels, f"{shown}, median"], found.median
                yield [*labels, f"{shown}, p95"], found.p95

    def captions(self) -> list[str]:
        """What the differences are, how the p-values were adjusted, and whether the messages differ."""
        others = " or ".join(side.name for side in self._sides[1:])
        words = [
            f"Differences are {others} minus {self._sides[0].name}, paired by case, with 95 % intervals."
        ]
        if self.family > 1:
            words.append(f"The {self.family} p-values are adjusted together, by Holm's method.")
        first, *more = self._sides
        users = [case for case in first.said if any(case in side.said for side in more)]
        different = sum(
            any(side.said.get(case, first.said[case]) != first.said[case] for side in more) for case in users
        )
        if different:
            words.append(
                f"In {different:,} of {counted(len(users), 'case')} with a user, it said other words to "
                "each side, so a difference may come from the user. as_cases() gives both the same words."
            )
        return words

    def __repr__(self) -> str:
        names = {key: " · ".join(key) if isinstance(key, tuple) else key for key in self}
        width = max(map(len, names.values()), default=0)
        lines = [f"{names[key]:{width}}  {comparison}" for key, comparison in self.items()]
        return writable("\n".join([*lines, *self.captions()]))

    def _repr_html_(self) -> str:
        from ..report.notebook import comparison_table

        return comparison_table(*self.table(), self.captions())

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Its heads and rows, as texts."""
        rows = [[*labels, found.words(), found.note] for labels, found in self.lines()]
        return [*self.labels, "", "difference", "note"], rows

    def __reduce__(self) -> tuple[Any, ...]:
        found = {key if isinstance(key, tuple) else (key,): each for key, each in self.items()}
        return Comparisons, (found, self.labels, self._sides)


def compared_by(
    figures: Figures, names: Sequence[str], by: str | None, said: Mapping[str, Mapping[str, str]]
) -> Comparisons:
    """Compare configurations, see `Evaluation.compare`; with `by` each group of cases on its own."""
    if len(names) < 2:
        raise InvalidRequest(f"To compare, two configurations are needed, not only {', '.join(names)}.")
    sides = [side_of(figures, name, said) for name in names]
    if by is None:
        return compared(sides)
    groups = figures.grouped(by).items()
    return compared(
        sides, {name: [side_of(group, each, said) for each in names] for name, group in groups}, by
    )


def compared(
    sides: Sequence[Side], groups: Mapping[str, Sequence[Side]] | None = None, by: str = ""
) -> Comparisons:
    """Compare the first side with each of the others; with `groups`, the sides of each group of cases.

    Checks that only one side has are left out.
    """
    several = len(sides) > 2
    found: dict[tuple[str, ...], Found] = {}
    for group, (first, *others) in (groups or {"": sides}).items():
        for other in others:
            labels = [*([other.name] if several else []), *([group] if groups else [])]
            for name, each in _differences(first, other):
                found[*labels, name] = each
    return Comparisons(found, [*(["config"] if several else []), *([by] if groups else [])], sides)


def _differences(first: Side, other: Side) -> Iterator[tuple[str, Found]]:
    for check in first.passed:
        if check not in other.passed:
            continue
        yield check, compare_passes(first.passed[check], other.passed[check])
        if check in first.scores or check in other.scores:
            a, b = (side.scores.get(check, side.passed[check]) for side in (first, other))
            yield f"{check} score", compare_scores(a, b)
    for name in TIMES:
        yield name, compare_times(first.times[name], other.times[name])


def _add_changes(
    row: dict[str, Any], name: str, sides: Sequence[tuple[str, Sequence[float | None] | None]]
) -> list[float]:
    """Add the mean of a case on each side and its differences to the row; returns those that are known."""
    means = {}
    for side, values in sides:
        known = [value for value in values or () if value is not None]
        means[side] = fmean(known) if known else math.nan
    first, *others = means
    changes = {f"{name}: {other} - {first}": means[other] - means[first] for other in others}
    row |= {f"{name}: {side}": mean for side, mean in means.items()} | changes
    return [change for change in changes.values() if not math.isnan(change)]
