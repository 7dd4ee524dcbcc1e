"""Intervals claim no more than the cases support."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from halo_notebook.evaluation.statistics.intervals import (
    Interval,
    clustered_wilson,
    mean_score,
    pass_rate,
    passes_every_time,
)

# The standard error of a coverage of 95 % is 0.44 points with so many.
EVALUATIONS = 2_500


def several(*passed: int, of: int) -> dict[str, list[bool]]:
    """Cases with so many passes of so many runs each."""
    return {f"case {at}": [run < count for run in range(of)] for at, count in enumerate(passed)}


def limits(found: Interval) -> tuple[float, float]:
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


@pytest.mark.ci
@pytest.mark.parametrize(
    ("cases", "repeats", "rates", "alikes", "bounds"),
    [
        *(
            (cases, repeats, (0.3, 0.5, 0.8), (0.9, 0.5, 0.15), (0.93, 0.985))
            for cases in (20, 30, 50, 100, 200)
            for repeats in (2, 5, 10)
        ),
        # Rates near 0 and 1, which are off by some points with few cases.
        (100, 3, (0.1, 0.9, 0.95), (1, 0.5, 0.15), (0.925, 0.98)),
        (20, 3, (0.1, 0.9, 0.95), (1, 0.5, 0.15), (0.915, 0.995)),
        # The fewest cases that the interval is meant for.
        (15, 2, (0.7,), (0.9, 0.5, 0.15), (0.925, 0.99)),
        (15, 10, (0.7,), (0.9, 0.5, 0.15), (0.925, 0.99)),
    ],
)
def test_coverage(cases: int, repeats: int, rates: Any, alikes: Any, bounds: tuple[float, float]) -> None:
    """The interval contains the true rate as often as it says, however alike the runs of a case are."""
    least, most = bounds
    for rate, alike in itertools.product(rates, alikes):
        assert least <= coverage(cases, repeats, rate, alike) <= most, (rate, alike)


@pytest.mark.ci
@pytest.mark.parametrize("cases", [20, 30, 50, 100])
@pytest.mark.parametrize("repeats", [3, 10])
def test_coverage_of_mixtures(cases: int, repeats: int) -> None:
    """Also if most cases always give the same result: the rarer of them are seldom among a few cases.

    Wilson's interval for one run each of the same cases has the same floor.
    """
    rng = np.random.default_rng(cases + repeats)
    for same, of_them, others in itertools.product((0.3, 0.5, 0.7, 0.9), (0, 0.8, 0.9, 0.95), (0.5, 0.95)):
        rate = same * of_them + (1 - same) * others
        if not 0.1 <= rate <= 0.95:
            continue
        draw = rng.random((EVALUATIONS, cases))
        chances = np.where(draw < same * of_them, 1.0, np.where(draw < same, 0.0, others))
        low, high = clustered_wilson(rng.binomial(repeats, chances) / repeats, repeats)
        assert 0.905 <= np.mean((low <= rate) & (rate <= high)) <= 0.995, (same, of_them, others)


@pytest.mark.ci
def test_coverage_of_mean_scores() -> None:
    """In 90 to 100 % of evaluations, also where nearly all scores are equal and a few are far below.

    Student's interval covers less than 60 % of the fourth kind with 15 cases.
    """
    rng = np.random.default_rng(0)
    kinds: list[tuple[float, Callable[[tuple[int, int]], Any]]] = [
        (0.8, lambda shape: rng.beta(8, 2, shape)),
        (0.8, lambda shape: rng.beta(40, 10, shape)),
        (0.7925, lambda shape: rng.choice([0, 0.25, 0.5, 0.75, 1], shape, p=[0.02, 0.03, 0.1, 0.46, 0.39])),
        (0.975, lambda shape: np.where(rng.random(shape) < 0.95, 1, rng.random(shape))),
        (0.81, lambda shape: np.where(rng.random(shape) < 0.9, 0.9, 0)),
    ]
    for cases, (mean, drawn) in itertools.product((15, 30, 50, 100), kinds):
        low, high = clustered_wilson(drawn((EVALUATIONS, cases)), math.inf)
        assert np.mean((low <= mean) & (mean <= high)) >= 0.9, (cases, mean)


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
    one = pass_rate(several(*passed, of=1))
    more = pass_rate(several(*(each * repeats for each in passed), of=repeats))
    assert limits(more) == pytest.approx(limits(one)) and more.method == "Wilson, clustered by case"
    if more.estimate in (0, 1):
        assert more.estimate in limits(more) and width(more) == pytest.approx(0.161, abs=0.001)


def test_repeats_that_have_nothing_in_common_add_much() -> None:
    """Cases that are all alike have nearly the interval of as many cases as there are runs."""
    found = width(pass_rate(several(*[2] * 40, of=4)))
    pooled = width(pass_rate(several(*[1] * 80, *[0] * 80, of=1)))
    assert pooled < found < 1.08 * pooled
    assert found < 0.6 * width(pass_rate(several(*[1] * 20, *[0] * 20, of=1)))


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
    wrong: Any
    figures: list[Callable[[Any], Any]] = [pass_rate, mean_score, passes_every_time]
    for wrong in (5, -1, 1.5, 10**400):
        for figure in figures:
            with pytest.raises(ValueError, match="number"):
                figure({"a": [wrong], "b": [0]})


# --- Scores and repeats -----------------------------------------------------------------


def test_mean_scores() -> None:
    """A case counts once; scores of 0 and 1 have Wilson's interval, and close ones a narrower."""
    found = mean_score({"a": [0.9, 0.7], "b": [0.5], "c": [None], "d": []})
    assert found.estimate == pytest.approx(0.65) and (found.n, found.empty, found.missing) == (2, 2, 1)
    ones = {at: [float(at < 41)] for at in range(50)}
    assert limits(mean_score(ones)) == pytest.approx(limits(pass_rate({at: [at < 41] for at in range(50)})))
    close = mean_score({at: [0.82 + 0.01 * (at % 3)] for at in range(50)})
    assert width(close) < width(mean_score(ones)) / 2
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="number"):
            mean_score({"a": [wrong]})


