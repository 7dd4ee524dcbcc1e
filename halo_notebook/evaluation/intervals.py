"""Intervals and comparisons that claim no more than the cases support.

The unit is the case: its repeats are alike, and it counts once however many it has, so a rate is the mean of
the cases' own shares. A missing result (None) is neither a pass nor a fail; it is counted or noted. What is
random has a seed. `docs/evaluation.md` gives the reasons for the methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, harmonic_mean
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..display.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Runs: TypeAlias = Mapping[Any, "Sequence[float | None]"]  # by case; None for a run without a result
CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(CONFIDENCE / 2 + 0.5)
TOO_FEW = 6  # five pairs that all differ in the same direction have p = 2 / 2**5 = 0.0625, six have 0.03
FEW = 15  # the intervals were simulated from 15 cases on; with fewer, only a large difference shows
# In simulations with log-normal times, a percentile bootstrap of the p95 covers 84 % with 10 cases, 92 %
# with 20, and at least 96 % from 40 on.
P95_CASES = 40
EXACT_CASES = 16  # up to so many differing cases, every flip of the signs is computed (65,536 at most)
FLIPS = 20_000
SEED = 0
RESAMPLES = 2_000
_LEVELS = (0.5, 0.95)


@dataclass(frozen=True)
class Interval:
    """A pass rate with its limits, as fractions; None without a result. `n` cases have a result.

    `missing` runs have none, and `empty` more cases have no run with one. `method` says how the limits were
    calculated.

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

    def __str__(self) -> str:
        words = ["no result" if self.estimate is None else _percent(self.estimate)]
        if self.low is not None and self.high is not None:
            low = _percent(self.low)
            # One sign is enough, unless it would seem to belong to the upper limit only.
            words[0] += f" [{low if low[0] in '<>' else low.removesuffix('%')}–{_percent(self.high)}]"
        of = f"{self.n:,} of " if self.empty else ""
        words.append(of + counted(self.n + self.empty, "case"))
        words += [f"{counted(self.missing, 'run')} missing"] if self.missing else []
        return ", ".join(words)


@dataclass(frozen=True)
class Comparison:
    """How two configurations differ, over the `n` cases that both have a result for.

    Attributes:
        difference, low, high: the second minus the first and its limits, by `unit` a fraction (``%``) or in
            seconds (``s``); None when there are too few cases to say.
        p_value: two-sided, of no difference; None where none is calculated.
        method: how the figures were calculated.
        note: what a reader has to know before believing them; usually empty.

    >>> str(Comparison(0.08, -0.02, 0.18, 0.124, 50, "exact McNemar"))
    '+8 points [-2 to +18], p = 0.12, 50 cases'
    """

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    method: str
    note: str = ""
    unit: Literal["%", "s"] = "%"

    def __str__(self) -> str:
        scale, form, unit = (100, "+.0f", " points") if self.unit == "%" else (1, "+.2f", " s")
        if self.difference is None:
            words = ["no difference known"]
        else:
            words = [f"{self.difference * scale:{form}}{unit}"]
            if self.low is not None and self.high is not None:
                words[0] += f" [{self.low * scale:{form}} to {self.high * scale:{form}}]"
        if self.p_value is not None:
            words.append("p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.2g}")
        words.append(counted(self.n, "case"))
        return ", ".join(words) + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class TimeComparison:
    """How the times differ, in seconds: at the median, and at the 95th percentile."""

    median: Comparison
    p95: Comparison

    def __str__(self) -> str:
        return f"median {self.median}; p95 {self.p95}"


def pass_rate(passes: Mapping[Any, Sequence[bool | None]]) -> Interval:
    """The share of passes with its 95 % interval: the mean over cases of each case's own share.

    `passes` has each case's runs: True, False, or None without a result. One run per case gives Wilson's
    interval. With repeats it is Wilson's on an effective number of cases, between the number of cases (all
    repeats alike) and the number of runs (repeats that have nothing in common).

    >>> str(pass_rate({"a": [True, True], "b": [True, False], "c": [False, None]}))
    '50% [13–87%], 3 cases, 1 run missing'
    """
    import numpy as np

    cases, missing, empty = _present(passes)
    if not cases:
        return Interval(None, None, None, 0, "none", missing, empty)
    means = np.array([fmean(runs) for runs in cases.values()])
    per_case = harmonic_mean([len(runs) for runs in cases.values()])
    low, high = clustered_wilson(means, per_case)
    method = "Wilson" if per_case == 1 else "Wilson, clustered by case"
    return Interval(float(means.mean()), float(low), float(high), len(cases), method, missing, empty)


