"""The one loop on which sessions, panels and exchanges run as coroutines.

It runs on a thread of its own, so it continues while a cell computes, and sync code on any other thread may
wait for it. In a browser, where Python has one thread, it is the page's loop.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from ..errors import UsageError

T = TypeVar("T")
IN_BROWSER = sys.platform == "emscripten"
LOOK_S = 0.2
"""How often a wait looks for an interrupt, which does not wake it on Windows."""
STOP_WAIT_S = 0.5
"""How long an interrupted call waits until its connection is closed."""


def spawn(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run `coroutine` on the loop, from any thread; cancelling the future cancels it there."""
    return asyncio.run_coroutine_threadsafe(coroutine, _threads.loop())


def post(function: Callable[..., object], *args: Any) -> None:
    """Call `function(*args)` on the loop soon, from any thread; calls keep their order."""
    if not sys.is_finalizing():  # then no thread can be started
        _threads.loop().call_soon_threadsafe(function, *args)


async def in_worker(function: Callable[..., T], *args: Any) -> T:
    """Run `function(*args)`, such as rendering, on the one worker thread; in a browser, right here.

    Calls run one at a time, in order, each in its caller's context.
    """
    if IN_BROWSER:
        return function(*args)
    try:
        running = _threads.worker().submit(copy_context().run, function, *args)
    except RuntimeError:  # the interpreter exits, and starts no more work on threads
        return function(*args)
    return await asyncio.wrap_future(running)


def on_io_thread() -> bool:
    """Whether this is the loop's own thread, which must not wait for itself."""
    return _threads.io is threading.current_thread()


def wait_in_page(awaitable: Awaitable[T]) -> T:
    """Wait for `awaitable` from sync code in a browser; the rest of the page continues meanwhile."""
    from pyodide.ffi import can_run_sync, run_sync

    if not can_run_sync():
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        raise UsageError(
            "Python cannot wait here: in a browser this requires WebAssembly's JSPI, and a cell to wait in. "
            "Use Chrome or Edge 137 or later, or 'await' an AsyncHaloClient."
        )
    value: T = run_sync(awaitable)
    return value


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped. A task that exits, as a caller's code may, ends only itself."""
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue  # asyncio raises them here, too; no signal comes to this thread
        return


class _Threads:
    """The I/O thread and the worker thread, started when they are first needed."""

    def __init__(self) -> None:
        self.io: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def loop(self) -> asyncio.AbstractEventLoop:
        if IN_BROWSER:
            return asyncio.get_event_loop()
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                io = threading.Thread(target=_run, args=(loop,), name="halo-io", daemon=True)
                io.start()
                self._loop, self.io = loop, io  # only now: else the next call tries again
            return self._loop

    def worker(self) -> ThreadPoolExecutor:
        with self._lock:
            self._worker = self._worker or ThreadPoolExecutor(1, thread_name_prefix="halo-worker")
            return self._worker

    def stop(self) -> None:
        """Cancel all tasks and end the loop, so that the interpreter exits without complaints."""
        loop, io, self._loop = self._loop, self.io, None
        if loop is None or io is None:
            return

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            asyncio.run_coroutine_threadsafe(cancel_all(), loop).result(STOP_WAIT_S)
        except TimeoutError:  # it is busy, such as with an import: its thread ends with the interpreter
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            return
        loop.call_soon_threadsafe(loop.stop)
        io.join(STOP_WAIT_S)
        if not io.is_alive():
            loop.close()


_threads = _Threads()
atexit.register(_threads.stop)
if hasattr(os, "register_at_fork"):  # a child has neither thread; one of them may have held the lock
    os.register_at_fork(after_in_child=_threads.__init__)  # type: ignore[misc]
