"""The one place where sync code waits for async code.

One daemon thread runs one private event loop, and all network I/O of sync calls lives
there. A sync call submits a coroutine and waits; an interrupt (Ctrl-C, the kernel's
SIGINT) ends the wait and cancels the coroutine.

Why not the kernel's own loop: running a coroutine on it by nesting loses queued cells
and patches asyncio for the whole process. Nesting is used for one thing only, in
`resolve`: a user's own coroutine (an async `user_token`, an awaitable in a prompt), which
may hold objects bound to the kernel's loop, has to be awaited there. A kernel that never
needs it is never patched.

In a browser there is one thread and one loop, and `browser` does the waiting.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import os
import queue
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

from . import browser, threads

T = TypeVar("T")

LOOK_S = 0.2
"""How often a wait looks for an interrupt: on Windows one does not wake it."""

STOP_WAIT_S = 0.5
"""How long an interrupted call waits for its connection to close before it goes on."""


class IOThread:
    """A daemon thread with an event loop of its own, started when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `coroutine` on the I/O thread; cancelling the future cancels it there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function(*args)` on the loop soon, in order."""
        if not sys.is_finalizing():  # then no thread can be started
            self._running_loop().call_soon_threadsafe(function, *args)

    def is_current(self) -> bool:
        """Whether this is the I/O thread, which must not wait for itself."""
        return self._thread is not None and self._thread is threading.current_thread()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the I/O thread and wait for its result."""
        return wait(self.submit(coroutine))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if IN_BROWSER:
            return asyncio.get_event_loop()
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_run_forever, args=(loop,), name="halo-io", daemon=True)
                thread.start()
                # Only now: a thread that could not be started is tried again by the next call.
                self._loop, self._thread = loop, thread
            return self._loop

    def forget(self) -> None:
        """After a fork the thread is gone; the child starts its own."""
        self.__init__()  # type: ignore[misc]  # the lock may be held by a thread that is gone

    def stop(self) -> None:
        """Cancel what runs and end the loop, so that the interpreter exits in silence."""
        loop, self._loop = self._loop, None
        if loop is None:
            return

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(cancel_all(), loop).result(STOP_WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join(STOP_WAIT_S)


IN_BROWSER = threads.IN_BROWSER


class Worker:
    """One thread for work that takes longer than a step of the loop should, such as rendering."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)` on the thread, in the caller's context."""
        if IN_BROWSER:
            return function(*args)
        if self._executor is None:  # asked for on one loop only, so no lock
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="halo-worker")
        try:
            running = self._executor.submit(copy_context().run, function, *args)
        except RuntimeError:  # the interpreter exits, and starts no more work on threads
            return function(*args)
        return await asyncio.wrap_future(running)

    def forget(self) -> None:
        """Forget the thread, which does not exist in a forked child."""
        self._executor = None


def spawn(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run `coroutine` on the loop, from any thread; cancelling the future cancels it there."""
    return io_thread.submit(coroutine)


def post(function: Callable[..., object], *args: Any) -> None:
    """Call `function(*args)` on the loop soon, in order, from any thread."""
    io_thread.post(function, *args)


async def in_worker(function: Callable[..., T], *args: Any) -> T:
    """Run `function(*args)` on the one worker thread, for code on the loop; in a browser, right here.

    Calls run one at a time, in order.
    """
    return await worker.run(function, *args)


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


io_thread = IOThread()
worker = Worker()
users_thread = IOThread()
"""For a user's callbacks where no kernel runs a loop: they may block, and I/O must not wait for them."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=worker.forget)
for _thread in (io_thread, users_thread):
    atexit.register(_thread.stop)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_thread.forget)


def kernels_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that cells run on, asked for in a cell or in a widget's callback; None without one."""
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(RuntimeError):
            return asyncio.get_running_loop()
    # On another thread, a subshell's, the running loop is that thread's own.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    loop = getattr(getattr(getattr(shell, "kernel", None), "io_loop", None), "asyncio_loop", None)
    return loop if isinstance(loop, asyncio.AbstractEventLoop) else None


def wait_in_page(awaitable: Awaitable[T]) -> T:
    """Wait for `awaitable` from sync code in a browser; the rest of the page continues meanwhile.

    Raises:
        UsageError: where sync code cannot wait.
    """
    return browser.wait(awaitable)


