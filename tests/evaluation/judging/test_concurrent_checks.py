"""Turns are judged side by side; a stop waits for no check, and what ends a run ends the sending."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import DemoAgent, HaloClient
from halo_notebook.checks import judge
from halo_notebook.concurrency.interrupts import InterruptInbox
from halo_notebook.demo import DEMO_KEY
from halo_notebook.errors import InvalidRequest, UsageError
from halo_notebook.evaluation import Evaluation, aevaluate, evaluate
from halo_notebook.evaluation.judging.checks import named_checks
from halo_notebook.evaluation.judging.concurrent_checks import Ended, Jury, one_by_one
from halo_notebook.evaluation.sending.conversations import MAX_UNJUDGED
from halo_notebook.stream import JSON, TextDelta

from ..agents import messages, ok, seen, sent, states, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook import Reply
    from halo_notebook.checks import Check
    from halo_notebook.demo import Step

    from ...harness.kernels import Kernel
    from ..conftest import Run


def run_async(*arguments: Any, **settings: Any) -> Evaluation:
    return asyncio.run(aevaluate(*arguments, **settings))


BOTH = pytest.mark.parametrize("run_it", [evaluate, run_async], ids=["evaluate", "aevaluate"])


class Meeting:
    """Async checks that end only when so many of their calls have met."""

    def __init__(self, calls: int) -> None:
        self.barrier = asyncio.Barrier(calls)
        self.inside = self.most = 0

    async def one(self, reply: Reply) -> bool:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.wait_for(self.barrier.wait(), 60)
        self.inside -= 1
        return True

    async def two(self, conversation: Any) -> bool:
        return await self.one(conversation[-1].reply)


# --- How many at a time -----------------------------------------------------------------


@BOTH
def test_async_checks_are_called_at_the_same_time(run_it: Any, client: HaloClient) -> None:
    """As many turns as conversations, each with all of its checks; so they are in `rescore`."""
    meeting = Meeting(2 * 10)
    settings: dict[str, Any] = {"configs": {"demo": client}, "progress": False, "concurrency": 10}
    result = run_it(messages(20), [meeting.one, meeting.two], **settings)
    assert meeting.most == 20 and result.notes() == []
    assert set(map(tuple, result.passed("two")["demo"].values())) == {(True,)}
    again = Meeting(2 * 5)
    result.rescore([again.one, again.two], again=True, check_concurrency=5)
    assert again.most == 10 and result.notes() == []


def test_checks_that_turn_out_to_be_async_are_called_at_the_same_time(run: Run) -> None:
    """Also a function that returns an awaitable; a sync check beside them is called for each turn."""
    meeting, calls = Meeting(2 * 4), []
    checks: dict[str, Any] = {
        "one": lambda said: meeting.one(said),  # noqa: PLW0108  # not known to be async
        "sync": lambda said: not calls.append(threading.current_thread()),  # type: ignore[func-returns-value]
        "two": lambda said: meeting.one(said),  # noqa: PLW0108
    }
    result = run(messages(12), checks, check_concurrency=4)
    assert meeting.most == 8 and calls == [threading.main_thread()] * 12
    assert all(row["one"] and row["sync"] and row["two"] for row in result.rows())


@BOTH
def test_sync_checks_run_on_threads_on_request(run_it: Any, client: HaloClient) -> None:
    """As many turns at a time as `check_concurrency` says; an async check stays on the loop."""
    barrier, threads = threading.Barrier(2 * 3, timeout=60), []

    def one(reply: Reply) -> bool:
        threads.append(threading.current_thread())
        barrier.wait()
        return True

    def two(reply: Reply) -> bool:
        return one(reply)

    async def on_loop(reply: Reply) -> bool:
        return threading.current_thread() is threading.main_thread()

    settings: dict[str, Any] = {"configs": {"demo": client}, "progress": False}
    settings |= {"check_threads": True, "check_concurrency": 3}
    result = run_it(messages(12), [one, two, on_loop], **settings)
    assert len(threads) == 24 and threading.main_thread() not in threads
    assert all(row["one"] and row["two"] and row["on_loop"] for row in result.rows())
    result.rescore([one, two], again=True, check_concurrency=3, check_threads=True)
    assert len(threads) == 48 and result.notes() == []


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_slow_checks_hold_the_sending_back(kind: str, agent: DemoAgent, run: Run) -> None:
    """Few replies wait for a check, however many cases there are."""
    bound = threading.Event()
    seen_then: list[int] = []

    def until_held() -> bool:
        if not bound.is_set():
            wait_until(lambda: len(agent.requests) >= MAX_UNJUDGED)
            time.sleep(0.5)
            seen_then.append(len(agent.requests))
            bound.set()
        return True

    def slow(reply: Reply) -> bool:
        return until_held()

    async def slow_async(reply: Reply) -> bool:
        return await asyncio.to_thread(until_held)

    check = slow if kind == "threads" else slow_async
    run(messages(2 * MAX_UNJUDGED), {"slow": check}, concurrency=4, check_threads=kind == "threads")
    assert MAX_UNJUDGED <= seen_then[0] <= MAX_UNJUDGED + 4


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3"])
def test_a_wrong_number_of_checks_is_refused(wrong: Any, run: Run, agent: DemoAgent) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest, match="check_concurrency must be a whole number from 1"):
        run(["one"], [ok], check_concurrency=wrong)
    assert sent(agent) == []


def test_a_client_that_belongs_to_a_loop_works_in_every_run(run: Run) -> None:
    """The thread keeps its loop: a lock that was awaited in one run can be awaited in the next."""
    lock, loops = asyncio.Lock(), set()

    async def check(reply: Reply) -> bool:
        async with lock:
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(0)
            return True

    result = run(messages(5), [check]).rescore(again=True)
    assert run(messages(5), [check]).notes() == result.notes() == [] and len(loops) == 1


# --- Stop -------------------------------------------------------------------------------


class Blocking:
    """Checks that never end, until `released`; what they do is told by their names."""

    def __init__(self) -> None:
        self.entered, self.released, self.ended = threading.Event(), threading.Event(), 0

    def blocks(self, reply: Reply) -> bool:
        self.entered.set()
        if not self.released.wait(60):
            self.ended += 1
        return True

    async def waits(self, reply: Reply) -> bool:
        self.entered.set()
        for _ in range(600):
            if self.released.is_set():
                return True
            await asyncio.sleep(0.1)
        self.ended += 1
        return True

    async def swallows(self, reply: Reply) -> bool:
        while True:
            try:
                return await self.waits(reply)
            except asyncio.CancelledError:
                pass

    async def computes(self, reply: Reply) -> bool:
        await asyncio.sleep(0)
        return self.blocks(reply)

    async def in_tasks(self, reply: Reply) -> bool:
        return all(await asyncio.gather(self.computes(reply), self.computes(reply)))

    def spins(self, reply: Reply) -> bool:
        self.entered.set()
        until = time.monotonic() + 60
        while not self.released.is_set() and time.monotonic() < until:
            pass
        return True


def interrupt_when(event: threading.Event) -> threading.Thread:
    """Send the interrupt of a kernel's Stop, a little after the event."""

    def interrupt() -> None:
        event.wait(30)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("name", "threads"),
    [
        *((name, False) for name in ("blocks", "waits", "swallows", "computes", "in_tasks", "spins")),
        *((name, True) for name in ("blocks", "swallows", "computes")),
    ],
)
def test_a_stop_waits_for_no_check(name: str, threads: bool, run: Run) -> None:
    """Whatever it is doing: the result counts what has not been judged, and `rescore` judges it."""
    checks = Blocking()
    thread = interrupt_when(checks.entered)
    result = run(messages(30), {"fine": ok, "odd": getattr(checks, name)}, check_threads=threads)
    thread.join()
    assert result.interrupted and checks.ended == 0 and not checks.released.is_set()
    complete = states(result).count("complete")
    assert f"Check 'odd' has not judged {complete} turn{'s' * (complete > 1)} yet; rescore() does." in (
        result.notes()
    )
    checks.entered.clear()
    thread = interrupt_when(checks.entered)
    result.rescore(check_threads=threads)
    thread.join()
    assert f"Check 'odd' has not judged {complete} turn" in result.notes()[-1] and checks.ended == 0
    checks.released.set()
    judged = [
        row["odd"] for row in result.rescore(check_threads=threads).rows() if row["status"] == "complete"
    ]
    assert judged == [True] * complete


