"""Intervals and comparisons claim no more than the cases support."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from halo_notebook.evaluation.intervals import (
    Comparison,
    Interval,
    clustered_wilson,
    compare_passes,
    compare_times,
    padded_limits,
    pass_rate,
)

# The standard error of a coverage of 95 % is 0.34 points with so many.
EVALUATIONS = 4_000


def runs(*passed: int, of: int) -> dict[str, list[bool]]:
    """Cases with so many passes of so many runs each."""
    return {f"case {at}": [run < count for run in range(of)] for at, count in enumerate(passed)}


def limits(found: Interval | Comparison) -> tuple[float, float]:
    assert found.low is not None and found.high is not None
    return found.low, found.high


def width(found: Interval) -> float:
    low, high = limits(found)
    return high - low


# --- Coverage, by simulation ------------------------------------------------------------


def coverage(cases: int, repeats: int, rate: float, alike: float) -> float:
    """Of the interval, in so many evaluations; `alike` is the correlation of two runs of a case."""
    rng = np.random.default_rng(cases + repeats)
    shape = (EVALUATIONS, cases)
    if alike == 1:
        chances = (rng.random(shape) < rate).astype(float)
    else:
        total = 1 / alike - 1
        chances = rng.beta(rate * total, (1 - rate) * total, shape)
    low, high = clustered_wilson(rng.binomial(repeats, chances) / repeats, repeats)
    return float(np.mean((low <= rate) & (rate <= high)))


@pytest.mark.parametrize(
    ("cases", "repeats", "rates", "alikes", "bounds"),
    [
        *(
            (cases, repeats, (0.3, 0.5, 0.8), (0.9, 0.5, 0.15), (0.93, 0.97))
            for cases in (20, 30, 50, 100, 200)
            for repeats in (2, 5, 10)
        ),
        # Rates near 0 and 1, which are off by some points with few cases.
        (100, 3, (0.1, 0.9, 0.95), (1, 0.5, 0.15), (0.925, 0.98)),
        (20, 3, (0.1, 0.9, 0.95), (1, 0.5, 0.15), (0.915, 0.99)),
        # The fewest cases that the interval is meant for.
        (15, 2, (0.7,), (0.9, 0.5, 0.15), (0.925, 0.975)),
        (15, 10, (0.7,), (0.9, 0.5, 0.15), (0.925, 0.975)),
    ],
)
def test_coverage(cases: int, repeats: int, rates: Any, alikes: Any, bounds: tuple[float, float]) -> None:
    """The interval contains the true rate as often as it says, however alike the runs of a case are."""
    least, most = bounds
    for rate, alike in itertools.product(rates, alikes):
        assert least <= coverage(cases, repeats, rate, alike) <= most, (rate, alike)


# --- Rates ------------------------------------------------------------------------------


def test_one_run_per_case_has_wilsons_interval() -> None:
    """The figures are those of SciPy, and Newcombe's (1998) for 81 of 263."""
    for passed, n in ((0, 5), (1, 7), (41, 50), (50, 50), (81, 263)):
        found = pass_rate({at: [at < passed] for at in range(n)})
        known = stats.binomtest(passed, n).proportion_ci(method="wilson")
        assert limits(found) == pytest.approx((known.low, known.high), abs=1e-12)
        assert found.estimate == pytest.approx(passed / n)
        assert (found.n, found.method) == (n, "Wilson")
    assert limits(found) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("passed", "repeats"), [([1] * 14 + [0] * 6, 5), ([1] * 20, 10), ([0] * 20, 10)])
def test_repeats_that_are_alike_add_nothing(passed: list[int], repeats: int) -> None:
    """Cases that always pass or always fail have the interval of one run per case."""
    one = pass_rate(runs(*passed, of=1))
    more = pass_rate(runs(*(each * repeats for each in passed), of=repeats))
    assert limits(more) == pytest.approx(limits(one)) and more.method == "Wilson, clustered by case"
    if more.estimate in (0, 1):
        assert more.estimate in limits(more) and width(more) == pytest.approx(0.161, abs=0.001)


def test_repeats_that_have_nothing_in_common_add_much() -> None:
    """Cases that are all alike have nearly the interval of as many cases as there are runs."""
    found = width(pass_rate(runs(*[2] * 40, of=4)))
    pooled = width(pass_rate(runs(*[1] * 80, *[0] * 80, of=1)))
    assert pooled < found < 1.05 * pooled
    assert found < 0.6 * width(pass_rate(runs(*[1] * 20, *[0] * 20, of=1)))


def test_a_single_case() -> None:
    """A single case says almost nothing, however often it was run."""
    low, high = limits(pass_rate({"a": [True] * 9 + [False]}))
    assert low < 0.2 and high > 0.97


