"""One pace for all conversations: the rate that the user wants, and what the server asks for."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """When the next message may leave: `per_minute`, at most; None for no limit."""

    def __init__(self, per_minute: float | None) -> None:
        self.gap_s = self._least_s = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._paused_until = 0.0
        self._slowed_at = 0.0

    async def wait(self) -> None:
        """Wait until a message may leave."""
        while True:
            now = time.perf_counter()
            at = max(now, self._next, self._paused_until)
            self._next = at + self.gap_s
            if at > now:
                await asyncio.sleep(at - now)
            if self._paused_until <= time.perf_counter():
                return

    def slow_down(self, wait_s: float, sent_at: float) -> None:
        """The server refuses more: all conversations wait for `wait_s`, then continue at half the pace.

        Messages that were on their way together are refused together, which halves it only once: `sent_at`
        is when the refused one left, on `time.perf_counter`.
        """
        now = time.perf_counter()
        self._paused_until = max(self._paused_until, now + wait_s)
        if sent_at >= self._slowed_at:
            self._slowed_at = now
            self.gap_s = min(max(2 * self.gap_s, 0.02), 10.0)

    def speed_up(self) -> None:
        """A message was taken: somewhat faster again, up to what the user wants."""
        self.gap_s = max(self._least_s, self.gap_s * 0.9 if self.gap_s > 0.005 else 0.0)