def test_a_cancelled_evaluation_waits_for_no_check(client: HaloClient, kept: Path) -> None:
    """`aevaluate` ends soon, also when a check swallows its cancellation; its late verdict is dropped."""
    checks = Blocking()

    async def stopped() -> None:
        going = asyncio.ensure_future(
            aevaluate(messages(20), [checks.swallows], configs={"demo": client}, path=kept, progress=False)
        )
        await asyncio.to_thread(checks.entered.wait, 30)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        assert not checks.released.is_set() and checks.ended == 0
        checks.released.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    asyncio.run(stopped())
    assert '"kind":"verdict"' not in kept.read_text()
    result = evaluate(messages(20), [checks.swallows], configs={"demo": client}, path=kept, progress=False)
    assert [row["swallows"] for row in result.rows() if row["status"] == "complete"]


@pytest.mark.kernel
def test_a_stop_in_a_notebook_waits_for_no_check(kernel: Kernel) -> None:
    """Sync and async, on the kernel's own loop; the next cell runs."""
    kernel.run(
        "import asyncio, time\nfrom halo_notebook import DemoAgent, HaloClient, evaluate\n"
        "from halo_notebook.demo import DEMO_KEY\n"
        "agent = DemoAgent(first_byte_s=0, chunk_s=0).start()\n"
        "configs = {'demo': HaloClient(DEMO_KEY, base_url=agent.url)}\n"
        "async def swallows(reply):\n"
        "    while True:\n"
        "        try:\n            print('inside')\n            await asyncio.sleep(60)\n"
        "        except asyncio.CancelledError:\n            pass\n"
        "async def computes(reply):\n    print('inside')\n    time.sleep(60)\n"
        "def blocks(reply):\n    print('inside')\n    time.sleep(60)\n"
        "def turns(check):\n"
        "    result = evaluate(['one', 'two', 'three'], [check], configs=configs, progress=False)\n"
        "    print(result.interrupted, [note for note in result.notes() if 'has not judged' in note])\n"
    )
    for check in ("swallows", "computes", "blocks"):
        running = kernel.start(f"turns({check})")
        running.wait_for(lambda cell: "inside" in cell.text, "a check to be called")
        kernel.interrupt()
        assert f"True [\"Check '{check}' has not judged 3 turns yet" in running.result(timeout=20).stdout
        assert kernel.run("print('next')").stdout.endswith("next\n")


