"""Intervals that claim no more than the cases support.

The unit is the case: its repeats are alike, and it counts once however many it has, so a rate is the mean of
the cases' own shares. A missing result (None) is neither a pass nor a fail; it is counted.
`docs/evaluation.md` gives the reasons for the methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import NormalDist, fmean, harmonic_mean
from typing import TYPE_CHECKING, Any, TypeAlias

from ...display.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Runs: TypeAlias = Mapping[Any, "Sequence[float | None]"]  # by case; None for a run without a result
CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(CONFIDENCE / 2 + 0.5)


@dataclass(frozen=True)
class Interval:
    """A rate or a mean score with its 95 % limits, as fractions; None without a result.

    `n` cases have a result. `missing` runs have none, and `empty` more cases have no run with one. `method`
    says how the limits were calculated. `float` gives the estimate, nan without one.

    >>> str(Interval(0.82, 0.71, 0.9, 50, "Wilson"))
    '82% [71–90%], 50 cases'
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    missing: int = 0
    empty: int = 0

    def __float__(self) -> float:
        return math.nan if self.estimate is None else self.estimate

    def __str__(self) -> str:
        of = f"{self.n:,} of " if self.empty else ""
        words = [self.range(), of + counted(self.n + self.empty, "case")]
        words += [f"{counted(self.missing, 'run')} missing"] if self.missing else []
        return ", ".join(words)

    def range(self) -> str:
        """The estimate and its limits, without the cases."""
        if self.estimate is None:
            return "no result"
        shown = _percent(self.estimate)
        if self.low is not None and self.high is not None:
            low = _percent(self.low)
            # One sign is enough, unless it would seem to belong to the upper limit only.
            shown += f" [{low if low[0] in '<>' else low.removesuffix('%')}–{_percent(self.high)}]"
        return shown


def pass_rate(passes: Mapping[Any, Sequence[bool | None]]) -> Interval:
    """The share of passes with its 95 % interval: the mean over cases of each case's own share.

    `passes` has each case's runs: True, False, or None without a result. One run per case gives Wilson's
    interval. With repeats it is Wilson's on an effective number of cases, between the number of cases (all
    repeats alike) and the number of runs (repeats that have nothing in common).

    Raises `ValueError` for a value outside of 0 to 1.

    >>> str(pass_rate({"a": [True, True], "b": [True, False], "c": [False, None]}))
    '50% [13–87%], 3 cases, 1 run missing'
    """
    cases, missing, empty = present_fractions(passes)
    per_case = harmonic_mean([len(runs) for runs in cases.values()]) if cases else 1
    method = "Wilson" if per_case == 1 else "Wilson, clustered by case"
    return _mean(list(map(fmean, cases.values())), per_case, method, missing, empty)


def mean_score(scores: Runs) -> Interval:
    """The mean over cases of each case's mean score, with its 95 % interval.

    `scores` has each case's scores from 0 to 1, None for a run without one. With one
    score of 0 or 1 per case it is Wilson's interval; the less the cases' means scatter, the narrower it is.
    Raises `ValueError` for a score outside of 0 to 1.

    >>> str(mean_score({"a": [0.9, 0.7], "b": [0.8], "c": [0.5]}))
    '70% [32–92%], 3 cases'
    """
    cases, missing, empty = present_fractions(scores)
    return _mean(list(map(fmean, cases.values())), math.inf, "Wilson, clustered by case", missing, empty)


def passes_every_time(passes: Mapping[Any, Sequence[bool | None]], runs: int | None = None) -> Interval:
    """The share of cases that would pass `runs` times in a row (pass^k), with its 95 % interval.

    None stands for the most runs that a case has. A case with `n` results, `c` of them passes, counts with
    the share of choices of `runs` results that are all passes, C(c, runs) / C(n, runs), which is unbiased. A
    case with fewer results says nothing; it counts as `empty`. Raises `ValueError` for less than one run, and
    for a value outside of 0 to 1.

    >>> str(passes_every_time({"a": [True, True], "b": [True, False], "c": [True, True]}))
    '67% [21–94%], 3 cases'
    """
    if runs is not None and runs < 1:
        raise ValueError(f"At least one run is needed, not {runs}")
    cases, missing, empty = present_fractions(passes)
    wanted = max(map(len, passes.values()), default=1) if runs is None else runs
    enough = [each for each in cases.values() if len(each) >= wanted]
    shares = [math.comb(round(sum(each)), wanted) / math.comb(len(each), wanted) for each in enough]
    method = f"Wilson, {counted(wanted, 'run')} in a row"
    return _mean(shares, math.inf, method, missing, empty + len(cases) - len(enough))


