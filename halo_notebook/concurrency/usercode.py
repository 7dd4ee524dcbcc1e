"""The one place that calls a user's code: callbacks, checks, user_token callables, template expressions.

- Whatever it raises, SystemExit included, arrives as a `UserCodeError`, so it ends neither a reply, nor the
  I/O thread, nor the kernel. Only an interrupt of the thread that waits stays an interrupt.
- A `Home` runs it in the context in which it was registered, so its output appears there, and on the loop
  to which it belongs, whose objects it may use.

Sync code in a running kernel that has to await a user's coroutine on the kernel's loop nests that loop.
Nothing else does, and asyncio is patched only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any

from ..errors import HaloError
from .loop import IN_BROWSER, wait_in_page


class UserCodeError(HaloError):
    """The user's own code raised something. `error` is what it raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function(*args)` on this thread and return its value; an awaitable one is awaited."""
    try:
        value = function(*args)
        if not inspect.isawaitable(value):
            return value
        if IN_BROWSER:
            return wait_in_page(value)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(call_here(lambda: value))
        import nest_asyncio2  # patches asyncio, so only where nothing else will do

        nest_asyncio2.apply(loop)
        return loop.run_until_complete(asyncio.ensure_future(value))
    except (KeyboardInterrupt, UserCodeError):
        raise
    except BaseException as error:
        raise UserCodeError(error) from error


async def call_here(function: Callable[..., Any], *args: Any) -> Any:
    """As `call`, for async code: an awaitable is awaited on the running loop."""
    try:
        value = function(*args)
        return await value if inspect.isawaitable(value) else value
    except GeneratorExit:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # this task is cancelled, not the user's
        raise UserCodeError(error) from error


class Home:
    """Where a user's code belongs: the context and the loop in which it was registered, or cells run."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or kernels_loop()
        self._context = copy_context()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function(*args)` on its loop, which waits while a cell computes; without one, on a thread."""
        if self._loop is None or self._loop.is_closed():
            return await self._in_thread(call, function, *args)
        loop, outcome = self._loop, Future[Any]()

        def begin() -> None:  # there, so that a loop that closes first leaves no coroutine behind
            task = loop.create_task(call_here(function, *args))  # runs before what is scheduled later
            task.add_done_callback(ended)
            outcome.add_done_callback(
                lambda _: loop.call_soon_threadsafe(task.cancel) if outcome.cancelled() else None
            )

        def ended(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                outcome.cancel()
            elif outcome.set_running_or_notify_cancel():
                if error := task.exception():
                    outcome.set_exception(error)
                else:
                    outcome.set_result(task.result())

        loop.call_soon_threadsafe(begin, context=self._context.copy())
        return await asyncio.wrap_future(outcome)

    async def call_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function(*args)` on a thread, since it may block; an awaitable is awaited on its loop."""
        if self._loop is None or self._loop.is_closed():
            return await self._in_thread(call, function, *args)
        value = await self._in_thread(function, *args)
        return await self.call(lambda: value) if inspect.isawaitable(value) else value

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        def begin() -> Any:
            try:
                return function(*args)
            except UserCodeError:
                raise
            except BaseException as error:
                raise UserCodeError(error) from error

        context = self._context.copy()
        return context.run(begin) if IN_BROWSER else await asyncio.to_thread(context.run, begin)


def kernels_loop() -> asyncio.AbstractEventLoop | None:
    """The loop on which cells run, as seen from a cell or a widget's callback; None without one."""
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(RuntimeError):
            return asyncio.get_running_loop()
    # On another thread, such as a subshell's, the running loop is that thread's own.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    loop = getattr(getattr(getattr(shell, "kernel", None), "io_loop", None), "asyncio_loop", None)
    return loop if isinstance(loop, asyncio.AbstractEventLoop) else None