class Interrupted:
    """Checks that a Stop interrupts in their first call, and that take it for an error of their own."""

    def __init__(self) -> None:
        self.is_next = True

    def answer(self) -> bool:
        if self.is_next:
            self.is_next = False
            os.kill(os.getpid(), signal.SIGINT)
        return True

    def catches(self, reply: Reply) -> bool:
        try:
            return self.answer()
        except:  # noqa: E722  # as users write it
            return False

    def raises(self, reply: Reply) -> bool:
        try:
            return self.answer()
        except KeyboardInterrupt as error:
            raise RuntimeError("no answer") from error

    def asserts(self, reply: Reply) -> bool:
        assert self.catches(reply)
        return True

    async def later(self, reply: Reply) -> bool:
        await asyncio.sleep(0)
        return self.catches(reply)

    async def raises_later(self, reply: Reply) -> bool:
        await asyncio.sleep(0)
        return self.raises(reply)

    def returns_later(self, reply: Reply) -> Any:
        caught = self.catches(reply)

        async def value() -> bool:
            return caught

        return value()

    @property
    def judge(self) -> Check:
        def model(prompt: str) -> str:
            try:
                return f'{{"score": {int(self.answer())}, "reason": ""}}'
            except:  # noqa: E722
                return '{"score": 0, "reason": "no answer"}'

        return judge(model, "It is polite.")


