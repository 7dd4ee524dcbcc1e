"""A panel is made and closed; what cannot be one is refused, and no secret leaves it."""

from __future__ import annotations

import json
import pydoc
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import ChatPanel, HaloClient, errors

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent
    from halo_notebook.session import SessionRegister

    from .conftest import Held, Wire


def test_a_closed_panel_leaves_nothing_behind(
    client: HaloClient, register: SessionRegister, wires: dict[int, Wire], held: Held
) -> None:
    """No thread, no watcher, no message; the turn that ran goes on in its session."""
    threads = set(threading.enumerate())
    panel = ChatPanel("docs", client=client)
    wire = wires[id(panel)]
    session = panel.session
    sent = panel.ask("one")
    wire.wait(lambda: session.turns and session.turns[0].reply.text)
    panel.close()
    panel.close()
    assert panel.status == "closed"
    count = len(wire.messages)
    assert wire.messages[-1] == {"kind": "closed"}
    held.release.set()
    assert sent.result(10).text.endswith("and last.")
    register.new("docs")
    assert len(wire.messages) == count
    assert {thread.name.partition("_")[0] for thread in set(threading.enumerate()) - threads} <= {
        *("halo-io", "halo-worker"),
        *("asyncio", "Thread-"),
    }
    wire.wait(lambda: session.watchers._callbacks == [])
    wire.wait(lambda: session.turns[0].reply.watchers._callbacks == [])
    assert register.watchers._callbacks == []
    assert not panel.busy
    with pytest.raises(errors.UsageError, match="closed"):
        panel.ask("two")
    with pytest.raises(errors.UsageError, match="closed"):
        panel.on_reply(print)


@pytest.mark.parametrize("text", [None, 5, b"x", "", " "])
def test_what_is_no_message_is_refused(text: Any, panel: ChatPanel) -> None:
    """With what it is."""
    with pytest.raises(errors.UsageError, match=r"A message must be|The message is empty"):
        panel.ask(text)
    with pytest.raises(errors.UsageError, match="A session's name is text"):
        panel.session_name = " "


@pytest.mark.parametrize(
    "arguments",
    [
        {"session": ""},
        {"session": 3},
        {"suggestions": "one string"},
        {"suggestions": [1]},
        {"client": "x"},
        {"title": 5},
        {"height": 5},
        {"placeholder": None},
    ],
    ids=str,
)
def test_arguments_that_make_no_panel(arguments: dict[str, Any], wires: dict[int, Wire]) -> None:
    """Each is refused with one line."""
    with pytest.raises(errors.UsageError, match="Nothing was shown"):
        ChatPanel(**arguments)


def test_help_shows_what_users_need() -> None:
    """Of its own a panel has public names only; the rest is that of every widget."""
    page = pydoc.plain(pydoc.render_doc(ChatPanel)).split(" inherited from ")[0].split("defined here:", 1)[1]
    assert set(re.findall(r"^ \|  (\w+)(?:\(self.*)?$", page, re.MULTILINE)) == {
        *("__init__", "__repr__", "ask", "close", "notify_change", "on_action", "on_reply", "stop"),
        *("session", "fields", "busy", "height", "placeholder", "session_name", "status", "suggestions"),
        "title",
    }


def test_no_secret_reaches_the_page(agent: DemoAgent, wires: dict[int, Wire]) -> None:
    """Neither the key nor a user token is in any message, nor in the widget's state."""
    client = HaloClient("ab_live_confidential", base_url=agent.url, user_token="aaa.bbb.confidential")
    panel = ChatPanel("docs", client=client)
    agent.faults.append("401")
    panel.ask("Hello")
    wires[id(panel)].panel = panel
    wires[id(panel)].turns(1)
    # What is sent before the panel has taken in the end of that turn would be held back with it.
    wires[id(panel)].wait(lambda: not panel.busy)
    panel.ask("What do you know about me?").result(10)
    wires[id(panel)].turns(2)
    state = json.dumps(panel.get_state(), default=str)
    assert "What do you know" in state
    assert "confidential" not in json.dumps(wires[id(panel)].messages) + state + repr(panel)
    panel.close()
