"""Conversations and their register: ids kept, turns kept, one turn at a time."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from halo_notebook import HaloClient, Rating, Reply, Session, Turn, errors
from halo_notebook.concurrency.interrupts import wait
from halo_notebook.concurrency.loop import spawn
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.session import SessionRegister
from halo_notebook.stream import JSON, Action, TextDelta


def test_a_session_carries_its_id_from_turn_to_turn(client: HaloClient, agent: DemoAgent) -> None:
    """The server's id goes with the next message, and both ids are on the session."""
    session = Session()
    session.ask(client, "My name is Zelda")
    assert "Zelda" in session.ask(client, "What is my name?").text
    assert agent.requests[1].body["session_id"] == session.session_id
    assert session.agent_id == "agent_demo"
    assert [turn.message for turn in session.turns] == ["My name is Zelda", "What is my name?"]


@pytest.mark.parametrize("fault", ["cut text", "500", "429 retry-after 90", "stall first", "no headers"])
def test_the_id_survives_what_fails(fault: str, client: HaloClient, agent: DemoAgent) -> None:
    """An error keeps the session and adds the turn with the text received so far."""
    session = Session()
    session.ask(client, "My name is Zelda")
    session_id = session.session_id
    agent.faults.append(fault)
    if fault == "no headers":
        session.ask(client, "Hello")
    else:
        with pytest.raises(errors.HaloError):
            session.ask(client, "Hello")
        assert session.turns[-1].reply.status == "failed"
    assert session.session_id == session_id
    assert "Zelda" in session.ask(client, "What is my name?").text
    assert len(session.turns) == 3


def test_code_on_the_loop_takes_turns_too(client: HaloClient, agent: DemoAgent) -> None:
    """One at a time, in order of arrival, with those of threads; an error ends one."""
    session = Session()
    order: list[str] = []

    async def ask(text: str) -> str:
        async with session.aturn(client, text) as stream, stream:
            order.append(text)
            await stream.to_end()
        return stream.reply.text

    with session.turn(client, "first") as stream, stream:
        asking = [spawn(ask("My name is Zelda")), spawn(ask("What is my name?"))]
        thread = threading.Thread(target=session.ask, args=(client, "last"))
        while len(session._place._waiters or ()) < 2:
            time.sleep(0.01)
        thread.start()
        list(stream)
    assert [("Zelda" in future.result(10)) for future in asking] == [True, True]
    thread.join()
    assert order == ["My name is Zelda", "What is my name?"]
    assert [turn.message for turn in session.turns] == ["first", *order, "last"]
    assert len({request.body.get("session_id") for request in agent.requests}) == 2, "none, then the one id"
    agent.faults.append("500")
    with pytest.raises(errors.ServerError):
        wait(spawn(ask("Hello")))
    assert not session.busy
    assert session.turns[-1].reply.status == "failed"


def test_a_turn_within_a_turn_is_refused(client: HaloClient, agent: DemoAgent) -> None:
    """Waiting for oneself would never end. A turn that is not entered sends nothing."""
    session = Session()

    async def within() -> None:
        async with session.aturn(client, "Hello"), session.aturn(client, "Hello again"):
            pass

    with session.turn(client, "Hello"), pytest.raises(errors.UsageError, match="in the middle of a turn"):
        session.ask(client, "Hello again")
    with pytest.raises(errors.UsageError, match="in the middle of a turn"):
        wait(spawn(within()))
    assert [turn.reply.status for turn in session.turns] == ["stopped"] * 2 and not agent.requests


@pytest.mark.parametrize("message", ["/fault stall", "/fault stall first"])
@pytest.mark.parametrize("on_loop", [True, False])
def test_stop_ends_the_turn_that_runs(client: HaloClient, message: str, on_loop: bool) -> None:
    """From any thread: its text, which was there at once, is kept, and the code after it runs."""
    session = Session()
    after: list[str] = []

    async def ask() -> None:
        async with session.aturn(client, message) as stream, stream:
            await stream.to_end()
        await asyncio.sleep(0)
        after.append(stream.reply.status)

    def read() -> None:
        with session.turn(client, message) as stream, stream:
            list(stream)
        after.append(stream.reply.status)

    thread = threading.Thread(target=lambda: wait(spawn(ask())) if on_loop else read())
    session.stop()
    thread.start()
    began = "streaming" if message == "/fault stall" else "waiting for the agent"
    while not session.turns or session.turns[0].reply.state != began:
        time.sleep(0.01)
    reply = session.turns[0].reply
    assert (reply.status, bool(reply.text)) == ("streaming", message == "/fault stall")
    session.stop()
    session.stop()
    thread.join(10)
    assert after == ["stopped"]
    assert bool(reply.text) == (message == "/fault stall")
    assert session.ask(client, "Hello").status == "complete"


