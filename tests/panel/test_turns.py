"""What a panel tells its page of a turn, while it arrives and when it has ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from halo_notebook.concurrency.loop import in_worker, spawn
from halo_notebook.panel.follower import MIN_INTERVAL_S
from halo_notebook.panel.views import Frames, View
from halo_notebook.stream import JSON, Action, TextDelta

from ..harness.faults import FAULTS, Fault
from .test_views import Page, actions

if TYPE_CHECKING:
    from halo_notebook import ChatPanel, HaloClient
    from halo_notebook.demo import DemoAgent, Step

    from .conftest import Message, Wire


def test_a_message_becomes_a_turn(panel: ChatPanel, page: Wire) -> None:
    """It begins with the page's own id, its frames add up to the reply, and the complete turn comes last."""
    assert "error" not in page.send("How do I set up event tracking?", "mine")
    turn = page.turns(1)[0]
    begun = page.of("begin")[0]["turn"]
    assert (begun["cid"], begun["key"], begun["asked"]) == ("mine", "t1", "How do I set up event tracking?")
    shown = Page()
    for frame in page.of("frame"):
        shown.take(frame)
    assert turn["items"][: len(shown.items)] == shown.items
    reply = panel.session.turns[0].reply
    assert (turn["status"], turn["agent"], turn["cid"]) == ("complete", "agent_demo", "mine")
    assert turn["text"] == reply.text
    assert [json.loads(action["json"]) for action in actions(turn)] == reply.actions
    assert turn["first_text_s"] <= turn["elapsed_s"]
    assert turn["again"] == ""


def test_messages_are_numbered_without_a_gap(panel: ChatPanel, page: Wire) -> None:
    """Within an epoch each number is one more than the last; a beat repeats it, a snapshot names it."""
    for number in range(3):
        panel.ask(f"Message {number}").result(10)
    page.turns(3)
    epoch, seq = 0, 0
    for message in page.messages:
        if message["kind"] == "snapshot":
            epoch, seq = message["epoch"], message["seq"]
        elif message["kind"] not in ("answer", "notice", "closed", "beat"):
            assert (message["epoch"], message["seq"]) == (epoch, seq + 1)
            seq += 1


def test_a_page_that_missed_messages_is_brought_up_to_date(page: Wire, agent: DemoAgent) -> None:
    """A snapshot in mid-reply and the frames after it add up to the same as all frames do."""
    go_on, end = threading.Event(), threading.Event()

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("# A head\n\nA paragraph.\n\nFirst *half*, ")
        yield Action({"type": "one"})
        while not go_on.is_set():
            yield 0.01
        for word in ("second ", "half.", "\n\n", "And ", "a ", "last ", "block"):
            yield TextDelta(word)
            yield 0.07
        while not end.is_set():  # what arrives with the end comes in no frame
            yield 0.01

    agent._reply = reply
    known = len(page.of("snapshot"))
    lost: list[Message] = []

    def is_lost(message: Message) -> bool:
        found = message["kind"] == "frame" and len(page.of("snapshot")) == known
        lost.extend([message] if found else [])
        return found

    page.lost = is_lost
    page.send("go")
    running = page.running()
    # The first frame may hold only the beginning of a block.
    page.wait(
        lambda: "half" in running.text and running.action_events and any(message["items"] for message in lost)
    )
    page.ask("sync")
    snapshot = page.of("snapshot")[-1]

    def with_frames() -> Page:
        shown = Page(snapshot["live"])
        for frame in page.of("frame"):
            if frame["seq"] > snapshot["seq"]:
                shown.take(frame)
        return shown

    go_on.set()
    page.wait(lambda: "last block" in with_frames().html)
    end.set()
    shown, turn = with_frames(), page.turns(1)[0]
    assert snapshot["live"]["items"] and [action["id"] for action in shown.actions] == ["a1"]
    assert "".join(item.get("html", "") for item in turn["items"]) == shown.html


def test_turns_of_others_show_in_the_panel(
    page: Wire, client: HaloClient, open_panel: Callable[..., Wire]
) -> None:
    """A turn of a program or of another panel is shown by each panel on the session, and by no other."""
    second, other = open_panel(client=client), open_panel("other", client=client)
    page.panel.session.ask(client, "My name is Ada")
    second.panel.ask("What is my name?").result(10)
    for wire in (page, second):
        turns = wire.turns(2)
        assert [turn["asked"] for turn in turns] == ["My name is Ada", "What is my name?"]
        assert "Ada" in turns[1]["text"]
    assert [begin["turn"]["cid"] for begin in page.of("begin")] == [None, None]
    assert other.of("begin") == []


