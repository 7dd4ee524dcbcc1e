"""Users by a language model and by a script: what they say, and whom they do not obey."""

from __future__ import annotations

import asyncio
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import (
    ConversationEnd,
    DemoAgent,
    HaloClient,
    ScriptedUser,
    SimulatedUser,
    TextDelta,
    evaluate,
)
from halo_notebook.checks import JudgedTurn, NoVerdict, Score, follows_goal
from halo_notebook.checks.quoting import MAX_CHARACTERS
from halo_notebook.checks.versions import version_of
from halo_notebook.demo import DEMO_KEY
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation import read_cases
from halo_notebook.evaluation.judging.checks import judge_of

from ...checks.test_judges import FENCE, data_of, verdict
from ...checks.test_replies import GO, reply
from ...harness.hostile import INSTRUCTIONS
from ..agents import ok, sent, states

if TYPE_CHECKING:
    from ..conftest import Run

GOAL = "Find out when order 1042 arrives."


def message(text: str) -> str:
    return json.dumps({"message": text})


def turns(*said: tuple[str, Any]) -> tuple[JudgedTurn, ...]:
    return tuple(JudgedTurn(text, answer) for text, answer in said)


def silent(messages: list[dict[str, str]]) -> str:
    return ""


def simulated(answer: Any, **settings: Any) -> SimulatedUser:
    return SimulatedUser(lambda messages: answer, goal=GOAL, **settings)


# --- A language model -------------------------------------------------------------------


def test_the_model_sees_goal_persona_and_conversation() -> None:
    """In one message of the role that every API has; the same for the same conversation."""
    asked: list[Any] = []

    def model(messages: list[dict[str, str]]) -> str:
        asked.append(messages)
        return message("When?")

    user = SimulatedUser(model, goal=GOAL, persona="Ada, in a hurry {0} {data}.")
    so_far = turns(("Hi", reply("Which order?", GO)), ("1042", reply("<b>It</b> is on its way")))
    assert user(so_far) == "When?" == user(so_far)
    [[first], second] = asked
    assert [first] == second and first.keys() == {"role", "content"} and first["role"] == "user"
    assert data_of(first["content"]) == {
        "turns": [
            {"message": "Hi", "reply": "Which order?", "actions": [GO]},
            {"message": "1042", "reply": "<b>It</b> is on its way", "actions": []},
        ]
    }
    assert GOAL in first["content"] and "Ada, in a hurry {0} {data}." in first["content"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (message("Hello"), "Hello"),
        ('\n```json\n{"message": "Hello"}\n```\n', "Hello"),
        (message("中文 – {} \n"), "中文 – {} \n"),
        ('{"end": "goal reached"}', ConversationEnd.GOAL_REACHED),
        ('{"end": "gave up"}', ConversationEnd.GAVE_UP),
        ('{"message": "Hello", "end": null}', "Hello"),
        ('{"message": null, "end": "gave up"}', ConversationEnd.GAVE_UP),
        ('{"message": "Hello\nAda\tx"}', "Hello\nAda\tx"),
    ],
)
def test_an_answer_is_a_message_or_the_end(answer: str, said: Any) -> None:
    """From a sync model and from an async one."""

    async def later(messages: Any) -> str:
        await asyncio.sleep(0)
        return answer

    user: Any = SimulatedUser(later, goal=GOAL)
    assert simulated(answer)(()) == said == asyncio.run(user(()))
    assert user.is_async and not simulated(answer).is_async


UNREADABLE: list[Any] = [
    *("", "  ", "Hello", "null", "[]", "{}", "{", '"Hello"', '["message", "Hello"]', "[" * 100_000),
    *('{"message": ""}', '{"message": " "}', '{"message": 3}', '{"message": null}', '{"Message": "Hello"}'),
    *('{"end": "ended"}', '{"end": "too many turns"}', '{"end": true}', '{"end": "GOAL REACHED"}'),
    *(
        '{"message": "Hello", "end": "gave up"}',
        '{"message": null, "end": null}',
        '{"message": "a", "message": "b"}',
        '{"message": "a"} {}',
    ),
    *('{"message": "a", "user_id": "root"}', 'I say {"message": "a"}', '{"message": "a"}\n{"message": "b"}'),
    *(None, 3, b'{"message": "a"}', {"message": "a"}, SimpleNamespace(content='{"message": "a"}')),
]


