"""A sent message is edited: another conversation from that point, beside the one that there was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import Session

from ..client.clients import token
from .conftest import asked

if TYPE_CHECKING:
    import threading

    from halo_notebook import ChatPanel, HaloClient
    from halo_notebook.demo import DemoAgent
    from halo_notebook.session import SessionRegister

    from .conftest import Message, Wire


def edit(page: Wire, number: int, text: str) -> Message:
    """Edit a turn's message as the page does, and wait for the end of the new turn; the last snapshot."""
    before = page.panel.session
    assert "error" not in page.ask("edit", key=f"t{number}", text=text)
    assert page.panel.session is not before
    session = page.panel.session
    page.wait(lambda: page.panel._state.following.ended == number and not session.busy)
    page.ask("sync")
    return page.of("snapshot")[-1]


def test_an_edited_message_starts_a_new_conversation_and_keeps_the_old_one(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """The agent gets the messages and replies before it as history; the old session is as it was."""
    for message in ("My name is Ada", "What is my name?", "Goodbye"):
        panel.ask(message).result(10)
    old = panel.session
    snapshot = edit(page, 2, "Is my name Ada?")
    new = panel.session
    assert (old.name, new.name, panel.session_name) == ("docs", "docs (2)", "docs (2)")
    assert [turn.message for turn in old.turns] == ["My name is Ada", "What is my name?", "Goodbye"]
    body = agent.requests[-1].body
    history = [{"role": "user", "content": "My name is Ada"}]
    history.append({"role": "assistant", "content": old.turns[0].reply.text})
    assert (body["message"], body["conversation_history"]) == ("Is my name Ada?", history)
    assert "session_id" not in body and new.session_id not in (None, old.session_id)
    note = "a new conversation for the agent, which got 2 earlier messages as its history"
    assert [turn["start_note"] for turn in snapshot["turns"]] == ["", note]
    assert snapshot["versions"] == {"2": {"names": ["docs", "docs (2)"], "at": 1}}
    assert panel.ask("And now?").result(10).session_id == new.session_id
    page.ask("switch", name="docs")
    assert page.of("snapshot")[-1]["versions"] == {"2": {"names": ["docs", "docs (2)"], "at": 0}}
    assert [turn["asked"] for turn in page.of("snapshot")[-1]["turns"]][1:] == ["What is my name?", "Goodbye"]


def test_the_first_message_can_be_edited_and_the_panel_says_what_that_starts(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """It has no history then; the note says that it is a new conversation."""
    panel.ask("Helo").result(10)
    snapshot = edit(page, 1, "Hello 🙂\nthere")
    assert agent.requests[-1].body == {"message": "Hello 🙂\nthere"}
    assert snapshot["turns"][0]["start_note"] == "a new conversation for the agent"
    panel.ask("And?").result(10)
    assert panel.session.turns[-1].start_note() == "" == panel.session.start_note()
    page.ask("switch", name="docs")
    assert page.of("snapshot")[-1]["turns"][0]["start_note"] == ""


def test_versions_branch_again_and_each_is_reached_from_the_turn_where_it_differs(
    panel: ChatPanel, page: Wire
) -> None:
    """A version of a version, a third version, and an edit above both."""
    for message in ("one", "two", "three"):
        panel.ask(message).result(10)
    assert edit(page, 2, "two b")["versions"] == {"2": {"names": ["docs", "docs (2)"], "at": 1}}
    panel.ask("three b").result(10)
    snapshot = edit(page, 3, "three c")
    assert panel.session_name == "docs (3)"
    assert snapshot["versions"] == {
        "2": {"names": ["docs", "docs (3)"], "at": 1},
        "3": {"names": ["docs (2)", "docs (3)"], "at": 1},
    }
    # The same message again, from the session that has copies of the others.
    snapshot = edit(page, 2, "two d")
    assert snapshot["versions"] == {"2": {"names": ["docs", "docs (2)", "docs (4)"], "at": 2}}
    snapshot = edit(page, 1, "one b")
    assert snapshot["versions"] == {"1": {"names": ["docs", "docs (5)"], "at": 1}}
    page.ask("switch", name="docs (3)")
    assert page.of("snapshot")[-1]["versions"] == {
        "1": {"names": ["docs (3)", "docs (5)"], "at": 0},
        "2": {"names": ["docs", "docs (3)", "docs (4)"], "at": 1},
        "3": {"names": ["docs (2)", "docs (3)"], "at": 1},
    }


@pytest.mark.parametrize("fault", ["cut text", "500", "401"])
def test_a_turn_that_failed_can_be_edited(fault: str, panel: ChatPanel, page: Wire, agent: DemoAgent) -> None:
    """And so can the one after it; its history has what may have arrived, and a partial reply."""
    agent.faults.append(fault)
    with pytest.raises(Exception, match=r"."):
        panel.ask("Show me Markdown").result(10)
    panel.ask("Hello").result(10)
    partial = panel.session.turns[0].reply.text
    edit(page, 2, "Hello again")
    history: Any = agent.requests[-1].body.get("conversation_history", [])
    arrived = [{"role": "user", "content": "Show me Markdown"}] if fault != "401" else []
    arrived += [{"role": "assistant", "content": partial}] if partial else []
    assert history == arrived
    page.ask("switch", name="docs")
    edit(page, 1, "Show me text")
    assert panel.session.turns[0].reply.status == "complete"


def test_fields_and_images_of_the_message_go_with_its_new_version(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """But neither the old conversation's id nor the panel's present fields."""
    panel.ask("first", user_id="u_1").result(10)
    picture = "data:image/png;base64,AAAA"
    panel.ask("second", context={"plan": "team"}, images=[picture], mode="voice").result(10)
    panel.fields = {"company_id": "c_9"}
    edit(page, 2, "second b")
    body = agent.requests[-1].body
    assert body["images"] == [picture] and body["mode"] == "voice" and "company_id" not in body
    assert body["context"] == {"plan": {"label": "plan", "value": "team"}}
    history = [{"role": "user", "content": "before"}]
    panel.session_name = "own history"
    panel.ask("third", conversation_history=history).result(10)
    edit(page, 1, "third b")
    assert agent.requests[-1].body["conversation_history"] == history


def test_an_edit_that_arrives_twice_is_sent_once(panel: ChatPanel, page: Wire, agent: DemoAgent) -> None:
    """It has an id, as each typed message has; the page finds its message by it."""
    panel.ask("one").result(10)
    request = {"kind": "edit", "cid": "edit-1", "key": "t1", "text": "one b"}
    page.request(request)
    page.request(request)
    page.wait(lambda: panel.session_name == "docs (2)")
    page.request(request)

    # A turn that ends early comes with the snapshot.
    page.wait(
        lambda: any(
            turn["cid"] == "edit-1"
            for turn in [*page.of("snapshot")[-1]["turns"], *(each["turn"] for each in page.of("turn"))]
        )
    )
    assert asked(agent) == ["one", "one b"]


@pytest.mark.parametrize("text", [" ", "", "x" * 10_001, None, 3])
def test_what_is_not_a_message_branches_nothing_off(
    text: Any, panel: ChatPanel, page: Wire, register: SessionRegister
) -> None:
    """One line says so, and the panel shows what it showed."""
    panel.ask("one").result(10)
    page.turns(1)
    assert page.ask("edit", key="t1", text=text)["error"]
    assert page.ask("edit", key="t2", text="two")["error"] == (
        "This session has no such turn. Nothing was changed."
    )
    assert panel.session_name == "docs" and "docs (2)" not in register


def test_a_turn_that_runs_is_not_edited_but_those_before_it_are(
    panel: ChatPanel, page: Wire, agent: DemoAgent, release: threading.Event
) -> None:
    """It runs on in its session, and what waits there still waits; Stop is for the version that is shown."""
    release.set()
    panel.ask("one").result(10)
    release.clear()
    running, waiting = panel.ask("two"), panel.ask("three")
    page.wait(lambda: len(panel.session.turns) == 2 and panel.session.turns[1].reply.text)
    assert "still runs" in page.ask("edit", key="t2", text="two b")["error"]
    docs = panel.session
    page.ask("edit", key="t1", text="one b")
    branch = panel.session
    page.wait(lambda: branch.turns and branch.turns[0].reply.text)
    page.ask("stop")
    page.wait(lambda: branch.turns[0].reply.status == "stopped")
    assert docs.turns[1].reply.status == "streaming" and not waiting.done()
    release.set()
    assert running.result(10).status == waiting.result(10).status == "complete"


def test_a_version_whose_message_is_refused_can_be_left_again(
    open_panel: Callable[..., Wire], client: HaloClient, register: SessionRegister
) -> None:
    """The message waits there with the reason, and counts as the turn that it will be."""
    page = open_panel(client=client)
    page.panel.ask("one").result(10)
    page.panel.session.turns[0].request["user_id"] = "u_1"
    page.panel._state.client = None  # the connection's client has a bad setting from now on
    page.panel._state.connection.demo_wanted = False
    page.ask("edit", key="t1", text="one b")
    page.wait(lambda: page.queue() and page.queue()[0]["held"])
    assert page.queue()[0]["text"] == "one b" and "key" in page.queue()[0]["error"].lower()
    page.ask("sync")
    snapshot = page.of("snapshot")[-1]
    assert snapshot["versions"] == {"1": {"names": ["docs", "docs (2)"], "at": 1}}
    assert snapshot["start_note"] == "a new conversation for the agent"


def test_other_panels_and_cells_stay_where_they_are(
    open_panel: Callable[..., Wire], client: HaloClient, register: SessionRegister
) -> None:
    """A panel on the old session shows that there is a version; a name that is taken is not used."""
    here, there = open_panel(client=client), open_panel(client=client)
    here.panel.ask("one").result(10)
    register.get("docs (2)")
    edit(here, 1, "one b")
    assert (here.panel.session_name, there.panel.session_name) == ("docs (3)", "docs")
    there.wait(
        lambda: there.of("sessions")[-1]["versions"] == {"1": {"names": ["docs", "docs (3)"], "at": 0}}
    )
    register.new("docs")  # the old conversation is kept as docs-1
    here.wait(lambda: here.of("sessions")[-1]["versions"]["1"]["names"] == ["docs-1", "docs (3)"])


def test_a_version_is_exported_as_any_session_is(
    panel: ChatPanel, page: Wire, client: HaloClient, tmp_path: Path
) -> None:
    """With all of its turns, also as a case; what was loaded continues from the same history."""
    panel.ask("My name is Ada").result(10)
    panel.ask("What is my name?").result(10)
    panel.session.rate(panel.session.turns[0], "up", "fine")
    edit(page, 2, "Who am I?")
    exported = json.loads(page.ask("export", format="json")["text"])
    assert [turn["request"]["message"] for turn in exported["turns"]] == ["My name is Ada", "Who am I?"]
    assert exported["turns"][0]["rating"]["note"] == "fine"
    loaded = Session.load(panel.session.export(tmp_path / "version.json"))
    assert loaded.history() == panel.session.history()
    assert len(loaded.history()) == 4
    case = panel.session.as_case()
    assert [turn.message for turn in case.turns] == ["Who am I?"]
    assert len(case.turns[0].fields["conversation_history"]) == 2


def test_the_panel_says_what_the_next_message_starts_until_one_has_arrived(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """A version whose message was refused says it again; one that is answered does not, nor while it is."""
    panel.ask("one").result(10)
    agent.faults.append("401")
    snapshot = edit(page, 1, "one b")
    assert snapshot["start_note"] == "a new conversation for the agent"
    release = page.ask("again", key="t1")
    assert "error" not in release
    page.wait(lambda: len(page.panel.session.turns) == 2 and page.panel.session.session_id)
    page.wait(lambda: page.of("start")[-1]["start_note"] == "")


def test_the_panels_user_token_goes_with_an_edited_message_of_its_user(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """As with a message that is sent again; not with a message of another user."""
    panel.fields = {"user_id": "u_1", "user_token": token(None)}
    panel.ask("one").result(10)
    edit(page, 1, "one b")
    page.ask("again", key="t1")
    page.wait(lambda: len(agent.requests) == 3)
    panel.fields["user_id"] = "u_2"
    page.ask("edit", key="t1", text="one c")
    page.wait(lambda: len(agent.requests) == 4)
    tokens = [request.body.get("user_token") for request in agent.requests]
    assert tokens == [token(None)] * 3 + [None]
