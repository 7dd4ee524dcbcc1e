"""A Halo agent as a model of inspect_ai: conversations, and what is never sent twice."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import errors
from halo_notebook.client.exchange import AsyncReplyStream

from .agents import about, assistant, generated, message, say, user

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from halo_notebook.demo import DemoAgent

    from .conftest import RunEval

# They are inspect_ai's own, between its tasks, with any model.
pytestmark = [
    pytest.mark.usefixtures("inspect_settings"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


def received(agent: DemoAgent) -> list[tuple[str, str | None]]:
    return [(request.body["message"], request.body.get("session_id")) for request in agent.requests]


def test_a_sample_is_sent_and_scored(run_eval: RunEval, agent: DemoAgent) -> None:
    """The text is the completion; the session, the actions and the times are in the metadata."""
    log = run_eval("Open a ticket", target="TM-4217", model="halo/agent_support")
    assert (log.status, log.eval.model) == ("success", "halo/agent_support")
    assert log.results and log.results.scores[0].metrics["accuracy"].value == 1
    [sample] = log.samples or []
    said = about(sample.output.message)
    assert [action["type"] for action in said["actions"]] == ["create_ticket"]
    assert said["session_id"].startswith("sess_") and said["agent_id"] == "agent_support"
    assert 0 < said["first_text_s"] <= said["elapsed_s"]
    assert sample.output.usage is None and sample.output.stop_reason == "stop"
    [request] = agent.requests
    assert request.body == {"message": "Open a ticket", "agent_id": "agent_support"}
    [event] = [event for event in sample.events if event.event == "model"]
    assert event.call and event.call.request == request.body and event.call.response
    assert event.call.response["text"] == sample.output.completion
    assert event.output.time == said["elapsed_s"]


def test_a_conversation_continues_its_session(run_eval: RunEval, agent: DemoAgent) -> None:
    """Only what is new is sent; each sample and each epoch has a session of its own."""
    from inspect_ai.solver import generate

    log = run_eval(
        "My name is Ada",
        "My name is Bob",
        solver=[generate(), say("What is my name?"), say("Open a ticket")],
        epochs=2,
    )
    assert log.status == "success"
    sessions = set()
    for sample in log.samples or []:
        replies = [message for message in sample.messages if message.role == "assistant"]
        assert f"Your name is {str(sample.input)[-3:]}" in replies[1].text
        assert [about(reply)["turn"] for reply in replies] == [1, 2, 3]
        [session] = {about(reply)["session_id"] for reply in replies}
        sessions.add(session)
    assert len(sessions) == 4
    assert sorted(received(agent), key=str) == sorted(
        [("My name is Ada", None), ("My name is Bob", None)] * 2
        + [("What is my name?", session) for session in sessions]
        + [("Open a ticket", session) for session in sessions],
        key=str,
    )


def test_a_reply_without_a_session_is_sent_as_history(model: Model, agent: DemoAgent) -> None:
    """The agent could not know it otherwise."""
    agent.faults.append("no headers")
    first: list[Any] = [user("Hello")]
    first.append(generated(model, *first).message)
    assert about(first[1])["session_id"] is None
    generated(model, *first, user("What did I say?"))
    history = agent.requests[1].body["conversation_history"]
    assert [item["content"] for item in history] == ["Hello", "This reply comes without its headers."]


def test_fields_of_all_messages_and_of_one(run_eval: RunEval, agent: DemoAgent) -> None:
    """Model args go with each message, metadata with its message; history is sent once."""
    from inspect_ai.solver import generate

    run_eval(
        [user("2+2?"), assistant("4"), user("3+3?")],
        solver=[generate(), say("And 4+4?", halo={"mode": "chat", "context": {"plan": "team"}})],
        model_args={"mode": "voice", "user_id": "u_1", "company_id": "c_1"},
    )
    first, second = (request.body for request in agent.requests)
    assert (first["mode"], first["user_id"], first["company_id"]) == ("voice", "u_1", "c_1")
    assert "context" not in first and len(first["conversation_history"]) == 2
    assert (second["mode"], second["user_id"]) == ("chat", "u_1")
    assert second["context"] == {"plan": {"label": "plan", "value": "team"}}
    assert "conversation_history" not in second


IMAGE = {"type": "image", "image": "data:image/png;base64,iVBORw0KGgo="}
SENT = {
    "in a row": ([user("I am Ada."), user("Who am I?")], {"message": "I am Ada.\nWho am I?"}),
    "images": (
        [user([{"type": "text", "text": "What is it?"}, IMAGE])],
        {"message": "What is it?", "images": [IMAGE["image"]]},
    ),
    "a session by its id": (
        [user("Hello"), assistant("Hi", halo={"session_id": "sess_7"}), user("Who am I?")],
        {"message": "Who am I?", "session_id": "sess_7"},
    ),
    "examples": (
        [user("2+2?"), assistant("4"), user("3+3?")],
        {
            "message": "3+3?",
            "conversation_history": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
            ],
        },
    ),
}


@pytest.mark.parametrize(("given", "body"), SENT.values(), ids=SENT)
def test_messages_are_sent_as_halo_takes_them(
    given: list[Any], body: dict[str, Any], model: Model, agent: DemoAgent
) -> None:
    """One `generate` is one message; what belongs to no session is history."""
    generated(model, *given)
    assert [request.body for request in agent.requests] == [body]


DOCUMENT = {"type": "document", "document": "data:text/plain;base64,YQ==", "mime_type": "text/plain"}
HELLO, AGAIN = user("Hello"), user("Hello?")
REPLY = assistant("Hi", halo={"session_id": "sess_7", "turn": 1})
UNSENDABLE = {
    "system": ([message("system", "Be brief"), HELLO], "no system message"),
    "tool": ([message("tool", "4"), HELLO], "result of a tool"),
    "nothing": ([], "do not end with a user's"),
    "nothing new": ([HELLO, REPLY], "do not end with a user's"),
    "made up": ([HELLO, REPLY, AGAIN, assistant("Yes?"), AGAIN], "does not hold them"),
    "no dict": ([user("Hello", halo="voice")], "has str under 'halo'"),
    "token": ([user("Hello", halo={"user_token": "t"})], "would be in inspect's log"),
    "agent": ([user("Hello", halo={"agent_id": "a"})], "name the agent in the model"),
    "session": ([user("Hello", halo={"session_id": "s"})], "the assistant's message"),
    "field": ([user("Hello", halo={"mood": "x"})], "did you mean 'mode'"),
    "empty": ([user(" ")], "message is empty"),
    "long": ([user("x" * 10_001)], "takes 10,000"),
    "history": ([HELLO, assistant("Hi")] * 26 + [AGAIN], "conversation_history has 52 items"),
    "document": ([user([DOCUMENT])], "of the type 'document'"),
    "old image": ([user([IMAGE]), assistant("Hi"), AGAIN], "an earlier message"),
}


@pytest.mark.parametrize(("given", "words"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_messages_that_cannot_be_sent_are_refused(
    given: list[Any], words: str, model: Model, agent: DemoAgent
) -> None:
    """With an error that says so, instead of leaving something out silently."""
    with pytest.raises((errors.UsageError, errors.InvalidRequest), match=r"Nothing was sent") as raised:
        generated(model, *given)
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert not agent.requests


def test_tools_are_refused(model: Model, agent: DemoAgent) -> None:
    """The agent has its own; it could not call others."""
    from inspect_ai.tool import ToolInfo

    with pytest.raises(errors.UsageError, match="its own tools"):
        asyncio.run(model.generate("Hi", tools=[ToolInfo(name="add", description="Add one.")]))
    assert not agent.requests


def test_a_session_is_not_forked(model: Model, agent: DemoAgent) -> None:
    """A session knows everything that was said in it; messages that lack some of it are refused."""
    first: list[Any] = [user("My name is Ada")]
    first.append(generated(model, *first).message)
    second = [*first, user("What is my name?")]
    second.append(generated(model, *second).message)
    for forked in ([*first, user("Open a ticket")], second[:3]):
        with pytest.raises(errors.UsageError, match="at turn 2, and these messages continue from turn 1"):
            generated(model, *forked)
    assert "Ada" in generated(model, *second, user("What is my name?")).completion
    assert len(agent.requests) == 3


def test_a_session_may_have_continued_elsewhere_if_the_messages_say_so(model: Model) -> None:
    """Another model of that name, for example with other settings, may have had a turn."""
    from inspect_ai.model import get_model

    said: list[Any] = [user("My name is Ada")]
    said.append(generated(model, *said).message)
    said.append(user("Hello"))
    said.append(generated(get_model("halo/default", memoize=False), *said).message)
    assert "Ada" in generated(model, *said, user("What is my name?")).completion


# --- Failures ---------------------------------------------------------------------------


FAULTS = {
    "401": "AuthenticationError",
    "500": "ServerError",
    "503": "ServerError",
    "429 retry-after 900": "RateLimited",
    "cut text": "ReplyInterrupted",
    "stall": "ReplyTimeout",
    "close": "ReplyInterrupted",
    "content type": "ReplyUnreadable",
}


def test_a_message_that_may_have_arrived_is_not_sent_again(run_eval: RunEval, agent: DemoAgent) -> None:
    """The sample fails with the package's error, and the received part is in its transcript."""
    agent.faults.extend(FAULTS)
    log = run_eval(*FAULTS, max_samples=1, fail_on_error=False, model_args={"silence_timeout_s": 1})
    assert [message for message, _ in received(agent)] == list(FAULTS)
    failed, kept = {}, {}
    for sample in log.samples or []:
        assert sample.error
        failed[sample.input] = sample.error.message.partition("(")[0]
        for event in sample.events:
            if event.event == "info" and event.source == "halo":
                assert isinstance(event.data, dict) and event.data["status"] == "failed"
                assert repr(event.data["error"])[1:-1] in sample.error.message
                kept[sample.input] = event.data["session_id"] is not None, str(event.data["text"])[:10]
    assert failed == FAULTS
    assert kept == {
        "cut text": (True, "This reply"),
        "stall": (True, "This reply"),
        "content type": (False, "<!doctype "),
    }


