"""Comparisons of two configurations, paired by case, that claim no more than the cases support.

The unit is the case, as for intervals. A missing result (None) is neither a pass nor a fail; it is counted in
the note. What is random has a seed. `docs/evaluation.md` gives the reasons for the methods.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, harmonic_mean
from typing import Any, Literal

from ...display.wording import counted
from .intervals import CONFIDENCE, Runs, present, present_fractions
from .times import LEVELS, PooledTimes, count_unanswered

TOO_FEW = 6  # five pairs that all differ in the same direction have p = 2 / 2**5 = 0.0625, six have 0.03
FEW = 15  # the intervals were simulated from 15 cases on; with fewer, only a large difference shows
# In simulations with log-normal times, a percentile bootstrap of the p95 covers 84 % with 10 cases, 92 %
# with 20, and at least 96 % from 40 on.
P95_PAIRS = 40
EXACT_CASES = 16  # up to so many differing cases, every flip of the signs is computed (65,536 at most)
FLIPS = 20_000
SEED = 0
MANY_CASES = 1_000  # from so many differing cases on, the sum of flipped differences is taken as normal
# Of a bootstrap. With many cases the limits are close together, so that fewer are enough.
RESAMPLES, LEAST_RESAMPLES = 2_000, 500
DRAWS = 4_000_000  # of cases for a bootstrap with less than all resamples
DRAWS_AT_ONCE = 100_000  # which bounds the memory


@dataclass(frozen=True)
class Comparison:
    """How two configurations differ, over the `n` cases that both have a result for.

    Attributes:
        difference, low, high: the second minus the first and its limits, by `unit` a fraction (``%``) or in
            seconds (``s``); None when there are too few cases to say.
        p_value: two-sided, of no difference; None where none is calculated.
        method: how the figures were calculated.
        note: what a reader has to know before believing them; usually empty.
        adjusted_p: the p-value with Holm's correction, where it is one of several; see `holm`.
        bound: ``>`` or ``<`` where the difference is more or less than `difference`, since a quantile lies
            among turns without an answer; else empty.

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
    adjusted_p: float | None = None
    bound: Literal["", ">", "<"] = ""

    def __float__(self) -> float:
        return math.nan if self.difference is None else self.difference

    def __str__(self) -> str:
        return self.words() + (f" ({self.note})" if self.note else "")

    def words(self) -> str:
        """It without its note."""
        scale, form, unit = (100, "+z.0f", " points") if self.unit == "%" else (1, "+z.2f", " s")
        if self.difference is None:
            words = ["no difference known"]
        else:
            words = [f"{self.bound}{self.difference * scale:{form}}{unit}"]
            if self.low is not None and self.high is not None:
                limits = f" [{self.low * scale:{form}} to {self.high * scale:{form}}]"
                words[0] += limits.replace("inf", "∞")
        if self.adjusted_p is not None:
            words.append(f"adjusted {_p(self.adjusted_p)}")
        elif self.p_value is not None:
            words.append(_p(self.p_value))
        return ", ".join([*words, counted(self.n, "case")])


@dataclass(frozen=True)
class TimeComparison:
    """How the times differ, in seconds: at the median, and at the 95th percentile."""

    median: Comparison
    p95: Comparison

    def __str__(self) -> str:
        return f"median {self.median}; p95 {self.p95}"


@dataclass(frozen=True)
class NoWorse:
    """Whether the second configuration is certainly not worse than the first by more than `margin`.

    Attributes:
        difference: the second minus the first, a fraction; None without a pair of results.
        low: with 95 % certainty, the difference is above this.
        margin: how much worse the second may be.
        p_value: one-sided, of a second that is worse by the margin or more.
        n, method, note: as in `Comparison`.

    >>> str(NoWorse(-0.01, -0.04, 0.05, 0.014, 200, "paired"))
    'no worse by more than 5 points: -1 points [at least -4], p = 0.014, 200 cases'
    """

    difference: float | None
    low: float | None
    margin: float
    p_value: float | None
    n: int
    method: str
    note: str = ""

    @property
    def certain(self) -> bool:
        """Whether the cases show it: `low` is above the negative margin."""
        return self.low is not None and self.low > -self.margin

    def __str__(self) -> str:
        verdict = "no worse" if self.certain else "may be worse"
        words = [f"{verdict} by more than {self.margin * 100:g} points"]
        if self.difference is not None and self.low is not None:
            words[0] += f": {self.difference * 100:+z.0f} points [at least {self.low * 100:+z.0f}]"
        words += [] if self.p_value is None else [_p(self.p_value)]
        return ", ".join([*words, counted(self.n, "case")]) + (f" ({self.note})" if self.note else "")


