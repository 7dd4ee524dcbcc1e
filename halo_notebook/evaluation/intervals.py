"""How sure an evaluation's figures are: intervals and comparisons that say no more than the cases do.

The unit is the case. Repeats of a case are alike, so that they add less than as many new cases
would; whatever is said here of a rate, a mean or a time takes the cases as the sample. What is
missing (None: not run, or interrupted) is never taken for a pass or a fail and never left out
without a word: an `Interval` counts it, a `Comparison` has it in its note.

Rates and scores are means over cases of each case's mean, so that a case counts once however
many of its repeats came to an end. Differences are the second minus the first. What is random
has a seed, so that the same cases in the same order give the same figures.

A value is a bool (a pass or a fail), a finite float or None; another float raises ValueError,
as does a confidence that is not between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..display.words import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Unit: TypeAlias = Literal["%", "s", ""]

# Five pairs that all differ in the same direction have p = 2 / 2**5 = 0.0625, six have 0.03.
TOO_FEW = 6
# The intervals were tried out from 15 cases on; with fewer, nothing but a large difference shows.
FEW = 15
# Simulated with log-normal times, a percentile bootstrap of the p95 covers 84 % with 10 cases, 92 %
# with 20, 96 % and more from 40 on.
P95_CASES = 40
# Up to so many cases that differ, every flip of the signs is looked at (65,536 at most).
EXACT_CASES = 16
FLIPS = 20_000
RESAMPLES = 2_000


@dataclass(frozen=True)
class Interval:
    """A figure with what it may be off by.

    Attributes:
        estimate: a fraction for ``%``, otherwise in the values' own unit; None without a result.
        low: the lower limit, in the same unit; None when the cases say nothing of it.
        high: the upper limit, likewise.
        n: how many cases have a result.
        method: how the limits came about, in a few words.
        missing: how many runs have no result.
        empty: how many more cases there are, without any result.
        unit: ``%`` for a rate, ``s`` for seconds, empty for a score.

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
    unit: Unit = "%"

    def __str__(self) -> str:
        words = ["no result" if self.estimate is None else _shown(self.estimate, self.unit)]
        if self.low is not None and self.high is not None:
            low, high = _shown(self.low, self.unit), _shown(self.high, self.unit)
            # One sign is enough, unless it would seem to belong to the upper limit alone.
            low = low.removesuffix("%").removesuffix(" s") if low[0] not in "<>" else low
            words[0] += f" [{low}{' to ' if self.low < 0 else '–'}{high}]"
        elif self.estimate is not None:
            words[0] += ", no interval"
        of = f"{self.n:,} of " if self.empty else ""
        words.append(of + counted(self.n + self.empty, "case"))
        words += [f"{counted(self.missing, 'run')} missing"] if self.missing else []
        return ", ".join(words)


