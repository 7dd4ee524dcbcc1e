"""Comparisons claim no more than the cases support."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from halo_notebook.evaluation.statistics.intervals import pass_rate
from halo_notebook.evaluation.statistics.paired import (
    Comparison,
    NoWorse,
    compare_passes,
    compare_scores,
    compare_times,
    holm,
    no_worse,
    padded_limits,
)
from halo_notebook.evaluation.statistics.times import AtLeast


def several(*passed: int, of: int) -> dict[str, list[bool]]:
    """Cases with so many passes of so many runs each."""
    return {f"case {at}": [run < count for run in range(of)] for at, count in enumerate(passed)}


def limits(found: Comparison) -> tuple[float, float]:
    assert found.low is not None and found.high is not None
    return found.low, found.high


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Comparison(0.08, -0.02, 0.18, 0.124, 50, ""), "+8 points [-2 to +18], p = 0.12, 50 cases"),
        (Comparison(-0.5, -0.7, -0.3, 1e-9, 50, "", "x"), "-50 points [-70 to -30], p < 0.001, 50 cases (x)"),
        (
            Comparison(0.1, 0.0, 0.2, 0.02, 50, "", adjusted_p=0.06),
            "+10 points [+0 to +20], adjusted p = 0.06, 50 cases",
        ),
        (Comparison(0.5, None, None, None, 3, "", unit="s"), "+0.50 s, 3 cases"),
        (Comparison(-0.001, -0.004, 0.001, None, 30, "", unit="s"), "+0.00 s [+0.00 to +0.00], 30 cases"),
        (Comparison(None, None, None, None, 0, ""), "no difference known, 0 cases"),
        (
            NoWorse(-0.02, -0.04, 0.05, 0.01, 90, ""),
            "no worse by more than 5 points: -2 points [at least -4], p = 0.01, 90 cases",
        ),
        (
            NoWorse(-0.02, -0.09, 0.025, 0.4, 90, "", "x"),
            "may be worse by more than 2.5 points: -2 points [at least -9], p = 0.4, 90 cases (x)",
        ),
        (NoWorse(None, None, 0.05, None, 0, ""), "may be worse by more than 5 points, 0 cases"),
    ],
)
def test_a_comparison_as_text(figure: Comparison | NoWorse, text: str) -> None:
    """It shows the difference, its limits, how certain it is, and the cases."""
    assert str(figure) == text


# --- Passes -----------------------------------------------------------------------------


def compared(gained: int, lost: int, same: int) -> Comparison:
    """With one run per case."""
    first, second = [0] * gained + [1] * lost + [1] * same, [1] * gained + [0] * lost + [1] * same
    return compare_passes(several(*first, of=1), several(*second, of=1))


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
    found = compare_passes(several(*before, of=3), several(*after, of=3))
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
    a, b = several(*before, of=4), several(*after, of=4)
    found = compare_passes(a, b)
    assert found.p_value == pytest.approx(stats.ttest_rel(after, before).pvalue, abs=0.02)
    assert found.method == "sign-flip permutation, 20,000 flips" and found.note == ""
    assert compare_passes(dict(reversed(a.items())), b).p_value == found.p_value
    clear = compare_passes(several(*[0] * 30, of=4), several(*[4] * 30, of=4))
    assert clear.p_value == pytest.approx(1 / 20_001)


def test_very_many_cases_with_repeats_need_no_flips() -> None:
    """The p-value is that of the normal distribution, to which that of random flips is near."""
    rng = np.random.default_rng(4)
    before, after = rng.binomial(4, 0.5, 3000).tolist(), rng.binomial(4, 0.51, 3000).tolist()
    found = compare_passes(several(*before, of=4), several(*after, of=4))
    changes = np.array(after) - np.array(before)
    flipped = rng.choice([-1, 1], (4000, 3000)) @ changes
    assert found.p_value == pytest.approx(np.mean(np.abs(flipped) >= abs(changes.sum())), abs=0.02)
    assert found.method == "sign-flip permutation, as normal"
    same = compare_passes(several(*before, of=4), several(*reversed(before), of=4))
    assert same.p_value == 1


def test_equal_configurations() -> None:
    """If no case differs, p is 1, and the limits still allow for a difference."""
    for found in (compare_passes(several(*[2] * 20, of=2), several(*[2] * 20, of=2)), compared(0, 0, 30)):
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


def covers(differences: Any, repeats: int, true: float) -> float:
    """How often the limits contain the true difference, in evaluations with these differences of cases."""
    quantile = float(stats.t.ppf(0.975, differences.shape[1] - 1))
    size = ((1 + 1 / repeats) / 2) ** 0.5
    found = [padded_limits(row, size, quantile) for row in differences.tolist()]
    return float(np.mean([low <= true <= high for low, high in found]))


def test_the_limits_are_those_of_the_simulations() -> None:
    """With as many repeats on both sides, they are padded by the same size."""
    a, b = several(*[3, 2, 0, 1] * 5, of=4), several(*[4, 2, 1, 2] * 5, of=4)
    known = padded_limits([0.25, 0, 0.25, 0.25] * 5, ((1 + 1 / 4) / 2) ** 0.5, float(stats.t.ppf(0.975, 19)))
    assert limits(compare_passes(a, b)) == pytest.approx(known)


def test_coverage_of_a_difference() -> None:
    """The limits contain the true difference in at least 94 % of evaluations."""
    for cases, repeats in ((15, 3), (50, 5), (150, 2)):
        rng = np.random.default_rng(cases)
        chances = rng.beta(1.4, 0.6, (1000, cases))
        moved = chances + 0.2 * (1 - chances)  # on the mean by 0.2 × 0.3
        differences = (rng.binomial(repeats, moved) - rng.binomial(repeats, chances)) / repeats
        assert covers(differences, repeats, 0.06) >= 0.94, (cases, repeats)


@pytest.mark.parametrize("cases", [15, 30, 100])
def test_coverage_of_a_difference_in_mixtures(cases: int) -> None:
    """Also if most cases always give the same result, and a few of them turn."""
    rng, repeats = np.random.default_rng(cases), 10
    for same, turns in ((0.9, 0.1), (0.9, 0.05), (0.7, 0.1), (0.7, 0)):
        shape = (1000, cases)
        constant = rng.random(shape) < same
        before = np.where(constant, rng.random(shape) < 0.8, 0.9)
        after = np.where(constant & (rng.random(shape) < turns), 0.0, before)
        differences = (rng.binomial(repeats, after) - rng.binomial(repeats, before)) / repeats
        assert covers(differences, repeats, -same * 0.8 * turns) >= 0.9, (same, turns)


# --- Scores -----------------------------------------------------------------------------


def test_mean_scores_are_compared_by_case() -> None:
    """The p-value is SciPy's for every flip of the signs; the limits are near those of the paired t-test."""
    rng = np.random.default_rng(5)
    before = rng.beta(8, 2, 12)
    after = (before + rng.normal(0.03, 0.05, 12)).clip(0, 1)
    a, b = ({at: [value] for at, value in enumerate(side.tolist())} for side in (before, after))
    found = compare_scores(a, b)
    known = stats.permutation_test(
        (after - before,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert found.p_value == pytest.approx(known.pvalue)
    assert found.difference == pytest.approx(np.mean(after - before))
    low, high = limits(found)
    t_low, t_high = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert t_high - t_low < high - low < 1.5 * (t_high - t_low)
    assert found.method == "sign-flip permutation, exact" and "few cases" in found.note


def test_equal_scores_still_allow_for_a_difference() -> None:
    """Limits of no width would claim too much."""
    scores = {at: [0.8, 0.9] for at in range(30)}
    found = compare_scores(scores, scores)
    low, high = limits(found)
    assert (found.difference, found.p_value) == (0, 1) and low == -high < 0
    assert found.note == "no case differs (p < 0.05 needs at least 6 differing cases)"


def test_coverage_of_a_difference_of_scores() -> None:
    """The limits contain the true difference in at least 94 % of evaluations, also if few cases differ."""
    rng = np.random.default_rng(2)
    for cases, (mean, drawn) in itertools.product(
        (20, 50, 100),
        (
            (0.03, lambda shape: rng.normal(0.03, 0.1, shape)),
            (-0.03, lambda shape: np.where(rng.random(shape) < 0.05, -0.6, 0.0)),
            (
                0.025,
                lambda shape: rng.choice([-0.5, -0.25, 0, 0.25, 0.5], shape, p=[0.02, 0.1, 0.7, 0.12, 0.06]),
            ),
        ),
    ):
        quantile, found = float(stats.t.ppf(0.975, cases - 1)), []
        for row in drawn((1000, cases)).tolist():
            size = max(map(abs, row)) or 1.0
            low, high = padded_limits(row, size, quantile)
            found.append(low <= mean <= high)
        assert np.mean(found) >= 0.94, (cases, mean)


# --- No worse ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gained", "lost", "same", "margin", "certain"),
    [
        (0, 0, 100, 0.05, True),
        (0, 0, 52, 0.05, True),
        (0, 0, 51, 0.05, False),
        (0, 1, 90, 0.05, True),
        (0, 1, 80, 0.05, False),
        (3, 3, 200, 0.05, True),
        (10, 0, 20, 0.0, True),
        (0, 0, 20, 0.05, False),
        (3, 3, 60, 0.05, False),
        (0, 12, 100, 0.05, False),
        (0, 30, 0, 0.05, False),
        (0, 1, 0, 0.0, False),
        (0, 0, 100, 0.0, False),
    ],
)
def test_no_worse_needs_cases_enough(gained: int, lost: int, same: int, margin: float, certain: bool) -> None:
    """Few cases show nothing, however equal they are; the p-value says the same as the limit."""
    before, after = [0] * gained + [1] * (lost + same), [1] * gained + [0] * lost + [1] * same
    found = no_worse(several(*before, of=1), several(*after, of=1), margin)
    assert found.certain is certain and found.p_value is not None
    assert (found.p_value < 0.05) is certain and found.n == gained + lost + same


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(("cases", "rate"), [(50, 0.8), (80, 0.9)])
def test_a_worse_one_is_seldom_called_no_worse(cases: int, rate: float, repeats: int) -> None:
    """One that is worse by exactly the margin is called no worse in at most about 5 % of evaluations."""
    rng, margin = np.random.default_rng(cases), 0.05
    alike = rng.random((400, cases)) < 0.5
    chances = np.where(alike, (rng.random((400, cases)) < rate).astype(float), rate)
    drop = np.where(alike, (rng.random((400, cases)) < margin / rate) * chances, margin)
    first, second = rng.binomial(repeats, chances), rng.binomial(repeats, chances - drop)
    found = [
        no_worse(several(*before, of=repeats), several(*after, of=repeats), margin).certain
        for before, after in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert np.mean(found) <= 0.065


@pytest.mark.parametrize("repeats", [1, 3, 10])
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
def test_a_few_cases_that_turn_among_constant_ones_are_seldom_called_no_worse(
    margin: float, repeats: int
) -> None:
    """By the exact chances: all cases passed each time, and of those that turn, each repeat fails."""
    tried = []
    for cases in (34, 45, 52, 60, 85, 100, 150, 300):
        before, turned = [repeats] * cases, 0
        while no_worse(
            several(*before, of=repeats),
            several(*[0] * turned, *before[turned:], of=repeats),
            margin,
        ).certain:
            turned += 1
        tried.append(float(stats.binom.cdf(turned - 1, cases, margin)))
    assert 0.04 < max(tried) <= 0.072


def test_no_worse_in_scores_and_without_pairs() -> None:
    """Scores count as they are; without a pair, or for a margin below 0, nothing is shown."""
    scores = {at: [0.7 + 0.01 * (at % 7)] for at in range(40)}
    lower = {at: [value - 0.02 for value in values] for at, values in scores.items()}
    assert no_worse(scores, lower, 0.05).certain and not no_worse(scores, lower, 0.01).certain
    nothing = no_worse({"a": [True]}, {"a": [None], "b": [True]}, 0.5)
    assert not nothing.certain and nothing.p_value is None and "1 run missing" in nothing.note
    with pytest.raises(ValueError, match="margin"):
        no_worse(scores, scores, -0.1)


@pytest.mark.parametrize("value", [5, -1, 0.5, math.nan, math.inf, "x", "True", [True], (), 10**400])
def test_a_value_that_is_no_pass_is_refused(value: Any) -> None:
    """In one line, on either side, also of a case that only one side has."""
    for sides in (
        ({"a": [value]}, {"a": [True]}),
        ({"a": [True]}, {"a": [True, value]}),
        ({"a": [value]}, {}),
    ):
        with pytest.raises(
            ValueError, match="A pass is True or False, and None without a result, not "
        ) as raised:
            compare_passes(*sides)
        assert "\n" not in str(raised.value)
    passed: list[Any] = [True, np.True_, 1, 1.0]
    failed: list[Any] = [None, np.False_, 0, False]
    found = compare_passes({"a": passed}, {"a": failed})
    assert found.difference == -1


@pytest.mark.parametrize("value", [5, -0.1, math.nan, "x", [True], 10**400])
def test_a_value_that_is_no_score_is_refused(value: Any) -> None:
    """By what compares scores, passes within a margin, and by intervals of one side."""
    for compare in (compare_scores, partial(no_worse, margin=0.1)):
        for sides in (({"a": [value]}, {"a": [True]}), ({"a": [0.5]}, {"b": [value]})):
            with pytest.raises(ValueError, match=r"finite number|from 0 to 1"):
                compare(*sides)
    with pytest.raises(ValueError, match=r"finite number|from 0 to 1"):
        pass_rate({"a": [value]})


# --- Several at once --------------------------------------------------------------------


def test_holms_correction() -> None:
    """The adjusted p-values are those of Holm (1979); times and single comparisons have none."""
    p_values = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "times": None, "e": 0.9}
    found = holm({name: Comparison(0.1, 0.0, 0.2, p, 50, "") for name, p in p_values.items()})
    expected = {"d": 0.025, "a": 0.04, "c": 0.09, "b": 0.09, "e": 0.9, "times": None}
    for name, adjusted in expected.items():
        assert found[name].adjusted_p == (None if adjusted is None else pytest.approx(adjusted))
        assert found[name].p_value == p_values[name]
    assert list(found) == list(p_values)
    single = holm({"a": Comparison(0.1, 0.0, 0.2, 0.03, 50, ""), "times": Comparison(1, 0, 2, None, 50, "")})
    assert single["a"].adjusted_p is None and holm({}) == {}


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
    before, after = (np.quantile(list(side.values()), (0.5, 0.95), method="inverted_cdf") for side in (a, b))
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


def test_cases_have_equal_weight_in_times() -> None:
    """A case of many turns counts as much as one of a single turn."""
    a: dict[int, list[float]] = {at: [1.0] for at in range(9)} | {9: [9.0] * 100}
    b = {case: [value + 0.5 for value in values] for case, values in a.items()}
    assert compare_times(a, a).median.difference == 0
    assert compare_times(a, b).median.difference == pytest.approx(0.5)
    assert compare_times(a, {at: [2.0] for at in range(10)}).median.difference == pytest.approx(1)


def test_turns_without_an_answer_count_as_long_ones() -> None:
    """The note counts them; where both quantiles lie among them, their difference is not known."""
    fast = {at: [0.05 + at / 1000] for at in range(40)}
    hung: dict[int, list[float]] = {at: [0.05 + at / 1000] if at % 4 else [AtLeast(60.0)] for at in range(40)}
    found = compare_times(fast, hung)
    assert found.p95.difference == pytest.approx(59.9, abs=0.05)
    assert found.p95.words().startswith(">+59.91 s [+59.9") and found.p95.high == math.inf
    assert compare_times(hung, fast).p95.words().startswith("<-59.91 s [-∞ to -59.9")
    assert found.median.note == "0 and 10 turns unanswered, which count as long ones"
    both = compare_times(hung, hung)
    assert both.p95.difference is None and both.median.difference == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_errors_that_come_at_once_do_not_make_an_agent_faster(share: float) -> None:
    """Whatever the few answers took: nothing is known about a difference that is only known to be larger."""
    answers = round(60 * share)
    slow: dict[int, list[float]] = {at: [1.0 + at / 1000] for at in range(60)}
    broken = {at: [0.1 if at < answers else AtLeast(0.1)] for at in range(60)}
    for found in (compare_times(slow, broken), compare_times(broken, slow)):
        for each in (found.median, found.p95):
            assert (each.difference, each.low, each.high) == (None, None, None)
            assert each.words() == "no difference known, 60 cases" and f"{60 - answers} " in each.note


def test_a_limit_among_turns_without_an_answer_is_infinite() -> None:
    """Where the median itself was measured, and more of them in another sample would move it there."""
    slow: dict[int, list[float]] = {at: [1.0] for at in range(60)}
    some = {at: [0.1 if at < 33 else AtLeast(0.1)] for at in range(60)}
    found = compare_times(slow, some)
    assert str(found.median).startswith("-0.90 s [-0.90 to +∞], 60 cases (0 and 27 turns unanswered")
    assert found.p95.difference is None