def test_a_request_that_is_refused_adds_no_turn(client: HaloClient) -> None:
    """Nothing was sent, so there is nothing to remember."""
    session = Session()
    with pytest.raises(errors.InvalidRequest):
        session.ask(client, "")
    assert session.turns == []


def test_an_id_goes_only_to_the_service_that_gave_it(client: HaloClient, agent: DemoAgent) -> None:
    """Another one starts a new conversation, unless the turn does not reach it."""
    session = Session()
    session.ask(client, "My name is Zelda")
    with pytest.raises(errors.ConnectionFailed):
        session.ask(HaloClient(DEMO_KEY, base_url="http://127.0.0.1:9", max_retries=0), "Hello")
    assert session.target == agent.url
    assert "Zelda" in session.ask(client, "What is my name?").text
    assert [turn.target for turn in session.turns] == [agent.url, "http://127.0.0.1:9", agent.url]
    with DemoAgent(first_byte_s=0, chunk_s=0) as other:
        session.ask(HaloClient(DEMO_KEY, base_url=other.url), "Hello")
        assert "session_id" not in other.requests[0].body
        assert (session.target, session.id_for(agent.url)) == (other.url, None)


def test_a_session_id_that_is_given_is_continued(client: HaloClient, agent: DemoAgent) -> None:
    """An explicit id goes before the session's own."""
    session = Session()
    session.ask(client, "Hello", session_id="sess_1_given")
    session.ask(client, "Hello")
    assert [request.body["session_id"] for request in agent.requests] == ["sess_1_given"] * 2


def test_a_new_conversation_keeps_the_old_one(client: HaloClient) -> None:
    """`new` never throws turns away; a session without turns is not kept."""
    register = SessionRegister()
    assert register.new() is register.current and sorted(register) == ["default"]
    old = register.current
    old.ask(client, "Hello")
    assert register.new() is register.current is not old
    assert register["default-1"] is old and old.name == "default-1"
    register.current.ask(client, "Hello")
    register.new()
    assert sorted(register) == ["default", "default-1", "default-2"]


def test_the_register_knows_its_sessions() -> None:
    """Made when first named, made current by `use`, and a wrong name is answered with the right ones."""
    register = SessionRegister()
    assert register.get() is register.get("default") is register.current
    support = register.get("support")
    assert register.current is not support
    assert register.use("support") is support is register.current
    register.resume("sess_1_kept", "kept")
    assert register.new("kept").session_id is None
    assert register["kept-1"].session_id == "sess_1_kept"
    resumed = register.resume("sess_1_a", "old", target="https://example.com")
    assert (resumed.session_id, resumed.id_for("https://example.com")) == ("sess_1_a", "sess_1_a")
    assert len(register) == 5
    with pytest.raises(
        errors.UsageError, match=r"No session named 'suport'.*default, support, kept, kept-1, old"
    ):
        register["suport"]


def test_an_export_holds_everything_but_secrets(tmp_path: Path) -> None:
    """Messages, replies, actions in fences that their payload cannot close, and what failed."""
    payload: JSON = {"code": "```\nfenced\n```"}
    with DemoAgent(reply=lambda _: [TextDelta("Done: ```"), Action(payload)], first_byte_s=0) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url, user_id="u_1", user_token="tok_secret")
        session = Session("support")
        session.ask(client, "Do it")
        agent.faults.append("cut text")
        with pytest.raises(errors.ReplyInterrupted):
            session.ask(client, "Again")
    markdown, plain = (session.export(tmp_path / name).read_text("utf-8") for name in ("a.md", "a.JSON"))
    assert not any(secret in markdown + plain for secret in ("tok_secret", DEMO_KEY))
    assert "# Halo session: support" in markdown and "Do it" in markdown and "Done: ```" in markdown
    assert "````json" not in markdown or "\n````\n" in markdown
    assert "*(failed: The connection broke off" in markdown
    data = json.loads(plain)
    assert (data["name"], data["turns"][0]["request"]["user_id"]) == ("support", "u_1")
    assert [turn["reply"]["status"] for turn in data["turns"]] == ["complete", "failed"]
    assert data["turns"][0]["reply"]["actions"] == [payload]