def clustered_wilson(means: Floats, per_case: float) -> tuple[Floats, Floats]:
    """The limits for case means (…, cases) of `per_case` runs each: low (…) and high (…), fractions."""
    import numpy as np

    cases = means.shape[-1]
    rate = means.mean(axis=-1)
    spread = rate * (1 - rate)
    # Of the mean over cases, by how the cases scatter; one case says nothing about it.
    variance = means.var(axis=-1, ddof=1) / cases if cases > 1 else np.full_like(rate, np.inf)
    # The effective number times the variance is the spread; without scatter it is all the runs.
    effective = np.clip(spread / np.maximum(variance, np.finfo(float).tiny), cases, cases * per_case)
    # How alike the repeats are is itself estimated, and badly when few cases stand out, so the effective
    # number is drawn towards the number of cases: by 5 % for 15 cases at 80 %, fully when every run passed.
    share = 1 / (1 + 8 * cases * spread)
    n = 1 / ((1 - share) / effective + share / cases)
    centre = (rate + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * np.sqrt(spread / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    # At the ends the limit is the end itself, which rounding would miss.
    low = np.where(rate <= 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(rate >= 1, 1.0, np.minimum(centre + half, 1.0))
    return low, high


def compare_passes(
    a: Mapping[Any, Sequence[bool | None]], b: Mapping[Any, Sequence[bool | None]]
) -> Comparison:
    """Whether `b` passes more often than `a`, on the cases that both have a result for.

    One result per case on both sides gives the exact McNemar test, with Bonett and Price's 95 % limits
    (2012). With repeats it is a sign-flip permutation test on the differences of the case means, with a
    t-interval. Limits and p-value come from different methods and may disagree at the edge.

    The note says when there are ``too few cases`` (fewer than 6: p < 0.05 is impossible) or ``few cases``
    (fewer than 15), when fewer than 6 cases differ, and what was left out.

    >>> str(compare_passes({1: [True], 2: [False]}, {1: [True], 2: [True]}))
    '+50 points [-56 to +100], p = 1, 2 cases (too few cases)'
    """
    pairs, left_out = _paired(a, b)
    n = len(pairs)
    if not n:
        return Comparison(None, None, None, None, 0, "none", _note(0, None, left_out))
    # SciPy ships no types.
    from scipy.special import bdtr, stdtrit  # type: ignore[import-untyped, unused-ignore]

    # Sorted, so that the order of the cases does not matter.
    differences = sorted(fmean(second) - fmean(first) for first, second in pairs)
    # Equal shares may differ in the last digit, which is not a difference.
    moved = [value for value in differences if abs(value) > 1e-9]
    if all(len(first) == len(second) == 1 for first, second in pairs):
        lost, differ = sum(value < 0 for value in moved), len(moved)
        p_value, method = min(1.0, 2 * float(bdtr(min(lost, differ - lost), differ, 0.5))), "exact McNemar"
        low, high = padded_limits(differences, 1.0, Z)
    else:
        p_value, method = _sign_flip(moved)
        per_case = harmonic_mean([len(runs) for pair in pairs for runs in pair])
        quantile = float(stdtrit(max(n - 1, 1), CONFIDENCE / 2 + 0.5))  # Student's
        low, high = padded_limits(differences, 1 / math.sqrt(per_case), quantile)
    return Comparison(fmean(differences), low, high, p_value, n, method, _note(n, len(moved), left_out))


def compare_times(a: Runs, b: Runs) -> TimeComparison:
    """By how many seconds `b` is slower than `a`: at the median and at the 95th percentile of all runs.

    Each has a case's times in seconds, None for a run without one. The limits are a percentile bootstrap that
    draws whole cases. There are none for fewer than 6 cases, and no p95 for fewer than 40.
    """
    import numpy as np

    pairs, left_out = _paired(a, b)
    n = len(pairs)
    median, p95, lows, highs = None, None, (None, None), (None, None)
    if n:
        before, after = _Pooled([first for first, _ in pairs]), _Pooled([second for _, second in pairs])
        median, p95 = (after.quantiles() - before.quantiles()).tolist()
    if n >= TOO_FEW:
        rng, changes = np.random.default_rng(SEED), []
        for _ in range(RESAMPLES):
            drawn = np.bincount(rng.integers(0, n, n), minlength=n)
            changes.append(after.quantiles(drawn) - before.quantiles(drawn))
        lows, highs = np.quantile(changes, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2], axis=0).tolist()
    method, note = "paired bootstrap over cases", _note(n, None, left_out)
    middle = Comparison(median, lows[0], highs[0], None, n, method, note, "s")
    if n >= P95_CASES:
        return TimeComparison(middle, Comparison(p95, lows[1], highs[1], None, n, method, note, "s"))
    note = "; ".join(filter(None, [f"too few cases for a p95: {P95_CASES} are needed", left_out]))
    return TimeComparison(middle, Comparison(None, None, None, None, n, method, note, "s"))


class _Pooled:
    """The values of all cases in order, to take quantiles of samples of whole cases without sorting again."""

    def __init__(self, values: Sequence[Sequence[float]]) -> None:
        import numpy as np

        pooled = np.array([value for of_case in values for value in of_case])
        order = np.argsort(pooled)
        self._values = pooled[order]
        self._case = np.repeat(np.arange(len(values)), [len(of_case) for of_case in values])[order]

    def quantiles(self, drawn: NDArray[np.intp] | None = None) -> Floats:
        """The median and the 95th percentile of a sample that has each case `drawn` times; None: once."""
        import numpy as np

        if drawn is None:
            return np.asarray(np.quantile(self._values, _LEVELS), dtype=np.float64)
        count = drawn[self._case].cumsum()  # how many values of the sample come up to each of ours
        place = np.array(_LEVELS) * (count[-1] - 1)
        lower, upper = (
            self._values[np.searchsorted(count, whole, side="right")]
            for whole in (np.floor(place), np.ceil(place))
        )
        return np.asarray(lower + (upper - lower) * (place % 1), dtype=np.float64)


def quantiles(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The median and the 95th percentile, interpolated; None without a value."""
    import numpy as np

    return tuple(np.quantile(values, _LEVELS).tolist()) if values else (None, None)


def padded_limits(differences: Sequence[float], size: float, quantile: float) -> tuple[float, float]:
    """The limits of the mean difference, after one more case of this size in either direction."""
    n = len(differences) + 2
    centre = math.fsum(differences) / n
    squares = math.fsum(value * value for value in differences) + 2 * size * size
    half = quantile * math.sqrt((squares / n - centre * centre) / n)
    return max(-1.0, centre - half), min(1.0, centre + half)


def _present(values_by_case: Runs) -> tuple[dict[Any, list[float]], int, int]:
    """The cases with a result and their results; how many runs have none; how many cases have none."""
    cases: dict[Any, list[float]] = {}
    missing = 0
    for case, values in values_by_case.items():
        present = [float(value) for value in values if value is not None]
        for value in present:
            if not math.isfinite(value):
                raise ValueError(
                    f"A value has to be a finite number, not {value}; None stands for a missing one"
                )
        missing += len(values) - len(present)
        if present:
            cases[case] = present
    return cases, missing, len(values_by_case) - len(cases)


def _paired(a: Runs, b: Runs) -> tuple[list[tuple[list[float], list[float]]], str]:
    """The results of the cases that both have some of, and a note on what was left out."""
    first, missing_a, _ = _present(a)
    second, missing_b, _ = _present(b)
    pairs = [(first[case], second[case]) for case in first if case in second]
    notes = []
    if left := len(a.keys() | b.keys()) - len(pairs):
        notes.append(f"{counted(left, 'case')} left out, without a result on both sides")
    if missing := missing_a + missing_b:
        notes.append(f"{counted(missing, 'run')} missing")
    return pairs, "; ".join(notes)


def _note(n: int, differ: int | None, left_out: str) -> str:
    """What a reader has to know about a comparison of `n` cases, of which `differ` differ."""
    notes = []
    if n < FEW:
        notes.append("too few cases" if n < TOO_FEW else "few cases: only a large difference would show")
    if n >= TOO_FEW and differ is not None and differ < TOO_FEW:
        which = {0: "no case differs", 1: "only 1 case differs"}.get(differ, f"only {differ} cases differ")
        notes.append(f"{which} (p < 0.05 needs at least {TOO_FEW} differing cases)")
    return "; ".join([*notes, left_out] if left_out else notes)


def _sign_flip(differences: list[float]) -> tuple[float, str]:
    """The two-sided p-value of differences (none of them 0) if their signs were chance; the method."""
    import numpy as np

    count, rng = len(differences), np.random.default_rng(SEED)
    values = np.array(differences)
    # Sums that are equal on paper may differ in their last digits.
    total = math.fsum(differences)
    reached = abs(total) - 1e-9
    if count <= EXACT_CASES:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(np.mean(np.abs((2.0 * bits - 1) @ values) >= reached)), "sign-flip permutation, exact"
    hits = 0
    for _ in range(FLIPS // 1000):  # in parts, since all at once could take gigabytes
        heads = np.unpackbits(np.frombuffer(rng.bytes(125 * count), np.uint8)).reshape(1000, count)
        hits += int(np.sum(np.abs(2 * (heads.astype(np.float32) @ values) - total) >= reached))
    # What was found is one of the flips, so p is never 0.
    return (hits + 1) / (FLIPS + 1), f"sign-flip permutation, {FLIPS:,} flips"


def _percent(value: float) -> str:
    # A single failure in a thousand is not '100%'.
    return "<1%" if 0 < value < 0.005 else ">99%" if 0.995 <= value < 1 else f"{value:.0%}"