@dataclass(frozen=True)
class Comparison:
    """What changed between two configurations, over the cases that both have a result for.

    Attributes:
        difference: the second minus the first, a fraction for ``%``, else in seconds; None without
            a case, and for a quantile that the cases do not reach.
        low: the lower limit of the difference; None when the cases say nothing of it.
        high: the upper limit, likewise.
        p_value: two-sided, of no difference; None where none is worked out.
        n: how many cases were compared.
        method: how the figures came about, in a few words.
        note: what a reader has to know before believing them; mostly empty.
        unit: ``%`` for a rate, ``s`` for seconds.

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
    unit: Unit = "%"

    def __str__(self) -> str:
        scale, form, unit = (100, "+.0f", " points") if self.unit == "%" else (1, "+.2f", f" {self.unit}")
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
    """What changed in the times, in seconds: of the typical run, and of the slow one in twenty."""

    median: Comparison
    p95: Comparison

    def __str__(self) -> str:
        return f"median {self.median}; p95 {self.p95}"


def pass_rate(passes: Mapping[Any, Sequence[bool | None]], confidence: float = 0.95) -> Interval:
    """The share of passes: the mean over cases of each case's own share.

    One run per case has Wilson's interval. Several have Wilson's interval too, on an effective
    number of cases: that at which independent runs would scatter as the cases' means do. It lies
    between the number of cases (repeats that are all alike) and the number of runs (repeats that
    have nothing in common). How alike the repeats are is itself only estimated, and badly when few
    cases stand out, so the effective number is drawn towards the number of cases, with the weight
    ``1 / (1 + 8·k·p·(1-p))`` of `k` cases at the rate `p`: 5 % for 15 cases at 80 %, all of it when
    every run passed.

    It was chosen by simulation: 15 to 200 cases, 2 to 10 repeats, rates from 0.1 to 0.95, cases
    that always pass or always fail through to cases that hardly differ (correlation within a case
    from 1 to 0.05), 1,344 settings of 6,000 evaluations each. Where 95 % is said, it covers 95.4 % on
    the mean, 93 to 97 % in 93 % of the settings, and 92.3 to 98.6 % in the worst of them (92.7 to
    97.7 % from 50 cases on); below 93 % are 0.4 %. In 615 other settings it was 92.2 to 98.0 %. That is
    as near as discrete data come: Wilson's own interval, with one run per case, has 92.3 to 98.6 %
    there. Of the others:

    - Wilson on all runs, as if they were independent: 25 to 97 %, 78 % on the mean
    - t on case means: 53 to 97 %; too narrow near 0 and 1, and beyond them
    - t on the logit, with cluster-robust variance: 90 to 99 %, too wide in 20 % of the settings
    - Wilson on the effective number as estimated, with z: 86 to 99 %; with t: 89 to 99 %

    Args:
        passes: each case's runs: True, False, or None for one without a result.
        confidence: how often the interval is to hold the true rate, between 0 and 1.
    """
    import numpy as np

    z = NormalDist().inv_cdf(_checked(confidence) / 2 + 0.5)
    cases, missing, empty = _present(passes)
    if not cases:
        return Interval(None, None, None, 0, "none", missing, empty)
    means = np.array([_mean(runs) for runs in cases.values()])
    per_case = _harmonic(cases)
    low, high = _clustered_wilson(means, per_case, z)
    method = "Wilson" if per_case == 1 else "Wilson, clustered by case"
    return Interval(float(means.mean()), float(low), float(high), len(cases), method, missing, empty)


def _clustered_wilson(means: Floats, per_case: float, z: float) -> tuple[Floats, Floats]:
    """The limits for case means (…, cases) of `per_case` runs each: low (…) and high (…), fractions."""
    import numpy as np

    cases = means.shape[-1]
    rate = means.mean(axis=-1)
    spread = rate * (1 - rate)
    # Of the mean over cases, by how the cases scatter. Nothing is known of it from one case.
    variance = means.var(axis=-1, ddof=1) / cases if cases > 1 else np.full_like(rate, np.inf)
    # The effective number times the variance is the spread; without scatter it is all the runs.
    tiny = np.finfo(float).tiny
    effective = np.clip(spread / np.maximum(variance, tiny), cases, cases * per_case)
    share = 1 / (1 + 8 * cases * spread)
    n = 1 / ((1 - share) / effective + share / cases)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(spread / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At the ends the limit is the end itself, which rounding would miss.
    low = np.where(rate <= 0, 0.0, np.maximum(centre - half, 0.0))
    high = np.where(rate >= 1, 1.0, np.minimum(centre + half, 1.0))
    return low, high


def mean_interval(
    values_by_case: Mapping[Any, Sequence[float | None]], confidence: float = 0.95, *, unit: Unit = ""
) -> Interval:
    """The mean over cases of each case's mean, with a t-interval on these means.

    The limits are None for a single case and when all cases have the same mean: neither says
    anything of how the next one would turn out.

    Args:
        values_by_case: each case's scores, or times, None for a run without a result.
        confidence: how often the interval is to hold the true mean, between 0 and 1.
        unit: the values' unit, for showing; ``%`` takes them as fractions.
    """
    _checked(confidence)
    cases, missing, empty = _present(values_by_case)
    if not cases:
        return Interval(None, None, None, 0, "none", missing, empty, unit)
    means = [_mean(runs) for runs in cases.values()]
    n, mean = len(means), _mean(means)
    if n == 1 or min(means) == max(means):
        why = "one case" if n == 1 else "all cases alike"
        return Interval(mean, None, None, n, f"no interval: {why}", missing, empty, unit)
    variance = math.fsum((value - mean) ** 2 for value in means) / (n - 1)
    half = _t(confidence, n - 1) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half, n, "t on case means", missing, empty, unit)


def mcnemar(pairs: Sequence[tuple[bool, bool]], confidence: float = 0.95) -> Comparison:
    """Two configurations on the same cases, one run each: the exact (binomial) McNemar test.

    The limits of the difference are Bonett and Price's (2012): Wald's after one case more of either
    kind that differs, so that they mean something with few of them. They and the exact p-value are
    different methods and may disagree at the edge.

    The note says ``too few cases`` when there are fewer than `TOO_FEW` (6), where no outcome has
    p < 0.05, and ``few cases`` below `FEW` (15); it says so when fewer than 6 cases differ, where
    the cases that are there could not have shown anything either.

    Args:
        pairs: for each case whether the first and whether the second configuration passed.
        confidence: of the limits, between 0 and 1.
    """
    z = NormalDist().inv_cdf(_checked(confidence) / 2 + 0.5)
    method, n = "exact McNemar", len(pairs)
    if not n:
        return Comparison(None, None, None, None, 0, method, _note(0))
    gained = sum(1 for first, second in pairs if second and not first)
    lost = sum(1 for first, second in pairs if first and not second)
    differ = gained + lost
    # Whole numbers, divided at the end: exact for however many.
    tail = sum(math.comb(differ, count) for count in range(min(gained, lost) + 1))
    p_value = min(1.0, 2 * tail / 2**differ)
    differences = [1.0] * gained + [-1.0] * lost + [0.0] * (n - differ)
    low, high = _padded(differences, 1.0, z)
    return Comparison((gained - lost) / n, low, high, p_value, n, method, _note(n, differ))


def compare_passes(
    a: Mapping[Any, Sequence[bool | None]],
    b: Mapping[Any, Sequence[bool | None]],
    confidence: float = 0.95,
    *,
    seed: int = 0,
) -> Comparison:
    """Whether `b` passes more often than `a` on the cases that both have a result for.

    With one result per case on both sides this is `mcnemar`. With several it is a sign-flip
    permutation test on the differences of the case means: every flip when up to `EXACT_CASES` (16)
    cases differ, else `FLIPS` (20,000) random ones. Its limits are a t-interval on these differences
    after one case more in either direction, of the size ``1/√repeats``, which is McNemar's with
    one repeat. Simulated with 10 to 150 cases it covers 97.8 % on the mean where 95 % is said: mostly
    too wide, up to 100 % where hardly any case differs, at worst 92 %. Without the two the worst is 67 %.

    The note is `mcnemar`'s, and counts the cases that only one side has and the runs without a result.

    Args:
        a: the first configuration's runs of each case: True, False, or None without a result.
        b: the second one's.
        confidence: of the limits, between 0 and 1.
        seed: of the random flips.
    """
    _checked(confidence)
    pairs, left_out = _paired(a, b)
    if all(len(first) == len(second) == 1 for first, second in pairs):
        found = mcnemar([(first[0] > 0, second[0] > 0) for first, second in pairs], confidence)
        note = "; ".join(filter(None, [found.note, left_out]))
        return Comparison(found.difference, found.low, found.high, found.p_value, found.n, found.method, note)
    # In an order of their own, so that the cases' order does not matter.
    differences = sorted(_mean(second) - _mean(first) for first, second in pairs)
    n = len(pairs)
    # Equal shares may differ in the last digit, which is no difference.
    moved = [value for value in differences if abs(value) > 1e-9]
    p_value, method = _sign_flip(moved, seed)
    per_case = _harmonic(dict(enumerate(runs for pair in pairs for runs in pair)))
    low, high = _padded(differences, 1 / math.sqrt(per_case), _t(confidence, max(n - 1, 1)))
    return Comparison(_mean(differences), low, high, p_value, n, method, _note(n, len(moved), left_out))


def compare_times(
    a: Mapping[Any, Sequence[float | None]],
    b: Mapping[Any, Sequence[float | None]],
    confidence: float = 0.95,
    *,
    seed: int = 0,
) -> TimeComparison:
    """By how many seconds `b` is slower than `a`: at the median and at the 95th percentile.

    The quantiles are those of all runs of the cases that both have a result for. The limits are a
    percentile bootstrap that draws whole cases, both sides and all repeats together. There are
    none for fewer than `TOO_FEW` (6) cases, and nothing is said of the p95 below `P95_CASES` (40),
    where it is no more than the slowest case or two. No p-value is worked out: the limits say it.

    Args:
        a: the first configuration's times of each case in seconds, None for a run without one.
        b: the second one's.
        confidence: of the limits, between 0 and 1.
        seed: of the resampling.
    """
    import numpy as np

    _checked(confidence)
    pairs, left_out = _paired(a, b)
    n, method = len(pairs), "paired bootstrap over cases"
    firsts = [np.array(first) for first, _ in pairs]
    seconds = [np.array(second) for _, second in pairs]
    no_p95 = "; ".join(filter(None, [f"too few cases for a p95: {P95_CASES} are needed", left_out]))
    p95 = Comparison(None, None, None, None, n, method, no_p95, "s")
    if not n:
        return TimeComparison(
            Comparison(None, None, None, None, 0, method, _note(0, None, left_out), "s"), p95
        )
    levels = [0.5, 0.95]

    def change(chosen: NDArray[np.intp]) -> Floats:
        after = np.quantile(np.concatenate([seconds[case] for case in chosen]), levels)
        before = np.quantile(np.concatenate([firsts[case] for case in chosen]), levels)
        return np.asarray(after - before, dtype=np.float64)

    found = change(np.arange(n))
    note = _note(n, None, left_out)
    if n < TOO_FEW:
        return TimeComparison(Comparison(float(found[0]), None, None, None, n, method, note, "s"), p95)
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    changes = np.array([change(chosen) for chosen in draws])
    lows, highs = np.quantile(changes, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    median, slow = (
        Comparison(float(found[at]), float(lows[at]), float(highs[at]), None, n, method, note, "s")
        for at in range(2)
    )
    return TimeComparison(median, slow if n >= P95_CASES else p95)


def quantiles(values: Sequence[float], at: Sequence[float] = (0.5, 0.95)) -> tuple[float | None, ...]:
    """The values below which the fractions `at` lie, in the values' unit; None for each without a value.

    Between two values it is in proportion (NumPy's default). A fraction outside 0 to 1 raises
    ValueError.
    """
    if not all(0 <= level <= 1 for level in at):
        raise ValueError(f"Quantiles are fractions from 0 to 1, not {tuple(at)}")
    ordered = sorted(_finite(value) for value in values)
    if not ordered:
        return (None,) * len(at)
    found = []
    for level in at:
        place = level * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        found.append(ordered[below] + (ordered[above] - ordered[below]) * (place - below))
    return tuple(found)


def _present(
    values_by_case: Mapping[Any, Sequence[float | None]],
) -> tuple[dict[Any, list[float]], int, int]:
    """The cases with a result and their results; how many runs have none; how many cases have none."""
    cases: dict[Any, list[float]] = {}
    missing = 0
    for case, values in values_by_case.items():
        there = [_finite(value) for value in values if value is not None]
        missing += len(values) - len(there)
        if there:
            cases[case] = there
    return cases, missing, len(values_by_case) - len(cases)


def _paired(
    a: Mapping[Any, Sequence[float | None]], b: Mapping[Any, Sequence[float | None]]
) -> tuple[list[tuple[list[float], list[float]]], str]:
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


def _note(n: int, differ: int | None = None, left_out: str = "") -> str:
    """What a comparison of `n` cases, of which `differ` do, has to be read with."""
    notes = []
    if n < TOO_FEW:
        notes.append("too few cases")
    elif n < FEW:
        notes.append("few cases: only a large difference would show")
    if n >= TOO_FEW and differ is not None and differ < TOO_FEW:
        who = {0: "no case differs", 1: "only 1 case differs"}.get(differ, f"only {differ} cases differ")
        notes.append(f"{who}: p < 0.05 takes {TOO_FEW}")
    return "; ".join([*notes, left_out] if left_out else notes)


def _sign_flip(differences: list[float], seed: int) -> tuple[float, str]:
    """The two-sided p-value of differences (none of them 0) if their signs were chance; the method."""
    import numpy as np

    count, rng = len(differences), np.random.default_rng(seed)
    values = np.array(differences)
    # Sums that are equal on paper may differ in their last digits.
    reached = abs(math.fsum(differences)) - 1e-9
    if count <= EXACT_CASES:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(np.mean(np.abs((2.0 * bits - 1) @ values) >= reached)), "sign-flip permutation, exact"
    hits = 0
    for _ in range(FLIPS // 1000):  # in parts, since all at once could take gigabytes
        signs = 2.0 * rng.integers(0, 2, (1000, count)) - 1
        hits += int(np.sum(np.abs(signs @ values) >= reached))
    # What was found is one of the flips, so that p is never 0.
    return (hits + 1) / (FLIPS + 1), f"sign-flip permutation, {FLIPS:,} flips"


def _padded(differences: Sequence[float], size: float, quantile: float) -> tuple[float, float]:
    """The limits of the mean difference, after one case more of this size in either direction."""
    n = len(differences) + 2
    centre = math.fsum(differences) / n
    squares = math.fsum(value * value for value in differences) + 2 * size * size
    half = quantile * math.sqrt((squares / n - centre * centre) / n)
    return max(-1.0, centre - half), min(1.0, centre + half)


def _harmonic(cases: Mapping[Any, Sequence[float]]) -> float:
    """The harmonic mean of the runs per case: what matters for a mean over cases of their means."""
    return len(cases) / math.fsum(1 / len(runs) for runs in cases.values())


def _t(confidence: float, freedom: int) -> float:
    """Student's two-sided quantile."""
    # SciPy ships no types.
    from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

    return float(stdtrit(freedom, confidence / 2 + 0.5))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"A value has to be a finite number, not {value}; None stands for a missing one")
    return float(value)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"A confidence is between 0 and 1, such as 0.95, not {confidence}")
    return confidence


def _shown(value: float, unit: Unit) -> str:
    if unit != "%":
        return f"{value:.2f}{' ' if unit else ''}{unit}"
    # A single failure in a thousand is not '100%'.
    if 0 < value < 0.005:
        return "<1%"
    if 0.995 <= value < 1:
        return ">99%"
    return f"{value:.0%}"