@pytest.mark.parametrize("answer", UNREADABLE, ids=lambda answer: repr(answer)[:40])
def test_an_answer_that_cannot_be_read_is_not_sent(answer: Any) -> None:
    """It is an error, which says what came in one short line."""
    with pytest.raises((ValueError, TypeError)) as raised:
        simulated(answer)(())
    assert re.match("unreadable answer of the user's model: .|the user's model returned", str(raised.value))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 150


@pytest.mark.parametrize("hostile", INSTRUCTIONS, ids=lambda text: repr(text)[:40])
def test_an_agent_that_tells_the_user_what_to_say_changes_nothing(hostile: str) -> None:
    """Not for a model that respects the quoting; nor do the same words in an action."""

    def respectful(messages: list[dict[str, str]]) -> str:
        [prompt] = [each["content"] for each in messages]
        [found] = FENCE.finditer(prompt)
        assert not set("<>\x00\x1b\x85\u2028\u2029\ud800") & set(found[2])
        outside = FENCE.sub("", prompt)
        if "IGNORE" in outside or "perfect" in outside:
            return '{"end": "goal reached"}'
        return message(f"{len(data_of(prompt)['turns'])}")

    user = SimulatedUser(respectful, goal=GOAL)
    for said in (reply(hostile), reply("Hello", {"type": hostile, hostile: [hostile]})):
        assert user(turns(("Hi", said), (hostile, said))) == "2"


def test_a_conversation_that_is_too_long_is_not_cut() -> None:
    """What counts may be behind the cut; the model is not called, and the conversation ends there."""

    def shouting(request: Any) -> Any:
        yield TextDelta("x" * MAX_CHARACTERS)

    with DemoAgent(first_byte_s=0, reply=shouting) as other:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=other.url)}
        result = evaluate([simulated(message("Hi"))], configs=configs, progress=False)
    assert "too long for the model (200,0" in list(result.rows())[-1]["error"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": "gpt"}, "is a function of a list of messages, not str"),
    ({"model": None}, "not NoneType"),
    ({"goal": ""}, "The goal of a SimulatedUser is a text that is not empty"),
    ({"goal": 3}, "The goal"),
    ({"persona": " "}, "The persona"),
    ({"version": ""}, "The version"),
    ({"version": 2}, "The version"),
]


@pytest.mark.parametrize(("change", "why"), WRONG, ids=[why for _, why in WRONG])
def test_a_wrong_argument_of_a_simulated_user_is_refused(change: dict[str, Any], why: str) -> None:
    """At once, naming it."""
    given: dict[str, Any] = {"model": lambda messages: "", "goal": GOAL, **change}
    with pytest.raises(InvalidRequest, match=re.escape(why)):
        SimulatedUser(given.pop("model"), **given)


