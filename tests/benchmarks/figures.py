"""A figure, the baseline beside it, the bound aimed at, and the table of them all.

The rule: a figure and its baseline are measured in turns (A B A B …), so that a machine that
grows slower meanwhile slows both; the figures are the medians, and a ratio is the median of
the turns' own ratios, so it need not be the quotient of the two figures printed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what was measured.
        unit: of values and baselines.
        values: one for each turn; their median is shown.
        baselines: the machine's own figures, from the same turns; empty when there are none.
        against: what the baseline is.
        bound: what is aimed at; None for a figure that only informs.
        worst: whether the largest value is shown instead, as for what was lost: one loss is one too many.
    """

    name: str
    unit: str
    values: Sequence[float]
    baselines: Sequence[float] = ()
    against: str = ""
    bound: Bound | None = None
    worst: bool = False

    @property
    def value(self) -> float:
        """What is shown of the values."""
        return max(self.values) if self.worst else statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """Value to baseline; None without a baseline, or if all are 0."""
        pairs = zip(self.values, self.baselines, strict=False)
        ratios = [value / baseline for value, baseline in pairs if baseline]
        return statistics.median(ratios) if ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the bound is met; None without a bound."""
        if self.bound is None:
            return None
        value = self.ratio if self.bound.of_ratio else self.value
        if value is None:
            return False
        return value >= self.bound.limit if self.bound.at_least else value <= self.bound.limit


def in_turns(measures: Sequence[Callable[[], T]], n: int) -> list[list[T]]:
    """Take each measure once per turn, `n` turns long; one list of `n` results for each."""
    turns = [[measure() for measure in measures] for _ in range(n)]
    return [list(results) for results in zip(*turns, strict=True)]


def compared(
    what: str,
    columns: Iterable[tuple[str, str, Bound | None]],
    ours: Iterable[Iterable[float]],
    baselines: Iterable[Iterable[float]],
    against: str,
) -> list[Figure]:
    """A figure for each column (name, unit, bound) of what was measured in each turn."""
    by_column = zip(columns, zip(*ours, strict=True), zip(*baselines, strict=True), strict=True)
    return [
        Figure(f"{what}: {name}", unit, values, their_values, against, bound)
        for (name, unit, bound), values, their_values in by_column
    ]


def printed_by(program: str, *arguments: object) -> Any:
    """Run a Python program in a process of its own; the JSON that it prints on its last line."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | WITH_BYTE_CODE)
    return json.loads(done.stdout.splitlines()[-1])


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text, their bounds marked `ok` or `MISSED`."""
    head = ("figure", "measured", "baseline", "ratio", "bound", "", "n", "baseline is")
    rows = [head, *map(_row, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    aligned = ["<" if column in (0, 4, 5, 7) else ">" for column in range(len(head))]
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(aligned, widths, strict=True))
    return "\n".join(form.format(*row).rstrip() for row in rows)


def _row(figure: Figure) -> tuple[str, ...]:
    bound = figure.bound
    return (
        figure.name,
        _shown(figure.value, figure.unit),
        _shown(statistics.median(figure.baselines), figure.unit) if figure.baselines else "",
        "" if figure.ratio is None else _shown(figure.ratio, "×"),
        f"{'≥' if bound.at_least else '≤'} {_shown(bound.limit, '×' if bound.of_ratio else figure.unit)}"
        if bound
        else "",
        {None: "", True: "ok", False: "MISSED"}[figure.met],
        str(len(figure.values)),
        figure.against,
    )


def _shown(value: float, unit: str) -> str:
    if value == int(value) and abs(value) < 1e9:
        shown = f"{int(value):,}"
    else:
        shown = f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
    return f"{shown} {unit}".rstrip()
