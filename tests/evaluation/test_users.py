"""Functions as turns of a case: what they get, what they may return, and what becomes of the conversation."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import (
    Case,
    CaseTurn,
    ConversationEnd,
    DemoAgent,
    Evaluation,
    HaloClient,
    Reply,
    ScriptedUser,
    aevaluate,
    evaluate,
)
from halo_notebook.checks import JudgedTurn, Score, at_most_turns, contains, of_user
from halo_notebook.demo import DEMO_KEY
from halo_notebook.errors import InvalidRequest

from .agents import ok, sent, states, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from ..harness.kernels import Kernel
    from .conftest import Run

Turns = Sequence[JudgedTurn]


def two(conversation: Turns) -> str | None:
    """A user with two messages."""
    return ["one", "two", None][len(conversation)]


def endless(conversation: Turns) -> str:
    return f"message {len(conversation)}"


def ends(result: Evaluation) -> list[Any]:
    return [row["end_reason"] for row in result.rows() if row["end_reason"]]


def test_a_function_says_the_messages_until_it_returns_none(agent: DemoAgent, run: Run) -> None:
    """It gets the turns so far with their replies, and each of its messages is a row of one session."""
    got: list[Any] = []

    def user(conversation: Turns) -> str | None:
        got.append([(turn.message, turn.reply.text) for turn in conversation])
        return two(conversation)

    result = run([user])
    rows = list(result.rows())
    assert sent(agent) == ["one", "two"] and states(result) == ["complete"] * 2
    assert len({row["session_id"] for row in rows}) == 1
    assert [len(each) for each in got] == [0, 1, 2]
    assert got[2] == [(row["message"], row["text"]) for row in rows] and got[2][0][1]
    assert [row["end_reason"] for row in rows] == [None, "ended"]


async def later(conversation: Turns) -> str | None:
    await asyncio.sleep(0)
    return two(conversation)


class Twice:
    def __call__(self, conversation: Turns) -> str | None:
        return two(conversation)


class TwiceLater:
    async def __call__(self, conversation: Turns) -> str | None:
        return two(conversation)


def call(function: Any, conversation: Turns) -> Any:
    return function(conversation)


def any_arguments(*given: Any, **more: Any) -> str | None:
    return two(*given)


@pytest.mark.parametrize(
    "user",
    [
        later,
        Twice(),
        TwiceLater(),
        functools.partial(later),
        functools.partial(call, later),
        any_arguments,
        ScriptedUser(["one", "two"]),
    ],
    ids=["async", "object", "async object", "partial", "returns an awaitable", "any arguments", "scripted"],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["evaluate", "aevaluate"])
def test_a_user_may_be_sync_or_async(user: Any, is_async: bool, agent: DemoAgent, client: HaloClient) -> None:
    """In `evaluate` and in `aevaluate`."""
    settings: dict[str, Any] = {"configs": {"demo": client}, "progress": False}
    result = asyncio.run(aevaluate([user], **settings)) if is_async else evaluate([user], **settings)
    assert sent(agent) == ["one", "two"] and ends(result) == ["ended"]


def test_fixed_turns_come_before_the_user(agent: DemoAgent, run: Run) -> None:
    """`turns` may begin with messages, and a case may be built from its parts."""
    case = Case("b", (CaseTurn("Hi"), CaseTurn(two)))  # type: ignore[arg-type]
    result = run([{"id": "a", "turns": ["Hello", two]}, case], concurrency=1)
    assert sent(agent) == ["Hello", "two", "Hi", "two"]
    assert [row["turn"] for row in result.rows()] == [1, 2, 1, 2]


def test_max_turns_limits_the_conversation(agent: DemoAgent, run: Run) -> None:
    """10 turns if the case does not say, with those before the user."""
    cases = [{"id": "a", "turns": ["Hi", endless], "max_turns": 3}, {"id": "b", "message": endless}]
    result = run(cases)
    assert ends(result) == ["too many turns"] * 2
    assert [row["case"] for row in result.rows()] == ["a"] * 3 + ["b"] * 10
    assert repr(result) == "Evaluation(2 conversations: 2 complete)" and result.notes() == []


def test_a_user_may_return_request_fields(agent: DemoAgent, run: Run) -> None:
    """They go with that message, beside those of the turn and of the configuration."""

    def user(conversation: Turns) -> Any:
        if conversation:
            return None
        return {"message": "look", "context": {"open": [1]}, "images": ["https://x.example/a.png"]}

    run(
        [{"turns": [{"message": user, "user_id": "ada"}]}],
        configs={"demo": HaloClient(DEMO_KEY, base_url=agent.url)},
    )
    body = agent.requests[0].body
    assert body["context"] == {"open": {"label": "open", "value": [1]}}
    assert body["images"] == ["https://x.example/a.png"] and body["user_id"] == "ada"


@pytest.mark.parametrize("reason", list(ConversationEnd))
def test_the_reason_of_the_end_is_stored_and_shown(reason: ConversationEnd, run: Run, kept: Path) -> None:
    """In the rows, the summary, the text, the page and the file; it is not a verdict."""

    def user(conversation: Turns) -> Any:
        return reason if conversation else "Hi"

    result = run([user], [ok], path=kept)
    stored = Evaluation.open(kept)
    for each in (result, stored):
        assert ends(each) == [reason.value] and each.passed("ok") == {"demo": {"1": [True]}}
        assert each.summary()["end_reasons"]["demo"] == f"1 {reason.value}"
        assert f"1 {reason.value}" in str(each) and f"1 {reason.value}" in each._repr_html_()
    assert reason.value in stored.to_html(kept.with_suffix(".html")).read_text()
    assert stored.df.equals(result.df)


# --- What goes wrong --------------------------------------------------------------------

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
]


@pytest.mark.parametrize(("answer", "why"), WRONG, ids=[why for _, why in WRONG])
def test_an_unfit_answer_is_not_sent(answer: Any, why: str, agent: DemoAgent, run: Run) -> None:
    """The conversation ends there, with one line, and counts neither for nor against the agent."""

    def user(conversation: Turns) -> Any:
        return answer if conversation else "Hi"

    result = run([user, "other"], [ok])
    assert sorted(sent(agent)) == ["Hi", "other"]
    [row] = [row for row in result.rows() if row["end_reason"]]
    assert row["end_reason"] == "user failed" and why in row["error"] and "\n" not in row["error"]
    assert (row["status"], row["cause"]) == ("not run", "user")
    assert result.passed("ok") == {"demo": {"1": [None], "2": [True]}} and result.failures().empty
    [note] = result.notes()
    assert note.startswith(f"1 conversation ended because the case's user failed ({why}"[:70])
    assert "Missing, and left out of the figures" in note and "Run the same call again" in note


@pytest.mark.parametrize("end", [None, *ConversationEnd])
def test_a_user_that_says_nothing_at_all_has_failed(end: Any, agent: DemoAgent, run: Run, kept: Path) -> None:
    """There is no conversation to judge; after fixed turns the end is an end as any other."""
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
        "The user failed: ValueError: no key",
    )
    assert "ValueError: no key" in str(result) and result.as_cases() == []
    result.to_junit(kept.with_suffix(".xml"))
    assert states(run([two], path=kept)) == ["complete"] * 2 and sent(agent) == ["one", "two"]


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
    again = run([{"message": endless, "max_turns": 10}], [ok], path=kept)
    if status == "failed":  # it certainly was not taken: the conversation continues with the same message
        assert sent(agent)[:3] == ["message 0", "message 1", "message 1"]
        assert ends(again) == ["too many turns"]
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


@pytest.mark.parametrize("kind", ["sync", "async", "blocks the loop"])
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

    async def blocking_user(conversation: Turns) -> str:
        return sync_user(conversation)

    def interrupt() -> None:
        called.wait(20)
        time.sleep(0.05)
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    began: list[float] = []
    users = {"sync": sync_user, "async": async_user, "blocks the loop": blocking_user}
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


# --- Checks, expectations, tags ---------------------------------------------------------


def test_conversation_checks_are_called_at_the_end(run: Run) -> None:
    """They see the whole conversation, whose case has the user's goal; reply checks see each reply."""
    seen: list[Any] = []

    def met(conversation: Turns, case: Case) -> Score:
        assert case.user is not None
        seen.append((len(conversation), case.user.goal))
        return Score(True)

    def each(message: str, expect: Any) -> bool:
        seen.append((message, expect))
        return True

    user = ScriptedUser(["one", "two"], goal="Be greeted.")
    case = {"turns": [{"message": user}], "expect": "the end", "tags": ["x"]}
    result = run([case], [met, each, at_most_turns(2)])
    assert seen == [("one", None), (2, "Be greeted."), ("two", "the end")]
    assert result.passed("met") == {"demo": {"1": [True]}} == result.passed("at_most_turns(2)", tag="x")
    assert [row["expect"] for row in result.rows()] == [None, "the end"]