def test_missing_runs_are_counted_and_widen_the_interval() -> None:
    """A case with a missing run counts as much as the others."""
    found = pass_rate({"a": [True, None, None], "b": [False, False, False], "c": [None] * 3})
    assert (found.estimate, found.n, found.empty, found.missing) == (0.5, 2, 1, 5)
    full = {at: [at % 3 > 0, at % 2 > 0, True] for at in range(30)}
    holes = {at: [values[0], None, None] if at % 2 else values for at, values in full.items()}
    assert width(pass_rate(holes)) > width(pass_rate(full))


def test_wrong_values_are_refused() -> None:
    """Infinities and nan are errors, not figures."""
    with pytest.raises(ValueError, match="finite"):
        pass_rate({"a": [float("nan")]})  # type: ignore[list-item]


# --- As text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Interval(0.82, 0.71, 0.9, 50, ""), "82% [71–90%], 50 cases"),
        (Interval(1.0, 0.93, 1.0, 1, ""), "100% [93–100%], 1 case"),
        (Interval(0.998, 0.99, 0.9996, 2000, ""), ">99% [99–>99%], 2,000 cases"),
        (Interval(0.002, 0.0004, 0.01, 9, "", 1), "<1% [<1%–1%], 9 cases, 1 run missing"),
        (Interval(0.5, None, None, 2, "", 5, 1), "50%, 2 of 3 cases, 5 runs missing"),
        (pass_rate({}), "no result, 0 cases"),
        (pass_rate({"a": [None, None], "b": []}), "no result, 0 of 2 cases, 2 runs missing"),
        (Comparison(0.08, -0.02, 0.18, 0.124, 50, ""), "+8 points [-2 to +18], p = 0.12, 50 cases"),
        (Comparison(-0.5, -0.7, -0.3, 1e-9, 50, "", "x"), "-50 points [-70 to -30], p < 0.001, 50 cases (x)"),
        (Comparison(0.5, None, None, None, 3, "", unit="s"), "+0.50 s, 3 cases"),
        (Comparison(None, None, None, None, 0, ""), "no difference known, 0 cases"),
    ],
)
def test_a_figure_as_text(figure: Interval | Comparison, text: str) -> None:
    """It shows the limits and the cases; what is not certain is never shown as 0% or 100%."""
    assert str(figure) == text


# --- Comparisons ------------------------------------------------------------------------


def compared(gained: int, lost: int, same: int) -> Comparison:
    """With one run per case."""
    first, second = [0] * gained + [1] * lost + [1] * same, [1] * gained + [0] * lost + [1] * same
    return compare_passes(runs(*first, of=1), runs(*second, of=1))


def test_one_run_each_is_compared_with_mcnemars_test() -> None:
    """The p-values are those of SciPy's binomial test on the cases that differ."""
    for gained, lost, same in ((6, 0, 3), (5, 5, 5), (12, 3, 40), (59, 86, 100), (900, 700, 1)):
        found = compared(gained, lost, same)
        assert found.p_value == pytest.approx(stats.binomtest(lost, gained + lost).pvalue, rel=1e-9)
        assert (found.n, found.method) == (gained + lost + same, "exact McNemar")
        assert found.difference == pytest.approx((gained - lost) / found.n)


def test_limits_of_a_difference() -> None:
    """They are Bonett and Price's: Wald's with one more case of either kind that differs."""
    n, gained, lost = 60, (12 + 1) / 62, (3 + 1) / 62
    half = stats.norm.ppf(0.975) * ((gained + lost - (gained - lost) ** 2) / (n + 2)) ** 0.5
    assert limits(compared(12, 3, 45)) == pytest.approx((gained - lost - half, gained - lost + half))


@pytest.mark.parametrize(
    ("gained", "same", "note"),
    [
        (0, 0, "too few cases"),
        (5, 0, "too few cases"),
        (6, 0, "few cases: only a large difference would show"),
        (6, 9, ""),
        (1, 99, "only 1 case differs (p < 0.05 needs at least 6 differing cases)"),
        (0, 20, "no case differs (p < 0.05 needs at least 6 differing cases)"),
    ],
)
def test_too_few_cases_are_noted(gained: int, same: int, note: str) -> None:
    """Five cases that differ cannot have p < 0.05, six can."""
    found = compared(gained, 0, same)
    assert found.note == note
    assert (found.p_value is not None and found.p_value < 0.05) == (gained == 6)


