"""When the next message about a reply may go out.

The page renders each frame, and the Jupyter server drops messages that come too fast, the last ones first.
So there are at most 20 frames a second, fewer as a frame gets larger or slower to make.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MIN_INTERVAL_S = 0.05
MAX_TIME_SHARE = 0.25
MAX_BYTES_PER_S = 150_000


class Pacer:
    """Says when the next message may go out.

    Args:
        clock: gives seconds.
        interval_s: the minimum time between two messages.
        bytes_per_s: the maximum rate on average.

    >>> now = 0.0
    >>> pacer = Pacer(clock=lambda: now)
    >>> pacer.wait_s()
    0.0
    >>> pacer.spent(since=0.0, size=0)
    >>> pacer.wait_s()
    0.05
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        *,
        interval_s: float = MIN_INTERVAL_S,
        bytes_per_s: float = MAX_BYTES_PER_S,
    ) -> None:
        self.clock = clock
        self._interval_s = interval_s
        self._bytes_per_s = bytes_per_s
        self._due = clock()

    def wait_s(self) -> float:
        """Seconds until the next message may go out; 0.0 when it may now."""
        return max(0.0, self._due - self.clock())

    def spent(self, *, since: float, size: int) -> None:
        """Count a message of `size` bytes that took from `since` until now to make."""
        cost_s = (self.clock() - since) / MAX_TIME_SHARE
        # Counted from when it was due: several messages at once delay the next one by as many intervals.
        self._due = max(self._due, since) + max(self._interval_s, cost_s, size / self._bytes_per_s)