def test_a_turn_of_a_user_may_have_an_expectation(run: Run) -> None:
    """It is for each reply to the user."""
    case = {"turns": ["Hi", {"message": two, "expect": "a"}], "expect": "b"}
    assert [row["expect"] for row in run([case]).rows()] == [None, "a"]


def test_verdicts_are_kept_with_what_is_expected_at_the_end(run: Run, kept: Path) -> None:
    """The file has those of the last turn, too: neither a second run nor opening it judges again."""
    calls: list[str] = []

    def counted(reply: Reply, expect: Any) -> bool:
        calls.append(str(expect))
        return True

    counted.version = "1"  # type: ignore[attr-defined]
    for _ in range(2):
        run([{"message": two, "expect": "x"}], [counted], path=kept)
    assert calls == ["None", "x"]
    result = Evaluation.open(kept)
    assert result.passed("counted") == {"demo": {"1": [True]}} and result.notes() == []
    result.rescore([ok])
    assert result.passed("ok") == {"demo": {"1": [True]}} and calls == ["None", "x"]


def test_each_conversation_has_messages_of_its_own(agent: DemoAgent, run: Run, kept: Path) -> None:
    """One for each repeat and configuration, in memory and in the file."""

    def user(conversation: Turns) -> str | None:
        return None if len(conversation) == 2 else f"{random.random()}"

    user.version = "1"  # type: ignore[attr-defined]
    client = HaloClient(DEMO_KEY, base_url=agent.url)
    configs = {"a": client, "b": {"client": client, "mode": "voice"}}
    result = run([user], configs=configs, repeats=3, path=kept)
    messages = [row["message"] for row in result.rows()]
    assert len(set(messages)) == 12 == len(sent(agent))
    again = run([user], configs=configs, repeats=3, path=kept)
    assert [row["message"] for row in again.rows()] == messages and len(sent(agent)) == 12
    assert len(result.compare("a", "b")) > 0


