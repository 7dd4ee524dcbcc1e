"""When the next message may leave: at the rate that the user wants, as fast as the server takes them.

- What is known when a message leaves decides when it leaves. Nothing is reserved in advance.
- After a refusal all conversations wait, then one message leaves. With each that is not refused, one more
  may be on its way, so a few answers restore the full pace.
- If the server does not say how long to wait, each refusal in a row makes the wait half as long again. The
  first wait after a success is half of the last one, which was long enough.
- Messages are then spaced somewhat closer than they were taken on average, and ever closer until the next
  refusal: a server that takes no two at once is met, too.
- A message that could not connect says nothing about the pace: it is sent again on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass

from .sender import MAX_WAIT_S

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
_GROWTH = 1.5  # of the pause, which is at most so many times too long
_CLOSER, _CLOSER_EACH = 0.8, 0.9  # after a refusal, and with each message that is taken
_LEAST_SPACE_S = 0.001
_UNREFUSED_S = 0.25  # a refusal comes at once: after so long, another message may leave
NEVER_REACHED_S = 15.0  # for so long the first connection is tried: its address may be wrong
_FIRST_RETRY_S = 0.25
_LONGEST_RETRY_S = 2.0
_USED = 0.75  # of the connections that can be open: checks and others open files, too


@dataclass(eq=False, slots=True)
class Departure:
    """A message that leaves."""

    at: float  # on the loop's clock
    pauses: int  # before it
    taken: bool = False
    doubt: asyncio.TimerHandle | None = None  # while it may still be refused


class Pace:
    """When messages leave: `per_minute` of them at most, None for no limit, and as the server takes them."""

    def __init__(self, per_minute: float | None) -> None:
        self._least_space_s = 60 / per_minute if per_minute else 0.0
        self._next = 0.0  # when the user's rate lets one leave
        self._pauses = 0
        self._paused_until = 0.0
        self._pause_s = 0.0
        self._taken = 0  # messages that left since the pause, and since when
        self._counted_from = 0.0
        self._space_s = 0.0
        self._refused_since: float | None = None
        self._room = math.inf  # how many messages that may still be refused can be on their way
        self._in_doubt = 0
        self._closed = False
        self._in_order = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def refused_s(self) -> float:
        """For how long the server has refused every message."""
        return 0.0 if self._refused_since is None else _now() - self._refused_since

    async def leave(self) -> Departure | None:
        """Wait until a message may leave; None when no more may."""
        asked_at = _now()
        self._counted_from = self._counted_from or asked_at
        if self._in_order.locked() or self._wait_s() > 0:
            await self._wait()
        if self._closed:
            return None
        # From when it was due, or the time by which a busy loop is late would add up.
        due = max(asked_at, self._next, self._paused_until)
        self._next = due + max(self._space_s, self._least_space_s)
        departure = Departure(_now(), self._pauses)
        if self._room < math.inf:
            self._in_doubt += 1
            loop = asyncio.get_running_loop()
            departure.doubt = loop.call_later(_UNREFUSED_S, self._end_doubt, departure)
        return departure

    async def _wait(self) -> None:
        """Wait, after those who wait already, until a message may leave, or no more may."""
        async with self._in_order:
            while not self._closed and (wait_s := self._wait_s()) > 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s if wait_s < math.inf else None):
                        await self._changed.wait()
                if wait_s == math.inf:
                    self._next = max(self._next, _now())

    def close(self) -> None:
        """No more messages leave."""
        self._closed = True
        self._changed.set()

    def taken(self, departure: Departure) -> None:
        """The server took the message."""
        self._end_doubt(departure)
        if departure.taken:
            return
        departure.taken = True
        if departure.pauses == self._pauses:
            self._taken += 1
            self._space_s = self._space_s * _CLOSER_EACH if self._space_s > _LEAST_SPACE_S else 0.0
        if self._refused_since is not None and departure.at > self._refused_since:
            self._refused_since = None

    def refused(self, departure: Departure, asked_s: float) -> None:
        """The server refused the message, and asks to wait for `asked_s`; 0 if it does not say."""
        self._end_doubt(departure)
        now = _now()
        self._refused_since = self._refused_since or now
        if departure.pauses == self._pauses:  # messages that were on their way together are refused together
            pause_s = self._pause_s * _GROWTH
            if self._taken:
                self._space_s = _CLOSER * (now - self._counted_from) / self._taken
                self._taken, self._counted_from = 0, now
                pause_s = self._pause_s / 2
            self._pause_s = min(max(pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._pauses, self._room, self._in_doubt = self._pauses + 1, 1, 0
            asked_s = asked_s or self._pause_s
        self._paused_until = max(self._paused_until, now + asked_s)

    def unsent(self, departure: Departure) -> None:
        """The message did not reach the server."""
        self._end_doubt(departure)

    def _end_doubt(self, departure: Departure) -> None:
        doubt, departure.doubt = departure.doubt, None
        if doubt is not None:
            doubt.cancel()
            if departure.pauses == self._pauses:  # else it is not counted any more
                self._in_doubt -= 1
                self._room += 1
                self._changed.set()

    def _wait_s(self) -> float:
        due_s = max(self._next, self._paused_until) - _now()
        return math.inf if due_s <= 0 and self._in_doubt >= self._room else due_s


def _now() -> float:
    return asyncio.get_running_loop().time()


class Connections:
    """How many connections may be open at a time, and which configurations cannot connect."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open = 0
        self._closed = asyncio.Event()
        self._failing_since: dict[str, float] = {}  # by configuration
        self._reached: set[str] = set()

    async def __aenter__(self) -> None:
        while self._open >= self.most:
            self._closed.clear()
            await self._closed.wait()
        self._open += 1

    async def __aexit__(self, *exc_info: object) -> None:
        self._open -= 1
        self._closed.set()

    def made(self, config: str) -> None:
        """A message of that configuration was answered."""
        self._reached.add(config)
        self._failing_since.pop(config, None)

    def failed(self, config: str, tries: int, *, too_many_files: bool) -> float | None:
        """Seconds after which a message that could not connect is sent again; None to give it up.

        Called while the connection counts as open. `tries` is how often it was sent.
        """
        if too_many_files:
            self.most = max(1, min(self.most, int(_USED * (self._open - 1))))
        now = _now()
        failing_s = now - self._failing_since.setdefault(config, now)
        if failing_s > (MAX_WAIT_S if config in self._reached else NEVER_REACHED_S):
            return None
        return min(_FIRST_RETRY_S * _GROWTH ** (tries - 1), _LONGEST_RETRY_S)