def test_ten_panels_on_a_session_cost_what_one_does(
    client: HaloClient, agent: DemoAgent, open_panel: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its cell is run ten times: one rendering, and no messages for panels that no page shows."""
    rendered: list[View] = []
    frame = Frames.frame

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        for word in ("Some text.", " And more."):
            shown = len(rendered)
            yield TextDelta(word)
            while len(rendered) == shown:
                yield 0.01

    def counted(frames: Frames) -> View:
        rendered.append(frame(frames))
        return rendered[-1]

    monkeypatch.setattr(Frames, "frame", counted)
    agent._reply = reply
    first, *others, last = [open_panel(client=client) for _ in range(10)]
    for wire in (first, *others):
        wire.ask("views", count=0)
        assert wire.of("views")  # another page may show it
    counts = [len(wire.messages) for wire in others]
    first.panel.ask("Hello").result(10)
    assert len(rendered) == len(last.of("frame")) >= 2
    assert [len(wire.messages) for wire in others] == counts
    first.ask("views", count=1)
    missed = first.of("snapshot")[-1]["turns"]
    assert missed == [last.turns(1)[0] | {"cid": missed[0]["cid"]}]
    first.panel.ask("Hello").result(10)
    assert first.of("frame") and len(rendered) == len(last.of("frame"))


def test_a_reply_costs_few_messages(page: Wire, agent: DemoAgent) -> None:
    """2,000 chunks in two seconds: some thirty deltas, a fraction of what whole texts would be."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        for number in range(2_000):
            yield TextDelta(f"word {number % 7} " + ("\n\n" if number % 40 == 0 else ""))
            if number % 10 == 0:
                yield 0.01

    agent._reply = reply
    began = time.monotonic()
    page.panel.ask("go").result(30)
    assert len(page.of("frame")) <= (time.monotonic() - began) / MIN_INTERVAL_S + 3
    assert len(json.dumps(page.of("frame"))) < 100_000
    assert page.turns(1)[0]["text"].count("word") == 2_000


def test_stop_does_not_wait_for_rendering(panel: ChatPanel, page: Wire, release: threading.Event) -> None:
    """The turn has ended, and its connection is closed, while the worker thread is busy."""
    rendering = threading.Event()
    sent = panel.ask("one")
    page.wait(lambda: page.of("frame"))
    spawn(in_worker(rendering.wait))
    assert "error" not in page.ask("stop")
    page.wait(lambda: panel.session.turns[0].reply.status == "stopped" and not panel.session.busy)
    assert not sent.done()
    rendering.set()
    assert sent.result(10).status == "stopped"


def test_a_silent_turn_gives_signs_of_life(
    page: Wire, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a page can tell silence from a lost message: they carry the last number used."""
    monkeypatch.setattr("halo_notebook.panel.follower.BEAT_S", 0.05)
    page.send("hi")
    beats = page.wait(lambda: len(page.of("beat")) > 2 and page.of("beat"))
    numbered = [message for message in page.messages if message["kind"] in ("begin", "frame")]
    assert beats[-1]["seq"] == numbered[-1]["seq"]
    release.set()
    page.turns(1)
    time.sleep(0.2)
    assert page.messages[-1]["kind"] != "beat"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_failure_shows_in_its_turn(
    fault: Fault, panel: ChatPanel, page: Wire, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error's one line, the text received so far, and whether sending again could act twice."""
    monkeypatch.setattr("halo_notebook.client.exchange._BACKOFF_S", 0.01)
    agent.faults.extend([fault.name] * 3)
    sent = panel.ask("Hello")
    turn = page.turns(1)[0]
    assert fault.text in turn["text"]
    if fault.error is None:
        assert sent.result(10).status == turn["status"] == "complete"
        return
    with pytest.raises(fault.error) as caught:
        sent.result(10)
    assert (turn["status"], turn["error"]) == ("failed", str(caught.value))
    assert all(word in turn["error"] for word in fault.words)
    assert turn["again"] == ("safe" if not panel.session.turns[0].reply.may_have_arrived else "twice")
    assert len(agent.requests) == fault.sent
    page.wait(lambda: not panel.busy)
    assert panel.status == "failed"


def test_again_sends_the_same_message(panel: ChatPanel, page: Wire, agent: DemoAgent) -> None:
    """With the fields that went with it, in a turn of its own, in the session as it is now."""
    agent.faults.append("500")
    panel.ask("Hello", context={"plan": "team"})
    page.turns(1)
    assert "error" not in page.ask("again", key="t1")
    turns = page.turns(2)
    assert turns[1]["status"] == "complete"
    first, second = (request.body for request in agent.requests)
    assert second["message"] == first["message"] == "Hello"
    assert second["context"] == first["context"] == {"plan": {"label": "plan", "value": "team"}}


@pytest.mark.parametrize("how", ["opened", "switched", "looked at again"])
def test_a_panel_that_comes_to_a_running_turn_shows_what_has_come(
    how: str,
    page: Wire,
    release: threading.Event,
    open_panel: Callable[..., Wire],
    client: HaloClient,
) -> None:
    """At once, before the next chunk; also if nobody has looked so far."""
    second = open_panel("other", client=client)
    page.ask("views", count=0)
    page.panel.ask("one")
    page.running()
    if how == "opened":
        second = open_panel("docs", client=client)
    elif how == "switched":
        second.ask("switch", name="docs")
    else:
        second = page
        page.ask("views", count=1)

    def shown() -> str:
        live = Page(second.of("snapshot")[-1]["live"])
        for frame in second.of("frame"):
            live.take(frame)
        return live.html

    second.wait(lambda: "one: first" in shown())