@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize(
    ("name", "threads"),
    [
        *((name, False) for name in ("catches", "raises", "asserts", "later", "raises_later")),
        *((name, False) for name in ("returns_later", "judge")),
        *((name, True) for name in ("catches", "later")),
    ],
)
def test_a_check_cannot_take_a_stop_for_its_own_error(  # noqa: PLR0917  # parameters and fixtures
    name: str, threads: bool, count: int, run: Run, agent: DemoAgent, kept: Path
) -> None:
    """The run ends, also with its last turn, and what the check said then is dropped, in `rescore`, too."""
    checks = Interrupted()
    check = {"fine": ok, "odd": getattr(checks, name)}
    result = run(messages(count), check, path=kept, concurrency=1, check_threads=threads)
    assert result.interrupted and (count == 1 or len(sent(agent)) < count)
    assert '"kind":"verdict"' not in kept.read_text()
    checks.is_next = True
    result.rescore(check_threads=threads)
    assert '"kind":"verdict"' not in kept.read_text()
    complete = states(result).count("complete")
    assert f"Check 'odd' has not judged {complete} turn" in result.notes()[-1]
    result.rescore(check_threads=threads)
    judged = [row["odd"] for row in result.rows() if row["status"] == "complete"]
    assert judged == [True] * complete and not checks.is_next


def test_nothing_is_sent_while_a_check_goes_on_after_a_stop(run: Run, kept: Path) -> None:
    """One that catches the interrupt: a reply that is on its way still arrives, and no message follows."""
    answered = threading.Event()

    def check(reply: Reply) -> bool:
        wait_until(lambda: len(sent(agent)) == 2)
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        answered.set()
        wait_until(lambda: kept.read_text().count('"kind":"turn"') == 2)
        return True

    def scripted(request: dict[str, JSON]) -> Iterator[Step]:
        if request["message"] != "message 0":
            answered.wait(30)
        yield TextDelta("yes")

    with DemoAgent(first_byte_s=0, chunk_s=0, reply=scripted) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        result = run(messages(9), [check], path=kept, concurrency=1, configs=configs)
        assert result.interrupted and sent(agent) == messages(2)


@pytest.mark.kernel
def test_a_stop_of_a_cell_that_awaits_an_evaluation_is_noticed(kernel: Kernel) -> None:
    """Although the kernel's loop sleeps; a sync check that runs ends first, and perhaps the next."""
    kernel.run(
        "import asyncio, time\nfrom halo_notebook import DemoAgent, HaloClient, aevaluate\n"
        "from halo_notebook.demo import DEMO_KEY\n"
        "agent = DemoAgent(first_byte_s=0, chunk_s=0).start()\n"
        "configs = {'demo': HaloClient(DEMO_KEY, base_url=agent.url)}\n"
        "async def waits(reply):\n    print('inside')\n    await asyncio.sleep(60)\n"
        "calls = []\n"
        "def blocks(reply):\n    print('inside')\n    calls.append(1)\n    time.sleep(1)\n"
        "cases = [f'message {number}' for number in range(30)]\n"
    )
    for check in ("waits", "blocks"):
        running = kernel.start(f"await aevaluate(cases, [{check}], configs=configs, progress=False)")
        running.wait_for(lambda cell: "inside" in cell.text, "a check to be called")
        kernel.interrupt()
        assert running.result(timeout=20).ename == "CancelledError"
    assert kernel.run("print(len(calls))").stdout in {"1\n", "2\n"}


# --- A check that cancels its task -------------------------------------------------------


@BOTH
@pytest.mark.parametrize("beside", [True, False], ids=["beside another", "alone"])
@pytest.mark.parametrize("how", ["waits", "returns", "raises"])
def test_a_check_that_cancels_its_task_could_not_judge(
    run_it: Any, how: str, beside: bool, client: HaloClient
) -> None:
    """It alone: the other checks of the turn keep their verdicts, and other turns theirs."""

    async def cancels(reply: Reply, message: str) -> bool:
        task = asyncio.current_task()
        if message == "message 1" and task is not None:
            if how == "raises":
                raise asyncio.CancelledError
            task.cancel()
            await (asyncio.sleep(60) if how == "waits" else Returned())
        return True

    async def fine(reply: Reply) -> bool:
        await asyncio.sleep(0.01)
        return True

    checks = {"cancels": cancels} | ({"fine": fine, "ok": ok} if beside else {})
    result = run_it(messages(4), checks, configs={"demo": client}, progress=False)
    assert [row["cancels"] for row in result.rows()] == [True, None, True, True]
    assert all(row[name] for row in result.rows() for name in checks if name != "cancels")
    (note,) = result.notes()
    assert note.startswith("Check 'cancels' could not judge 1 turn (first error: CancelledError); ")
    assert result.rescore({"cancels": fine}).notes() == []