@pytest.mark.parametrize(
    ("passed", "of", "runs", "rate"),
    [
        ([2, 1, 2], 2, None, 2 / 3),
        ([3, 2, 0], 3, 2, (1 + 1 / 3 + 0) / 3),
        ([5, 4, 3], 5, 3, (1 + 4 / 10 + 1 / 10) / 3),
        ([1, 0, 1, 1], 1, None, 0.75),
    ],
)
def test_passing_every_time(passed: list[int], of: int, runs: int | None, rate: float) -> None:
    """Of all choices of so many runs, those in which each run passes, averaged over cases."""
    found = passes_every_time(several(*passed, of=of), runs)
    assert found.estimate == pytest.approx(rate) and found.n == len(passed)
    if runs is not None:
        chosen = [list(itertools.combinations([at < count for at in range(of)], runs)) for count in passed]
        assert rate == pytest.approx(np.mean([np.mean([all(each) for each in case]) for case in chosen]))


def test_passing_every_time_is_unbiased() -> None:
    """With more results than the runs in a row that are asked for, the mean is that of the true chances."""
    rng = np.random.default_rng(1)
    chances = rng.beta(4, 1, 300)
    found = [
        passes_every_time(several(*rng.binomial(5, chances).tolist(), of=5), 3).estimate for _ in range(60)
    ]
    assert np.mean(found) == pytest.approx(np.mean(chances**3), abs=0.01)  # type: ignore[arg-type]


def test_cases_with_too_few_runs_do_not_pass_every_time() -> None:
    """Nor do they fail: they are counted as without a result."""
    found = passes_every_time({"a": [True] * 3, "b": [True, None, True], "c": [False] * 3})
    assert (found.estimate, found.n, found.empty, found.missing) == (0.5, 2, 1, 1)
    assert passes_every_time({"a": [None]}).estimate is None
    with pytest.raises(ValueError, match="At least one run"):
        passes_every_time({"a": [True]}, 0)


# --- As text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.82, 0.71, 0.9, 50, ""), "82% [71–90%], 50 cases"),
        (Interval(1.0, 0.93, 1.0, 1, ""), "100% [93–100%], 1 case"),
        (Interval(0.998, 0.99, 0.9996, 2000, ""), ">99% [99–>99%], 2,000 cases"),
        (Interval(0.002, 0.0004, 0.01, 9, "", 1), "<1% [<1%–1%], 9 cases, 1 run missing"),
        (Interval(0.5, None, None, 2, "", 5, 1), "50%, 2 of 3 cases, 5 runs missing"),
        (pass_rate({}), "no result, 0 cases"),
        (pass_rate({"a": [None, None], "b": []}), "no result, 0 of 2 cases, 2 runs missing"),
    ],
)
def test_an_interval_as_text(interval: Interval, text: str) -> None:
    """It shows the limits and the cases; what is not certain is never shown as 0% or 100%."""
    assert str(interval) == text


def test_an_interval_is_a_number() -> None:
    """Its estimate; nan without a result."""
    assert float(pass_rate({"a": [True], "b": [False]})) == 0.5
    assert math.isnan(float(pass_rate({"a": [None]})))
