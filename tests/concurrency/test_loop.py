"""Sync code that waits for async code: interruptible, and nothing patched unless it must be."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar

import pytest

from halo_notebook.concurrency import loop as bridge


def test_a_coroutine_runs_on_the_io_thread() -> None:
    """Its result and its error come back to the caller."""

    async def where() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise TimeoutError("its own")

    assert bridge.io_thread.run(where()) == "halo-io"
    with pytest.raises(TimeoutError, match="its own"):
        bridge.io_thread.run(fail())


def test_what_is_posted_runs_on_the_loop_in_order() -> None:
    """From any thread, and on the loop itself, where waiting for the loop is refused."""
    seen: list[tuple[int, str]] = []
    done: Future[None] = Future()

    def note(number: int) -> None:
        seen.append((number, threading.current_thread().name))
        if number == 4:
            with pytest.raises(RuntimeError, match="cannot wait for itself"):
                bridge.wait(done)
            bridge.post(done.set_result, None)

    for number in range(5):
        bridge.post(note, number)
    bridge.wait(done)
    assert seen == [(number, "halo-io") for number in range(5)]


def test_work_runs_on_one_worker_thread() -> None:
    """One call at a time, in order, in the caller's context; what it raises comes back; the loop goes on."""
    variable: ContextVar[str] = ContextVar("variable", default="")
    seen: list[str] = []

    def work(number: int) -> str:
        time.sleep(0.02)
        seen.append(f"{number} {variable.get()}")
        return threading.current_thread().name

    async def one(number: int) -> str:
        variable.set(f"context {number}")
        return await bridge.in_worker(work, number)

    async def several() -> list[str]:
        working = asyncio.gather(*(one(number) for number in range(3)))
        await asyncio.sleep(0)  # the loop is free meanwhile
        with pytest.raises(ZeroDivisionError):
            await bridge.in_worker(lambda: 1 / 0)
        return await working

    names = bridge.wait(bridge.spawn(several()))
    assert seen == [f"{number} context {number}" for number in range(3)]
    assert set(names) == {"halo-worker_0"}


def test_an_interrupt_cancels_what_is_waited_for() -> None:
    """The wait ends at once and the coroutine is cancelled on its own thread."""
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bridge.io_thread.run(forever())
    assert time.monotonic() - started < 5
    assert cancelled.wait(5)
    timer.join()


def test_an_interrupt_is_held_back_and_then_let_through() -> None:
    """What is short and bounded is finished first."""
    finished = []

    def finish() -> None:
        with bridge.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        finish()
    assert finished == [True]
    thread = threading.Thread(target=lambda: finished.append(bool(bridge.uninterrupted().__enter__())))
    thread.start()
    thread.join()
    assert len(finished) == 2, "another thread gets no signals, and is not kept from it"


def test_a_channel_hands_items_over_and_calls_back() -> None:
    """A call from the I/O thread runs on the thread that waits, between the items."""
    channel: bridge.Channel[str] = bridge.Channel()

    async def work() -> None:
        channel.put("before")
        channel.put(await channel.call(lambda: threading.current_thread().name))
        try:
            await channel.call(lambda: 1 / 0)
        except ZeroDivisionError:
            channel.put("after")

    future = bridge.io_thread.submit(work())
    assert [channel.get(), channel.get(5), channel.get()] == ["before", "MainThread", "after"]
    future.result(5)
    for timeout_s in (0, 0.01):
        with pytest.raises(queue.Empty):
            channel.get(timeout_s)


def test_resolve_gives_plain_values_and_awaits_others() -> None:
    """With no loop running, a coroutine runs on a fresh one."""

    async def later() -> int:
        await asyncio.sleep(0)
        return 2

    assert bridge.resolve(1) == 1
    assert bridge.resolve(later()) == 2


def test_resolve_uses_the_loop_that_is_running() -> None:
    """A user's objects are bound to it. In a process of its own, since it patches asyncio there."""
    script = """
import asyncio, sys
from halo_notebook.concurrency import loop as bridge
async def outer():
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, event.set)
    assert "nest_asyncio2" not in sys.modules
    async def inner():
        await event.wait()
        return asyncio.get_running_loop()
    assert bridge.resolve(inner()) is asyncio.get_running_loop()
    print("same loop")
asyncio.run(outer())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "same loop\n", done.stderr


def _in_child(answers: multiprocessing.Queue[str]) -> None:
    async def hello() -> str:
        return "hello from the child"

    answers.put(bridge.io_thread.run(hello()))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tested
def test_a_forked_child_starts_its_own_thread() -> None:
    """The parent's thread is not in the child, and the child does not wait for it."""

    async def nothing() -> None:
        pass

    bridge.io_thread.run(nothing())
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(answers,))
    child.start()
    assert answers.get(timeout=10) == "hello from the child"
    child.join(10)
    answers.close()
    answers.join_thread()


def test_the_interpreter_exits_in_silence() -> None:
    """An exit in mid-reply leaves no complaint about a pending task."""
    script = """
import asyncio
from halo_notebook.concurrency import loop as bridge
bridge.io_thread.submit(asyncio.sleep(3600))
bridge.io_thread.run(asyncio.sleep(0.05))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stderr == ""
