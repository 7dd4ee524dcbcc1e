"""How long turns took: quantiles over cases, with limits, also where some turns were never answered.

A case has the same weight however many turns and repeats it has. A quantile is a time that was measured: the
shortest within which at least that share of the turns was answered. A turn without an answer counts as a
long one, so that an agent that stops answering does not look fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from ...display.wording import counted
from .intervals import CONFIDENCE, Runs, present

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .intervals import Floats

LEVELS = (0.5, 0.95)
# With fewer cases, the p95 is the slowest of them, whatever the others took.
P95_CASES = 20


class AtLeast(float):
    """Seconds after which a turn had no answer: its time is longer.

    >>> AtLeast(60.0)
    AtLeast(60.0)
    """

    def __repr__(self) -> str:
        return f"AtLeast({float(self)!r})"


@dataclass(frozen=True)
class TimeQuantile:
    """A quantile of times in seconds with its 95 % limits; `estimate` is None where it cannot be known.

    `high` is infinite if no time that was measured is certainly above. `at_least` says that the quantile
    lies among turns without an answer: it is longer than `estimate`.

    >>> str(TimeQuantile(0.82, 0.71, inf, 50))
    '0.82 s [0.71–∞]'
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    at_least: bool = False

    def __float__(self) -> float:
        return float("nan") if self.estimate is None else self.estimate

    def __str__(self) -> str:
        if self.estimate is None:
            return "–"
        shown = f"{'>' * self.at_least}{self.estimate:.2f} s"
        if self.low is None or self.high is None:
            return shown
        return f"{shown} [{self.low:.2f}–{'∞' if self.high == inf else f'{self.high:.2f}'}]"


@dataclass(frozen=True)
class TimeQuantiles:
    """The median and the 95th percentile of `n` cases' times; `unanswered` turns had no answer.

    >>> str(time_quantiles({"a": [0.5], "b": [AtLeast(60.0)], "c": [0.7]}))
    'p50 0.70 s, p95 –, 3 cases, 1 turn unanswered'
    """

    p50: TimeQuantile
    p95: TimeQuantile
    n: int
    unanswered: int = 0

    def __str__(self) -> str:
        words = [f"p50 {self.p50}", f"p95 {self.p95}", counted(self.n, "case")]
        words += [f"{counted(self.unanswered, 'turn')} unanswered"] if self.unanswered else []
        return ", ".join(words)


def time_quantiles(times: Runs) -> TimeQuantiles:
    """The median and the 95th percentile, with 95 % limits from order statistics.

    `times` has each case's times in seconds: `AtLeast` for a turn without an answer, None for one that says
    nothing. The limits assume no distribution: they are those of the binomial for as many independent times
    as there are cases. Fewer than 6 cases have no limits, and fewer than 20 no p95. With fewer than 72 cases,
    the p95 has no upper limit but infinity.
    """
    cases, _, _ = present(times)
    n, unanswered = len(cases), count_unanswered(times.values())
    if not n:
        nothing = TimeQuantile(None, None, None, 0)
        return TimeQuantiles(nothing, nothing, 0)
    pooled = PooledTimes([times[case] for case in cases])
    p50, p95 = (_quantile(pooled, level, n) for level in LEVELS)
    return TimeQuantiles(p50, p95 if n >= P95_CASES else TimeQuantile(None, None, None, n), n, unanswered)


def count_unanswered(values: Iterable[Sequence[float | None]]) -> int:
    return sum(isinstance(value, AtLeast) for of_case in values for value in of_case)


def _quantile(pooled: PooledTimes, level: float, n: int) -> TimeQuantile:
    lowest, highest = order_ranks(n, level)
    value, at_least = pooled.at(level)
    if lowest < 1:
        return TimeQuantile(value, None, None, n, at_least)
    low, _ = pooled.at(lowest / n)
    high, unknown = pooled.at(highest / n) if highest <= n else (inf, True)
    return TimeQuantile(value, low, inf if unknown else high, n, at_least)


def order_ranks(n: int, level: float) -> tuple[int, int]:
    """Between which of `n` ordered values, counted from 1, the quantile lies with 95 % certainty.

    0 or n + 1 where no value is certainly below or above it.
    """
    import numpy as np

    # SciPy ships no types.
    from scipy.special import bdtr  # type: ignore[import-untyped, unused-ignore]

    below = bdtr(np.arange(n + 1), n, level)  # the chance that at most so many values are below it
    outside = (1 - CONFIDENCE) / 2
    lowest = int(np.searchsorted(below, outside, side="right"))
    highest = int(np.searchsorted(below, 1 - outside, side="left")) + 1
    return lowest, highest


class PooledTimes:
    """The times of all cases in order, to take quantiles of samples of whole cases without sorting again."""

    def __init__(self, times: Sequence[Sequence[float | None]]) -> None:
        import numpy as np

        known = [[value for value in of_case if value is not None] for of_case in times]
        values = np.array([value for of_case in known for value in of_case], dtype=float)
        at_least = np.array(
            [isinstance(value, AtLeast) for of_case in known for value in of_case], dtype=bool
        )
        counts = np.array(list(map(len, known)))
        order = np.lexsort((at_least, values))
        self._values, self._at_least = values[order], at_least[order]
        self._case = np.repeat(np.arange(len(known)), counts)[order]
        self._weight = (1 / counts)[self._case]

    def at(self, level: float) -> tuple[float, bool]:
        """The quantile, and whether it is longer than that."""
        [place] = _places(self._weight.cumsum(), [level])
        return float(self._values[place]), bool(self._at_least[place])

    def quantiles(self, drawn: NDArray[np.intp]) -> tuple[Floats, NDArray[np.bool_]]:
        """The median and the p95, (samples, 2), of samples with each case `drawn` (samples, cases) times.

        And whether each is longer than that, as in `at`.
        """
        import numpy as np

        total = (self._weight * drawn[:, self._case]).cumsum(axis=1)
        places = np.array([_places(of_sample, LEVELS) for of_sample in total])
        return self._values[places], self._at_least[places]


def _places(total: Floats, levels: Sequence[float]) -> NDArray[np.intp]:
    """Where the quantiles are among values whose weights add up to `total`."""
    import numpy as np

    # A share that is equal on paper may be a digit above.
    places: NDArray[np.intp] = np.searchsorted(total, np.array(levels) * (total[-1] * (1 - 1e-12)))
    return places
