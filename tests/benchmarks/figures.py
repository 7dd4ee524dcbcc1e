"""A figure, the baseline beside it, the bound aimed at, and the table of them all.

The rule: a figure and its baseline are measured in turns (A B A B …), so that a machine that
grows slower meanwhile slows both; the figures are the medians, and a ratio is the median of
the turns' own ratios, so it need not be the quotient of the two figures printed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

WITH_BYTE_CODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""The environment of a measured process. Without it each start would compile this package again, but not
the installed packages, which are compiled already."""


@dataclass(frozen=True)
class Bound:
    """What is aimed at: that the figure, or its ratio to the baseline, is at most or at least `limit`."""

    limit: float
    of_ratio: bool = False
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` is within it."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what was measured.
        value: the median; the worst where it counts what was lost.
        unit: of value and baseline.
        n: how many times it was measured.
        baseline: the machine's own figure, from the same run; None when there is none.
        against: what the baseline is.
        ratio: value to baseline.
        bound: what is aimed at; None for a figure that only informs.
    """

    name: str
    value: float
    unit: str
    n: int
    baseline: float | None = None
    against: str = ""
    ratio: float | None = None
    bound: Bound | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bound is met; None without a bound."""
        if self.bound is None:
            return None
        value = self.ratio if self.bound.of_ratio else self.value
        return value is not None and self.bound.holds(value)


def in_turns(measures: Sequence[Callable[[], T]], n: int) -> list[list[T]]:
    """Take each measure once per turn, `n` turns long; one list of `n` results for each."""
    turns = [[measure() for measure in measures] for _ in range(n)]
    return [list(results) for results in zip(*turns, strict=True)]


def compared(
    name: str,
    values: Sequence[float],
    unit: str,
    baselines: Sequence[float],
    against: str,
    *,
    bound: Bound | None = None,
) -> Figure:
    """The figure of values and baselines that were taken in turns."""
    ratios = [value / baseline for value, baseline in zip(values, baselines, strict=True) if baseline]
    return Figure(
        name,
        statistics.median(values),
        unit,
        len(values),
        statistics.median(baselines),
        against,
        statistics.median(ratios) if ratios else None,
        bound,
    )


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text, their bounds marked `ok` or `MISSED`."""
    head = ("figure", "measured", "baseline", "ratio", "bound", "", "n", "baseline is")
    rows = [head, *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = (0, 4, 5, 7)
    lines = [
        "  ".join(
            word.ljust(width) if column in left else word.rjust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _row(figure: Figure) -> tuple[str, ...]:
    bound = figure.bound
    shown_bound = ""
    if bound is not None:
        sign = "≥" if bound.at_least else "≤"
        shown_bound = f"{sign} {_shown(bound.limit)} {'×' if bound.of_ratio else figure.unit}".rstrip()
    return (
        figure.name,
        f"{_shown(figure.value)} {figure.unit}".rstrip(),
        "" if figure.baseline is None else f"{_shown(figure.baseline)} {figure.unit}".rstrip(),
        "" if figure.ratio is None else f"{_shown(figure.ratio)} ×",
        shown_bound,
        {None: "", True: "ok", False: "MISSED"}[figure.met],
        str(figure.n),
        figure.against,
    )


def _shown(value: float) -> str:
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