def compare_passes(
    a: Mapping[Any, Sequence[bool | None]], b: Mapping[Any, Sequence[bool | None]]
) -> Comparison:
    """Whether `b` passes more often than `a`, on the cases that both have a result for.

    One result per case on both sides gives the exact McNemar test, with Bonett and Price's 95 % limits
    (2012). With repeats it is a sign-flip permutation test on the differences of the case means, with a
    t-interval. Limits and p-value come from different methods and may disagree at the edge.

    The note says when there are ``too few cases`` (fewer than 6: p < 0.05 is impossible) or ``few cases``
    (fewer than 15), when fewer than 6 cases differ, and what was left out. Raises `ValueError` for a value
    other than True, False and None.

    >>> str(compare_passes({1: [True], 2: [False]}, {1: [True], 2: [True]}))
    '+50 points [-56 to +100], p = 1, 2 cases (too few cases)'
    """
    for value in (value for side in (a, b) for runs in side.values() for value in runs):
        if value not in (None, False, True):
            raise ValueError(f"A pass is True or False, and None without a result, not {value!r}")
    pairs = _Pairs(a, b)
    if not pairs.n:
        return Comparison(None, None, None, None, 0, "none", pairs.note(None))
    if not pairs.single:
        return pairs.compared(*_sign_flip(pairs.moved))
    # SciPy ships no types.
    from scipy.special import bdtr  # type: ignore[import-untyped, unused-ignore]

    lost, differ = sum(value < 0 for value in pairs.moved), len(pairs.moved)
    p_value = min(1.0, 2 * float(bdtr(min(lost, differ - lost), differ, 0.5)))
    return pairs.compared(p_value, "exact McNemar")


def compare_scores(a: Runs, b: Runs) -> Comparison:
    """Whether the mean score of `b` is higher than that of `a`, on the cases that both have a score for.

    Scores are from 0 to 1. It is a sign-flip permutation test on the differences of the cases' mean scores,
    with a t-interval after one more case in either direction, of the largest difference that was seen. A
    larger difference that is too rare to be among the cases is in no interval. Notes are as in
    `compare_passes`.

    >>> str(compare_scores({1: [0.5], 2: [0.75]}, {1: [1.0], 2: [0.75]}))
    '+25 points [-100 to +100], p = 1, 2 cases (too few cases)'
    """
    pairs = _Pairs(a, b, scores=True)
    if not pairs.n:
        return Comparison(None, None, None, None, 0, "none", pairs.note(None))
    return pairs.compared(*_sign_flip(pairs.moved))


def no_worse(a: Runs, b: Runs, margin: float) -> NoWorse:
    """Whether `b` is certainly no worse than `a` by more than `margin`: a paired non-inferiority test.

    `a` and `b` have each case's passes, or scores from 0 to 1; None for a run without a result. `margin` is
    a fraction: 0.05 allows 5 points. It is shown if the lower 95 % limit of the difference (one-sided) is
    above the negative margin. That of passes is calculated with one more case, which passed and does not any
    more; that of scores is the one of `compare_scores`. Raises `ValueError` for a negative margin.

    >>> no_worse({at: [True] for at in range(90)}, {at: [at > 0] for at in range(90)}, 0.05).certain
    True
    """
    if not margin >= 0:
        raise ValueError(f"A margin is 0 or more, not {margin}")
    values = (value for side in (a, b) for runs in side.values() for value in runs)
    scores = any(value not in (None, 0, 1) for value in values)
    pairs = _Pairs(a, b, scores=scores)
    if not pairs.n:
        return NoWorse(None, None, margin, None, 0, "none", pairs.note(None))
    # With one in either direction, as in a comparison, a second that is worse by the margin would be called
    # no worse in 10 % of evaluations where a few of many constant cases turn, and with repeats in 17 %.
    added = [pairs.padding, -pairs.padding] if scores else [-1.0]
    centre, error = _padded(pairs.differences, added)
    error = max(error, sys.float_info.min)  # 0 where every case turns
    low = max(-1.0, centre - pairs.quantile(CONFIDENCE) * error)
    p_value, method = pairs.above((centre + margin) / error), "paired non-inferiority"
    return NoWorse(fmean(pairs.differences), low, margin, p_value, pairs.n, method, pairs.note(None))


