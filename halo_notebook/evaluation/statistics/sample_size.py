"""How many cases a comparison needs, before any message is sent."""

from __future__ import annotations

import math
from statistics import NormalDist

from .intervals import Z
from .paired import TOO_FEW

POWER = 0.8


def cases_needed(rate: float, difference: float, repeats: int = 1, *, alike: float = 0.5) -> int:
    """How many cases show a difference of pass rates in 80 % of comparisons, with p < 0.05.

    Args:
        rate: the pass rate of the first configuration, a fraction.
        difference: by how much that of the second is higher, or lower if it is negative; a fraction.
        repeats: how often each case is run in each configuration.
        alike: how much the runs of a case correlate. So many of the cases are taken to give the same result
            each time, until the difference turns some of them; the others are coins with the rate.

    More repeats help with the coins only: where `alike` is 1, they change nothing.

    Raises:
        ValueError: for a difference of 0, a rate that is not from 0 to 1 on both sides, fewer than 1 repeat,
            or an `alike` that is not from 0 to 1.

    >>> cases_needed(0.8, 0.1), cases_needed(0.8, 0.1, repeats=5)
    (149, 61)
    """
    second = rate + difference
    if not (0 <= rate <= 1 and -1e-9 <= second <= 1 + 1e-9):
        raise ValueError(f"Both rates are from 0 to 1, not {rate:g} and {second:g}")
    if difference == 0:
        raise ValueError("No number of cases shows a difference of 0")
    if repeats < 1:
        raise ValueError(f"At least one repeat is needed, not {repeats}")
    if not 0 <= alike <= 1:
        raise ValueError(f"alike is from 0 to 1, not {alike:g}")
    size = abs(difference)
    coins = (rate * (1 - rate) + max(second * (1 - second), 0)) / repeats
    # Of a case's difference: its mean square, which is its variance if nothing differs, and its variance.
    square = alike * size + (1 - alike) * (coins + size * size)
    variance = max(square - size * size, 0)
    errors = Z * math.sqrt(square) + NormalDist().inv_cdf(POWER) * math.sqrt(variance)
    # A test on whole cases needs a little more: with one run each as much as its continuity correction.
    more = 1 / size if repeats == 1 else 0
    return max(TOO_FEW, math.ceil((errors / size) ** 2 + more))
