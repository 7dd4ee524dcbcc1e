"""Users of cases that fail, return what cannot be sent, never return, or are stopped."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import (
    ConversationEnd,
    DemoAgent,
    Evaluation,
    HaloClient,
    aevaluate,
    evaluate,
)
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY

from ..agents import ok, sent, states, wait_until
from ..users import Turns, endless, ends, two

if TYPE_CHECKING:
    from pathlib import Path

    from ...harness.kernels import Kernel
    from ..conftest import Run


def call(function: Any, conversation: Turns) -> Any:
    return function(conversation)


class Figure:
    """That cannot be drawn."""

    def savefig(self, *args: Any, **settings: Any) -> None:
        raise RuntimeError("no canvas")


class Lazy(Mapping[str, Any]):
    """What it holds is gone."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("gone")

    def __iter__(self) -> Iterator[str]:
        return iter(["message"])

    def __len__(self) -> int:
        return 1


WRONG: list[tuple[Any, str]] = [
    (42, "it returned int, and a user returns a message"),
    (["Hi"], "it returned list"),
    (b"Hi", "it returned bytes"),
    ("", "The message is empty"),
    (" \n", "The message is empty"),
    ("x" * 10_001, "The message has 10,001 characters"),
    ({}, "The message is empty"),
    ({"message": 3}, "The message must be a string"),
    ({"message": "Hi", "session_id": "s"}, "it returned the key 'session_id'. Allowed: message, "),
    ({"message": "Hi", "user_token": "t"}, "it returned the key 'user_token'"),
    ({"message": "Hi", "mesage": "Hi"}, "it returned the key 'mesage'"),
    ({"message": "Hi", "images": "x"}, "images must be a list of images and URLs"),
    ({"message": "Hi", "context": {"a": object()}}, "context['a'] cannot be sent as JSON"),
    (two, "it returned function"),
    (
        {"message": "Hi", "images": [Figure()]},
        "images[0] could not be drawn as a PNG (RuntimeError: no canvas)",
    ),
    (Lazy(), "RuntimeError: gone"),
]


@pytest.mark.parametrize(("answer", "why"), WRONG, ids=[why for _, why in WRONG])
def test_an_unfit_answer_is_not_sent(answer: Any, why: str, agent: DemoAgent, run: Run) -> None:
    """The conversation ends there, with one line, and counts neither for nor against the agent."""

    def user(conversation: Turns) -> Any:
        return answer if conversation else "Hi"

    user.version = "1"  # type: ignore[attr-defined]  # some answers cannot even be looked at
    result = run([user, "other"], [ok])
    assert sorted(sent(agent)) == ["Hi", "other"]
    [row] = [row for row in result.rows() if row["end_reason"]]
    assert row["end_reason"] == "user failed" and why in row["error"] and "\n" not in row["error"]
    assert (row["status"], row["cause"]) == ("not run", "user")
    assert result.passed("ok") == {"demo": {"1": [None], "2": [True]}} and result.failures().empty
    [note] = result.notes()
    assert note.startswith(f"1 conversation ended because the simulated user failed ({why}"[:70])
    assert "as missing, and the figures leave" in note and "Run the same call again" in note


@pytest.mark.parametrize("end", [None, *ConversationEnd])
def test_a_user_that_says_nothing_at_all_has_failed(end: Any, agent: DemoAgent, run: Run, kept: Path) -> None:
    """An empty conversation is not judged; after fixed turns, the end counts like any other."""
    result = run([lambda conversation: end, {"turns": ["Hi", lambda conversation: end]}], [ok], path=kept)
    assert sent(agent) == ["Hi"] and states(result) == ["not run", "complete"]
    assert "it ended the conversation before its first message" in result.notes()[0]
    for each in (result, Evaluation.open(kept)):
        assert each.passed("ok") == {"demo": {"1": [None], "2": [True]}}
        assert [len(case.turns) for case in each.as_cases()] == [1]


class Odd(BaseException):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [ValueError("oops"), SystemExit(1), Odd(), asyncio.CancelledError()])
@pytest.mark.parametrize("is_async", [False, True])
def test_an_exception_is_the_users_failure(
    error: BaseException, is_async: bool, agent: DemoAgent, run: Run, kept: Path
) -> None:
    """Its remaining turns do not count against the agent, and the same call continues the conversation."""

    def user(conversation: Turns) -> str | None:
        if len(conversation) == 1:
            raise error
        return two(conversation)

    async def user_later(conversation: Turns) -> str | None:
        return user(conversation)

    def case(function: Any) -> Any:
        function.version = "1"
        return {"message": function, "expect": "no such text"}

    result = run([case(user_later if is_async else user)], [contains(), ok], path=kept)
    assert states(result) == ["complete", "not run"] and ends(result) == ["user failed"]
    assert type(error).__name__ in list(result.rows())[1]["error"]
    assert result.passed("ok") == {"demo": {"1": [None]}} and result.failures().empty
    again = run([case(two)], [contains(), ok], path=kept)
    assert sent(agent) == ["one", "two"] and ends(again) == ["ended"] and again.notes() == []
    assert agent.requests[1].body["session_id"] == next(again.rows())["session_id"]
    assert again.passed("ok") == {"demo": {"1": [True]}} and again.passed("contains") == {
        "demo": {"1": [False]}
    }
    assert Evaluation.open(kept).df.equals(again.df)


