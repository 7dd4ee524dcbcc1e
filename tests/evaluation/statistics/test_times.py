"""Quantiles of times: with limits, with equal weight of cases, and no faster for turns without an answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from halo_notebook.evaluation.statistics.times import AtLeast, TimeQuantile, time_quantiles


@pytest.mark.parametrize("cases", [6, 19, 20, 71, 72, 500])
def test_limits_are_order_statistics(cases: int) -> None:
    """They are SciPy's for one time per case; a p95 needs 20 cases, and its upper limit 72."""
    values = np.random.default_rng(cases).lognormal(0, 1, cases).tolist()
    found = time_quantiles({at: [value] for at, value in enumerate(values)})
    assert found.n == cases and found.unanswered == 0
    for quantile, level in ((found.p50, 0.5), (found.p95, 0.95)):
        if level == 0.95 and cases < 20:
            assert quantile == TimeQuantile(None, None, None, cases)
            continue
        known = stats.quantile_test(values, p=level).confidence_interval(0.95)
        high = math.inf if math.isnan(known.high) else known.high
        assert (quantile.low, quantile.high) == (known.low, high)
        assert quantile.estimate == np.quantile(values, level, method="inverted_cdf")
        assert (quantile.high == math.inf) == (level == 0.95 and cases < 72)


def test_coverage_of_the_median_and_the_p95() -> None:
    """The limits contain the true quantile in about 95 % of evaluations or more, also with several turns."""
    rng = np.random.default_rng(0)
    for cases, turns, share in ((20, 1, 0), (80, 1, 0), (30, 4, 0.7)):
        hits = np.zeros(2)
        for _ in range(250):
            own, each = rng.normal(size=(cases, 1)), rng.normal(size=(cases, turns))
            times = np.exp(share**0.5 * own + (1 - share) ** 0.5 * each).tolist()
            found = time_quantiles(dict(enumerate(times)))
            for at, quantile in enumerate((found.p50, found.p95)):
                assert quantile.low is not None and quantile.high is not None
                true = math.exp(stats.norm.ppf((0.5, 0.95)[at]))
                hits[at] += quantile.low <= true <= quantile.high
        # Its standard error is 1.4 points.
        assert (hits / 250 >= 0.92).all(), (cases, turns)


def test_cases_have_equal_weight() -> None:
    """However many turns and repeats they have."""
    found = time_quantiles({"long": [9.0] * 1000, "a": [1.0], "b": [2.0, 2.5], "c": [3.0]})
    assert found.p50.estimate == 2.5 and found.n == 4
    assert time_quantiles({"long": [9.0] * 1000, "a": [1.0], "b": [2.0]}).p50.estimate == 2.0


@pytest.mark.parametrize(
    ("fast", "hung", "p50", "p95"),
    [
        (30, 10, "0.06 s [0.06–0.06]", ">60.00 s [60.00–∞]"),
        (99, 1, "0.06 s [0.06–0.06]", "0.06 s [0.06–∞]"),
        (10, 30, ">60.00 s [60.00–∞]", ">60.00 s [60.00–∞]"),
    ],
)
def test_turns_without_an_answer_do_not_make_an_agent_look_fast(
    fast: int, hung: int, p50: str, p95: str
) -> None:
    """They count at their limit, and nothing certain is said beyond it."""
    times = [0.06] * fast + [AtLeast(60.0)] * hung
    found = time_quantiles({at: [value] for at, value in enumerate(times)})
    assert (str(found.p50), str(found.p95), found.unanswered) == (p50, p95, hung)
    assert found.p50.at_least == (hung > fast) and found.p95.at_least == (hung > 1)


def test_few_cases_have_no_limits() -> None:
    """Five have a median without limits, and nothing has no median."""
    few = time_quantiles({at: [float(at)] for at in range(5)})
    assert str(few) == "p50 2.00 s, p95 –, 5 cases"
    nothing = time_quantiles({"a": [None], "b": []})
    assert str(nothing) == "p50 –, p95 –, 0 cases" and math.isnan(float(nothing.p50))