def test_the_summary_counts_conversations_off_goal(run: Run) -> None:
    """A check of the user is in no list of the agent's failures, and says nothing without a user."""

    @of_user
    def on_goal(conversation: Turns) -> bool:
        return conversation[0].message != "wrong"

    users = [ScriptedUser([word]) for word in ("right", "wrong", "right")]
    result = run([*users, "fixed"], [on_goal, ok])
    assert result.summary()["off goal"]["demo"] == 1
    assert "1 of 3" in str(result) and "1 of 3" in result._repr_html_()
    assert result.failures().empty and result.worst().empty and result.flaky().empty
    assert result.passed("on_goal") == {"demo": {"1": [True], "2": [False], "3": [True], "4": []}}
    assert result.notes() == []


def test_a_failure_of_the_agent_is_not_off_goal(agent: DemoAgent, run: Run, kept: Path) -> None:
    """A check of the user has no verdict about it, also not after the file was opened."""
    on_goal = of_user(lambda conversation: True)
    agent.faults.append("500")
    result = run([two], {"on_goal": on_goal, "ok": ok}, path=kept)
    for each in (result, Evaluation.open(kept)):
        assert each.passed("on_goal") == {"demo": {"1": []}} and each.passed("ok") == {"demo": {"1": [False]}}
        assert each.summary()["off goal"]["demo"] == 0
        assert [row["on_goal"] for row in each.rows()] == [None]


# --- The same words for another agent ---------------------------------------------------


def test_as_cases_are_the_messages_that_were_sent(agent: DemoAgent, run: Run) -> None:
    """Each conversation with its fields, tags and expectations; fixed cases stay as they are."""

    def user(conversation: Turns) -> Any:
        return None if len(conversation) == 2 else {"message": f"{random.random()}", "mode": "voice"}

    case = {"id": "r", "turns": ["Hi", user], "expect": "x", "tags": ["t"], "topic": "y"}
    result = run([case, "fixed"], repeats=2)
    cases = result.as_cases()
    assert [each.id for each in cases] == ["r · 1", "2", "r · 2"]
    assert [[turn.message for turn in each.turns] for each in cases[::2]] == [
        [row["message"] for row in result.rows() if row["case"] == "r" and row["repeat"] == repeat]
        for repeat in (1, 2)
    ]
    assert cases[0].turns[1].fields == {"mode": "voice"} and cases[0].user is None
    assert cases[0].expect == "x" and cases[0].tags == ("t",)
    assert cases[0].metadata == {"topic": "y", "simulated_case": "r"}
    before = len(agent.requests)
    client = HaloClient(DEMO_KEY, base_url=agent.url)
    other = run(cases, [ok], configs={"a": client, "b": {"client": client, "mode": "chat"}})
    assert len(agent.requests) - before == 2 * 5 and len(other.compare("a", "b").cases) == 3


def test_as_cases_work_without_the_function(run: Run, kept: Path) -> None:
    """Of an opened file; a case of it cannot be run itself."""
    messages = [turn.message for turn in run([two], path=kept).as_cases()[0].turns]
    stored = Evaluation.open(kept)
    assert [turn.message for turn in stored.as_cases()[0].turns] == messages == ["one", "two"]
    assert stored.conversation(1)[1][0] == "two"
    [conversation] = stored._state.conversations.values()
    with pytest.raises(InvalidRequest, match=r"does not hold the function of its user.*as_cases\(\)"):
        run([conversation.case])


def test_an_open_evaluation_shows_a_conversation_that_goes_on(run: Run, kept: Path) -> None:
    """Another process sees what has been said so far, and one turn more that is not known yet."""
    go, asked = threading.Event(), threading.Event()

    def user(conversation: Turns) -> str | None:
        if len(conversation) == 1:
            asked.set()
            go.wait(20)
        return two(conversation)

    thread = threading.Thread(target=lambda: run([user], [ok], path=kept))
    thread.start()
    try:
        wait_until(asked.is_set)
        wait_until(lambda: states(Evaluation.open(kept))[0] == "complete")
        rows = [(row["message"], row["status"]) for row in Evaluation.open(kept).rows()]
        assert rows == [("one", "complete"), (None, "not run")]
    finally:
        go.set()
        thread.join(20)
    assert states(Evaluation.open(kept)) == ["complete"] * 2


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
