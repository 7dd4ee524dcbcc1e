"""The one place that calls a user's code: callbacks, checks, user_token callables, template expressions.

- Whatever it raises, SystemExit included, arrives as a `UserCodeError`, so it ends neither a reply, nor the
  I/O thread, nor the kernel. Only an interrupt of the thread that waits stays an interrupt.
- A `Home` runs it in the context in which it was registered, so its output appears there, and on the loop
  to which it belongs, whose objects it may use. What a loop that ends has not begun runs on a thread.

Sync code in a running kernel that has to await a user's coroutine on the kernel's loop nests that loop.
Nothing else does, and asyncio is patched only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from types import FrameType
from typing import Any, TypeAlias

from ..errors import HaloError, UsageError
from .loop import IN_BROWSER, LOOK_S, wait_in_page

Run: TypeAlias = Callable[..., Any]
"""Calls a function with arguments."""


class UserCodeError(HaloError):
    """The user's own code raised something. `error` is what it raised."""

    def __init__(self, error: BaseException) -> None:
        try:
            text = str(error)
        except BaseException:  # noqa: BLE001  # that is the user's code, too
            text = "its text cannot be read"
        super().__init__(f"{type(error).__name__}: {text}" if text else type(error).__name__)
        self.error = error


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a function is known to be async before it is called; an object's `is_async` may say so."""
    if isinstance(stated := getattr(function, "is_async", None), bool):
        return stated
    call = getattr(function, "__call__", None)  # noqa: B004  # to look at it
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def called(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function(*args)` on this thread and return its value, which may be awaitable."""
    try:
        return function(*args)
    except (KeyboardInterrupt, UserCodeError):
        raise
    except BaseException as error:
        raise UserCodeError(error) from error


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
    task = asyncio.current_task()
    try:
        value = function(*args)
        return await value if inspect.isawaitable(value) else value
    except UserCodeError:
        raise
    except BaseException as error:
        if ends(task, error):
            raise
        raise UserCodeError(error) from error


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function(*args)` on a thread of its own; an awaitable it returns is awaited on the running loop.

    A cancellation does not wait for the thread, which does not keep the process alive either.
    """
    outcome = Future[Any]()

    def run() -> None:
        try:
            value, error = context.run(function, *args), None
        except BaseException as raised:  # noqa: BLE001  # of any kind
            value, error = None, UserCodeError(raised)
        with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
            outcome.set_result(value) if error is None else outcome.set_exception(error)

    context = copy_context()
    threading.Thread(target=run, name="halo-user-code", daemon=True).start()
    value = await asyncio.wrap_future(outcome)
    return await value if inspect.isawaitable(value) else value


def callers_loop() -> asyncio.AbstractEventLoop:
    """The loop on which this thread awaits a user's coroutines, to be run until one is complete.

    It is the running loop, nested, and otherwise a loop that the thread keeps: a client that a user's code
    holds would not work on another loop. Raises `UsageError` when the running loop cannot be nested.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        own: _OwnLoop | None = getattr(_of_thread, "loop", None)
        if own is None or own.pid != os.getpid():
            own = _of_thread.loop = _OwnLoop()
        return own.loop
    import nest_asyncio2  # patches asyncio, so only where nothing else will do

    try:
        nest_asyncio2.apply(loop)
    except ValueError as error:
        raise UsageError(
            f"An async function cannot run here ({error}). What was sent is kept; use 'await aevaluate(…)'."
        ) from None
    return loop


class _OwnLoop:
    """A thread's loop, closed when the thread or the interpreter ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pid = os.getpid()
        weakref.finalize(self, self._close, self.loop, self.pid)

    @staticmethod
    def _close(loop: asyncio.AbstractEventLoop, pid: int) -> None:
        if os.getpid() == pid:  # a forked child shares its files
            loop.close()


_of_thread = threading.local()


def ends(task: asyncio.Task[Any] | None, error: BaseException) -> bool:
    """Whether `error` comes from the end of `task`, in which it was caught, and not from the user's code."""
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    if isinstance(error, GeneratorExit):  # a task that is destroyed does not run
        with contextlib.suppress(RuntimeError):
            return asyncio.current_task() is not task
        return True
    return False


_PACKAGE = __name__.partition(".")[0]
_OF_USERS = f"{_PACKAGE}.checks"  # ready-made checks, which call what a user gives them
# What runs a loop in a script or a kernel.
_LOOPS = frozenset(
    {"_weakrefset", "asyncio", "contextlib", "ipykernel", "nest_asyncio2", "selectors", "tornado", "zmq"}
)


def computes(frame: FrameType | None) -> bool:
    """Whether a user's code runs in `frame`, on a loop of this thread, and not the loop or this package."""
    theirs = False
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if (name, frame.f_code.co_name) == ("asyncio.events", "_run"):
            break  # the loop has called what is above
        root = name.partition(".")[0]
        if root == _PACKAGE and not name.startswith(_OF_USERS):
            return frame.f_code in (call_here.__code__, called.__code__)
        theirs = theirs or root not in _LOOPS
        frame = frame.f_back
    return theirs


_waiting: dict[asyncio.AbstractEventLoop, Callable[[Callable[[Run], None]], None]] = {}
_wanted: dict[asyncio.AbstractEventLoop, list[Callable[[Run], None]]] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def waiting(take: Callable[[Callable[[Run], None]], None]) -> Iterator[None]:
    """Let `take` have the calls that need this thread's loop, while the thread waits in sync code."""
    loop = asyncio._get_running_loop()
    if loop is None or IN_BROWSER:  # there the loop goes on meanwhile
        yield
        return
    with _lock:
        _waiting[loop] = take
        for wanted in _wanted.get(loop, ()):
            take(wanted)
    try:
        yield
    finally:
        with _lock:
            _waiting.pop(loop, None)


class Home:
    """Where a user's code belongs: the context and the loop in which it was registered, or cells run."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or kernels_loop()
        self._context = copy_context()

    async def call(self, function: Callable[..., Any], *args: Any, nested: bool = False) -> Any:
        """Call `function(*args)` on its loop, which waits while a cell computes; without one, on a thread.

        Args:
            nested: call it also if the loop's thread waits in sync code: there, with the loop nested.
        """
        if self._loop is None or self._loop.is_closed():
            return await self._in_thread(call, function, *args)
        loop, outcome, tasks, begun = self._loop, Future[Any](), list[asyncio.Task[Any]](), False

        def is_first() -> bool:  # on the loop's thread
            nonlocal begun
            before, begun = begun, True
            return not before and not outcome.done()

        def begin() -> None:  # there, so that a loop that closes first leaves no coroutine behind
            if is_first():
                tasks.append(loop.create_task(call_here(function, *args)))  # runs before what comes later
                tasks[0].add_done_callback(ended)
                outcome.add_done_callback(unwanted)

        def begin_nested(run: Run) -> None:
            if is_first():
                try:
                    finish(self._context.copy().run(run, call, function, *args))
                except UserCodeError as error:
                    finish(error=error)
                except KeyboardInterrupt as interrupt:
                    finish(error=UserCodeError(interrupt))
                    raise

        def ended(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                finish(error=UserCodeError(asyncio.CancelledError("its task was cancelled")))
            elif error := task.exception():
                finish(error=error)
            else:
                finish(task.result())

        def finish(value: Any = None, error: BaseException | None = None) -> None:
            with contextlib.suppress(InvalidStateError):  # nobody wants it any more
                if error is not None:
                    outcome.set_exception(error)
                else:
                    outcome.set_result(value)

        def unwanted(_: Future[Any]) -> None:  # on any thread
            if outcome.cancelled():
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    loop.call_soon_threadsafe(tasks[0].cancel)

        try:
            loop.call_soon_threadsafe(begin, context=self._context.copy())
        except RuntimeError:  # it has just been closed
            return await self._in_thread(call, function, *args)
        if nested:
            with _lock:
                _wanted.setdefault(loop, []).append(begin_nested)
                if take := _waiting.get(loop):
                    take(begin_nested)
        waited_for = asyncio.wrap_future(outcome)
        try:
            while not waited_for.done():
                await asyncio.wait({waited_for}, timeout=LOOK_S)
                if loop.is_closed() and not outcome.done():
                    return await self._after(tasks, function, *args)
            return waited_for.result()
        finally:
            waited_for.cancel()
            if nested:
                with _lock:
                    _wanted[loop].remove(begin_nested)
                    if not _wanted[loop]:
                        del _wanted[loop]

    async def _after(self, tasks: list[asyncio.Task[Any]], function: Callable[..., Any], *args: Any) -> Any:
        """What is left to do when the loop has been closed: the call, or the end of its task."""
        called = False
        for task in tasks:
            if task.done() and not task.cancelled():
                return task.result()
            coroutine = task.get_coro()
            called = inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED  # type: ignore[arg-type]
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is ended here
            with contextlib.suppress(UserCodeError):
                await self._in_thread(coroutine.close)
        if called:
            raise UserCodeError(asyncio.CancelledError("its loop has ended"))
        return await self._in_thread(call, function, *args)

    async def call_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function(*args)` on a thread, since it may block; an awaitable is awaited on its loop."""
        if self._loop is None or self._loop.is_closed():
            return await self._in_thread(call, function, *args)
        value = await self._in_thread(function, *args)
        if not inspect.isawaitable(value):
            return value
        try:
            return await self.call(lambda: value, nested=True)
        finally:
            if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                value.close()  # it is not wanted any more

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
