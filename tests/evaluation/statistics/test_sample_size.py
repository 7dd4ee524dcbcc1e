"""How many cases a comparison needs."""

from __future__ import annotations

import numpy as np
import pytest

from halo_notebook.evaluation import cases_needed, compare_passes


@pytest.mark.parametrize(
    ("rate", "difference", "repeats", "alike"),
    [(0.8, 0.2, 1, 0.5), (0.9, -0.2, 1, 0.0), (0.8, -0.1, 5, 0.5), (0.5, 0.1, 3, 1.0), (0.3, 0.3, 3, 0.0)],
)
def test_so_many_cases_show_the_difference(
    rate: float, difference: float, repeats: int, alike: float
) -> None:
    """With p < 0.05 in about 80 % of simulated comparisons."""
    rng, evaluations = np.random.default_rng(1), 150
    shape = (evaluations, cases_needed(rate, difference, repeats, alike=alike))
    fixed, passes = rng.random(shape) < alike, rng.random(shape) < rate
    turned = rng.random(shape) < (difference / (1 - rate) if difference > 0 else -difference / rate)
    after = passes | turned if difference > 0 else passes & ~turned
    first = rng.binomial(repeats, np.where(fixed, passes, rate))
    second = rng.binomial(repeats, np.where(fixed, after, rate + difference))
    shown = 0
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        sides = [
            dict(enumerate([run < count for run in range(repeats)] for count in side)) for side in (a, b)
        ]
        p_value = compare_passes(*sides).p_value
        shown += p_value is not None and p_value < 0.05
    # The standard error of 80 % is 3.3 points; a test on few whole cases cannot have exactly that power.
    assert 0.7 <= shown / evaluations <= 0.95


def test_what_makes_a_comparison_need_more_cases() -> None:
    """Smaller differences and rates near half; repeats help, unless the runs of a case are all alike."""
    assert cases_needed(0.8, 0.05) > 3 * cases_needed(0.8, 0.1) > 6 * cases_needed(0.8, 0.2)
    assert cases_needed(0.5, 0.1, alike=0) > cases_needed(0.9, 0.05, alike=0) / 2
    assert cases_needed(0.8, 0.1, 5) < cases_needed(0.8, 0.1, 2) < cases_needed(0.8, 0.1)
    assert cases_needed(0.8, 0.1, 2, alike=1) == cases_needed(0.8, 0.1, 9, alike=1)
    assert cases_needed(0, 1) == 6  # with fewer, p < 0.05 is impossible
    # With independent runs, it is the usual number for two proportions, and a little more.
    assert 388 <= cases_needed(0.5, 0.1, alike=0) <= 410


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0.8, 0.3), "from 0 to 1"),
        ((0.2, -0.3), "from 0 to 1"),
        ((1.2, -0.3), "from 0 to 1"),
        ((0.8, 0), "difference of 0"),
        ((0.8, 0.1, 0), "one repeat"),
        ((float("nan"), 0.1), "from 0 to 1"),
    ],
)
def test_impossible_plans_are_refused(given: tuple[float, ...], message: str) -> None:
    """In one line."""
    with pytest.raises(ValueError, match=message):
        cases_needed(*given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alike"):
        cases_needed(0.8, 0.1, alike=1.5)
