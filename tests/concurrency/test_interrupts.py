"""An interrupt is a message: it stops a wait, and never cuts into a step."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook.concurrency.interrupts import Inbox, InterruptInbox, wait
from halo_notebook.concurrency.loop import spawn
from halo_notebook.concurrency.usercode import UserCodeError

from ..harness.interrupted import interrupt_turns

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ..harness.kernels import Kernel


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.ci
@pytest.mark.kernel
def test_interrupted_turns_end_in_one_line(kernel: Kernel) -> None:
    """However many interrupts come, and when: the turn is stopped or complete, and the kernel idle."""
    counts, wrong = interrupt_turns(kernel, 60, console=True)
    assert wrong == []
    assert counts["ReplyStopped, stopped"] > 20


def test_interrupts_stop_the_inbox_and_raise_nothing() -> None:
    """They wake the thread that waits; the previous handler is restored behind the block."""
    before = signal.getsignal(signal.SIGINT)
    with InterruptInbox() as inbox:
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT))
        timer.start()
        since = time.monotonic()
        inbox.wait()
        assert time.monotonic() - since < 5
        timer.join()
        interrupt()
        assert inbox.stopped
        with pytest.raises(KeyboardInterrupt):
            inbox.result(Future())
    assert signal.getsignal(signal.SIGINT) is before


def test_an_inbox_within_another_gives_interrupts_back() -> None:
    """To the one around it, as when a check of an evaluation asks an agent."""
    before = signal.getsignal(signal.SIGINT)
    with InterruptInbox() as outer:
        with InterruptInbox() as inner:
            interrupt()
        stopped = [(inner.stopped, outer.stopped)]
        interrupt()
        stopped.append((inner.stopped, outer.stopped))
    assert stopped == [(True, False), (True, True)]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_python_drops_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a destructor it is raised in vain, and code may catch it: it is raised at the end of the step."""
    dropped: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: dropped.append(unraisable.exc_type))

    class Interrupts:
        def __del__(self) -> None:
            interrupt()

    with InterruptInbox() as inbox:
        with pytest.raises(KeyboardInterrupt), inbox.raising():
            Interrupts()
        assert dropped == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt), inbox.raising():
            raise AssertionError
    with InterruptInbox() as inbox, pytest.raises(KeyboardInterrupt), inbox.raising():
        interrupt()
    caught = contextlib.suppress(KeyboardInterrupt)
    with InterruptInbox() as inbox, pytest.raises(KeyboardInterrupt), inbox.raising(), caught:
        interrupt()


def test_on_a_loop_an_interrupt_is_raised_only_in_user_code() -> None:
    """What waits for `until_stopped` returns; a task that computes is ended, and its error is told."""
    told: list[BaseException] = []

    async def computes() -> None:
        await asyncio.sleep(0)
        interrupt()

    async def waits(inbox: Inbox, task: Coroutine[Any, Any, None]) -> str:
        computing = asyncio.ensure_future(task)
        await inbox.until_stopped()
        [error] = await asyncio.gather(computing, return_exceptions=True)
        return type(error).__name__

    with InterruptInbox() as inbox:
        assert inbox.run_on_loop(waits(inbox, computes()), told.append) == "KeyboardInterrupt"
    main = threading.main_thread().ident or 0
    threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with InterruptInbox() as inbox:  # while the loop has nothing to do
        assert inbox.run_on_loop(waits(inbox, asyncio.sleep(0)), told.append) == "NoneType"
    assert [type(error) for error in told] == [KeyboardInterrupt]


def test_user_code_gets_interrupts_as_usual() -> None:
    """With the handler that it expects or installs; the inbox is stopped too, and notices later ones."""
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def users() -> None:
        seen.append(signal.getsignal(signal.SIGINT))
        interrupt()

    with InterruptInbox() as inbox:
        with pytest.raises(KeyboardInterrupt):
            inbox.run(users)
        assert inbox.stopped
        interrupt()
        assert inbox.run(signal.signal, signal.SIGINT, signal.SIG_IGN) is before
        inbox.run(interrupt)
    assert seen == [before]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "handler", [signal.SIG_IGN, signal.SIG_DFL, None], ids=["ignored", "default", "not Python's"]
)
def test_other_handlers_are_left_alone(handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIG_IGN and SIG_DFL keep their meaning; Python gives None for a handler that it cannot put back."""
    monkeypatch.setattr(signal, "getsignal", lambda number: handler)
    monkeypatch.setattr(signal, "signal", pytest.fail)
    with InterruptInbox() as inbox:
        assert inbox.run(lambda: "value") == "value"


def test_another_thread_gets_no_interrupts() -> None:
    """Its inbox works, and installs nothing."""
    before = signal.getsignal(signal.SIGINT)

    def handler() -> Any:
        with InterruptInbox() as inbox:
            inbox.stop()
            inbox.wait()
            return signal.getsignal(signal.SIGINT)

    assert wait(spawn(asyncio.to_thread(handler))) is before


def test_late_interrupts_are_ignored_where_the_kernel_takes_over() -> None:
    """Those of the next moment belong to what has ended; the first later one is the previous handler's."""
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        previous = signal.getsignal(signal.SIGINT)
        for _ in range(2):
            with InterruptInbox(linger_s=0.2) as inbox:
                pass
            interrupt()
        assert not (seen or inbox.stopped)
        time.sleep(0.25)
        interrupt()
        assert seen == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is previous
    finally:
        signal.signal(signal.SIGINT, before)


def test_user_code_is_called_on_the_waiting_thread() -> None:
    """While it waits; what the code raises is raised where the call is awaited."""
    inbox = Inbox()

    async def work() -> list[Any]:
        name = await inbox.call(lambda: threading.current_thread().name)
        with pytest.raises(UserCodeError, match="ZeroDivisionError"):
            await inbox.call(lambda: 1 / 0)
        return [name, await inbox.call(max, 1, 2)]

    assert inbox.result(spawn(work())) == ["MainThread", 2]


def test_an_interrupt_of_called_code_stops_the_wait() -> None:
    """It is raised in the code, where it waits, and where the call is awaited as that code's failure."""
    inbox = Inbox()
    calling = spawn(inbox.call(interrupt))
    waiting: Future[None] = Future()
    with pytest.raises(KeyboardInterrupt):
        inbox.result(waiting)
    assert waiting.cancelled()
    with pytest.raises(UserCodeError) as caught:
        wait(calling)
    assert isinstance(caught.value.error, KeyboardInterrupt)
