"""The one queue on which sync code waits: it is woken, has to call a user's code, or has to stop.

A user's code that async code needs (a `user_token` callable) may show a prompt or touch the notebook, so
it runs on the thread that waits.
"""

from __future__ import annotations

import asyncio
import math
import queue
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from . import usercode
from .loop import IN_BROWSER, LOOK_S, wait_in_page

T = TypeVar("T")


class Inbox:
    """What one thread waits for. Any thread may wake and stop it; a signal's handler may stop it.

    Attributes:
        stopped: whether it has to stop.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._woken = False
        self._messages: queue.SimpleQueue[Callable[[], None] | None] | _PageQueue
        self._messages = _PageQueue() if IN_BROWSER else queue.SimpleQueue()

    def wake(self) -> None:
        """Say that something has changed; does nothing while it has not been noticed yet."""
        if not self._woken:
            self._woken = True
            self._messages.put(None)

    def stop(self) -> None:
        """Say that the waiting has to stop."""
        self.stopped = True
        self._messages.put(None)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a user's `function(*args)` on the waiting thread. Raises as `usercode.call`."""
        outcome: Future[Any] = Future()

        def run() -> None:
            if not outcome.set_running_or_notify_cancel():
                return  # the call is not wanted any more
            try:
                outcome.set_result(self.run(usercode.call, function, *args))
            except usercode.UserCodeError as error:
                outcome.set_exception(error)
            except KeyboardInterrupt as error:
                outcome.set_exception(usercode.UserCodeError(error))
                raise

        self._messages.put(run)
        return await asyncio.wrap_future(outcome)

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a user's `function(*args)`, or one that waits for the user; an interrupt raises in it."""
        return function(*args)

    def wait(self, timeout_s: float = math.inf, *, calls: bool = True) -> None:
        """Wait until woken, stopped, or `timeout_s` have passed, and run the call that came, if any.

        Args:
            timeout_s: in seconds.
            calls: False to drop calls.

        Raises:
            KeyboardInterrupt: on an interrupt, where it is not a message.
        """
        message = self._next(timeout_s)
        if message is None:
            self._woken = False  # before the caller looks: what changes from here on wakes it again
        elif calls:
            message()

    def result(self, future: Future[T]) -> T:
        """Wait for `future`.

        Raises:
            KeyboardInterrupt: when stopped, or on an interrupt. `future` is cancelled.
        """
        future.add_done_callback(lambda _: self.wake())
        try:
            while not future.done():
                self.wait()
                if self.stopped:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            future.cancel()
            raise
        return future.result()

    def _next(self, timeout_s: float) -> Callable[[], None] | None:
        while True:
            try:
                return self._messages.get(timeout=min(timeout_s, LOOK_S))
            except queue.Empty:
                timeout_s -= LOOK_S
            if timeout_s <= 0:
                return None


class _PageQueue:
    """As `queue.SimpleQueue`, in a browser: the rest of the page continues while its reader waits."""

    def __init__(self) -> None:
        self._items: deque[Callable[[], None] | None] = deque()
        self._arrived: asyncio.Future[None] | None = None

    def put(self, item: Callable[[], None] | None) -> None:
        self._items.append(item)
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def get(self, timeout: float) -> Callable[[], None] | None:
        if not self._items:
            loop = asyncio.get_event_loop()
            self._arrived = loop.create_future()
            # Not asyncio's own timeout, which names a moment: Pyodide's loop refuses one that has passed.
            timer = loop.call_later(max(timeout, 0), self.put, None)
            wait_in_page(self._arrived)
            timer.cancel()
        return self._items.popleft()