def test_a_user_that_fails_before_its_first_message(agent: DemoAgent, run: Run, kept: Path) -> None:
    """Nothing was sent; the row says why, and the next run begins the conversation."""

    def fails(conversation: Turns) -> str:
        raise ValueError("no key")

    fails.version = two.version = "1"  # type: ignore[attr-defined]
    result = run([fails], path=kept)
    [row] = result.rows()
    assert (row["status"], row["message"], row["error"]) == (
        "not run",
        None,
        "The simulated user failed: ValueError: no key",
    )
    assert "ValueError: no key" in result.notes()[0] and result.as_cases() == []
    result.to_junit(kept.with_suffix(".xml"))
    assert states(run([two], path=kept)) == ["complete"] * 2 and sent(agent) == ["one", "two"]


def test_an_error_that_holds_the_key_is_stored_without_it(run: Run, kept: Path) -> None:
    """Such as one of a client of the user's own."""

    def user(conversation: Turns) -> str:
        raise ValueError(f"refused: Bearer {DEMO_KEY}")

    result = run([user], path=kept)
    assert "refused: Bearer ab_live_•••" in result.notes()[0]
    assert DEMO_KEY not in kept.read_text() + str(result)


@pytest.mark.parametrize(
    ("fault", "status"), [("500", "interrupted"), ("cut text", "interrupted"), ("401", "failed")]
)
def test_a_failed_reply_ends_the_conversation(
    fault: str, status: str, agent: DemoAgent, run: Run, kept: Path
) -> None:
    """The user is not asked again, and the reason says so; what may have arrived is not sent again."""
    agent.faults.extend(["drip", fault])
    result = run([endless], [ok], path=kept)
    assert states(result) == ["complete", status] and ends(result) == ["no complete reply"]
    assert result.passed("ok") == {"demo": {"1": [False if status == "interrupted" else None]}}
    assert [len(case.turns) for case in result.as_cases()] == [1 if status == "failed" else 2]
    again = run([{"message": endless, "max_turns": 10}], [ok], path=kept)
    if status == "failed":  # it certainly was not taken: the conversation continues with the same message
        assert sent(agent)[:3] == ["message 0", "message 1", "message 1"]
        assert ends(again) == ["too many turns"] and states(again) == ["complete"] * 10
    else:
        assert states(again) == ["complete", status] and sent(agent) == ["message 0", "message 1"]


def test_a_slow_user_holds_up_nobody(agent: DemoAgent, run: Run) -> None:
    """Six of them meet: sync users are on threads of their own, and async ones run side by side."""
    barrier, met = threading.Barrier(3, timeout=20), asyncio.Event()
    waiting: list[int] = []

    def sync_user(conversation: Turns) -> str | None:
        if not conversation:
            barrier.wait()
        return None if conversation else "Hi"

    async def async_user(conversation: Turns) -> str | None:
        if not conversation:
            waiting.append(1)
            if len(waiting) == 3:
                met.set()
            async with asyncio.timeout(20):
                await met.wait()
        return None if conversation else "Hello"

    result = run([sync_user, async_user], repeats=3, concurrency=6)
    assert states(result) == ["complete"] * 6


@pytest.mark.parametrize("kind", ["sync", "async", "blocks the loop", "takes the stop for an error"])
def test_a_stop_does_not_wait_for_a_user(kind: str, agent: DemoAgent, run: Run, kept: Path) -> None:
    """It never returns; the conversation can be resumed, and nothing was stored for it."""
    called = threading.Event()

    def sync_user(conversation: Turns) -> str:
        if len(conversation) == 1:
            called.set()
            time.sleep(60)
        return "Hi"

    async def async_user(conversation: Turns) -> str:
        if len(conversation) == 1:
            called.set()
            await asyncio.sleep(60)
        return "Hi"

    async def raising_user(conversation: Turns) -> str:
        try:
            return await async_user(conversation)
        except asyncio.CancelledError:
            raise ValueError("gone") from None

    async def blocking_user(conversation: Turns) -> str:
        return sync_user(conversation)

    def interrupt() -> None:
        called.wait(20)
        time.sleep(0.05)
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    began: list[float] = []
    users = {"sync": sync_user, "async": async_user, "blocks the loop": blocking_user}
    users["takes the stop for an error"] = raising_user
    threading.Thread(target=interrupt).start()
    result = run([{"message": users[kind]}], [ok], path=kept)
    assert time.monotonic() - began[0] < 10  # of 60
    assert result.interrupted and states(result) == ["complete", "not run"] and ends(result) == []
    assert "Run the same call again" in " ".join(result.notes())
    assert sent(agent) == ["Hi"]


