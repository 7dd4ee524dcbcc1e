"""Sync code that waits for async code: interruptible, and nothing patched unless it must be."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar

import pytest

from halo_notebook.concurrency.interrupts import wait
from halo_notebook.concurrency.loop import in_worker, post, spawn


def test_a_coroutine_runs_on_the_io_thread() -> None:
    """Its result and its error come back to the caller."""

    async def where() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise TimeoutError("its own")

    assert wait(spawn(where())) == "halo-io"
    with pytest.raises(TimeoutError, match="its own"):
        wait(spawn(fail()))


def test_what_is_posted_runs_on_the_loop_in_order() -> None:
    """From any thread, and on the loop itself, where waiting for the loop is refused."""
    seen: list[tuple[int, str]] = []
    done: Future[None] = Future()
    never: Future[None] = Future()

    def note(number: int) -> None:
        seen.append((number, threading.current_thread().name))
        if number == 4:
            with pytest.raises(RuntimeError, match="cannot wait for itself"):
                wait(never)
            post(done.set_result, None)

    for number in range(5):
        post(note, number)
    wait(done)
    assert seen == [(number, "halo-io") for number in range(5)]


def test_work_runs_on_one_worker_thread() -> None:
    """One call at a time, in order, in the caller's context; the loop stays free meanwhile."""
    variable: ContextVar[str] = ContextVar("variable", default="")
    seen: list[str] = []

    def work(number: int) -> str:
        time.sleep(0.02)
        seen.append(f"{number} {variable.get()}")
        return threading.current_thread().name

    async def one(number: int) -> str:
        variable.set(f"context {number}")
        return await in_worker(work, number)

    async def several() -> list[str]:
        working = asyncio.gather(*(one(number) for number in range(3)))
        await asyncio.sleep(0)  # the loop is free meanwhile
        with pytest.raises(ZeroDivisionError):
            await in_worker(lambda: 1 / 0)
        return await working

    names = wait(spawn(several()))
    assert seen == [f"{number} context {number}" for number in range(3)]
    assert set(names) == {"halo-worker_0"}


def _in_child(answers: multiprocessing.Queue[str]) -> None:
    async def hello() -> str:
        return "hello from the child"

    answers.put(wait(spawn(hello())))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # which is what is tested
def test_a_forked_child_starts_its_own_thread() -> None:
    """The parent's thread is not in the child, and the child does not wait for it."""

    async def nothing() -> None:
        pass

    wait(spawn(nothing()))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(answers,))
    child.start()
    assert answers.get(timeout=10) == "hello from the child"
    child.join(10)
    answers.close()
    answers.join_thread()


@pytest.mark.parametrize("busy_s", [0, 0.7, 3])
def test_the_interpreter_exits_in_silence(busy_s: float) -> None:
    """An exit in mid-reply leaves no complaint about a pending task, also while the loop is busy."""
    script = f"""
import asyncio, time
from halo_notebook.concurrency.interrupts import wait
from halo_notebook.concurrency.loop import post, spawn
async def waits():
    await asyncio.Event().wait()
spawn(asyncio.sleep(3600))
spawn(waits())
wait(spawn(asyncio.sleep(0.05)))
post(time.sleep, {busy_s})
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