def test_a_fence_that_is_left_open_ends_with_its_message() -> None:
    """It does not swallow the turns behind it."""
    session = Session()
    with DemoAgent(reply=lambda _: [TextDelta("~~~~\n```\ncode")], first_byte_s=0) as agent:
        session.ask(HaloClient(DEMO_KEY, base_url=agent.url), "Run\n```python\nx")
    text = session.to_markdown()
    assert "```python\nx\n```\n" in text
    assert text.endswith("~~~~\n```\ncode\n~~~~\n")


def test_export_says_what_it_cannot_write(tmp_path: Path) -> None:
    """Another ending and a place that is not there are one line each."""
    with pytest.raises(errors.UsageError, match=r"neither \.md nor \.json"):
        Session().export(tmp_path / "a.txt")
    for place in ("a\0b.md", "~nobody_of_that_name/x.md", tmp_path / "absent" / "a.md"):
        with pytest.raises(errors.UsageError, match="could not be written"):
            Session().export(place)


def test_a_branch_starts_a_new_conversation_from_the_turns_before(
    client: HaloClient, agent: DemoAgent
) -> None:
    """They are copies: a rating of one is not the other's. A turn of another session is refused."""
    session = Session("s")
    for message in ("My name is Ada", "Show me Markdown", "Goodbye"):
        session.ask(client, message)
    branch = session.branch(session.turns[1])
    assert (branch.edited, branch.copied, branch.session_id) == (session.turns[1], 1, None)
    branch.rate(branch.turns[0], "up")
    assert session.turns[0].rating is None and session.turns[0].session is session
    assert "Ada" in branch.ask(client, "What is my name?").text
    assert [item["content"] for item in agent.requests[-1].body["conversation_history"]] == [
        "My name is Ada",
        session.turns[0].reply.text,
    ]
    assert branch.session_id not in (None, session.session_id) and len(session.turns) == 3
    for turn in (branch.turns[1], session.turns[0]):
        with pytest.raises(errors.UsageError, match="no such turn"):
            (session if turn in branch.turns else branch).branch(turn)


def test_a_branch_has_the_name_of_the_first_session_and_a_number(client: HaloClient) -> None:
    """From the start, also a branch of a branch."""
    session = Session("docs")
    session.ask(client, "Hello")
    first = session.branch(session.turns[0])
    first.ask(client, "Hello again")
    names = [first.name, session.branch(session.turns[0]).name, first.branch(first.turns[0]).name]
    assert names == ["docs (2)", "docs (3)", "docs (4)"]
    assert first.to_markdown().startswith("# Halo session: docs (2)\n") and session.name == "docs"


def test_a_session_from_a_file_continues_as_a_new_conversation(
    client: HaloClient, agent: DemoAgent, tmp_path: Path
) -> None:
    """Its id is not sent. The agent gets the messages and texts of the last conversation that arrived."""
    session = Session()
    session.ask(client, "Of another conversation", session_id="sess_1_other")
    session.session_id = None
    session.ask(client, "My name is Ada", user_id="u_1")
    agent.faults.append("429 retry-after 90")
    with pytest.raises(errors.RateLimited):
        session.ask(client, "Not taken")
    agent.faults.append("500")
    with pytest.raises(errors.ServerError):
        session.ask(client, "Without a text")
    loaded = Session.load(session.export(tmp_path / "talk.json"))
    history = [
        {"role": "user", "content": "My name is Ada"},
        {"role": "assistant", "content": session.turns[1].reply.text},
        {"role": "user", "content": "Without a text"},
    ]
    assert loaded.id_for(agent.url) is None
    assert (
        loaded.start_note()
        == "a new conversation for the agent, which gets 3 earlier messages as its history"
    )
    with pytest.raises(errors.ConnectionFailed):
        loaded.ask(HaloClient(DEMO_KEY, base_url="http://127.0.0.1:9", max_retries=0), "Nobody")
    loaded.ask(client, "And now?")
    loaded.ask(client, "And then?")
    first, second = (request.body for request in list(agent.requests)[-2:])
    assert first == {"message": "And now?", "conversation_history": history}
    assert second == {"message": "And then?", "session_id": loaded.session_id}
    assert loaded.session_id not in (None, session.session_id) and loaded.start_note() == ""
    assert [turn.start_note() for turn in loaded.turns[-2:]] == [
        "a new conversation for the agent, which got 3 earlier messages as its history",
        "",
    ]
    again = Session.load(loaded.export(tmp_path / "again.json"))
    assert again.history()[:4] == [*history, {"role": "user", "content": "And now?"}]