def test_few_cases_with_repeats_have_every_flip() -> None:
    """For up to 16 differing cases, the p-value is that of SciPy's exact permutation test."""
    before, after = [1, 0, 3, 2, 2, 1, 0, 3, 1, 2], [3, 2, 3, 3, 1, 2, 2, 3, 1, 3]
    found = compare_passes(runs(*before, of=3), runs(*after, of=3))
    known = stats.permutation_test(
        # As whole passes, so that equal sums are equal.
        (np.array(after), np.array(before)),
        lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert found.p_value == pytest.approx(known.pvalue)
    assert found.method == "sign-flip permutation, exact"
    assert found.difference == pytest.approx(8 / 30)
    assert "few cases" in found.note


def test_many_cases_with_repeats_have_random_flips() -> None:
    """The p-value is near that of the paired t-test, never 0, and the same each time and in any order."""
    rng = np.random.default_rng(3)
    before, after = rng.binomial(4, 0.5, 80).tolist(), rng.binomial(4, 0.6, 80).tolist()
    a, b = runs(*before, of=4), runs(*after, of=4)
    found = compare_passes(a, b)
    assert found.p_value == pytest.approx(stats.ttest_rel(after, before).pvalue, abs=0.02)
    assert found.method == "sign-flip permutation, 20,000 flips" and found.note == ""
    assert compare_passes(dict(reversed(a.items())), b).p_value == found.p_value
    clear = compare_passes(runs(*[0] * 30, of=4), runs(*[4] * 30, of=4))
    assert clear.p_value == pytest.approx(1 / 20_001)


def test_equal_configurations() -> None:
    """If no case differs, p is 1, and the limits still allow for a difference."""
    for found in (compare_passes(runs(*[2] * 20, of=2), runs(*[2] * 20, of=2)), compared(0, 0, 30)):
        low, high = limits(found)
        assert (found.difference, found.p_value) == (0, 1) and low == -high < 0


def test_only_pairs_are_compared() -> None:
    """Cases with a result on only one side are left out, and the note counts them and the runs."""
    a = {at: [True] for at in range(20)} | {"gone": [True]}
    b: dict[int, list[bool | None]] = {at: [at > 7] for at in range(19)}
    b[19] = [None]
    found = compare_passes(a, b)
    assert found.n == 19
    assert found.note == "2 cases left out, without a result on both sides; 1 run missing"
    nothing = compare_passes({"a": [True]}, {"b": [True]})
    assert (nothing.difference, nothing.n) == (None, 0)
    assert nothing.note == "too few cases; 2 cases left out, without a result on both sides"


def test_coverage_of_a_difference() -> None:
    """The limits contain the true difference in at least 94 % of evaluations, and are not much too wide."""
    for cases, repeats in ((15, 3), (50, 5), (150, 2)):
        rng = np.random.default_rng(cases)
        chances = rng.beta(1.4, 0.6, (1000, cases))
        moved = chances + 0.2 * (1 - chances)  # on the mean by 0.2 × 0.3
        differences = (rng.binomial(repeats, moved) - rng.binomial(repeats, chances)) / repeats
        quantile = float(stats.t.ppf(0.975, cases - 1))
        found = [padded_limits(row, repeats**-0.5, quantile) for row in differences.tolist()]
        share = np.mean([low <= 0.06 <= high for low, high in found])
        assert 0.94 <= share <= 0.995, (cases, repeats)


# --- Times ------------------------------------------------------------------------------


def times(seed: int, cases: int, factor: float = 1.0) -> dict[int, list[float]]:
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).lognormal(1, 0.5, cases)
    values: list[list[float]] = (factor * base[:, None] * rng.lognormal(0, 0.1, (cases, 2))).tolist()
    return dict(enumerate(values))


def test_times_are_compared_in_seconds() -> None:
    """Median and p95 differ as the quantiles of both sides do, and the limits contain that."""
    a, b = times(1, 60), times(2, 60, factor=1.5)
    found = compare_times(a, b)
    before, after = (np.quantile(list(side.values()), (0.5, 0.95)) for side in (a, b))
    for comparison, known in zip((found.median, found.p95), after - before, strict=True):
        assert comparison.difference == pytest.approx(known)
        low, high = limits(comparison)
        assert 0 < low < known < high
        assert (comparison.unit, comparison.note, comparison.p_value) == ("s", "", None)
    assert compare_times(a, b) == found


def test_times_of_the_same_cases_are_paired() -> None:
    """Differences between cases that are the same on both sides do not widen the limits."""
    a = times(1, 40)
    found = compare_times(a, {case: [value + 1 for value in values] for case, values in a.items()})
    assert limits(found.median) == pytest.approx((1, 1))


def test_times_of_few_cases() -> None:
    """There is no p95 below 40 cases, no limits below 6, and nothing without a case."""
    some = compare_times(times(1, 39), times(2, 39))
    assert some.median.low is not None and some.median.note == ""
    assert some.p95.difference is None and some.p95.note == "too few cases for a p95: 40 are needed"
    few = compare_times(times(1, 5), {**times(2, 5), "more": [None]})
    assert few.median.difference is not None and few.median.low is None
    left_out = "1 case left out, without a result on both sides; 1 run missing"
    assert few.median.note == f"too few cases; {left_out}"
    assert few.p95.note.endswith(left_out)
    none = compare_times({}, {})
    assert none.median.difference is None and none.median.note == "too few cases"
