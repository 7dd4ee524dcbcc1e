"""Where sync code waits: an inbox that wakes it, runs user code there, or stops it, as an interrupt does.

Python raises KeyboardInterrupt (Ctrl-C, the kernel's Stop) between any two steps of the main thread, also in
the middle of a frame or of cleaning up. An `InterruptInbox` makes it a message, which is noticed where the
thread waits, so each step is finished first.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from . import usercode
from .loop import IN_BROWSER, LOOK_S, on_io_thread, spawn, wait_in_page

T = TypeVar("T")
LINGER_S = 0.1
"""See `InterruptInbox`. A cell ends within milliseconds of its turn."""
_LONGEST_TIMER_S = 86_400.0


class Inbox:
    """What one thread waits for. Any thread, and a signal's handler, may put something in."""

    def __init__(self) -> None:
        self.stopped = False
        self._woken = False
        self._messages: Any = asyncio.Queue() if IN_BROWSER else queue.SimpleQueue()
        self._waking = set[Callable[[], object]]()  # tasks of this thread's loop that wait, see `awaited`

    def wake(self) -> None:
        """Say that something has changed."""
        if not self._woken:
            self._woken = True
            self._put(None)

    def stop(self) -> None:
        """Say that the thread has to stop."""
        self.stopped = True
        self._put(None)

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a user's `function(*args)` on the waiting thread, where it may show a prompt."""
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

        self._put(run)
        return await asyncio.wrap_future(outcome)

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a user's `function(*args)`, or one that waits for the user; an interrupt raises in it."""
        return function(*args)

    def wait(self, timeout_s: float = math.inf, *, calls: bool = True) -> None:
        """Wait until there is something, at most so long; a call is run, or dropped without `calls`."""
        if on_io_thread():
            raise RuntimeError("The I/O thread cannot wait for itself: use 'await' there.")
        # What another part of the program has a user's code do on this thread's loop is done meanwhile.
        with usercode.waiting(lambda begin: self._put(lambda: begin(self.run))):
            message = self._next_in_page(timeout_s) if IN_BROWSER else self._next(timeout_s)
        if message is None:
            self._woken = False  # before the caller looks: what changes from here on wakes it again
        elif calls:
            message()

    async def awaited(self) -> None:
        """As `wait`, as a task on this thread's loop."""
        came = asyncio.Event()
        # With a limit, since an interrupt wakes no loop on Windows.
        timer = asyncio.get_running_loop().call_later(LOOK_S, came.set)
        wake = partial(asyncio.get_running_loop().call_soon_threadsafe, came.set)
        self._waking.add(wake)
        try:
            if self._messages.empty():
                await came.wait()
        finally:
            self._waking.discard(wake)
            timer.cancel()
        while not self._messages.empty():
            message = self._messages.get_nowait()
            if message is None:
                self._woken = False
            else:
                message()

    async def until_stopped(self) -> None:
        """Return when this has been stopped."""
        while not self.stopped:
            await self.awaited()

    def result(self, future: Future[T]) -> T:
        """Wait for `future`; when stopped, cancel it and raise KeyboardInterrupt, as an interrupt does."""
        future.add_done_callback(lambda _: self.wake())
        try:
            while not future.done():
                if self.stopped:
                    raise KeyboardInterrupt
                self.wait()
        except KeyboardInterrupt:
            future.cancel()
            raise
        return future.result()

    def _put(self, message: Callable[[], object] | None) -> None:
        self._messages.put_nowait(message)
        for wake in tuple(self._waking):
            with contextlib.suppress(RuntimeError):  # its loop has been closed
                wake()

    def _next(self, timeout_s: float) -> Any:
        while timeout_s > 0:
            with contextlib.suppress(queue.Empty):
                return self._messages.get(timeout=min(timeout_s, LOOK_S))
            timeout_s -= LOOK_S
        return None

    def _next_in_page(self, timeout_s: float) -> Any:
        # Not by asyncio's timeouts, which name a moment: Pyodide's loop refuses one that has passed.
        delay_s = min(max(timeout_s, 0), _LONGEST_TIMER_S)
        timer = asyncio.get_event_loop().call_later(delay_s, self._messages.put_nowait, None)
        try:
            return wait_in_page(self._messages.get())
        finally:
            timer.cancel()