def test_the_history_has_as_many_messages_as_the_api_takes(client: HaloClient, tmp_path: Path) -> None:
    """The last fifty. A history or an id that is given goes before, and nothing is added to an empty one."""
    session = Session()
    for number in range(30):
        session.ask(client, f"Message {number}")
    path = session.export(tmp_path / "talk.json")
    loaded = Session.load(path)
    assert len(loaded.history()) == 50 and loaded.history()[0] == {"role": "user", "content": "Message 5"}
    loaded.ask(client, "With my own", conversation_history=[{"role": "user", "content": "Mine"}])
    assert "got 1 earlier message as" in loaded.turns[-1].start_note()
    other = Session.load(path)
    other.ask(client, "By its id", session_id=session.session_id)
    assert other.turns[-1].request == {"message": "By its id", "session_id": session.session_id}
    empty = Session.load(Session().export(tmp_path / "empty.json"))
    empty.ask(client, "Hello")
    assert empty.turns[0].request == {"message": "Hello"} and empty.start_note() == ""
    with pytest.raises(errors.UsageError, match="No message of session 'default' has arrived"):
        Session().as_case()


def test_an_empty_session_from_a_file_has_no_history(tmp_path: Path) -> None:
    """Its next message starts a conversation like any other."""
    empty = Session.load(Session().export(tmp_path / "empty.json"))
    assert empty.start_note() == "a new conversation for the agent"


@pytest.mark.parametrize(
    ("value", "note"), [("sideways", ""), (None, ""), (["up"], ""), ("up", 5), ("", None)]
)
def test_a_rating_is_up_down_or_a_note(value: Any, note: Any, tmp_path: Path) -> None:
    """Another one is refused: an export with it could not be read back."""
    session = Session(turns=[Turn({"message": "Hello"}, Reply())])
    session.rate(session.turns[0], "up", "Good")
    with pytest.raises(errors.UsageError, match="A rating is 'up', 'down' or empty"):
        session.rate(session.turns[0], value, note)
    assert Session.load(session.export(tmp_path / "a.json")).turns[0].rating == Rating("up", "Good")


def test_a_session_rates_its_own_turns() -> None:
    """An equal turn of another session is refused."""
    turns = [Turn({"message": "Hello"}, Reply()) for _ in range(3)]
    session, other = Session(turns=turns[:2]), Session(turns=turns[2:])
    for turn, of in ((turns[2], session), (turns[0], other), (turns[0], Session())):
        with pytest.raises(errors.UsageError, match="has no such turn"):
            of.rate(turn, "up")
        assert turn.rating is None
    session.rate(turns[1], "down")
    assert turns[1].rating == Rating("down", "")


def test_a_turn_that_its_session_has_lost_is_a_case_of_its_own(client: HaloClient) -> None:
    """Such as a copy, or one of a session whose turns were cleared."""
    session = Session()
    session.ask(client, "My name is Ada")
    session.ask(client, "What is my name?")
    last = copy.copy(session.turns[1])
    assert [turn.message for turn in last.as_case().turns] == ["What is my name?"]
    session.turns.clear()
    assert last.as_case().metadata == {"resumed": True}


def test_an_agent_that_gives_no_id_gets_the_history_each_time(
    client: HaloClient, agent: DemoAgent, tmp_path: Path
) -> None:
    """Otherwise it would know nothing of what was said before."""
    session = Session()
    session.ask(client, "My name is Ada")
    loaded = Session.load(session.export(tmp_path / "talk.json"))
    agent.faults += ["no headers", "no headers"]
    for message in ("One", "Two"):
        loaded.ask(client, message)
    sent: list[Any] = [turn.request.get("conversation_history", []) for turn in loaded.turns]
    assert [history[-1:] for history in sent] == [
        [],
        [{"role": "assistant", "content": session.turns[0].reply.text}],
        [{"role": "assistant", "content": loaded.turns[1].reply.text}],
    ]


def test_no_secret_is_written(tmp_path: Path) -> None:
    """A key or a user token that a message, a field or a note repeats is masked in exports and cases."""
    token = "tok_0123456789"
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url, user_id="u_1", user_token=lambda: token)
        session = Session()
        session.ask(client, f"My key is {DEMO_KEY}")
        session.ask(client, f"My token is {token}", context={"key": DEMO_KEY})
        session.rate(session.turns[1], "down", f"Do not send {token}")
    case = session.as_case(token, [token], [DEMO_KEY])
    for text in (session.to_json(), session.to_markdown(), repr(case)):
        assert token not in text and DEMO_KEY not in text
    assert "•••" in case.turns[0].message and "•••" in str(case.metadata["rating_note"])