def wait(future: Future[T]) -> T:
    """Wait for `future`. An interrupt cancels it and goes on up."""
    if threads.IN_BROWSER:
        return browser.wait_for(future)
    if io_thread.is_current():
        raise RuntimeError("The I/O thread cannot wait for itself: use 'await' there.")
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                return future.result(LOOK_S)
            if future.done():  # the coroutine itself raised a TimeoutError
                return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold interrupts back while something short and bounded is finished, then let one through."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt


class Channel(Generic[T]):
    """Items from the I/O thread to one waiting thread, and calls the other way round.

    The waiting thread is also where a user's callback belongs (it may show a prompt or
    touch the notebook), so `call` runs one there while that thread waits in `get`.
    """

    def __init__(self) -> None:
        self._queue: threads.SimpleQueue[T | _Call] = threads.SimpleQueue()

    def put(self, item: T) -> None:
        """Hand over an item; from any thread."""
        self._queue.put(item)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run `function` on the waiting thread and await what it returns."""
        call = _Call(function)
        self._queue.put(call)
        return await asyncio.wrap_future(call.result)

    def get(self, timeout_s: float | None = None, *, calls: bool = True) -> T:
        """Return the next item, running the calls that come before it, or dropping them without `calls`.

        Raises:
            queue.Empty: when none came within `timeout_s`.
        """
        while True:
            item = self._next(timeout_s)
            if not isinstance(item, _Call):
                return item
            if calls:
                item.run()

    def _next(self, timeout_s: float | None) -> T | _Call:
        if timeout_s is not None:
            return self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        while True:
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=LOOK_S)


class _Call:
    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.result: Future[Any] = Future()

    def run(self) -> None:
        if not self.result.set_running_or_notify_cancel():
            return  # nobody waits for it any more
        try:
            value = resolve(self._function())
        except asyncio.CancelledError:
            self.result.set_exception(RuntimeError("it was cancelled"))
        except Exception as error:  # noqa: BLE001  # handed over whole to whoever awaits the call
            self.result.set_exception(error)
        else:
            self.result.set_result(value)


_users_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("users_loop", default=None)


@contextlib.contextmanager
def awaiting_on(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Within this block `resolve` awaits on `loop`, another thread's; None changes nothing."""
    token = _users_loop.set(loop)
    try:
        yield
    finally:
        _users_loop.reset(token)


def resolve(value: Any) -> Any:
    """Return `value`, or what it gives when it is awaitable, from sync code.

    A user's coroutine runs on the loop that this thread already runs (a kernel's), on that of
    `awaiting_on`, and on a fresh one where there is neither.
    """
    if not inspect.isawaitable(value):
        return value
    if threads.IN_BROWSER:
        return browser.wait(value)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        users_loop = _users_loop.get()
        if users_loop is not None and users_loop.is_running():
            return asyncio.run_coroutine_threadsafe(_awaited(value), users_loop).result()
        return asyncio.run(_awaited(value))
    import nest_asyncio2  # patches asyncio, so only where nothing else will do

    nest_asyncio2.apply(loop)
    return loop.run_until_complete(asyncio.ensure_future(value))


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


class Callbacks:
    """A user's callbacks, called in order and one at a time, from any thread.

    They belong to the kernel's own loop, since what they hold may: they run there, a
    coroutine is awaited there, and while a cell computes they wait.

    Args:
        loop: the kernel's; None for one of our own.
        failed: told of a callback and what it raised; the others go on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None,
        failed: Callable[[Callable[..., Any], Exception], None],
    ) -> None:
        self._loop = loop
        self._failed = failed
        self._in_order: asyncio.Lock | None = None

    def call(self, callback: Callable[..., Any], *arguments: Any) -> None:
        """Have `callback` called soon; returns at once."""
        run = self._run(callback, arguments)
        if self._loop is None or self._loop.is_closed():
            users_thread.submit(run)
        else:
            asyncio.run_coroutine_threadsafe(run, self._loop)

    async def _run(self, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._in_order = self._in_order or asyncio.Lock()  # first come, first served
        async with self._in_order:
            try:
                value = callback(*arguments)
                if inspect.isawaitable(value):
                    await value
            except Exception as error:  # noqa: BLE001  # a user's own may raise anything
                self._failed(callback, error)
