"""Functions as turns of a case: what they get, what they may return, and what becomes of the conversation."""

from __future__ import annotations

import asyncio
import functools
import pickle
import random
import threading
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
    RequirementFailed,
    ScriptedUser,
    TextDelta,
    aevaluate,
    evaluate,
)
from halo_notebook.checks import Score, at_most_turns, of_user
from halo_notebook.demo import DEMO_KEY
from halo_notebook.errors import InvalidRequest

from ..agents import ok, sent, states, wait_until
from ..users import Turns, endless, ends, two

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import Run


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


def test_what_a_user_says_is_sent_as_it_is_stored(agent: DemoAgent, run: Run, kept: Path) -> None:
    """Any text, without what no file can hold."""
    odd = ["中文 \u202e <b>", "\ud800 lone", "a\nb\r\n\x00\x1e\u2028", "x" * 10_000]

    def user(conversation: Turns) -> Any:
        number = len(conversation)
        if number == len(odd):
            return None
        return {"message": odd[number], "behavior_context": "\udfff" + odd[number][:9]}

    result = run([user], path=kept)
    messages = [row["message"] for row in result.rows()]
    assert messages == [text.replace("\ud800", "?") for text in odd] == sent(agent)
    assert [turn.fields for turn in result.as_cases()[0].turns] == [
        {"behavior_context": request.body["behavior_context"]} for request in agent.requests
    ]
    assert Evaluation.open(kept).df.equals(result.df)


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


def test_another_agents_replies_to_the_same_words_are_compared_in_pairs(
    agent: DemoAgent, run: Run, kept: Path
) -> None:
    """With those that the first agent gave to its users, which is not asked again."""

    def user(conversation: Turns) -> str | None:
        return None if len(conversation) == 2 else f"My name is {random.random()}"

    def remembers(reply: Reply) -> bool:
        return "remember" in reply.text

    def forgetful(request: Any) -> Any:
        yield TextDelta("Pardon?")

    client = HaloClient(DEMO_KEY, base_url=agent.url)
    configs = {"a": client, "b": {"client": client, "mode": "voice"}}
    before = run(
        [{"id": "x", "message": user, "expect": "?"}, "My name is Ada"],
        [remembers],
        configs=configs,
        repeats=3,
        path=kept,
    )
    asked = len(agent.requests)
    with DemoAgent(first_byte_s=0, reply=forgetful) as other:
        client = HaloClient(DEMO_KEY, base_url=other.url)
        now = run(before.as_cases(), [remembers], configs={"a": client})
    compared = now.compare_with(Evaluation.open(kept), config="a")
    assert list(compared.cases["difference"]) == [-1] * 4 and len(agent.requests) == asked
    row = compared.cases.set_index("case").loc["x · a · 2"]
    assert list(before.df["message"][row["rows other"]]) == list(now.df["message"][row["rows this"]])
    assert not [note for note in compared.notes if "expect" in note]
    with pytest.raises(RequirementFailed, match="4 cases"):
        now.require_no_worse(kept, "remembers", config="a")


@pytest.mark.parametrize(
    ("user", "differ"),
    [
        (two, 0),
        (ScriptedUser(["one", "two"]), 0),
        (
            lambda turns: (
                None if len(turns) == 2 else f"{turns[-1].reply.text if turns else 'Hello'} {turns}"
            ),
            2,
        ),
        (lambda turns: None if len(turns) == 2 else str(random.random()), 2),
    ],
    ids=["function", "script", "reacts", "random"],
)
def test_a_comparison_says_where_users_said_other_words(user: Any, differ: int, run: Run, kept: Path) -> None:
    """Between configurations and between results, with repeats in any order; fixed cases are not counted."""

    def reply(request: Any) -> Any:
        yield TextDelta(f"I am {request.get('mode')}: {random.random()}")

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        configs: Any = {"a": client, "b": {"client": client, "mode": "voice"}, "c": client}
        cases: Any = [{"id": "x", "message": user}, {"id": "y", "message": user}, "fixed"]
        result = run(cases, [ok], configs=configs, repeats=2, path=kept)
        other = run(cases, [ok], configs=configs)
        fixed = run(result.as_cases(), [ok], configs=configs)
    words = f"In {differ} of 2 cases with a user, it said other words to each side"
    shown = [
        repr(result.compare()),
        repr(Evaluation.open(kept).compare("a", "c")),
        repr(result.compare_with(other)),
    ]
    shown += [
        result.compare("a", "b")._repr_html_(),
        str(pickle.loads(pickle.dumps(result.compare())).captions()),  # noqa: S301  # its own
    ]
    if not differ:
        assert not [text for text in shown if "with a user" in text]
        return
    assert [words in text for text in shown] == [True, True, False, True, True]
    assert "In 6 of 6 cases with a user" in shown[2], "the cases of all configurations"
    assert "with a user" not in repr(fixed.compare()) + repr(fixed.compare_with(result, config="a"))


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