def test_a_message_refused_for_now_is_sent_again(run_eval: RunEval, agent: DemoAgent) -> None:
    """By inspect, in the middle of a conversation too: the server said that it took nothing."""
    from inspect_ai.solver import generate

    agent.faults.extend(["503 retry-after 1", "empty", "429"])
    log = run_eval("Hello", solver=[generate(), say("Open a ticket")])
    [sample] = log.samples or []
    assert log.status == "success" and "Ticket TM-4217" in sample.output.completion
    session = about(sample.output.message)["session_id"]
    assert received(agent) == [("Hello", None)] * 2 + [("Open a ticket", session)] * 2


def test_only_a_refused_turn_leaves_the_conversation_as_it_was(model: Model, agent: DemoAgent) -> None:
    """The session does not know a refused message, but it may hold one that was interrupted."""
    first: list[Any] = [user("My name is Ada")]
    first.append(generated(model, *first).message)
    agent.faults.extend(["429", "400"])
    with pytest.raises(errors.BadRequest):
        generated(model, *first, user("What is my name?"))
    second = [*first, user("What is my name?")]
    second.append(generated(model, *second).message)
    assert "Ada" in second[-1].text
    agent.faults.append("cut text")
    with pytest.raises(errors.ReplyInterrupted):
        generated(model, *second, user("Open a ticket"))
    with pytest.raises(errors.UsageError, match="at turn 3"):
        generated(model, *second, user("Open a ticket"), user("Is it open?"))
    assert len(agent.requests) == 5


