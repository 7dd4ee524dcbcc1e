"""What a program does with a panel: make it, follow it by callbacks and observers, and close it."""

from __future__ import annotations

import asyncio
import gc
import json
import pydoc
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from halo_notebook import ChatPanel, HaloClient, Reply, errors

from ..concurrency.test_usercode import RAISED

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


def has(items: list[str], count: int) -> bool:
    return len(items) == count


def told(page: Wire, name: str) -> bool:
    return any(each["text"].startswith(f"{name} raised") for each in page.of("notice"))


@pytest.mark.parametrize("on_loop", [True, False])
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_callback_raises_ends_nothing(
    error: BaseException, on_loop: bool, client: HaloClient, open_panel: Callable[..., Wire]
) -> None:
    """Neither the kernel nor the loop, sync or async; the callbacks after it are called."""

    def exits(_: Any) -> None:
        raise error

    async def exits_later(_: Any) -> None:
        await asyncio.sleep(0)
        raise error

    class Odd:
        """A callable whose name cannot be read."""

        def __call__(self, _: Any) -> None:
            raise error

        def __getattr__(self, name: str) -> Any:
            raise SystemExit(name)

    def made() -> tuple[Wire, list[Reply]]:
        page, replies = open_panel(client=client), list[Reply]()
        page.panel.observe(exits, ["status"])
        for callback in (exits, exits_later, Odd(), replies.append):
            page.panel.on_reply(callback)
        return page, replies

    async def notebook() -> Wire:
        page, replies = made()
        for number in range(2):
            await page.panel.ask(f"message {number}")
        await asyncio.to_thread(page.wait, lambda: len(replies) == 2)
        return page

    if on_loop:
        page = asyncio.run(notebook())
    else:
        page, replies = made()
        for number in range(2):
            page.panel.ask(f"message {number}").result(10)
        page.wait(lambda: len(replies) == 2)
    for name in ("exits", "exits_later", "Odd", "An observer of status"):
        page.wait(partial(told, page, name))
    assert page.panel.ask("last").result(10).status == "complete"


@pytest.mark.parametrize("awaited", [True, False])
def test_callbacks_of_a_loop_that_has_ended_are_called(
    awaited: bool,
    client: HaloClient,
    open_panel: Callable[..., Wire],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a thread, in order, once; also when it ends while one of them waits. No task is left."""
    for number in range(8):
        called: list[str] = []

        async def slow(reply: Reply, called: list[str] = called) -> None:
            called.append(f"slow {reply.status}")
            await asyncio.sleep(0.05)

        async def notebook(
            slow: Callable[..., Any] = slow, called: list[str] = called, name: str = f"s{number}"
        ) -> Wire:
            page = open_panel(name, client=client)
            page.panel.observe(lambda change: None, ["status", "busy"])
            page.panel.on_reply(slow)
            page.panel.on_reply(lambda reply: called.append(reply.status))
            sent = page.panel.ask("Hello")
            if awaited:
                await sent
            return page

        page = asyncio.run(notebook())
        page.wait(partial(has, called, 2))
        page.panel.ask("Hello again").result(10)
        page.wait(partial(has, called, 4))
        assert called == ["slow complete", "complete"] * 2
        page.panel.close()
    gc.collect()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_callback_may_use_its_panel(client: HaloClient, open_panel: Callable[..., Wire]) -> None:
    """Ask and wait, take a turn of its session, close it: on the kernel's loop and on a thread."""

    def use(page: Wire) -> list[str]:
        panel, texts = page.panel, list[str]()

        def ask(reply: Reply) -> None:
            texts.append(reply.text)
            if len(texts) == 1:
                assert panel.ask("My name is Ada").result(10) is panel.session.turns[1].reply
                panel.session.ask(client, "What is my name?")
                panel.close()
                with pytest.raises(errors.UsageError, match="closed"):
                    panel.ask("more")
                texts.append("done")

        panel.on_reply(ask)
        return texts

    async def notebook() -> None:
        page = open_panel("a", client=client)
        texts = use(page)
        await page.panel.ask("Hello")
        await asyncio.to_thread(page.wait, lambda: "done" in texts)
        assert "Ada" in page.panel.session.turns[2].reply.text

    asyncio.run(notebook())
    page = open_panel("b", client=client)
    texts = use(page)
    page.panel.ask("Hello")
    page.wait(lambda: "done" in texts)


def test_a_callback_that_never_ends_holds_up_no_turn(panel: ChatPanel, page: Wire) -> None:
    """The callbacks behind it wait; the conversation does not."""
    go_on = threading.Event()
    panel.on_reply(lambda reply: go_on.wait(30))
    for number in range(3):
        assert panel.ask(f"message {number}").result(10).status == "complete"
    go_on.set()
    panel.close()


def test_the_fields_show_no_token(panel: ChatPanel, agent: DemoAgent) -> None:
    """In no repr, however they were given; it is sent."""
    token = "aaa.bbb.confidential"
    panel.fields = {"user_id": "u_1", "user_token": token}
    assert repr(panel.fields) == "{'user_id': 'u_1', 'user_token': set}"
    panel.fields["user_token"] = token
    panel.fields.update(user_token=token)
    panel.fields |= {"user_token": token}
    sent = panel.ask("Hello", user_token=token)
    for shown in (panel.fields, dict(panel.fields), panel._state, sent, [*panel._state.outboxes.values()]):
        assert "confidential" not in repr(shown)
    sent.result(10)
    assert agent.requests[0].body["user_token"] == token
    with pytest.raises(errors.ConfigError, match="identity secret"):
        panel.fields["user_token"] = "ha_secret_confidential"


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
    others = set(threading.enumerate())  # such as a recorder's, of an earlier test
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
    threads = {thread.name for thread in {*threading.enumerate()} - others if thread.name.startswith("halo-")}
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