def _mean(means: Sequence[float], per_case: float, method: str, missing: int, empty: int) -> Interval:
    import numpy as np

    if not means:
        return Interval(None, None, None, 0, "none", missing, empty)
    low, high = clustered_wilson(np.array(means), per_case)
    return Interval(fmean(means), float(low), float(high), len(means), method, missing, empty)


def clustered_wilson(means: Floats, per_case: float) -> tuple[Floats, Floats]:
    """The limits for case means (…, cases) of `per_case` runs each: low (…) and high (…), fractions.

    Means of scores have no such number, and infinity stands for it.
    """
    import numpy as np

    cases = means.shape[-1]
    rate = means.mean(axis=-1)
    spread = rate * (1 - rate)
    # Of the mean over cases, by how the cases scatter; one case says nothing about it.
    variance = means.var(axis=-1, ddof=1) / cases if cases > 1 else np.full_like(rate, np.inf)
    # The effective number times the variance is the spread; without scatter it is all the runs.
    effective = np.clip(spread / np.maximum(variance, np.finfo(float).tiny), cases, cases * per_case)
    # How alike the repeats are is itself estimated, and badly when few cases stand out, so the effective
    # number is drawn towards the number of cases: by 17 % for 15 cases at 80 %, fully when every run passed.
    # A weight of 8 instead of 2 gives intervals that are 3 % narrower, but cover only 83 % where most cases
    # always pass and one in twenty always fails.
    share = 1 / (1 + 2 * cases * spread)
    n = 1 / ((1 - share) / effective + share / cases)
    return wilson(rate, n)


def effective_number(
    values: Sequence[float], weights: Sequence[float], cases: Sequence[Any]
) -> tuple[float, float]:
    """The weighted mean of values from 0 to 1, and the number of independent values that say as much.

    `cases` says to which case each value belongs. As in `clustered_wilson`, which has cases of one size, the
    number is estimated, and drawn towards that of values of a case that are all alike.
    """
    import numpy as np

    y, w = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    _, case = np.unique([str(each) for each in cases], return_inverse=True)
    # An end is exact, which rounding would miss.
    rate = float(w @ y / w.sum()) if (y != y[0]).any() else float(y[0])
    w = w / w.sum()
    of_case = np.bincount(case, w)
    least, most = 1 / float(of_case @ of_case), 1 / float(w @ w)
    spread = rate * (1 - rate)
    variance = float((np.bincount(case, w * (y - rate)) ** 2).sum())
    count = len(of_case)
    variance = variance * count / (count - 1) if count > 1 else math.inf
    estimated = min(max(spread / max(variance, np.finfo(float).tiny), least), most)
    share = 1 / (1 + 2 * least * spread)
    return rate, 1 / ((1 - share) / estimated + share / least)


def wilson(rate: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Wilson's limits for rates of `n` independent values."""
    import numpy as np

    spread = rate * (1 - rate)
    centre = (rate + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * np.sqrt(spread / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    # At the ends the limit is the end itself, which rounding would miss.
    low = np.where(rate <= 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(rate >= 1, 1.0, np.minimum(centre + half, 1.0))
    return low, high


def present(values_by_case: Runs) -> tuple[dict[Any, list[float]], int, int]:
    """The cases with a result and their results; how many runs have none; how many cases have none.

    Raises `ValueError` for a value that is not finite.
    """
    cases: dict[Any, list[float]] = {}
    missing = 0
    for case, values in values_by_case.items():
        known = [value for value in values if value is not None]
        found = list(map(_float, known))
        for value, given in zip(found, known, strict=True):
            if not math.isfinite(value):
                shown = value if isinstance(given, int) else repr(given)
                raise ValueError(
                    f"A value has to be a finite number, not {shown}; None stands for a missing one"
                )
        missing += len(values) - len(found)
        if found:
            cases[case] = found
    return cases, missing, len(values_by_case) - len(cases)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def present_fractions(values_by_case: Runs) -> tuple[dict[Any, list[float]], int, int]:
    """As `present`, of passes or scores. Raises `ValueError` for a value that is not from 0 to 1."""
    found = present(values_by_case)
    for value in chain.from_iterable(found[0].values()):
        if not 0 <= value <= 1:
            raise ValueError(f"A pass is True or False, and a score a number from 0 to 1, not {value:g}")
    return found


def _percent(value: float) -> str:
    # A single failure in a thousand is not '100%'.
    return "<1%" if 0 < value < 0.005 else ">99%" if 0.995 <= value < 1 else f"{value:.0%}"
