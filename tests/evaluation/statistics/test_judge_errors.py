"""The errors of a judge: the intervals of its figures cover the truth as often as they say."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from halo_notebook.evaluation.statistics.intervals import clustered_wilson, effective_number, wilson
from halo_notebook.evaluation.statistics.judge_errors import Share, measured

# The standard error of a coverage of 95 % is 0.7 points with so many.
EVALUATIONS = 1_000
DRAWS = 500


@dataclass(frozen=True)
class Truth:
    """How many replies of each configuration are good, and how often the judge is right about them."""

    good: tuple[float, ...]
    sensitivity: float
    specificity: float

    @property
    def figures(self) -> Any:
        good = float(np.mean(self.good))
        passed = good * self.sensitivity + (1 - good) * (1 - self.specificity)
        agreed = good * self.sensitivity + (1 - good) * self.specificity
        chance = passed * good + (1 - passed) * (1 - good)
        return SimpleNamespace(
            kappa=(agreed - chance) / (1 - chance),
            sensitivity=self.sensitivity,
            specificity=self.specificity,
        )


def of(values: Any, weights: Any, cases: Any) -> tuple[float, float]:
    return effective_number(values, weights, cases)


def share(rate: float, n: float) -> Share:
    return Share(np.array(rate), np.array(n))


def chances(rng: np.random.Generator, rate: float, cases: int, alike: float) -> Any:
    """The chance of each case, so that two of its runs correlate by `alike`."""
    if not alike or rate in (0, 1):
        return np.full(cases, rate)
    total = 1 / alike - 1
    return rng.beta(rate * total, (1 - rate) * total, cases)


def coverage(
    truth: Truth, cases: int, labels: int, *, repeats: int = 1, alike: float = 0, drawn: str = "by verdict"
) -> tuple[dict[str, float], float]:
    """Of each figure's interval, in so many evaluations; and how many say that the rate can be corrected.

    Half of the labels are for each verdict, or all are drawn by chance from all of the replies.
    """
    rng = np.random.default_rng(cases + labels)
    of_labels: tuple[list[Any], list[Any]] = [], []
    of_rates: list[list[Any]] = [[] for _ in truth.good]
    case = np.repeat(np.arange(cases), repeats)
    for _ in range(EVALUATIONS):
        good = np.concatenate(
            [rng.random(len(case)) < chances(rng, rate, cases, alike)[case] for rate in truth.good]
        )
        all_cases = np.tile(case, len(truth.good))
        right = np.where(good, *(chances(rng, rate, cases, alike)[all_cases]
                                 for rate in (truth.sensitivity, truth.specificity)))  # fmt: skip
        passed = np.where(rng.random(len(good)) < right, good, ~good)
        order = rng.permutation(len(good))
        if drawn == "by chance":
            order = order[:labels]
        rows = [order[passed[order]], order[~passed[order]]]
        fails = min(labels // 2, len(rows[1])) if drawn == "by verdict" else len(rows[1])
        rows = [rows[0][: labels - fails], rows[1][:fails]]
        if min(map(len, rows)) < 5:
            continue  # then it says that there are too few
        for found, chosen in zip(of_labels, rows, strict=True):
            found.append(of(good[chosen], np.ones(len(chosen)), all_cases[chosen]))
        for at, found in enumerate(of_rates):
            part = slice(at * len(case), (at + 1) * len(case))
            found.append(of(passed[part], np.ones(len(case)), case))
    shares = [Share(*np.array(found).T) for found in (*of_labels, *of_rates)]
    parts = np.full(len(truth.good), 1 / len(truth.good))
    _, low, high = measured(shares[0], shares[1], shares[2:], parts, DRAWS)
    true = truth.figures

    def covered(name: str) -> float:
        least, value, most = (getattr(each, name) for each in (low, true, high))
        return float(np.mean((least <= value + 1e-9) & (value - 1e-9 <= most)))

    found_coverage = {name: covered(name) for name in ("kappa", "sensitivity", "specificity")}
    shown = low.informedness > 0
    for at, value in enumerate(truth.good):
        inside = (low.corrected[at] <= value + 1e-9) & (value - 1e-9 <= high.corrected[at])
        found_coverage[f"corrected {at}"] = float(np.mean(inside))
    return found_coverage, float(np.mean(shown))


@pytest.mark.ci
@pytest.mark.ci
@pytest.mark.parametrize(
    ("truth", "cases", "labels"),
    [
        (Truth((0.8,), 0.9, 0.8), 100, 30),
        (Truth((0.5,), 0.9, 0.9), 200, 30),
        (Truth((0.8,), 0.9, 0.8), 1000, 100),
        # Rates and errors near the ends, and a judge without errors.
        (Truth((0.95,), 0.97, 0.7), 300, 30),
        (Truth((0.98,), 0.99, 0.9), 1000, 100),
        (Truth((0.9,), 0.99, 0.6), 200, 100),
        (Truth((0.1,), 0.8, 0.97), 200, 30),
        (Truth((0.8,), 1.0, 1.0), 100, 30),
        # Several configurations, of which each rate is corrected by the errors in all of them.
        (Truth((0.8, 0.6), 0.9, 0.8), 100, 30),
        (Truth((0.95, 0.8), 0.95, 0.6), 100, 100),
    ],
    ids=str,
)
def test_coverage(truth: Truth, cases: int, labels: int) -> None:
    """Of 95 % intervals with 30 labels and with 100, half of them for each verdict."""
    found, _ = coverage(truth, cases, labels)
    assert min(found.values()) >= 0.915, found


@pytest.mark.ci
@pytest.mark.ci
@pytest.mark.parametrize("labels", [30, 100])
def test_coverage_of_labels_drawn_from_all_replies(labels: int) -> None:
    """Also where the verdicts did not decide what is labelled, as in a list of rows that a person chose."""
    found, _ = coverage(Truth((0.7,), 0.9, 0.8), 200, labels, drawn="by chance")
    assert min(found.values()) >= 0.915, found


@pytest.mark.ci
@pytest.mark.parametrize(("repeats", "alike"), [(5, 0.5), (5, 0.9), (3, 0.2)])
def test_coverage_with_repeats(repeats: int, alike: float) -> None:
    """Labels and verdicts of the same case are alike, and count for less."""
    found, _ = coverage(Truth((0.8,), 0.9, 0.8), 50, 100, repeats=repeats, alike=alike)
    assert min(found.values()) >= 0.915, found


@pytest.mark.ci
@pytest.mark.parametrize("labels", [30, 100])
def test_coverage_after_the_judge_has_changed(labels: int) -> None:
    """The labels were drawn by the verdicts of a judge that was worse; each stands for its share of those."""
    rng = np.random.default_rng(labels)
    found: tuple[list[Any], list[Any], list[Any]] = [], [], []
    for _ in range(EVALUATIONS):
        good = rng.random(300) < 0.8
        before = np.where(good, rng.random(300) < 0.9, rng.random(300) >= 0.5)
        again = np.where(good, rng.random(300) < 0.95, rng.random(300) >= 0.9)
        passed = np.where(rng.random(300) < 0.5, before, again)
        strata = [np.flatnonzero(before), np.flatnonzero(~before)]
        drawn = [rng.permutation(stratum)[: labels // 2] for stratum in strata]
        rows = np.concatenate(drawn)
        weights = np.repeat([len(strata[at]) / len(drawn[at]) for at in (0, 1)], [*map(len, drawn)])
        for verdict, shares in zip((True, False), found[:2], strict=True):
            chosen = passed[rows] == verdict
            shares.append(of(good[rows][chosen], weights[chosen], rows[chosen]))
        found[2].append(of(passed, np.ones(300), np.arange(300)))
    shares = [Share(*np.array(each).T) for each in found]
    _, low, high = measured(shares[0], shares[1], shares[2:], np.ones(1), DRAWS)
    for least, value, most in (
        (low.sensitivity, 0.925, high.sensitivity),
        (low.specificity, 0.7, high.specificity),
        (low.corrected[0], 0.8, high.corrected[0]),
    ):
        assert np.mean((least <= value) & (value <= most)) >= 0.915, value


def test_the_uncertainty_of_the_labels_and_of_the_rate_are_both_included() -> None:
    """Many labels of few replies, and few labels of many replies, have wider intervals than many of both."""

    def width(labels: int, replies: int) -> float:
        rates = [share(0.8, replies)]
        _, low, high = measured(share(0.95, labels), share(0.2, labels), rates, np.ones(1))
        return float(high.corrected[0] - low.corrected[0])

    both = width(2000, 10_000)
    assert width(15, 10_000) > 3 * both and width(2000, 50) > 3 * both


@pytest.mark.ci
@pytest.mark.parametrize("judge", [(0.6, 0.45), (0.5, 0.5), (0.9, 0.1)])
def test_a_judge_near_chance_cannot_correct_a_rate(judge: tuple[float, float]) -> None:
    """Its sensitivity + specificity - 1 is seldom found to be certainly above 0, which it is not."""
    _, shown = coverage(Truth((0.8, 0.6), *judge), 100, 30)
    assert shown < 0.08


# --- Against known figures --------------------------------------------------------------


def test_the_effective_number_is_that_of_the_pass_rates() -> None:
    """For cases of one size, the limits are those of `clustered_wilson`."""
    rng = np.random.default_rng(5)
    for repeats in (1, 3, 10):
        passed = rng.binomial(repeats, rng.beta(4, 1, 40))
        values = np.concatenate([np.arange(repeats) < count for count in passed])
        rate, n = of(values, np.ones(len(values)), np.repeat(np.arange(40), repeats))
        known = clustered_wilson(passed / repeats, repeats)
        assert np.array(wilson(np.array(rate), np.array(n))) == pytest.approx(np.array(known))


@pytest.mark.parametrize(
    ("given", "rate", "between"),
    [
        (([True] * 4, [1] * 4, "abcd"), 1, (4, 4)),
        (([True] * 4, [1] * 4, "aabb"), 1, (2, 2)),
        (([True, False], [3, 1], "ab"), 0.75, (1.6, 1.6)),
        (([True, False, True, False], [1] * 4, "aabb"), 0.5, (2, 4)),
        (([True], [7], "a"), 1, (1, 1)),
    ],
)
def test_the_effective_number(given: Any, rate: float, between: tuple[float, float]) -> None:
    """Between the number of cases and that of the values, fewer where the weights differ."""
    found, n = of(*given)
    assert found == pytest.approx(rate) and between[0] - 1e-9 <= n <= between[1] + 1e-9


def test_a_corrected_rate_is_rogan_and_gladens() -> None:
    """(rate + specificity - 1) / (sensitivity + specificity - 1), for one configuration and for several."""
    for rates in ([0.8], [0.9, 0.6], [0.7, 0.7, 0.7]):
        parts = np.full(len(rates), 1 / len(rates))
        of_rates = [share(rate, 50) for rate in rates]
        found, low, high = measured(share(0.95, 50), share(0.3, 50), of_rates, parts)
        for at, rate in enumerate(rates):
            known = (rate + found.specificity - 1) / found.informedness
            assert found.corrected[at] == pytest.approx(known)
            assert low.corrected[at] < known < high.corrected[at]
    again = measured(share(0.95, 50), share(0.3, 50), of_rates, parts)
    assert again[1].corrected == low.corrected, "the same input has the same limits"


def test_a_judge_that_passes_everything() -> None:
    """Its sensitivity is 1 and its specificity 0; its agreement is that of chance."""
    found, low, high = measured(share(0.8, 20), share(0.5, 0), [share(1.0, 20)], np.ones(1))
    assert list(map(float, (found.kappa, found.sensitivity, found.specificity))) == [0, 1, 0]
    assert low.informedness <= 0 and low.kappa < high.kappa
