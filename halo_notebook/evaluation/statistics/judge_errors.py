"""How often a judge is wrong, from labels of some of the replies that it has judged, and its corrected rate.

What is measured directly is how many of the replies that the judge passes are good, and how many of those
that it fails, because labels may be drawn more often from one of these than from the other. With the judge's
own pass rate, these two shares give the whole table of verdicts and labels, and so each figure. Its limits
are quantiles over draws of all shares, each with the precision that its replies give it: a beta distribution
(Jeffreys'). So they include both the uncertainty of the labels and that of the judge's pass rate.

A rate is corrected as Rogan and Gladen do: (rate + specificity - 1) / (sensitivity + specificity - 1). With
one configuration this is the share of good replies of that table, without a division by a small number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .intervals import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np

    from .intervals import Floats

DRAWS = 20_000
_NEAR_AN_END = 1e-12  # no draw is exactly 0 or 1, which would divide by zero


@dataclass(frozen=True)
class Share:
    """A share that was estimated as precisely as by `n` independent replies; any shape, also of `n`."""

    rate: Floats
    n: Floats

    def drawn(self, rng: np.random.Generator, draws: int) -> Floats:
        """Shares that it may be in truth, along one more axis."""
        import numpy as np

        passes, fails = self.rate * self.n + 0.5, (1 - self.rate) * self.n + 0.5
        shape = (*np.shape(passes), draws)
        found = rng.beta(np.expand_dims(passes, -1), np.expand_dims(fails, -1), shape)
        return np.clip(found, _NEAR_AN_END, 1 - _NEAR_AN_END)


@dataclass(frozen=True)
class Figures:
    """What is estimated, with the same shape each; NaN where nothing can be said.

    Attributes:
        kappa: Cohen's.
        sensitivity: how many of the good replies the judge passes.
        specificity: how many of the bad ones it fails.
        informedness: sensitivity + specificity - 1; 0 for a judge that does not look at the reply.
        corrected: for each configuration, how many replies are good.
    """

    kappa: Floats
    sensitivity: Floats
    specificity: Floats
    informedness: Floats
    corrected: tuple[Floats, ...]


def figures(
    good_of_passed: Floats, good_of_failed: Floats, rates: Sequence[Floats], of_all: Floats
) -> Figures:
    """The figures of a judge that passes `rates` of the replies of each configuration.

    `of_all` is how many of all replies each configuration has.
    """
    import numpy as np

    a, b = good_of_passed, good_of_failed
    passed = sum((share * rate for share, rate in zip(of_all, rates, strict=True)), np.float64(0))
    # How many replies it passes that are good and that are bad, and how many it fails.
    passed_good, passed_bad = passed * a, passed * (1 - a)
    failed_good, failed_bad = (1 - passed) * b, (1 - passed) * (1 - b)
    good = passed_good + failed_good
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = passed_good / good
        specificity = failed_bad / (failed_bad + passed_bad)
        by_chance = passed * good + (1 - passed) * (1 - good)
        kappa = (passed_good + failed_bad - by_chance) / (1 - by_chance)
        informedness = sensitivity + specificity - 1
        corrected: tuple[Floats, ...] = (good,)
        if len(rates) > 1:
            corrected = tuple(np.clip((rate + specificity - 1) / informedness, 0, 1) for rate in rates)
    return Figures(kappa, sensitivity, specificity, informedness, corrected)


def limits(drawn: Floats, estimate: Floats) -> tuple[Floats, Floats]:
    """The 95 % limits of a figure, which contain its estimate: so one of 100 % is not excluded."""
    import numpy as np

    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [outside, 1 - outside], axis=-1)
    return np.fmin(low, estimate), np.fmax(high, estimate)


def measured(
    good_of_passed: Share, good_of_failed: Share, rates: Sequence[Share], of_all: Floats, draws: int = DRAWS
) -> tuple[Figures, Figures, Figures]:
    """The estimates, and their lower and upper limits. The same input gives the same limits."""
    import numpy as np

    rng = np.random.default_rng(0)
    estimated = figures(good_of_passed.rate, good_of_failed.rate, [each.rate for each in rates], of_all)
    shares = (good_of_passed, good_of_failed, *rates)
    a, b, *of_configs = (share.drawn(rng, draws) for share in shares)
    drawn = figures(a, b, of_configs, of_all)

    def of(name: str) -> tuple[Floats, Floats]:
        return limits(getattr(drawn, name), getattr(estimated, name))

    kappa, sensitivity, specificity = of("kappa"), of("sensitivity"), of("specificity")
    informedness = of("informedness")
    corrected = [limits(*each) for each in zip(drawn.corrected, estimated.corrected, strict=True)]
    low, high = (
        Figures(
            kappa[side],
            sensitivity[side],
            specificity[side],
            informedness[side],
            tuple(each[side] for each in corrected),
        )
        for side in (0, 1)
    )
    return estimated, low, high
