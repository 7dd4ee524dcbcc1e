"""A Halo agent as a model of inspect_ai: real evals, by Python and by command, against the demo agent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import errors
from halo_notebook.client.aio import AsyncReplyStream
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation.inspect import STREAMS_PER_CLIENT
from halo_notebook.stream import JSON, Action, TextDelta

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog
    from inspect_ai.model import ChatMessage, Model, ModelOutput
    from inspect_ai.solver import Generate, Solver, TaskState

RunEval = Callable[..., "EvalLog"]

# inspect_ai's own streams between its tasks, as many for a model that asks nobody.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")


@pytest.fixture(autouse=True)
def settings(agent: DemoAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The demo agent from the environment; what inspect writes stays with the test."""
    for name in list(os.environ):
        if name.startswith(("HALO_", "INSPECT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HALO_API_KEY", DEMO_KEY)
    monkeypatch.setenv("HALO_BASE_URL", agent.url)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    # inspect_ai sets up logging and the hook for errors for its process, which here is that of other tests.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers])
    levels = {name: logging.getLogger(name).level for name in ("", "httpx")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    gc.collect()  # here, and not in another test, which would meet the warnings of what is left


@pytest.fixture
def run_eval(tmp_path: Path, agent: DemoAgent) -> RunEval:
    """Run an eval of these inputs and give its log as it is on the disk."""

    def run(
        *inputs: Any,
        solver: list[Solver] | None = None,
        target: str = "",
        model: Any = "halo/default",
        **settings: Any,
    ) -> EvalLog:
        from inspect_ai import Task
        from inspect_ai import eval as inspect_eval
        from inspect_ai.dataset import Sample
        from inspect_ai.log import read_eval_log
        from inspect_ai.scorer import includes
        from inspect_ai.solver import generate

        task = Task(
            dataset=[Sample(input=each, target=target) for each in inputs],
            solver=solver or [generate()],
            scorer=includes(),
        )
        # By its address, since inspect keeps models from one eval to the next.
        settings = {"model_base_url": agent.url, "log_dir": str(tmp_path / "logs"), **settings}
        [log] = inspect_eval(task, model=model, display="none", **settings)
        return read_eval_log(log.location, resolve_attachments=True)

    return run


@pytest.fixture
def model() -> Model:
    """A model of its own, which has been reached by nobody."""
    from inspect_ai.model import get_model

    return get_model("halo/default", memoize=False)


def say(text: str, **metadata: Any) -> Solver:
    """A solver that puts in a word and has it answered."""
    from inspect_ai.model import ChatMessageUser
    from inspect_ai.solver import solver

    @solver
    def saying() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            state.messages.append(ChatMessageUser(content=text, metadata=metadata or None))
            return await generate(state)

        return solve

    return saying()


def generated(model: Model, *messages: ChatMessage, **config: Any) -> ModelOutput:
    from inspect_ai.model import GenerateConfig

    return asyncio.run(model.generate(list(messages), config=GenerateConfig(**config)))


def user(text: str, **metadata: Any) -> ChatMessage:
    from inspect_ai.model import ChatMessageUser

    return ChatMessageUser(content=text, metadata=metadata or None)


def assistant(text: str, **metadata: Any) -> ChatMessage:
    from inspect_ai.model import ChatMessageAssistant

    return ChatMessageAssistant(content=text, metadata=metadata or None)


def asked(agent: DemoAgent) -> list[tuple[str, str | None]]:
    return [(request.body["message"], request.body.get("session_id")) for request in agent.requests]


def about(message: Any) -> dict[str, Any]:
    """What an assistant's message says of its reply."""
    said = message.metadata["halo"]
    assert isinstance(said, dict)
    return said


# --- Conversations ----------------------------------------------------------------------


def test_a_sample_is_asked_and_scored(run_eval: RunEval, agent: DemoAgent) -> None:
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


def test_a_conversation_goes_on_in_its_session(run_eval: RunEval, agent: DemoAgent) -> None:
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
    assert sorted(asked(agent), key=str) == sorted(
        [("My name is Ada", None), ("My name is Bob", None)] * 2
        + [("What is my name?", session) for session in sessions]
        + [("Open a ticket", session) for session in sessions],
        key=str,
    )


def test_what_no_session_holds_goes_as_history(run_eval: RunEval, agent: DemoAgent) -> None:
    """Examples and a written beginning are told with the first message, and not again."""
    from inspect_ai.solver import generate

    run_eval([user("2+2?"), assistant("4"), user("3+3?")], solver=[generate(), say("And 4+4?")])
    first, second = (request.body for request in agent.requests)
    assert first["message"] == "3+3?" and "session_id" not in first
    assert first["conversation_history"] == [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    assert second["message"] == "And 4+4?" and "conversation_history" not in second


def test_a_reply_without_a_session_is_told_of(model: Model, agent: DemoAgent) -> None:
    """The agent could not know of it otherwise."""
    agent.faults.append("no headers")
    first = [user("Hello")]
    first.append(generated(model, *first).message)
    assert about(first[1])["session_id"] is None
    generated(model, *first, user("What did I say?"))
    history = agent.requests[1].body["conversation_history"]
    assert [item["content"] for item in history] == ["Hello", "This reply comes without its headers."]


def test_a_session_can_be_gone_on_in(model: Model, agent: DemoAgent) -> None:
    """An assistant's message that names a session is all that is needed."""
    output = generated(
        model, user("Hello"), assistant("Hi", halo={"session_id": "sess_7"}), user("What is my name?")
    )
    assert asked(agent) == [("What is my name?", "sess_7")]
    assert about(output.message)["session_id"] == "sess_7"


def test_user_messages_in_a_row_are_one(model: Model, agent: DemoAgent) -> None:
    """One `generate` is one message and one reply."""
    generated(model, user("My name is Ada."), user("What is my name?"))
    assert asked(agent) == [("My name is Ada.\nWhat is my name?", None)]


def test_fields_of_all_messages_and_of_one(run_eval: RunEval, agent: DemoAgent) -> None:
    """Model args go with each message, what stands in a message's metadata with that one."""
    from inspect_ai.solver import generate

    run_eval(
        "Hello",
        solver=[generate(), say("Hello again", halo={"mode": "chat", "context": {"plan": "team"}})],
        model_args={"mode": "voice", "user_id": "u_1", "company_id": "c_1"},
    )
    first, second = (request.body for request in agent.requests)
    assert (first["mode"], first["user_id"], first["company_id"]) == ("voice", "u_1", "c_1")
    assert "context" not in first
    assert (second["mode"], second["user_id"]) == ("chat", "u_1")
    assert second["context"] == {"plan": {"label": "plan", "value": "team"}}


def test_images_go_along(model: Model, agent: DemoAgent) -> None:
    """As the data: URL that inspect makes of them."""
    from inspect_ai.model import ChatMessageUser, ContentImage, ContentText

    pixel = "data:image/png;base64,iVBORw0KGgo="
    generated(model, ChatMessageUser(content=[ContentText(text="What is it?"), ContentImage(image=pixel)]))
    assert (agent.requests[0].body["message"], agent.requests[0].body["images"]) == ("What is it?", [pixel])


OURS = {"halo": {"session_id": "sess_7", "turn": 1}}
IMAGE = {"type": "image", "image": "data:image/png;base64,iVBORw0KGgo="}
DOCUMENT = {"type": "document", "document": "data:text/plain;base64,YQ==", "mime_type": "text/plain"}


def message(role: str, content: Any, metadata: Any = None) -> dict[str, Any]:
    """A message as JSON: inspect_ai takes its time to import, and not while tests are collected."""
    return {"role": role, "content": content, "metadata": metadata}


HELLO, REPLY, AGAIN = message("user", "Hello"), message("assistant", "Hi", OURS), message("user", "Hello?")
UNSENDABLE = {
    "system": ([message("system", "Be brief"), HELLO], "no system message"),
    "tool": ([message("tool", "4"), HELLO], "result of a tool"),
    "nothing": ([], "do not end with a user's"),
    "nothing new": ([HELLO, REPLY], "do not end with a user's"),
    "made up": ([HELLO, REPLY, AGAIN, message("assistant", "Yes?"), AGAIN], "does not hold them"),
    "no dict": ([message("user", "Hello", {"halo": "voice"})], "has str under 'halo'"),
    "token": ([message("user", "Hello", {"halo": {"user_token": "t"}})], "would be in inspect's log"),
    "agent": ([message("user", "Hello", {"halo": {"agent_id": "a"}})], "name the agent in the model"),
    "session": ([message("user", "Hello", {"halo": {"session_id": "s"}})], "the assistant's message"),
    "field": ([message("user", "Hello", {"halo": {"mood": "x"}})], "did you mean 'mode'"),
    "empty": ([message("user", " ")], "message is empty"),
    "long": ([message("user", "x" * 10_001)], "takes 10,000"),
    "history": ([HELLO, message("assistant", "Hi")] * 26 + [AGAIN], "conversation_history has 52 items"),
    "document": ([message("user", [DOCUMENT])], "of the type 'document'"),
    "old image": ([message("user", [IMAGE]), message("assistant", "Hi"), AGAIN], "an earlier message"),
}


@pytest.mark.parametrize(("messages", "words"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_sent_is_not(messages: list[Any], words: str, model: Model, agent: DemoAgent) -> None:
    """It is an error that says so, and not something left out in silence."""
    from inspect_ai.model import ChatMessage
    from pydantic import TypeAdapter

    made = TypeAdapter(list[ChatMessage]).validate_python(messages)
    with pytest.raises((errors.UsageError, errors.InvalidRequest), match=r"Nothing was sent") as raised:
        generated(model, *made)
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert not agent.requests


def test_tools_cannot_be_given(model: Model, agent: DemoAgent) -> None:
    """The agent has its own; one that it cannot call would be a silent difference."""
    from inspect_ai.tool import Tool, tool

    @tool
    def add() -> Tool:
        async def execute(x: int) -> int:
            """Add one.

            Args:
                x: To what.
            """
            return x + 1

        return execute

    with pytest.raises(errors.UsageError, match="tools of its own"):
        asyncio.run(model.generate("Hi", tools=[add()]))
    assert not agent.requests


def test_a_session_is_not_forked(model: Model, agent: DemoAgent) -> None:
    """A session knows all that was said in it; messages that do not are not sent to it."""
    first = [user("My name is Ada")]
    first.append(generated(model, *first).message)
    second = [*first, user("What is my name?")]
    second.append(generated(model, *second).message)
    for forked in ([*first, user("Open a ticket")], second[:3]):
        with pytest.raises(errors.UsageError, match="at turn 2, and these messages go on from turn 1"):
            generated(model, *forked)
    assert "Ada" in generated(model, *second, user("What is my name?")).completion
    assert len(agent.requests) == 3


def test_a_session_may_have_gone_on_elsewhere_if_the_messages_say_so(model: Model) -> None:
    """Another model of that name, say with other settings, may have had a turn of it."""
    from inspect_ai.model import get_model

    said = [user("My name is Ada")]
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


def test_what_may_have_arrived_is_not_sent_again(run_eval: RunEval, agent: DemoAgent) -> None:
    """The sample fails with the package's error, and what had arrived is in its transcript."""
    agent.faults.extend(FAULTS)
    log = run_eval(
        *FAULTS, max_samples=1, max_connections=1, fail_on_error=False, model_args={"silence_timeout_s": 1}
    )
    assert [message for message, _ in asked(agent)] == list(FAULTS)
    failed, kept = {}, {}
    for sample in log.samples or []:
        assert sample.error
        failed[sample.input] = sample.error.message.partition("(")[0]
        for event in sample.events:
            if event.event == "info" and event.source == "halo":
                assert isinstance(event.data, dict) and event.data["status"] == "failed"
                assert repr(event.data["error"])[1:-1] in sample.error.message
                kept[sample.input] = event.data["session_id"] is not None, str(event.data["text"])[:17]
    assert failed == FAULTS
    assert kept == {
        "cut text": (True, "This reply will b"),
        "stall": (True, "This reply stalls"),
        "content type": (False, "<!doctype html><t"),
    }


def test_what_was_put_off_is_sent_again(run_eval: RunEval, agent: DemoAgent) -> None:
    """By inspect, in mid-conversation too: the server said that it took nothing."""
    from inspect_ai.solver import generate

    agent.faults.extend(["429 retry-after 1", "503 retry-after 1", "empty", "429"])
    log = run_eval("Hello", solver=[generate(), say("Open a ticket")])
    [sample] = log.samples or []
    assert log.status == "success" and "Ticket TM-4217" in sample.output.completion
    session = about(sample.output.message)["session_id"]
    assert asked(agent) == [("Hello", None)] * 3 + [("Open a ticket", session)] * 2


def test_a_turn_put_off_leaves_the_conversation_as_it_was(model: Model, agent: DemoAgent) -> None:
    """What was refused is unknown to the session, so it goes on from there."""
    first = [user("My name is Ada")]
    first.append(generated(model, *first).message)
    agent.faults.extend(["429", "400"])
    with pytest.raises(errors.BadRequest):
        generated(model, *first, user("What is my name?"))
    assert "Ada" in generated(model, *first, user("What is my name?")).completion
    assert len(agent.requests) == 4


def test_a_turn_cut_off_ends_the_conversation(model: Model, agent: DemoAgent) -> None:
    """The session may hold the message, and going on would send it again with the next."""
    first = [user("My name is Ada")]
    first.append(generated(model, *first).message)
    agent.faults.append("cut text")
    with pytest.raises(errors.ReplyInterrupted):
        generated(model, *first, user("Open a ticket"))
    with pytest.raises(errors.UsageError, match="at turn 2"):
        generated(model, *first, user("Open a ticket"), user("Is it open?"))
    assert len(agent.requests) == 2


def test_attempt_timeout_does_not_send_again(run_eval: RunEval, agent: DemoAgent) -> None:
    """inspect tries again what it has given up on; here that is an error."""
    agent.faults.append("stall")
    log = run_eval("Open a ticket", attempt_timeout=1)
    [sample] = log.samples or []
    assert sample.error and "was not sent again; give no attempt_timeout" in sample.error.message
    assert len(agent.requests) == 1


def test_no_hiccup_of_a_transport_sends_again(
    run_eval: RunEval, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """inspect tries again after this one whatever the provider says."""

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


def test_nobody_there_is_an_error_at_once(run_eval: RunEval, agent: DemoAgent) -> None:
    """Nothing was ever reached, so the address is wrong: inspect would try for ever."""
    agent.stop()
    log = run_eval("Hello")
    assert log.status == "error" and log.error and log.error.message.startswith("ConnectionFailed")


def test_a_connection_lost_in_mid_eval_is_tried_again(model: Model, agent: DemoAgent) -> None:
    """Where somebody has answered, somebody may again."""
    assert not model.api.should_retry(errors.ConnectionFailed("no connection"))
    generated(model, user("Hello"))
    assert model.api.should_retry(errors.ConnectionFailed("no connection"))


# --- Settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("halo/", {}, "halo/default for the one that Halo chooses"),
        ("halo/a", {"api_key": "ha_secret_x"}, "identity secret"),
        ("halo/a", {"base_url": "http://example.com"}, "Plain http"),
        ("halo/a", {"user_token": "t"}, "would be in inspect's log"),
        ("halo/a", {"agent_id": "b"}, "name the agent in the model"),
        ("halo/a", {"session_id": "s"}, "a conversation of its own"),
        ("halo/a", {"mood": "x"}, "did you mean 'mode'"),
        ("halo/a", {"zzz": 1}, "there are behavior_context, "),
        ("halo/a", {"mode": "vioce"}, "did you mean 'voice'"),
        ("halo/a", {"silence_timeout_s": 0}, "silence_timeout_s must be"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_runs(name: str, given: dict[str, Any], words: str) -> None:
    """As the package's own error, which inspect's command shows as one line."""
    from inspect_ai.model import get_model

    with pytest.raises(errors.ConfigError, match=r"[Nn]othing was sent") as raised:
        get_model(name, memoize=False, **given)
    assert words in str(raised.value)


def test_without_a_key_no_demo_agent_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may take its scores for their own agent's; the error says how to ask it."""
    from inspect_ai.model import get_model

    monkeypatch.delenv("HALO_API_KEY")
    with pytest.raises(errors.ConfigError, match=r"HALO_API_KEY.*python -m halo_notebook\.demo"):
        get_model("halo/default", memoize=False)


def test_a_model_made_for_another_target_is_not_asked(
    agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """inspect keeps models by name, and would go on asking whom the environment named before."""
    from inspect_ai.model import get_model

    generated(get_model("halo/default"), user("Hello"))
    monkeypatch.setenv("HALO_API_KEY", "ab_live_another")
    with pytest.raises(errors.UsageError, match="memoize=False"):
        generated(get_model("halo/default"), user("Hello"))
    generated(get_model("halo/default", memoize=False), user("Hello"))
    assert len(agent.requests) == 2


def test_settings_that_halo_does_not_know_are_warned_of(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, by name; inspect's own are its business."""
    for _ in range(2):
        generated(model, user("Hello"), temperature=0.5, max_tokens=9, logprobs=False, max_retries=1)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("halo_notebook")]
    assert ours == ["Halo has no setting for max_tokens, temperature: left out."]


def test_another_agent_than_the_one_asked_for_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log under an agent's name should hold that agent's replies."""
    from inspect_ai.model import get_model

    monkeypatch.setattr("halo_notebook.demo.server.requested_agent_id", lambda request: "agent_b")
    output = generated(get_model("halo/agent_a", memoize=False), user("Hello"))
    assert output.model == about(output.message)["agent_id"] == "agent_b"
    assert "The agent 'agent_a' was asked for, and 'agent_b' answered." in caplog.text


def test_many_at_once_share_out_over_clients(model: Model) -> None:
    """No client has more streams than leave its times true."""
    agent = model.api._agent  # type: ignore[attr-defined]
    with contextlib.ExitStack() as streams:
        for _ in range(2 * STREAMS_PER_CLIENT + 1):
            streams.enter_context(agent._least_busy())
        assert sorted(agent._streams.values()) == [1, STREAMS_PER_CLIENT, STREAMS_PER_CLIENT]
    assert not any(agent._streams.values())


def test_another_backend_than_asyncio_is_an_error(model: Model) -> None:
    """On trio there is no loop of asyncio's, which is met here by running none."""
    from inspect_ai.model import GenerateConfig

    asking = model.api.generate([user("Hello")], [], "none", GenerateConfig())
    with pytest.raises(errors.UsageError, match="unset INSPECT_ASYNC_BACKEND"):
        asking.send(None)


# --- The log ----------------------------------------------------------------------------


def written(folder: Path) -> dict[Path, bytes]:
    """All files that are there, as they were before they were packed."""

    def unpacked(path: Path) -> bytes:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        if not zipfile.is_zipfile(path):
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            return b"".join(map(archive.read, archive.namelist()))

    return {path: unpacked(path) for path in folder.rglob("*") if path.is_file()}


def test_no_secret_is_in_anything_written(
    run_eval: RunEval, agent: DemoAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither key nor token, in success and failure, with the variables of tracebacks logged."""
    monkeypatch.setenv("INSPECT_TRACEBACK_LOCALS", "1")
    monkeypatch.setenv("HALO_USER_TOKEN", "ut-from-the-environment")
    keyed = {"api_key": "ab_live_not_to_be_seen"}
    assert run_eval("Hello", model_args=keyed).status == "success"
    assert (
        run_eval("Hello", model_args={**keyed, "user_token": lambda: "ut-from-a-callable"}).status
        == "success"
    )
    agent.faults.extend(["cut text", "500"])
    for _ in range(2):
        assert run_eval("Hello", model_args=keyed, log_format="json").status == "error"
    tokens = [request.body["user_token"] for request in agent.requests]
    assert tokens == [
        "ut-from-the-environment",
        "ut-from-a-callable",
        "ut-from-the-environment",
        "ut-from-the-environment",
    ]
    files = written(tmp_path)
    assert {path.suffix for path in files} >= {".eval", ".json"}
    for path, data in files.items():
        assert b"not_to_be_seen" not in data and b"ut-from" not in data, path


def test_a_hostile_payload_does_not_break_the_log(tmp_path: Path, run_eval: RunEval) -> None:
    """Nested as deep as the stream takes it, and deeper than inspect can write."""

    def reply(body: dict[str, JSON]) -> list[Step]:
        payload: JSON = "bottom"
        for _ in range(250):
            payload = [payload]
        return [TextDelta("Done."), Action({"type": "nested", "deep": payload})]

    with DemoAgent(reply=reply, first_byte_s=0) as agent:
        log = run_eval("Hello", model_base_url=agent.url)
    [sample] = log.samples or []
    assert log.status == "success" and sample.output.completion == "Done."
    [action] = about(sample.output.message)["actions"]
    assert action["type"] == "nested" and "bottom" in str(action["deep"])


# --- The command ------------------------------------------------------------------------

TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes

@task
def hello():
    return Task(dataset=[Sample(input="My name is Ada", target="Ada")], scorer=includes())
"""


def inspect_command(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    (folder / "hello.py").write_text(TASK, encoding="utf-8")
    command = [sys.executable, "-m", "inspect_ai", "eval", "hello.py", "--log-dir", "logs", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_the_command_finds_the_provider(
    tmp_path: Path, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the installed entry point, with model args as they are typed; the key is in no trace of it."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    monkeypatch.setenv("HALO_API_KEY", "ab_live_not_to_be_seen")
    done = inspect_command(
        tmp_path, "--model", "halo/agent_support", "-M", "mode=voice", "--display", "plain"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = list_eval_logs(str(tmp_path / "logs"))
    log = read_eval_log(found)
    assert log.results and log.results.scores[0].metrics["accuracy"].value == 1
    assert (log.eval.model, log.eval.model_args) == ("halo/agent_support", {"mode": "voice"})
    [request] = agent.requests
    assert (request.body["agent_id"], request.body["mode"]) == ("agent_support", "voice")
    files = written(tmp_path)
    assert any(path.name.startswith("trace-") for path in files)
    assert not [path for path, data in files.items() if b"not_to_be_seen" in data]


def test_the_command_says_in_one_line_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a traceback."""
    monkeypatch.delenv("HALO_API_KEY")
    done = inspect_command(tmp_path, "--model", "halo/default")
    assert done.returncode == 1
    assert "There is no API key." in done.stdout and "Traceback" not in done.stdout + done.stderr
