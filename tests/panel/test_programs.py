"""What a program does with a panel: make it, follow it by callbacks and observers, and close it."""

from __future__ import annotations

import asyncio
import json
import pydoc
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest

from halo_notebook import ChatPanel, HaloClient, Reply, errors

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent
    from halo_notebook.reply import ActionEvent
    from halo_notebook.session import SessionRegister
    from halo_notebook.stream import JSON

    from .conftest import Wire


def test_callbacks_run_on_the_kernels_loop(client: HaloClient, open_panel: Callable[..., Wire]) -> None:
    """Sync and async, in order, each action once and each reply when it has ended.

    Sync ones have been called before the code that awaits the reply continues.
    """
    called: list[Any] = []
    threads: set[threading.Thread] = set()

    async def notebook() -> None:
        panel = open_panel(client=client).panel
        done = asyncio.Event()

        async def note_action(event: ActionEvent) -> None:
            await asyncio.sleep(0.02)
            called.append(cast("dict[str, JSON]", event.payload)["type"])
            threads.add(threading.current_thread())

        def note_reply(reply: Reply) -> None:
            called.append(reply)
            threads.add(threading.current_thread())
            done.set()

        remove = panel.on_action(note_action)
        panel.on_reply(note_reply)
        panel.on_reply(called.append)()
        first = await panel.ask("How do I set up event tracking?")
        await asyncio.wait_for(done.wait(), 10)
        assert called == ["highlight", "navigate", first]
        remove()
        panel.on_reply(note_reply)
        for _ in range(5):
            called.clear()
            assert called == [await panel.ask("How do I set up event tracking?")] * 2

    asyncio.run(notebook())
    assert threads == {threading.main_thread()}


def test_a_click_may_come_on_a_thread_with_a_loop_of_its_own(
    client: HaloClient, open_panel: Callable[..., Wire]
) -> None:
    """As a subshell's do: the turn is taken, and a callback still runs where the notebook's own code does."""
    called_on: list[threading.Thread] = []

    async def notebook() -> None:
        page, done = open_panel(client=client), asyncio.Event()

        async def note(reply: Reply) -> None:
            called_on.append(threading.current_thread())
            done.set()

        async def click() -> None:
            page.send("My name is Ada")
            page.ask("sync")

        page.panel.on_reply(note)
        await asyncio.to_thread(lambda: asyncio.run(click()))
        await asyncio.wait_for(done.wait(), 10)
        assert (await asyncio.to_thread(page.turns, 1))[0]["status"] == "complete"

    asyncio.run(notebook())
    assert called_on == [threading.main_thread()]


def test_a_callback_or_observer_that_fails_is_reported(panel: ChatPanel, page: Wire) -> None:
    """In one line on the page; turns, state and the other callbacks are not affected."""
    replies: list[Reply] = []

    def breaks(reply: Any) -> None:
        raise ValueError("no such\nrow")

    panel.observe(breaks, ["status", "busy"])
    panel.on_reply(breaks)
    panel.on_reply(replies.append)
    for number in range(3):
        assert panel.ask(f"message {number}").result(10).status == "complete"
    page.turns(3)
    assert (panel.busy, panel.status) == (False, "complete")
    page.wait(lambda: len(replies) == 3)
    named = {notice["text"] for notice in page.of("notice")}
    for what in ("breaks", "An observer of status", "An observer of busy"):
        assert f"{what} raised ValueError: no such row. The conversation continues." in named
    with pytest.raises(errors.UsageError):
        panel.on_reply(cast(Any, "not callable"))


def test_state_can_be_observed(panel: ChatPanel, page: Wire) -> None:
    """`busy` and `status` follow the turn; they cannot be set."""
    seen: list[tuple[str, Any]] = []
    panel.observe(lambda change: seen.append((change["name"], change["new"])), ["busy", "status"])
    panel.ask("Hello").result(10)
    page.wait(lambda: seen[-1] == ("busy", False))
    assert ("busy", True) in seen and seen[-2] == ("status", "complete")
    with pytest.raises(Exception, match="read-only"):
        panel.busy = True


def test_a_closed_panel_leaves_nothing_behind(
    panel: ChatPanel, page: Wire, register: SessionRegister, release: threading.Event
) -> None:
    """No thread, no watcher, no message; the turn that ran goes on in its session."""
    session, sent = panel.session, panel.ask("one")
    reply = page.running()
    panel.close()
    panel.close()
    assert (panel.status, panel.busy) == ("closed", False)
    count = len(page.messages)
    assert page.messages[-1] == {"kind": "closed"}
    release.set()
    assert sent.result(10).text.endswith("and last.")
    register.new("docs")
    assert len(page.messages) == count
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("halo-")}
    assert threads <= {"halo-io", "halo-worker_0", "halo-demo-agent"}
    page.wait(lambda: session.watchers._callbacks == [] and reply.watchers._callbacks == [])
    assert register.watchers._callbacks == []
    for use in (lambda: panel.ask("two"), lambda: panel.on_reply(print)):
        with pytest.raises(errors.UsageError, match="closed"):
            cast("Callable[[], object]", use)()


@pytest.mark.parametrize("text", [None, 5, b"x", "", " "])
def test_invalid_messages_are_refused(text: Any, panel: ChatPanel) -> None:
    """The error says what is wrong."""
    with pytest.raises(errors.UsageError, match=r"A message must be|The message is empty"):
        panel.ask(text)
    with pytest.raises(errors.UsageError, match="A session's name is text"):
        panel.session_name = " "


@pytest.mark.parametrize(
    "argument",
    [
        *({"session": ""}, {"session": 3}, {"suggestions": "one string"}, {"suggestions": [1]}),
        *({"client": "x"}, {"title": 5}, {"height": 5}, {"placeholder": None}),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(argument: dict[str, Any]) -> None:
    """Each is refused with one line."""
    with pytest.raises(errors.UsageError, match="Nothing was shown"):
        ChatPanel(**argument)


def test_help_shows_what_users_need() -> None:
    """Of its own a panel has public names only; the rest is that of every widget."""
    page = pydoc.plain(pydoc.render_doc(ChatPanel)).split(" inherited from ")[0].split("defined here:", 1)[1]
    assert set(re.findall(r"^ \|  (\w+)(?:\((?:self.*)?)?$", page, re.MULTILINE)) == {
        *("__init__", "__repr__", "ask", "close", "notify_change", "on_action", "on_reply", "stop"),
        *("session", "fields", "busy", "height", "placeholder", "session_name", "status", "suggestions"),
        "title",
    }


def test_no_secret_reaches_the_page(agent: DemoAgent, open_panel: Callable[..., Wire]) -> None:
    """Neither the key nor a user token is in any message, nor in the widget's state."""
    page = open_panel(
        client=HaloClient("ab_live_confidential", base_url=agent.url, user_token="aaa.bbb.confidential")
    )
    agent.faults.append("401")
    with pytest.raises(errors.HaloError):
        page.panel.ask("Hello").result(10)
    page.panel.ask("What do you know about me?").result(10)
    state = json.dumps(page.panel.get_state(), default=str)
    assert "What do you know" in state
    assert "confidential" not in json.dumps(page.messages) + state + repr(page.panel)
