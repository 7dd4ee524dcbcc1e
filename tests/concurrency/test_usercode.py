"""A user's own code: called in its context, on its loop, and what it raises ends nothing of ours."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from halo_notebook.concurrency.interrupts import wait
from halo_notebook.concurrency.loop import spawn
from halo_notebook.concurrency.usercode import Home, UserCodeError, call, call_here

WHERE: ContextVar[str] = ContextVar("where", default="elsewhere")


class Unreadable(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit(3)


RAISED = [
    *(ValueError("no"), SystemExit(3), StopIteration(), GeneratorExit(), Unreadable()),
    *(asyncio.CancelledError(), KeyboardInterrupt(), ExceptionGroup("several", [ValueError()])),
]


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def raising_later(error: BaseException) -> Callable[[], Any]:
    async def function() -> None:
        await asyncio.sleep(0)
        raise error

    return function


def test_a_value_is_returned_and_an_awaitable_is_awaited() -> None:
    """With no loop running, a coroutine runs on a new one."""

    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert call(lambda: 1) == 1
    assert call(later, 2) == 2
    assert asyncio.run(call_here(later, 3)) == 3


def test_a_coroutine_runs_on_the_loop_that_is_running() -> None:
    """A user's objects are bound to it. In a process of its own, since it patches asyncio there."""
    script = """
import asyncio, sys
from halo_notebook.concurrency import usercode
async def outer():
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, event.set)
    assert usercode.call(lambda: 1) == 1 and "nest_asyncio2" not in sys.modules
    async def inner():
        await event.wait()
        return asyncio.get_running_loop()
    assert usercode.call(inner) is asyncio.get_running_loop()
    print("same loop")
asyncio.run(outer())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "same loop\n", done.stderr


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("made", [raising, raising_later])
def test_whatever_it_raises_becomes_one_error(
    error: BaseException, made: Callable[[BaseException], Callable[[], Any]]
) -> None:
    """In each function that calls it. Only an interrupt of the waiting thread stays an interrupt."""
    own = raising if isinstance(error, StopIteration) else made  # no coroutine can raise that one

    async def calls() -> list[BaseException]:
        home = Home()
        asked = [home.call(own(error)), home.call_in_thread(own(error)), call_here(own(error))]
        return [caught for caught in await asyncio.gather(*asked, return_exceptions=True) if caught]

    for caught in (*wait(spawn(calls())), *asyncio.run(calls())):
        assert isinstance(caught, UserCodeError)
        assert isinstance(caught.error, type(error))
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserCodeError):
        call(raising(error))


def test_a_cancelled_call_is_cancelled() -> None:
    """The cancellation is raised, and not an error of the user's code."""

    async def cancelled() -> None:
        calling = asyncio.ensure_future(call_here(asyncio.sleep, 3600))
        await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    asyncio.run(cancelled())


def test_code_runs_where_it_was_registered() -> None:
    """In that context, on that loop's thread; what may block is begun on a thread."""

    async def seen() -> tuple[str, str]:
        await asyncio.sleep(0)
        return WHERE.get(), threading.current_thread().name

    async def notebook() -> tuple[Any, Any, Any]:
        WHERE.set("its cell")
        home = Home()
        WHERE.set("another cell")
        began: list[str] = []

        def begin() -> Any:
            began.append(threading.current_thread().name)
            return seen()

        asked = [home.call(seen), home.call_in_thread(begin)]
        values = [await asyncio.wrap_future(spawn(each)) for each in asked]
        return values[0], values[1], began[0]

    on_loop, awaited, began = asyncio.run(notebook())
    assert on_loop == awaited == ("its cell", "MainThread")
    assert began not in ("MainThread", "halo-io")


def test_without_a_loop_code_runs_on_a_thread() -> None:
    """It may block: neither the caller nor the I/O thread waits for it."""
    home = Home()

    async def name() -> str:
        return threading.current_thread().name

    for calling in (home.call, home.call_in_thread):
        for function in (name, lambda: threading.current_thread().name):
            assert wait(spawn(calling(function))) not in ("MainThread", "halo-io")


@pytest.mark.parametrize("moment", ["before its step", "in its first step", "while it waits", "closed"])
def test_a_loop_that_ends_loses_no_call_and_leaves_no_task(
    moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has not begun runs on a thread; what it has begun ends with it, as all of its tasks do."""
    loop = asyncio.new_event_loop()
    home, called, begun = Home(loop), threading.Event(), moment == "while it waits"

    async def function() -> str:
        called.set()
        if begun and threading.current_thread() is threading.main_thread():
            await asyncio.sleep(3600)
        return threading.current_thread().name

    if moment == "closed":
        loop.close()
    calling = spawn(home.call(function))
    while moment != "closed" and not loop._ready:  # type: ignore[attr-defined]
        time.sleep(0.01)
    steps = {"in its first step": 1, "while it waits": 3}.get(moment, 0)
    for _ in range(steps):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert called.is_set() == begun or moment == "closed"
    loop.close()
    if begun:
        with pytest.raises(UserCodeError, match="its loop has ended"):
            wait(calling)
    else:
        assert wait(calling) not in ("MainThread", "halo-io")
    assert called.is_set()
    del calling, home
    gc.collect()
    assert not caplog.records