@pytest.mark.parametrize("is_async", [False, True], ids=["evaluate", "aevaluate"])
def test_a_user_that_cancels_its_task_has_failed(
    is_async: bool, agent: DemoAgent, client: HaloClient
) -> None:
    """It alone: the other conversations go on."""

    async def cancels(conversation: Turns) -> str | None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)
        return None

    settings: dict[str, Any] = {"configs": {"demo": client}, "concurrency": 1, "progress": False}
    cases = [cancels, functools.partial(call, cancels), two, "three"]
    result = asyncio.run(aevaluate(cases, **settings)) if is_async else evaluate(cases, **settings)
    assert states(result) == ["not run", "not run", *["complete"] * 3] and not result.interrupted
    assert sent(agent) == ["one", "two", "three"]


@pytest.mark.parametrize("is_async", [False, True], ids=["evaluate", "aevaluate"])
def test_an_interrupt_that_a_user_raises_stops_the_run(
    is_async: bool, agent: DemoAgent, client: HaloClient
) -> None:
    """As an interrupt in a check does; no more messages are sent."""

    def user(conversation: Turns) -> str:
        if conversation:
            raise KeyboardInterrupt
        return "Hi"

    cases = [user, *[f"{number}" for number in range(200)]]
    settings: dict[str, Any] = {"configs": {"demo": client}, "concurrency": 1, "progress": False}
    result = asyncio.run(aevaluate(cases, **settings)) if is_async else evaluate(cases, **settings)
    assert result.interrupted and len(sent(agent)) < 100 and ends(result) == []


def test_a_check_that_ends_the_run_is_no_failure_of_a_user(agent: DemoAgent, run: Run, kept: Path) -> None:
    """The user that was waiting is asked again by the next run, and nothing was stored for it."""

    async def user(conversation: Turns) -> str:
        if conversation:
            await asyncio.sleep(60)
        return "Hi"

    def leaves(message: str) -> bool:
        wait_until(lambda: len(agent.requests) == 2)
        raise SystemExit

    with pytest.raises(SystemExit):
        run([user, "one"], [leaves], path=kept)
    assert states(Evaluation.open(kept))[1] == "not run" and ends(Evaluation.open(kept)) == []
    assert '"kind":"end"' not in kept.read_text()


@pytest.mark.kernel
def test_a_stop_in_a_notebook_waits_for_no_user(kernel: Kernel) -> None:
    """Async users run on the kernel's loop, whose objects they may use, and sync ones on threads."""
    kernel.run(
        "import asyncio, time\nfrom halo_notebook import DemoAgent, HaloClient, evaluate\n"
        "from halo_notebook.demo import DEMO_KEY\n"
        "agent = DemoAgent(first_byte_s=0, chunk_s=0).start()\n"
        "configs = {'demo': HaloClient(DEMO_KEY, base_url=agent.url)}\n"
        "home, endless = asyncio.get_running_loop(), asyncio.Event()\n"
        "async def waits(conversation):\n"
        "    assert asyncio.get_running_loop() is home\n"
        "    if conversation:\n        print('inside')\n        await endless.wait()\n"
        "    return 'Hi'\n"
        "async def computes(conversation):\n"
        "    if conversation:\n        print('inside')\n        time.sleep(60)\n"
        "    return 'Hi'\n"
        "def blocks(conversation):\n"
        "    if conversation:\n        print('inside')\n        time.sleep(60)\n"
        "    return 'Hi'\n"
        "def talk(user):\n"
        "    result = evaluate([user], configs=configs, progress=False)\n"
        "    print(result.interrupted, [row['status'] for row in result.rows()])\n"
    )
    for user in ("waits", "computes", "blocks"):
        running = kernel.start(f"talk({user})")
        running.wait_for(lambda cell: "inside" in cell.text, "a user to be called")
        kernel.interrupt()
        assert "True ['complete', 'not run']" in running.result(timeout=20).stdout
        assert kernel.run("print('next')").stdout.endswith("next\n")