class Returned:
    """An awaitable that is ready at once."""

    def __await__(self) -> Any:
        yield from ()


# --- What ends a run --------------------------------------------------------------------


def ending(error: BaseException) -> dict[str, Callable[[Any], Any]]:
    """Checks that raise it: at once, later, and in a task of their own."""

    def sync(reply: Reply) -> bool:
        raise error

    async def later(reply: Reply) -> bool:
        await asyncio.sleep(0)
        raise error

    async def grouped(reply: Reply) -> bool:
        async with asyncio.TaskGroup() as group:
            group.create_task(later(reply))
        return True

    return {"sync": sync, "later": later, "grouped": grouped}


@BOTH
@pytest.mark.parametrize("how", ["sync", "later", "threads"])
@pytest.mark.parametrize(
    "error", [SystemExit(3), pytest.exit.Exception("enough")], ids=["SystemExit", "exit"]
)
def test_what_ends_a_run_ends_the_sending(  # noqa: PLR0917  # parameters and fixtures
    run_it: Any, how: str, error: BaseException, client: HaloClient, agent: DemoAgent, kept: Path
) -> None:
    """It is raised, and no more messages are sent; those that were are in the file, and the rest follows."""
    check = ending(error)["sync" if how == "threads" else how]
    settings: Any = {"configs": {"demo": client}, "path": kept, "progress": False, "concurrency": 1}
    agent._first_byte_s = 0.02  # or many are sent before a check has judged the first
    with pytest.raises(type(error)) as raised:
        run_it(messages(60), {"ends": check}, check_threads=how == "threads", **settings)
    assert raised.value is error
    before = len(sent(agent))
    assert before < 60
    agent._first_byte_s = 0
    again = evaluate(messages(60), {"ends": ok}, **settings)
    assert len(set(sent(agent))) == 60 == len(sent(agent)) and "not run" not in states(again)
    with pytest.raises(type(error)):
        again.rescore({"ends": check}, check_threads=how == "threads")


def test_what_a_task_of_a_check_raises_ends_the_run(run: Run, agent: DemoAgent) -> None:
    """SystemExit in it ends asyncio's loop, and so it ends the sending; nothing is left on the loop."""
    with pytest.raises(SystemExit) as raised:
        run(messages(200), {"ends": ending(SystemExit(3))["grouped"]}, concurrency=1)
    assert raised.value.code == 3 and len(sent(agent)) < 200
    meeting = Meeting(8)
    assert run(messages(8), [meeting.one]).notes() == []


def test_a_verdict_that_cannot_be_kept_ends_the_judging() -> None:
    """The error is raised, in sync and async code, while other checks are being awaited."""
    checks = named_checks([Meeting(99).one])

    def keep(turn: Ended, scores: Any) -> None:
        raise OSError("no room")

    def turns() -> list[Ended]:
        return [
            Ended("key", number, seen(), named_checks([ok]) if number == 3 else checks) for number in range(6)
        ]

    with InterruptInbox() as inbox, pytest.raises(OSError, match="no room"):
        Jury(keep, 8).judge(turns(), inbox)

    async def given() -> AsyncIterator[Ended]:
        async for turn in one_by_one(turns()):
            yield turn

    with pytest.raises(OSError, match="no room"):
        asyncio.run(Jury(keep, 8).ajudge(given()))


def test_a_loop_that_cannot_be_nested_is_named(
    run: Run, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, with what to do; sync checks need no loop."""
    import nest_asyncio2

    def apply(loop: object) -> None:
        raise ValueError("Can't patch loop of type uvloop.Loop")

    async def check(reply: Reply) -> bool:
        return True

    async def cell() -> None:
        assert run(["one"], [ok]).passed("ok") == {"demo": {"1": [True]}}
        with pytest.raises(UsageError, match=r"uvloop.*kept; use 'await aevaluate"):
            run(["one"], [check])

    monkeypatch.setattr(nest_asyncio2, "apply", apply)
    asyncio.run(cell())
