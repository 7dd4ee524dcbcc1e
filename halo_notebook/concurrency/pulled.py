"""Async sources used from sync code: they run on the loop, and the calling thread waits in its inbox."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from .interrupts import Inbox
from .loop import STOP_WAIT_S, post

T = TypeVar("T")


class Pulled(Generic[T]):
    """The items of an async generator, which runs on the loop, for the thread that iterates this.

    Args:
        source: not started yet.
        inbox: where the thread waits.
        wake_every_s: how long items wait for others, so that many wake the thread once.

    >>> async def squares():
    ...     for number in range(3):
    ...         yield number**2
    >>> list(Pulled(squares()))
    [0, 1, 4]
    """

    def __init__(
        self, source: AsyncGenerator[T, None], inbox: Inbox | None = None, *, wake_every_s: float = 0.0
    ) -> None:
        self.inbox = inbox or Inbox()
        self.ended = False  # whether the last item has been given
        self._source = source
        self._wake_every_s = wake_every_s
        self._is_to_wake = False
        self._items: deque[T] = deque()
        self._error: BaseException | None = None
        self._started = self._finished = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the generator, once. Reading does it too."""
        if not self._started:
            self._started = True
            post(self._begin)

    def get(self, timeout_s: float = math.inf) -> T | None:
        """Return the next item; None when none came in time, and at the end (then `ended`).

        It raises what the generator raised, after its items, and KeyboardInterrupt when the inbox is stopped.
        """
        self.start()
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            if self.inbox.stopped:
                raise KeyboardInterrupt
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            self.inbox.wait(left_s)
        return None if self.ended else self._items.popleft()

    async def on_loop(self) -> AsyncGenerator[T, None]:
        """The items that are left, until a stop, for a task on the loop of the thread that waits."""
        self.start()
        while not self.inbox.stopped:
            if not self._is_ready():
                await self.inbox.awaited()
            elif self.ended:
                return
            else:
                yield self._items.popleft()

    def _is_ready(self) -> bool:
        """Whether there is an item, or this has ended. Raises what the generator raised."""
        finished = self._finished  # looked at before the items: the last one may come in between
        if self._items:
            return True
        if finished:
            self.ended = True
            error, self._error = self._error, None
            if error is not None:
                raise error
            return True
        return False

    def cancel(self) -> None:
        """End the generator soon, from any thread; the items that have come are still given."""
        post(self._cancel)

    def stop(self, wait_s: float = STOP_WAIT_S) -> list[T]:
        """End the generator, wait for its end, but not longer than `wait_s`, and return the items left."""
        if self._started:
            self.cancel()
        deadline = time.monotonic() + wait_s
        while self._started and not self._finished and (left_s := deadline - time.monotonic()) > 0:
            self.inbox.wait(left_s, calls=False)
        self.ended = True
        return [self._items.popleft() for _ in range(len(self._items))]

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self.get()
            if self.ended:
                return
            yield item  # type: ignore[misc]  # without a time limit it is one, unless this has ended

    def _begin(self) -> None:
        if not self._finished:
            self._task = asyncio.ensure_future(self._run())
            self._task.add_done_callback(self._end)

    async def _run(self) -> None:
        async for item in self._source:
            self._items.append(item)
            if not self._wake_every_s:
                self.inbox.wake()
            elif not self._is_to_wake:
                self._is_to_wake = True
                asyncio.get_running_loop().call_later(self._wake_every_s, self._wake)

    def _wake(self) -> None:
        self._is_to_wake = False
        self.inbox.wake()

    def _cancel(self) -> None:
        if self._task is None:
            self._finished = True
            self.inbox.wake()
        else:
            self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._error = None if task.cancelled() else task.exception()
        self._finished = True
        self.inbox.wake()


@contextlib.contextmanager
def entered(manager: AbstractAsyncContextManager[T], inbox: Inbox | None = None) -> Iterator[T]:
    """Enter `manager` on the loop, and leave it there, by a cancellation, when this block ends."""

    async def hold() -> AsyncGenerator[T, None]:
        async with manager as value:
            yield value
            await asyncio.Event().wait()

    values = Pulled(hold(), inbox)
    try:
        yield next(iter(values))
    finally:
        values.stop()