def wait(future: Future[T]) -> T:
    """Wait for `future`, on any thread but the loop's; an interrupt cancels it and is raised."""
    return Inbox().result(future)


class InterruptInbox(Inbox):
    """An inbox that an interrupt stops while it is entered as a context manager.

    The previous handler is restored at the end, and while user code runs. A handler that was not installed
    from Python could not be restored, so it is left alone, and so is SIG_IGN. Only the main thread gets
    interrupts.

    Args:
        linger_s: ignore interrupts for so long after the end, and let the first one after that restore the
            previous handler and go to it. For a kernel: an interrupt between the end of a turn and that of
            its cell would cut into IPython while it shows an error, or into ipykernel while it sends the
            reply, which is lost then.
    """

    def __init__(self, linger_s: float = 0.0) -> None:
        super().__init__()
        self.linger_s = linger_s
        self._previous: Any = None
        self._installed = False
        self._raises = self._on_loop = False
        self._leaving_loop = threading.Lock()
        self._ended_at: float | None = None

    def __enter__(self) -> InterruptInbox:
        on_main_thread = threading.current_thread() is threading.main_thread()
        self._installed = on_main_thread and callable(signal.getsignal(signal.SIGINT))
        if self._installed:
            self._install()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended_at = time.monotonic()
        if self._installed and not self.linger_s:
            signal.signal(signal.SIGINT, self._previous)

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """See `Inbox.run`. An interrupt also stops this inbox."""
        if not self._installed:
            return super().run(function, *args)
        try:
            try:
                signal.signal(signal.SIGINT, self._previous)
                return function(*args)
            finally:
                self._install()
        except KeyboardInterrupt:
            self._install()  # it may have come just before the line above
            self.stop()
            raise

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise interrupts, as without this inbox, which they stop as well.

        So none is lost: Python drops an exception that is raised in a destructor or the callback of a weak
        reference. Raises KeyboardInterrupt at once when this has been stopped, and at the end when it was
        stopped in the block, whose code may have caught the interrupt or raised another error for it.
        """
        self._raises = True
        try:
            if self.stopped:
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            self._raises = False
        if self.stopped:
            raise KeyboardInterrupt

    def run_on_loop(
        self, coroutine: Coroutine[Any, Any, T], interrupted: Callable[[BaseException], object]
    ) -> T:
        """Run `coroutine`, which returns soon after a stop, on this thread's loop for user code.

        An interrupt stops this inbox. It is raised only where a user's code computes, which it ends;
        `interrupted` is called when this is in another task than that of `coroutine`.
        """
        try:
            loop = usercode.callers_loop()
        except BaseException:
            coroutine.close()
            raise
        task = loop.create_task(coroutine)
        reminding = spawn(self._remind()) if self._installed and hasattr(signal, "pthread_kill") else None
        self._on_loop = True
        try:
            while True:
                try:
                    return loop.run_until_complete(task)
                except (KeyboardInterrupt, SystemExit) as error:
                    if task.done():
                        raise
                    interrupted(error)
        finally:
            with self._leaving_loop:
                self._on_loop = False
            if reminding is not None:
                reminding.cancel()

    async def _remind(self) -> None:
        """Interrupt again after a stop, on another thread: a user's code may have begun to compute since."""
        main = threading.main_thread().ident or 0
        while True:
            await asyncio.sleep(LOOK_S)
            with self._leaving_loop:  # never behind this inbox, where it would be an interrupt of the user's
                if self._on_loop and self.stopped:
                    signal.pthread_kill(main, signal.SIGINT)

    def _install(self) -> None:
        previous: Any = signal.signal(signal.SIGINT, self._interrupted)
        if previous == self._interrupted:
            return
        other = getattr(previous, "__self__", None)
        if isinstance(other, InterruptInbox) and other._ended_at is not None:  # it lingers
            previous = other._previous
        self._previous = previous

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._ended_at is None:
            self.stop()
            if self._raises or (self._on_loop and usercode.computes(frame)):
                self._previous(number, frame)
        elif time.monotonic() > self._ended_at + self.linger_s:
            signal.signal(signal.SIGINT, self._previous)
            self._previous(number, frame)
