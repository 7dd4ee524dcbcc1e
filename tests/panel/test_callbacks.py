"""A program's callbacks and observers: in order, on the kernel's loop, and none of them ends a turn."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from halo_notebook import ChatPanel, HaloClient, Reply, errors

if TYPE_CHECKING:
    from halo_notebook.reply import ActionEvent
    from halo_notebook.stream import JSON

    from .conftest import Wire


def test_callbacks_run_on_the_kernels_loop(client: HaloClient, wires: dict[int, Wire]) -> None:
    """Sync and async, in order, each action once and each reply when it has ended."""
    called: list[tuple[str, Any, threading.Thread]] = []

    async def notebook() -> None:
        panel = ChatPanel("docs", client=client)
        done = asyncio.Event()

        async def note_action(event: ActionEvent) -> None:
            await asyncio.sleep(0.02)
            called.append(
                ("async action", cast("dict[str, JSON]", event.payload)["type"], threading.current_thread())
            )

        def note_reply(reply: Reply) -> None:
            called.append(("reply", reply.status, threading.current_thread()))
            done.set()

        panel.on_action(note_action)
        panel.on_reply(note_reply)
        panel.on_reply(lambda reply: called.append(("ended", None, threading.current_thread())))()
        await panel.ask("How do I set up event tracking?")
        await asyncio.wait_for(done.wait(), 10)
        panel.close()

    asyncio.run(notebook())
    assert [what[:2] for what in called] == [
        ("async action", "highlight"),
        ("async action", "navigate"),
        ("reply", "complete"),
    ]
    assert {what[2] for what in called} == {threading.main_thread()}


def test_who_awaits_a_reply_comes_after_its_callbacks(client: HaloClient) -> None:
    """What they have noted is there, turn after turn; nothing of an earlier turn comes late."""
    seen: list[list[str]] = []

    async def notebook() -> None:
        panel = ChatPanel("docs", client=client)
        noted: list[str] = []
        for _ in range(2):
            panel.on_reply(lambda reply: noted.append(reply.text))
        for number in range(5):
            reply = await panel.ask(f"Message {number}")
            assert noted[-2:] == [reply.text] * 2
            seen.append(list(noted))
        panel.close()

    asyncio.run(notebook())
    assert [len(noted) for noted in seen] == [2, 4, 6, 8, 10]


def test_a_click_may_come_on_a_thread_with_a_loop_of_its_own(
    client: HaloClient, wires: dict[int, Wire]
) -> None:
    """As a subshell's do: the turn is taken, and a callback still runs where the notebook's own code does."""
    called_on: list[threading.Thread] = []

    async def notebook() -> None:
        panel = ChatPanel("docs", client=client)
        notebooks_loop = asyncio.get_running_loop()
        wire = wires[id(panel)]
        wire.panel = panel
        done = asyncio.Event()

        async def note(reply: Reply) -> None:
            called_on.append(threading.current_thread())
            done.set()

        panel.on_reply(note)

        async def click() -> None:
            wire.send("My name is Ada")
            wire.ask("sync")
            assert asyncio.get_running_loop() is not notebooks_loop

        await asyncio.to_thread(lambda: asyncio.run(click()))
        await asyncio.wait_for(done.wait(), 10)
        assert (await asyncio.to_thread(wire.turns, 1))[0]["status"] == "complete"
        panel.close()

    asyncio.run(notebook())
    assert called_on == [threading.main_thread()]


def test_a_callback_that_fails_is_named(panel: ChatPanel, page: Wire) -> None:
    """One line in the page; the conversation and the other callbacks go on."""
    replies: list[Reply] = []

    def breaks(reply: Reply) -> None:
        raise ValueError("no such\nrow")

    panel.on_reply(breaks)
    panel.on_reply(replies.append)
    panel.ask("Hello").result(10)
    notice = page.wait(lambda: page.of("notice"))[0]
    assert notice["text"] == "breaks raised ValueError: no such row. The conversation continues."
    page.wait(lambda: len(replies) == 1)
    with pytest.raises(errors.UsageError):
        panel.on_reply(cast(Any, "not callable"))


def test_state_can_be_observed(panel: ChatPanel, page: Wire) -> None:
    """`busy` and `status` follow the turn; they cannot be set."""
    seen: list[tuple[str, Any]] = []
    panel.observe(lambda change: seen.append((change["name"], change["new"])), ["busy", "status"])
    panel.ask("Hello").result(10)
    page.wait(lambda: panel.status == "complete" and not panel.busy and seen[-1] == ("busy", False))
    assert ("busy", True) in seen and seen[-1] in (("busy", False), ("status", "complete"))
    with pytest.raises(Exception, match="read-only"):
        panel.busy = True


def test_an_observer_that_fails_ends_nothing(panel: ChatPanel, page: Wire) -> None:
    """It is named in the panel; turns, state and results go on."""

    def breaks(change: Any) -> None:
        raise ZeroDivisionError("no")

    panel.observe(breaks, ["status", "busy"])
    for number in range(3):
        assert panel.ask(f"message {number}").result(10).status == "complete"
    page.turns(3)
    assert (panel.busy, panel.status) == (False, "complete")
    named = "An observer of status raised ZeroDivisionError: no. The conversation continues."
    page.wait(lambda: named in {each["text"] for each in page.of("notice")})