def test_the_version_is_of_persona_and_wording_or_your_own() -> None:
    """The model does not count: it cannot be seen whether it has changed. The goal is in the key itself."""
    first = simulated("a")
    assert first.version == simulated("b").version == SimulatedUser(silent, goal="other").version
    assert first.version != simulated("a", persona="Ada").version
    assert simulated("a", version="mine").version == "mine" == version_of(simulated("a", version="mine"))
    keys = [
        read_cases([user])[0].content_key for user in (first, simulated("b"), SimulatedUser(silent, goal="x"))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_a_simulated_user_has_a_conversation_with_the_agent(agent: DemoAgent, run: Run) -> None:
    """Until its goal is reached; an answer that cannot be read is its own failure, and is asked for again."""
    broken = [True]

    def model(messages: list[dict[str, str]]) -> str:
        said = data_of(messages[0]["content"])["turns"]
        if len(said) == 1 and broken:
            broken.clear()
            return "Hm."
        return message(f"question {len(said)}") if len(said) < 3 else '{"end": "goal reached"}'

    result = run([SimulatedUser(model, goal=GOAL)], [ok])
    assert states(result) == ["complete", "not run"]
    assert "ValueError: unreadable answer of the user's model: Hm." in result.notes()[0]
    result = run([SimulatedUser(model, goal=GOAL)], [ok])
    assert sent(agent)[1:] == ["question 0", "question 1", "question 2"]
    assert result.summary()["end_reasons"]["demo"] == "1 goal reached"


# --- A script ---------------------------------------------------------------------------


def test_a_scripted_user_says_its_messages_in_order(agent: DemoAgent, run: Run) -> None:
    """After the fixed turns of its case, with request fields; it ends after the last."""
    user = ScriptedUser(["one", {"message": "two", "mode": "voice"}, "one"])
    run([{"turns": ["Hi", user]}])
    assert sent(agent) == ["Hi", "one", "two", "one"] and agent.requests[2].body["mode"] == "voice"


SCRIPTS: list[tuple[list[str], Any]] = [
    ([], "Where is my order?"),
    (["Which NUMBER has it?"], "It is 1042."),
    (["Which number?", "Say the number again"], "Please!"),
    (["Wait"], "Please!"),
    (["Which number?", "It is on its WAY"], ConversationEnd.GOAL_REACHED),
    (["No", "No"], ConversationEnd.GAVE_UP),
]


@pytest.mark.parametrize(("replies", "said"), SCRIPTS)
def test_a_scripted_user_answers_and_knows_its_goal(replies: list[str], said: Any) -> None:
    """An answer is given once; without what it waits for, it gives up after its last message."""
    user = ScriptedUser(
        ["Where is my order?", "Please!"], answers={"number": "It is 1042."}, until="on its way"
    )
    so_far: tuple[JudgedTurn, ...] = ()
    for text in replies:
        so_far += turns((str(user(so_far)), reply(text)))
    assert user(so_far) == said == user(so_far)


@pytest.mark.parametrize(
    "given",
    [
        {"messages": []},
        {"messages": "Hi"},
        {"messages": [""]},
        {"messages": [3]},
        {"messages": [{"text": "Hi"}]},
        {"messages": ["Hi"], "answers": ["x"]},
        {"messages": ["Hi"], "answers": {3: "x"}},
        {"messages": ["Hi"], "answers": {"x": None}},
        {"messages": ["Hi"], "until": 3},
        {"messages": ["Hi"], "goal": None},
    ],
    ids=repr,
)
def test_a_wrong_script_is_refused(given: dict[str, Any]) -> None:
    """At once, in one line."""
    with pytest.raises(InvalidRequest, match="ScriptedUser"):
        ScriptedUser(**given)


def test_another_script_is_another_user() -> None:
    """The same one, made again, is the same."""
    scripts = [ScriptedUser(["a"]), ScriptedUser(["a"]), ScriptedUser(["b"]), ScriptedUser(["a"], until="x")]
    keys = [read_cases([user])[0].content_key for user in scripts]
    assert keys[0] == keys[1] and len(set(keys)) == 3


# --- Whether a user follows its goal ----------------------------------------------------


def test_a_model_judges_whether_a_user_follows_its_goal(run: Run) -> None:
    """It sees the goal and the chat as data; it says nothing about a case without a goal."""
    prompts: list[str] = []

    def model(prompt: str) -> str:
        prompts.append(prompt)
        return verdict(0.2, "It talks about cats.") if "cats" in prompt else verdict(1)

    users = [ScriptedUser(["1042?"], goal=GOAL), ScriptedUser(["cats"], goal=GOAL), ScriptedUser(["cats"])]
    result = run([*users, "cats"], [follows_goal(model), ok])
    assert result.passed("follows_goal") == {"demo": {"1": [True], "2": [False], "3": [], "4": []}}
    assert result.failures().empty and "1 of 2" in str(result)
    assert len(prompts) == 2 and all(GOAL in prompt for prompt in prompts)
    assert [turn["message"] for turn in data_of(min(prompts, key=len))["turns"]] == ["cats"]
    assert judge_of(follows_goal(model)).version == judge_of(follows_goal(str)).version


@pytest.mark.parametrize("answer", ["", "1", "{}", None])
def test_a_goal_that_cannot_be_judged_counts_neither_way(answer: Any, run: Run) -> None:
    """As with `judge`."""
    user = ScriptedUser(["Hi"], goal=GOAL)
    result = run([user], [follows_goal(lambda prompt: answer)])
    assert result.passed("follows_goal") == {"demo": {"1": [None]}} and "0 of 0" in str(result)
    check: Any = follows_goal(lambda prompt: answer)
    case = read_cases([user])[0]
    assert isinstance(check(turns(("Hi", reply("x"))), case), NoVerdict)
    assert isinstance(check(turns(("Hi", reply("x" * MAX_CHARACTERS))), case), Score)


def test_a_wrong_argument_of_follows_goal_is_refused() -> None:
    """At once."""
    for given in ({"model": "gpt"}, {"model": str, "passing": 2}):
        with pytest.raises(InvalidRequest):
            follows_goal(**given)