def compare_times(a: Runs, b: Runs) -> TimeComparison:
    """By how many seconds `b` is slower than `a`: at the median and at the 95th percentile.

    Each has a case's times in seconds: `AtLeast` for a turn without an answer, None for one that says
    nothing. The cases have equal weight. The limits are a percentile bootstrap that draws whole cases. There
    are none for fewer than 6 cases, and no p95 for fewer than 40. Where a quantile lies among turns without
    an answer, the difference is only known to be larger, or smaller, than what is shown; where that would
    make the turns without an answer look fast, it is not known.
    """
    import numpy as np

    pairs = _Pairs(a, b)
    n, note = pairs.n, pairs.note(None)
    unanswered = count_unanswered(a.values()), count_unanswered(b.values())
    if any(unanswered):
        counts = " and ".join(f"{count:,}" for count in unanswered)
        note = "; ".join(filter(None, [note, f"{counts} turns unanswered, which count as long ones"]))
    nothing = Comparison(None, None, None, None, n, "paired bootstrap over cases", note, "s")
    if not n:
        return TimeComparison(nothing, nothing)
    before, after = (PooledTimes([side[case] for case in pairs.cases]) for side in (a, b))
    differences = [after.at(level)[0] - before.at(level)[0] for level in LEVELS]
    limits = [(None, None)] * 2
    if n >= TOO_FEW:
        rng, lows, highs = np.random.default_rng(SEED), [], []
        resamples = max(LEAST_RESAMPLES, min(RESAMPLES, DRAWS // n))
        at_once = max(1, min(resamples, DRAWS_AT_ONCE // n))
        for _ in range(-(-resamples // at_once)):
            rows = np.arange(at_once)[:, None] * n
            drawn = np.bincount((rng.integers(0, n, (at_once, n)) + rows).ravel(), minlength=at_once * n)
            drawn = drawn.reshape(at_once, n)
            (first, first_unknown), (second, second_unknown) = before.quantiles(drawn), after.quantiles(drawn)
            lows.append(np.where(first_unknown, -math.inf, second - first))
            highs.append(np.where(second_unknown, math.inf, second - first))
        both = zip((lows, highs), (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2), strict=True)
        found = [
            np.quantile(np.concatenate(side), at, axis=0, method="inverted_cdf").tolist() for side, at in both
        ]
        limits = list(zip(*found, strict=True))
    median, p95 = (
        replace(nothing, difference=difference, low=low, high=high, bound=bound)
        if (bound := _bound(before.at(level)[1], after.at(level)[1], difference)) is not None
        else nothing
        for level, difference, (low, high) in zip(LEVELS, differences, limits, strict=True)
    )
    if n < P95_PAIRS:
        notes = [f"too few cases for a p95: {P95_PAIRS} are needed", pairs.left_out]
        p95 = replace(nothing, note="; ".join(filter(None, notes)))
    return TimeComparison(median, p95)


def _bound(first_unknown: bool, second_unknown: bool, difference: float) -> Literal["", ">", "<"] | None:
    """What the difference of two quantiles is, of which some may be longer; None where that says nothing."""
    if first_unknown and second_unknown:
        return None
    if second_unknown:
        return ">" if difference > 0 else None
    if first_unknown:
        return "<" if difference < 0 else None
    return ""


def holm(comparisons: Mapping[Any, Comparison]) -> dict[Any, Comparison]:
    """The comparisons with p-values adjusted by Holm's method, as one family; those without one as they are.

    The chance that any of the adjusted p-values is below 0.05 is at most 5 % if nothing differs. A single
    p-value is not adjusted.

    >>> found = {at: Comparison(0.1, 0.0, 0.2, p, 50, "") for at, p in enumerate((0.01, 0.04))}
    >>> [each.adjusted_p for each in holm(found).values()]
    [0.02, 0.04]
    """
    tested = {name: each.p_value for name, each in comparisons.items() if each.p_value is not None}
    if len(tested) < 2:
        return dict(comparisons)
    adjusted: dict[Any, float] = {}
    most = 0.0
    for rank, name in enumerate(sorted(tested, key=lambda name: tested[name])):
        most = max(most, min(1.0, (len(tested) - rank) * tested[name]))
        adjusted[name] = most
    return {
        name: replace(each, adjusted_p=adjusted[name]) if name in adjusted else each
        for name, each in comparisons.items()
    }


def padded_limits(differences: Sequence[float], size: float, quantile: float) -> tuple[float, float]:
    """The limits of the mean difference, after one more case of this size in either direction."""
    centre, error = _padded(differences, [size, -size])
    return max(-1.0, centre - quantile * error), min(1.0, centre + quantile * error)


def _padded(differences: Sequence[float], added: Sequence[float]) -> tuple[float, float]:
    """The mean difference and its standard error, with those of the cases that are added."""
    n = len(differences) + len(added)
    centre = math.fsum([*differences, *added]) / n
    squares = math.fsum(value * value for value in [*differences, *added])
    return centre, math.sqrt((squares / n - centre * centre) / n)


class _Pairs:
    """The cases that both sides have a result for, and their differences."""

    def __init__(self, a: Runs, b: Runs, *, scores: bool = False) -> None:
        read = present_fractions if scores else present
        first, missing_a, _ = read(a)
        second, missing_b, _ = read(b)
        self.cases = [case for case in first if case in second]
        self.n = len(self.cases)
        # Sorted, so that the order of the cases does not matter.
        self.differences = sorted(_mean(second[case]) - _mean(first[case]) for case in self.cases)
        # Equal shares may differ in the last digit, which is not a difference.
        self.moved = [value for value in self.differences if abs(value) > 1e-9]
        runs = [len(side[case]) for case in self.cases for side in (first, second)]
        self.single = not scores and all(count == 1 for count in runs)
        # Of Student's distribution; None stands for the normal one, with which Bonett and Price calculate.
        self._degrees = None if self.single else max(self.n - 1, 1)
        # By how much the two cases differ that the limits add.
        if scores:
            self.padding = max(map(abs, self.moved), default=1.0)
        else:
            # Halfway between repeats that are alike and repeats that have nothing in common. As if they had
            # nothing in common, the limits cover only 72 % where a few of many constant cases turn.
            self.padding = math.sqrt((1 + 1 / harmonic_mean(runs)) / 2) if runs else 1.0
        notes = []
        if left := len(a.keys() | b.keys()) - self.n:
            notes.append(f"{counted(left, 'case')} left out, without a result on both sides")
        if missing := missing_a + missing_b:
            notes.append(f"{counted(missing, 'run')} missing")
        self.left_out = "; ".join(notes)

    def compared(self, p_value: float, method: str) -> Comparison:
        quantile = self.quantile(CONFIDENCE / 2 + 0.5)
        low, high = padded_limits(self.differences, self.padding, quantile)
        note = self.note(len(self.moved))
        return Comparison(fmean(self.differences), low, high, p_value, self.n, method, note)

    def quantile(self, level: float) -> float:
        """How many standard errors a limit is away."""
        from scipy.special import ndtri, stdtrit

        return float(ndtri(level) if self._degrees is None else stdtrit(self._degrees, level))

    def above(self, value: float) -> float:
        """The chance of being so many standard errors away, or more."""
        from scipy.special import ndtr, stdtr

        return float(ndtr(-value) if self._degrees is None else stdtr(self._degrees, -value))

    def note(self, differ: int | None) -> str:
        """What a reader has to know about a comparison, in which so many cases differ."""
        notes = []
        if self.n < FEW:
            few = "few cases: only a large difference would show"
            notes.append("too few cases" if self.n < TOO_FEW else few)
        if self.n >= TOO_FEW and differ is not None and differ < TOO_FEW:
            which = {0: "no case differs", 1: "only 1 case differs"}.get(
                differ, f"only {differ} cases differ"
            )
            notes.append(f"{which} (p < 0.05 needs at least {TOO_FEW} differing cases)")
        return "; ".join([*notes, self.left_out] if self.left_out else notes)


def _mean(values: list[float]) -> float:
    # Several times as fast as `fmean`, whose last digits do not matter here.
    return sum(values) / len(values)


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
    if count >= MANY_CASES:
        away = max(0.0, reached) / math.sqrt(math.fsum(value * value for value in differences))
        return math.erfc(away / math.sqrt(2)), "sign-flip permutation, as normal"
    hits = 0
    for _ in range(FLIPS // 1000):  # in parts, since all at once could take gigabytes
        heads = np.unpackbits(np.frombuffer(rng.bytes(125 * count), np.uint8)).reshape(1000, count)
        hits += int(np.sum(np.abs(2 * (heads.astype(np.float32) @ values) - total) >= reached))
    # What was found is one of the flips, so p is never 0.
    return (hits + 1) / (FLIPS + 1), f"sign-flip permutation, {FLIPS:,} flips"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
