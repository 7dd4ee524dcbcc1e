"""Calls the functions that say a case's messages: the user's code, side by side, where it belongs.

- A sync function runs on a thread of its own: it may be slow, and delays no other conversation.
- An async function runs on the loop to which the user's checks belong, see `concurrent_checks`.
- A stop waits for none of them. What they return after it is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from functools import partial
from typing import Any

from ...concurrency.usercode import UserCodeError, call_here, in_thread, is_async


class UserCalls:
    """Calls functions for the conversations of one run, which are on another loop than the caller's."""

    def __init__(self) -> None:
        self.tasks = set[asyncio.Task[Any]]()  # of the functions that run on the caller's loop
        self._others = set[asyncio.Task[Any]]()  # no loop holds its tasks
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_ended = False
        self._context = copy_context()

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run async functions on this loop, the caller's; without it, on the loop that calls."""
        self._loop = loop

    def end(self) -> None:
        """Call no more functions on that loop, and cancel those that run. Call it there."""
        self._has_ended = True
        for task in self.tasks:
            task.cancel()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function(*args)` and return its value, awaited. Raises `UserCodeError`."""
        running = asyncio.get_running_loop()
        if is_async(function):
            loop, begin = self._loop or running, function
        else:
            loop, begin = running, partial(in_thread, function)
        outcome = Future[Any]()
        loop.call_soon_threadsafe(self._begin, outcome, begin, *args, context=self._context.copy())
        return await asyncio.wrap_future(outcome)

    def _begin(self, outcome: Future[Any], function: Callable[..., Any], *args: Any) -> None:
        # On the loop's thread, so that a loop that has ended first leaves no coroutine behind. In a task of
        # its own, which the function may cancel.
        if outcome.cancelled() or (self._has_ended and asyncio.get_running_loop() is self._loop):
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(call_here(function, *args))
        tasks = self.tasks if loop is self._loop else self._others
        tasks.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            tasks.discard(task)
            with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
                if task.cancelled() and self._has_ended:
                    outcome.cancel()
                elif task.cancelled():
                    outcome.set_exception(UserCodeError(asyncio.CancelledError("its task was cancelled")))
                elif (error := task.exception()) is not None:
                    outcome.set_exception(error)
                else:
                    outcome.set_result(task.result())

        def unwanted(_: Future[Any]) -> None:  # on any thread
            if outcome.cancelled():
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(ended)
        outcome.add_done_callback(unwanted)