def test_attempt_timeout_does_not_send_again(run_eval: RunEval, agent: DemoAgent) -> None:
    """inspect retries what it has given up on; here that is an error."""
    agent.faults.append("stall")
    log = run_eval("Open a ticket", attempt_timeout=1)
    [sample] = log.samples or []
    assert sample.error and "was not sent again; give no attempt_timeout" in sample.error.message
    assert len(agent.requests) == 1


def test_an_error_that_inspect_retries_sends_nothing_again(
    run_eval: RunEval, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """inspect retries after this one whatever the provider says."""

    async def leave(stream: AsyncReplyStream, *exc_info: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'call_soon'")

    monkeypatch.setattr(AsyncReplyStream, "__aexit__", leave)
    agent.faults.append("500")
    agent.faults.append("cut text")
    log = run_eval("Open a ticket", "Open another ticket", fail_on_error=False, max_samples=1)
    failed = [sample.error.message for sample in log.samples or [] if sample.error]
    assert len(failed) == len(agent.requests) == 2
    assert "exchange failed (AttributeError)" in failed[1]
    assert run_eval("Open a ticket").status == "success"  # it had ended, so all is there


def test_an_agent_that_was_never_reached_is_an_error_at_once(
    run_eval: RunEval, model: Model, agent: DemoAgent
) -> None:
    """inspect would retry a wrong address forever. An agent that has answered may answer again."""
    lost = errors.ConnectionFailed("no connection")
    assert not model.api.should_retry(lost)
    with socket.socket() as held:  # so that no other server gets its port
        held.bind(("127.0.0.1", 0))
        log = run_eval("Hello", model_base_url=f"http://127.0.0.1:{held.getsockname()[1]}/api/sdk")
    assert log.status == "error" and log.error and log.error.message.startswith("ConnectionFailed")
    generated(model, user("Hello"))
    assert model.api.should_retry(lost)
