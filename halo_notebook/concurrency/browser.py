"""Waiting and side by side in a browser, where Python runs as WebAssembly and has one thread.

What it promises:

- Its names do what those of `threading`, `queue` and `time` do, as far as this package uses them:
  `threads` gives one or the other.
- A "thread" here is a task of the page's one loop. It gives way only where it waits, so what lies
  between two waits is whole, and a lock that is never waited under is never waited for.
- What waits (`wait`, and all that has to) parks its stack of calls until the loop goes on with it.
  That takes WebAssembly's JSPI (Chrome and Edge from 137), and an error says so where it lacks.

It does not know what is waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from ..errors import UsageError

T = TypeVar("T")

_running: set[asyncio.Task[None]] = set()
"""The loop itself holds no task."""
_idents = itertools.count(2)
_current: ContextVar[Thread | None] = ContextVar("thread", default=None)


def wait(awaitable: Awaitable[T]) -> T:
    """Give what `awaitable` gives, from sync code; the rest of the page goes on meanwhile.

    Raises:
        UsageError: where sync code cannot wait.
    """
    from pyodide.ffi import can_run_sync, run_sync

    if not can_run_sync():
        raise UsageError(
            "Python cannot wait here: in a browser that takes WebAssembly's JSPI, and a cell or a thread to "
            "wait in. Use Chrome or Edge 137 or later, or 'await' an AsyncHaloClient."
        )
    value: T = run_sync(awaitable)
    return value


def wait_for(future: Future[T]) -> T:
    """Wait for a future's result."""
    return wait(asyncio.wrap_future(future))


def sleep(seconds: float) -> None:
    """As `time.sleep`, and the others' turn."""
    wait(asyncio.sleep(seconds))


async def to_thread(function: Callable[[], T]) -> T:
    """As `asyncio.to_thread`."""
    # In a task of its own: what it waits for must not hold this one.
    outcome: Future[T] = Future()

    def call() -> None:
        try:
            outcome.set_result(function())
        except Exception as error:  # noqa: BLE001  # handed over whole
            outcome.set_exception(error)

    Thread(target=call).start()
    return await asyncio.wrap_future(outcome)


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run `coroutine` on the page's loop; cancelling the future cancels it."""
    return asyncio.run_coroutine_threadsafe(coroutine, asyncio.get_event_loop())


def get_ident() -> int:
    """A number for the thread that runs."""
    thread = _current.get()
    return thread.ident if thread else 1


def current_thread() -> Thread | None:
    """The thread that runs; None on the page's own."""
    return _current.get()


class Thread:
    """As `threading.Thread`; there is nothing to be a daemon of."""

    def __init__(
        self,
        target: Callable[..., object] | None = None,
        args: Sequence[Any] = (),
        *,
        name: str = "",
        daemon: bool | None = None,
    ) -> None:
        self.name = name
        self.ident = next(_idents)
        self._target, self._args = target, args

    def run(self) -> None:
        """What it does."""
        if self._target is not None:
            self._target(*self._args)

    def start(self) -> None:
        """Have it run in the loop's next step."""
        task = asyncio.get_event_loop().create_task(self._main(), name=self.name)
        _running.add(task)
        task.add_done_callback(_running.discard)

    async def _main(self) -> None:
        _current.set(self)
        self.run()


class Event:
    """As `threading.Event`."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        while self._waiting:
            _wake(self._waiting)

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._is_set or _parked(self._waiting, timeout)


class Lock:
    """As `threading.Lock`; whoever waits first has it first."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._taken = False

    def locked(self) -> bool:
        return self._taken

    def __enter__(self) -> bool:
        if self._taken:
            _parked(self._waiting, None)  # and is handed over taken
        self._taken = True
        return True

    def __exit__(self, *exc_info: object) -> None:
        self._taken = _wake(self._waiting)


class RLock(Lock):
    """As `threading.RLock`."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> bool:
        if self._owner != get_ident():
            super().__enter__()
            self._owner = get_ident()
        self._depth += 1
        return True

    def __exit__(self, *exc_info: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            super().__exit__()


class SimpleQueue(Generic[T]):
    """As `queue.SimpleQueue`."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiting: deque[asyncio.Future[bool]] = deque()

    def put(self, item: T) -> None:
        self._items.append(item)
        _wake(self._waiting)

    def get(self, timeout: float | None = None) -> T:
        if not self._items:
            _parked(self._waiting, timeout)
        return self.get_nowait()

    def get_nowait(self) -> T:
        try:
            return self._items.popleft()
        except IndexError:
            raise queue.Empty from None


def _parked(waiting: deque[asyncio.Future[bool]], timeout_s: float | None) -> bool:
    """Wait to be woken; whether one was, before the time was up."""
    loop = asyncio.get_event_loop()
    place: asyncio.Future[bool] = loop.create_future()
    waiting.append(place)
    # Not by asyncio's own timeout, which names a moment: Pyodide's loop raises for one that has passed
    # by the time that it is asked to wait for it.
    timer = None if timeout_s is None else loop.call_later(max(timeout_s, 0), _settle, place, False)

    async def woken() -> bool:
        try:
            return await place
        finally:
            if timer is not None:
                timer.cancel()

    return wait(woken())


def _settle(place: asyncio.Future[bool], woken: bool) -> bool:
    if place.done():
        return False
    place.set_result(woken)
    return True


def _wake(waiting: deque[asyncio.Future[bool]]) -> bool:
    """Wake the first that still waits; whether there was one."""
    while waiting:
        if _settle(waiting.popleft(), True):
            return True
    return False
