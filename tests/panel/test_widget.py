"""The chat panel's kernel side: what it tells the page, what the page may ask, and what it sends."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import anywidget
import pytest

from halo_notebook import ChatPanel, HaloClient, Reply, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.panel.widget import MAX_NOTE_CHARS, MAX_SNAPSHOT_BYTES, MAX_SNAPSHOT_TURNS
from halo_notebook.stream import JSON, Action, TextDelta

from ..harness.faults import FAULTS, Fault
from .test_views import Page, actions

if TYPE_CHECKING:
    from halo_notebook.reply import ActionEvent

    from ..harness.kernels import Kernel

Message = dict[str, Any]


class Wire:
    """What a panel's page gets, and what it asks.

    Attributes:
        messages: the custom messages so far.
        lost: says of a message whether it is lost on its way.
    """

    def __init__(self) -> None:
        self.panel: ChatPanel
        self.messages: list[Message] = []
        self.lost: Callable[[Message], bool] = lambda message: False
        self._changed = threading.Condition()
        self._asked = 0

    def put(self, message: Message) -> None:
        with self._changed:
            if not self.lost(message):
                # As it comes out of a browser's parser.
                self.messages.append(json.loads(json.dumps(message, allow_nan=False)))
            self._changed.notify_all()

    def of(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message["kind"] == kind]

    def wait(self, condition: Callable[[], Any], timeout_s: float = 10) -> Any:
        """What the condition gives once that is true; it is looked at when a message has come."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (value := condition()):
                left = deadline - time.monotonic()
                assert left > 0, f"waited {timeout_s} s; came: {[str(each)[:200] for each in self.messages]}"
                self._changed.wait(min(left, 0.05))
        return value

    def turns(self, count: int) -> list[Message]:
        """The turns that have ended, when there are so many."""

        def ended() -> list[Message]:
            latest = {message["turn"]["key"]: message["turn"] for message in self.of("turn")}
            return list(latest.values()) if len(latest) >= count else []

        return cast("list[Message]", self.wait(ended))

    def ask(self, kind: str, *, cid: str | None = None, **content: Any) -> Message:
        """Put a request as the page does; its answer."""
        self._asked += 1
        cid = cid or f"cid-{self._asked}"
        before = len(self.of("answer"))
        self.panel._asked(self.panel, {"kind": kind, "cid": cid, **content}, [])
        answers = self.of("answer")[before:]
        assert [answer["cid"] for answer in answers] == [cid]
        return answers[0]

    def send(self, text: str, cid: str | None = None) -> Message:
        return self.ask("send", text=text, cid=cid)


@pytest.fixture
def wires(monkeypatch: pytest.MonkeyPatch) -> dict[int, Wire]:
    """The wire of each panel that the test makes, by the panel's id."""
    made: dict[int, Wire] = {}
    monkeypatch.setattr(
        anywidget.AnyWidget,
        "send",
        lambda panel, content, buffers=None: made.setdefault(id(panel), Wire()).put(content),
    )
    return made


class Held:
    """An agent that says one thing, waits for `release`, and says another."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self, request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta(f"{request['message']}: first ")
        while not self.release.is_set():
            yield 0.01
        yield TextDelta("and last.")


@pytest.fixture
def panel(client: HaloClient, wires: dict[int, Wire]) -> Iterator[ChatPanel]:
    made = ChatPanel("docs", client=client)
    yield made
    made.close()


@pytest.fixture
def page(panel: ChatPanel, wires: dict[int, Wire]) -> Wire:
    wire = wires[id(panel)]
    wire.panel = panel
    return wire


@pytest.fixture
def held(agent: DemoAgent) -> Iterator[Held]:
    """The agent waits in mid-reply; it goes on in the end, whatever the test does."""
    reply = Held()
    agent._reply = reply
    yield reply
    reply.release.set()


# --- A turn ---


def test_a_message_becomes_a_turn(panel: ChatPanel, page: Wire) -> None:
    """It begins under the page's own id, its frames add up to the reply, and the whole comes at the end."""
    assert "error" not in page.send("How do I set up event tracking?", "mine")
    turn = page.turns(1)[0]
    begun = page.of("begin")[0]["turn"]
    assert (begun["cid"], begun["key"], begun["asked"]) == ("mine", "t1", "How do I set up event tracking?")
    shown = Page()
    for frame in page.of("frame"):
        shown.take(frame)
    assert turn["items"][: len(shown.items)] == shown.items
    reply = panel.session.turns[0].reply
    assert (turn["status"], turn["text"], turn["agent"], turn["cid"]) == (
        "complete",
        reply.text,
        "agent_demo",
        "mine",
    )
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


def test_a_page_that_missed_messages_is_brought_up_to_date(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """A snapshot in mid-reply and the frames after it add up to the same as all frames do."""
    go_on = threading.Event()

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("# A head\n\nA paragraph.\n\nFirst *half*, ")
        yield Action({"type": "one"})
        while not go_on.is_set():
            yield 0.01
        for word in ("second ", "half.", "\n\n", "And ", "a ", "last ", "block"):
            yield TextDelta(word)
            yield 0.07

    agent._reply = reply
    page.lost = lambda message: message["kind"] == "frame" and not go_on.is_set()
    page.send("go")
    panel_reply = page.wait(lambda: panel.session.turns and panel.session.turns[0].reply)
    page.wait(lambda: "half" in panel_reply.text and panel_reply.action_events)
    time.sleep(0.2)  # for the frames that are lost
    page.ask("sync")
    snapshot = page.of("snapshot")[-1]
    go_on.set()
    shown = Page(snapshot["live"])
    turn = page.turns(1)[0]
    for frame in page.of("frame"):
        if frame["seq"] > snapshot["seq"]:
            shown.take(frame)
    assert snapshot["live"]["items"] and [action["id"] for action in shown.actions] == ["a1"]
    assert "".join(item.get("html", "") for item in turn["items"]) == shown.html


def test_what_others_say_in_the_session_shows(
    panel: ChatPanel, page: Wire, client: HaloClient, wires: dict[int, Wire]
) -> None:
    """A turn that a program or another panel takes comes to each panel on the session, and to no other."""
    second = ChatPanel("docs", client=client)
    second._register = panel._register
    second._attach(panel.session)
    other = ChatPanel("other", client=client)
    try:
        panel.session.ask(client, "My name is Ada")
        second.ask("What is my name?").result(10)
        for wire in (page, wires[id(second)]):
            turns = wire.turns(2)
            assert [turn["asked"] for turn in turns] == ["My name is Ada", "What is my name?"]
            assert "Ada" in turns[1]["text"]
        assert [wire["turn"]["cid"] for wire in page.of("begin")] == [None, None]
        assert wires[id(other)].of("begin") == []
    finally:
        second.close()
        other.close()


def test_a_silent_turn_gives_signs_of_life(
    panel: ChatPanel, page: Wire, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a page can tell silence from a lost message: they carry the last number used."""
    monkeypatch.setattr("halo_notebook.panel.widget.BEAT_S", 0.05)
    page.send("hi")
    beats = page.wait(lambda: len(page.of("beat")) > 2 and page.of("beat"))
    numbered = [message for message in page.messages if message["kind"] in ("begin", "frame")]
    assert beats[-1]["seq"] == numbered[-1]["seq"]
    held.release.set()
    page.turns(1)
    time.sleep(0.2)
    assert page.messages[-1]["kind"] != "beat"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_failure_shows_in_its_turn(
    fault: Fault, panel: ChatPanel, page: Wire, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error's one line, what had arrived, and whether sending again could act twice."""
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


def test_without_a_connection_sending_again_is_safe(wires: dict[int, Wire]) -> None:
    """Nothing had left, and the page says so."""
    panel = ChatPanel("off", client=HaloClient(DEMO_KEY, base_url="http://127.0.0.1:1", max_retries=0))
    wires[id(panel)].panel = panel
    panel.ask("Hello")
    turn = wires[id(panel)].turns(1)[0]
    assert (turn["status"], turn["again"]) == ("failed", "safe")
    assert "was not sent" in turn["error"]
    panel.close()


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


# --- What waits ---


def test_a_message_waits_for_the_one_before(panel: ChatPanel, page: Wire, held: Held) -> None:
    """It shows as waiting, can be taken back, and goes out in its turn."""
    page.send("one", "c1")
    page.wait(lambda: page.of("begin"))
    page.send("two", "c2")
    page.send("three", "c3")
    assert [message["cid"] for message in page.of("queue")[-1]["queue"]] == ["c2", "c3"]
    assert panel.busy
    assert "error" not in page.ask("unqueue", which="c2")
    assert [message["cid"] for message in page.of("queue")[-1]["queue"]] == ["c3"]
    held.release.set()
    turns = page.turns(2)
    assert [turn["asked"] for turn in turns] == ["one", "three"]
    assert page.of("queue")[-1]["queue"] == []
    assert "waits no longer" in page.ask("unqueue", which="c3")["error"]


def test_what_waits_is_held_back_when_a_turn_is_stopped(
    panel: ChatPanel, page: Wire, held: Held, agent: DemoAgent
) -> None:
    """Stop keeps what had arrived; the next message goes out when it is told to, and not before."""
    page.send("one")
    page.wait(lambda: panel.session.turns and panel.session.turns[0].reply.text)
    page.send("two", "c2")
    page.ask("stop")
    turn = page.turns(1)[0]
    assert (turn["status"], turn["text"], turn["again"]) == ("stopped", "one: first ", "twice")
    queued = page.wait(lambda: page.of("queue")[-1]["queue"][0]["held"] and page.of("queue")[-1]["queue"])
    assert queued == [{"cid": "c2", "text": "two", "held": True, "error": ""}]
    page.wait(lambda: not panel.busy)
    assert panel.status == "stopped"
    assert len(agent.requests) == 1

    held.release.set()
    assert "error" not in page.ask("release", which="c2")
    assert page.turns(2)[1]["asked"] == "two"


def test_what_is_told_to_go_after_a_stop_goes(
    panel: ChatPanel, page: Wire, held: Held, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the stopped turn is quite over: it does not have to be told twice."""
    over = threading.Event()
    commit = ChatPanel._commit

    def late(self: ChatPanel, follower: Any) -> None:
        if threading.current_thread().name == "halo-panel-send":
            over.wait(10)
        commit(self, follower)

    page.send("one")
    page.wait(lambda: panel.session.turns and panel.session.turns[0].reply.text)
    page.send("two", "c2")
    monkeypatch.setattr(ChatPanel, "_commit", late)
    page.ask("stop")
    held.release.set()
    assert "error" not in page.ask("release", which="c2")
    third = panel.ask("three")
    over.set()
    assert third.result(10).status == "complete"
    assert [request.body["message"] for request in agent.requests] == ["one", "two", "three"]


def test_a_message_that_is_refused_stays_with_the_reason(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """No turn came of it, nothing was sent, and a program gets the error."""
    page.send("x" * 10_001, "long")
    queued = page.wait(
        lambda: page.of("queue") and page.of("queue")[-1]["queue"][0]["held"] and page.of("queue")
    )
    message = queued[-1]["queue"][0]
    assert message["cid"] == "long" and "the API takes 10,000" in message["error"]
    with pytest.raises(errors.InvalidRequest):
        panel.ask("Hello", mode="loud").result(10)
    assert panel.session.turns == []
    page.ask("unqueue", which="long")
    assert panel.ask("Hello").result(10).status == "complete"
    assert len(agent.requests) == 1


def test_settings_that_are_wrong_show_when_something_is_sent(
    wires: dict[int, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The panel comes up all the same; the message stays, with the reason."""
    monkeypatch.setenv("HALO_API_KEY", "ha_secret_confidential")
    panel = ChatPanel("docs")
    wire = wires[id(panel)]
    wire.panel = panel
    wire.send("Hello", "mine")
    wire.wait(lambda: wire.of("queue") and wire.of("queue")[-1]["queue"][0]["held"])
    message = wire.of("queue")[-1]["queue"][0]
    assert message["error"].startswith("An identity secret") and "confidential" not in str(wire.messages)
    monkeypatch.delenv("HALO_API_KEY")
    wire.ask("release", which="mine")
    assert wire.turns(1)[0]["source"] == "demo agent"
    panel.close()
    panel._connection.stop_demo()


def test_a_message_that_comes_twice_is_sent_once(panel: ChatPanel, page: Wire, agent: DemoAgent) -> None:
    """A page that got no answer may ask again: the kernel knows the request by its id."""
    page.send("Open a ticket", "same")
    page.turns(1)
    assert page.send("Open a ticket", "same") == {"kind": "answer", "cid": "same"}
    page.send("Hello", "other")
    page.turns(2)
    assert [request.body["message"] for request in agent.requests] == ["Open a ticket", "Hello"]


def test_a_program_can_wait_for_its_reply(panel: ChatPanel) -> None:
    """By `result`, or by awaiting it on a loop; `cancel` takes back what has not left."""
    assert panel.ask("My name is Ada").result(10).status == "complete"

    async def ask() -> Reply:
        return await panel.ask("What is my name?")

    assert "Ada" in asyncio.run(ask()).text
    sent = panel.ask("Hello")
    sent.result(10)
    assert repr(sent) == "Sent('Hello', ended)"


def test_send_is_what_it_is_for_every_widget(panel: ChatPanel, page: Wire) -> None:
    """ipywidgets and anywidget call `send` to reach the page."""
    panel.send({"kind": "custom"})
    assert page.messages[-1] == {"kind": "custom"}


def test_a_cancelled_message_is_not_sent(panel: ChatPanel, page: Wire, held: Held, agent: DemoAgent) -> None:
    """As long as it waits."""
    first = panel.ask("one")
    page.wait(lambda: page.of("begin"))
    second = panel.ask("two")
    assert second.cancel()
    held.release.set()
    assert first.result(10).text.endswith("last.")
    assert panel.ask("three").result(10).status == "complete"
    assert [request.body["message"] for request in agent.requests] == ["one", "three"]


def test_the_panels_fields_go_with_each_message(panel: ChatPanel, agent: DemoAgent) -> None:
    """And those of one message before them."""
    panel.fields = {"user_id": "u_1", "company_id": "c_1"}
    panel.ask("Hello", company_id="c_2").result(10)
    body = agent.requests[-1].body
    assert (body["user_id"], body["company_id"]) == ("u_1", "c_2")


def test_sessions_run_side_by_side(panel: ChatPanel, page: Wire, held: Held) -> None:
    """A turn in one session keeps no message of another waiting."""
    page.send("one")
    page.wait(lambda: page.of("begin"))
    panel.session_name = "other"
    assert page.of("snapshot")[-1]["session"] == "other"
    page.send("two")
    page.wait(lambda: [each["turn"]["asked"] for each in page.of("begin")] == ["one", "two"])
    assert panel._register["docs"].busy
    held.release.set()
    assert page.turns(1)[0]["asked"] == "two"
    panel.session_name = "docs"
    page.wait(lambda: not panel.busy)
    page.ask("sync")
    assert [turn["asked"] for turn in page.of("snapshot")[-1]["turns"]] == ["one"]


@pytest.mark.parametrize("how", ["another session", "a new conversation", "close"])
def test_what_waits_goes_on_when_the_panel_looks_elsewhere(
    how: str, panel: ChatPanel, page: Wire, held: Held, agent: DemoAgent
) -> None:
    """The turn and the queue are the session's: each is answered once, in its own conversation."""
    sent = [panel.ask(text) for text in ("one", "two", "three")]
    session = panel.session
    page.wait(lambda: session.turns and session.turns[0].reply.text)
    if how == "another session":
        panel.session_name = "other"
    elif how == "a new conversation":
        panel._register.new("docs")
        assert "goes on as 'docs-1'" in page.of("notice")[0]["text"]
    else:
        panel.close()
    held.release.set()
    assert [each.result(10).text for each in sent] == [
        f"{text}: first and last." for text in ("one", "two", "three")
    ]
    assert [turn.message for turn in session.turns] == ["one", "two", "three"]
    assert [request.body["message"] for request in agent.requests] == ["one", "two", "three"]
    if how != "close":
        panel.session_name = session.name
        page.wait(lambda: not panel.busy)
        assert page.of("snapshot")[-1]["queue"] == []
        assert panel.ask("four").result(10).status == "complete"
    assert (panel.busy, panel.status) == (False, "closed" if how == "close" else "complete")


def test_an_observer_that_fails_ends_nothing(panel: ChatPanel, page: Wire) -> None:
    """It is named in the panel; turns, state and results go on."""

    def breaks(change: Any) -> None:
        raise ZeroDivisionError("no")

    panel.observe(breaks, ["status", "busy"])
    for number in range(3):
        assert panel.ask(f"message {number}").result(10).status == "complete"
    page.turns(3)
    assert (panel.busy, panel.status) == (False, "complete")
    assert "An observer of status raised ZeroDivisionError: no." in {
        each["text"] for each in page.of("notice")
    }


def test_state_is_right_when_a_result_is_there(panel: ChatPanel, page: Wire) -> None:
    """Whoever has the reply finds the panel at rest, and the page has been told."""
    for number in range(1, 6):
        panel.ask("Hello").result(10)
        assert (panel.busy, panel.status) == (False, "complete")
        assert len({each["turn"]["key"] for each in page.of("turn")}) == number


def test_stop_right_after_sending(panel: ChatPanel, held: Held) -> None:
    """Nothing of what was sent comes to its end, and who waits for it is told."""
    for _ in range(10):
        first, second = panel.ask("one"), panel.ask("two")
        panel.stop()
        # Stopped in its turn, or before one began: then it raises, as what is held does.
        error = first.exception(10)
        assert isinstance(error, errors.ReplyStopped) or first.result().status == "stopped"
        with pytest.raises(errors.ReplyStopped, match="Held back"):
            second.result(10)
        assert not panel.busy or panel.session.busy


def test_what_is_held_tells_who_waits_for_it(panel: ChatPanel, page: Wire, held: Held) -> None:
    """Its result raises at once; sent from the page, it is a turn like any other."""
    panel.ask("one")
    page.wait(lambda: panel.session.turns and panel.session.turns[0].reply.text)
    second = panel.ask("two")
    panel.stop()
    with pytest.raises(errors.ReplyStopped, match="a turn before it was stopped or failed"):
        second.result(10)
    assert "ended" in repr(second)
    held.release.set()
    which = page.wait(lambda: page.of("queue") and page.of("queue")[-1]["queue"])[0]["cid"]
    page.wait(lambda: not panel.session.busy)
    page.ask("release", which=which)
    assert page.turns(2)[1]["asked"] == "two"


def test_an_interrupt_ends_the_waiting_alone(panel: ChatPanel, page: Wire, held: Held) -> None:
    """One line says that the turn goes on."""
    sent = panel.ask("one")
    page.wait(lambda: page.of("begin"))
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(errors.HaloError, match="The turn goes on"):
        sent.result(10)
    held.release.set()
    assert sent.result(10).status == "complete"


def test_a_message_goes_with_the_fields_as_they_are_then(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """One that was refused for its fields can be sent when they have been mended."""
    panel.fields = {"user_id": 5}
    page.send("Hello", "mine")
    page.wait(lambda: page.of("queue") and page.of("queue")[-1]["queue"][0]["error"])
    panel.fields = {"user_id": "u_1"}
    page.ask("release", which="mine")
    page.turns(1)
    assert agent.requests[-1].body["user_id"] == "u_1"
    bad: list[Any] = [7, None, {1: 2}, {"message": "x"}]
    for fields in bad:
        panel.fields = fields
        with pytest.raises(errors.InvalidRequest, match="Nothing was sent"):
            panel.ask("Hello").result(10)


# --- Sessions, ratings, export ---


def test_switching_shows_the_other_session_whole(panel: ChatPanel, page: Wire) -> None:
    """A new epoch begins with a snapshot; the menu lists every session of the kernel."""
    panel.ask("My name is Ada").result(10)
    page.turns(1)
    page.ask("switch", name=" second ")
    snapshot = page.of("snapshot")[-1]
    assert (panel.session_name, snapshot["session"], snapshot["turns"]) == ("second", "second", [])
    assert {"name": "docs", "turns": 1} in snapshot["sessions"]
    page.ask("switch", name="docs")
    assert [turn["asked"] for turn in page.of("snapshot")[-1]["turns"]] == ["My name is Ada"]
    assert "at most 100" in page.ask("switch", name="x" * 101)["error"]
    assert "at most 100" in page.ask("switch", name="\n")["error"]


def test_a_new_conversation_keeps_the_old_one(panel: ChatPanel, page: Wire) -> None:
    """Under NAME-1, whoever starts it: the page or a line in a cell."""
    panel.ask("My name is Ada").result(10)
    page.ask("new")
    assert panel.session.turns == [] and panel.session_name == "docs"
    assert "have not told me" in panel.ask("What is my name?").result(10).text
    panel._register.new("docs")
    snapshot = page.of("snapshot")[-1]
    assert snapshot["turns"] == []
    names = {each["name"]: each["turns"] for each in snapshot["sessions"]}
    assert (names["docs"], names["docs-1"], names["docs-2"]) == (0, 1, 1)


def test_a_turn_is_rated(panel: ChatPanel, page: Wire) -> None:
    """The rating is on the turn in the kernel, on every page and in the export."""
    panel.ask("Hello").result(10)
    page.turns(1)
    assert "error" not in page.ask("rate", key="t1", value="down", note="Too *short*." + "x" * 5_000)
    rating = panel.session.turns[0].rating
    assert rating is not None
    assert rating.value == "down" and len(rating.note) == MAX_NOTE_CHARS
    page.wait(lambda: page.of("turn")[-1]["turn"]["rating"])
    assert page.of("turn")[-1]["turn"]["rating"]["value"] == "down"
    panel.session.rate(panel.session.turns[0], "up", "Good.")
    assert page.of("turn")[-1]["turn"]["rating"] == {"value": "up", "note": "Good."}
    exported = json.loads(page.ask("export", format="json")["text"])
    assert exported["turns"][0]["rating"] == {"value": "up", "note": "Good."}
    markdown = page.ask("export", format="markdown")
    assert markdown["name"] == "docs.md" and "*(rated up)*\n\nGood." in markdown["text"]
    page.ask("rate", key="t1", value="", note="")
    assert panel.session.turns[0].rating is None
    assert "error" in page.ask("rate", key="t1", value="sideways", note="")
    assert "error" in page.ask("rate", key="t9", value="up", note="")


def test_a_large_export_comes_in_parts(panel: ChatPanel, page: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page asks for one after the other; together they are the whole, as it was at first."""
    panel.ask("My name is Ada").result(10)
    whole = page.ask("export", format="markdown")
    assert whole["parts"] == 1
    monkeypatch.setattr("halo_notebook.panel.widget.EXPORT_PART_CHARS", 50)
    parts = [page.ask("export", format="markdown")]
    panel.ask("What is my name?").result(10)
    while len(parts) < parts[0]["parts"]:
        parts.append(page.ask("export", format="markdown", part=len(parts)))
    assert len(parts) > 2
    assert "".join(part["text"] for part in parts) == whole["text"]
    assert "error" in page.ask("export", format="markdown", part=99)
    assert "error" in page.ask("export", format="markdown", part="x")


def test_a_long_conversation_comes_in_parts(
    panel: ChatPanel, page: Wire, agent: DemoAgent, client: HaloClient
) -> None:
    """A snapshot holds the last turns and fits a message; asking for earlier ones leads to the first."""
    agent._reply = lambda request: [TextDelta("word " * 4_000)]
    for number in range(100):
        panel.session.ask(client, f"Message {number}")
    page.turns(100)
    page.ask("sync")
    snapshot = page.of("snapshot")[-1]
    assert len(json.dumps(snapshot)) < MAX_SNAPSHOT_BYTES + 50_000
    numbers = [turn["number"] for turn in snapshot["turns"]]
    assert numbers == list(range(101 - len(numbers), 101)) and len(numbers) <= MAX_SNAPSHOT_TURNS
    assert snapshot["earlier"] == 100 - len(numbers)
    while numbers[0] > 1:
        answer = page.ask("earlier", before=numbers[0])
        assert answer["turns"] and answer["before"] == numbers[0]
        numbers = [turn["number"] for turn in answer["turns"]] + numbers
        assert answer["earlier"] == numbers[0] - 1
    assert numbers == list(range(1, 101))


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "nothing of that name"},
        {"kind": "send"},
        {"kind": "send", "text": " "},
        {"kind": "send", "text": 3},
        {"kind": "rate", "key": "t0", "value": "up", "note": ""},
        {"kind": "again", "key": "t²"},
        {"kind": "earlier"},
        {"kind": "release", "which": "x"},
        {"kind": "switch", "name": ""},
    ],
)
def test_a_request_that_makes_no_sense_is_answered(request_: Message, panel: ChatPanel, page: Wire) -> None:
    """By one line, and nothing changes."""
    kind = request_["kind"]
    answer = page.ask(kind, **{name: value for name, value in request_.items() if name != "kind"})
    assert answer["error"]
    assert panel.session.turns == [] and panel.session_name == "docs"


def test_what_is_no_request_is_ignored(panel: ChatPanel, page: Wire) -> None:
    """A page of another version may send anything."""
    before = len(page.messages)
    samples: list[Any] = [None, [], "text", {}, {"kind": "send", "cid": 3, "text": "x"}]
    for content in samples:
        panel._asked(panel, content, [])
    assert len(page.messages) == before


# --- A program's callbacks ---


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
        panel.on_reply(lambda reply: noted.append(reply.text))
        for number in range(5):
            reply = await panel.ask(f"Message {number}")
            await asyncio.sleep(0)
            assert noted[-1] == reply.text
            seen.append(list(noted))
        panel.close()

    asyncio.run(notebook())
    assert [len(noted) for noted in seen] == [1, 2, 3, 4, 5]


def test_a_click_may_come_on_a_thread_with_a_loop_of_its_own(
    client: HaloClient, wires: dict[int, Wire]
) -> None:
    """As a subshell's do: the turn is taken, and a callback still runs where the notebook's own code does."""
    called_on: list[threading.Thread] = []

    async def notebook() -> None:
        panel = ChatPanel("docs", client=client)
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
            assert asyncio.get_running_loop() is not panel._loop

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
    assert notice["text"] == "breaks raised ValueError: no such row. The conversation goes on."
    page.wait(lambda: len(replies) == 1)
    with pytest.raises(errors.UsageError):
        panel.on_reply(cast(Any, "not callable"))


def test_state_can_be_observed(panel: ChatPanel, page: Wire) -> None:
    """`busy` and `status` follow the turn; they cannot be set."""
    seen: list[tuple[str, Any]] = []
    panel.observe(lambda change: seen.append((change["name"], change["new"])), ["busy", "status"])
    panel.ask("Hello").result(10)
    page.wait(lambda: panel.status == "complete" and not panel.busy)
    assert ("busy", True) in seen and seen[-1] in (("busy", False), ("status", "complete"))
    with pytest.raises(Exception, match="read-only"):
        panel.busy = True


# --- Life ---


def test_a_closed_panel_leaves_nothing_behind(
    client: HaloClient, agent: DemoAgent, wires: dict[int, Wire], held: Held
) -> None:
    """No thread, no watcher, no message; the turn that ran goes on in its session."""
    panel = ChatPanel("docs", client=client)
    wire = wires[id(panel)]
    session, register = panel.session, panel._register
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
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("halo-panel") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert session.watchers._callbacks == []
    assert register.watchers._callbacks == []
    assert session.turns[0].reply.watchers._callbacks == []
    assert not panel.busy
    with pytest.raises(errors.UsageError, match="closed"):
        panel.ask("two")
    with pytest.raises(errors.UsageError, match="closed"):
        panel.on_reply(print)


@pytest.mark.parametrize("text", [None, 5, b"x", "", " "])
def test_what_is_no_message_is_refused(text: Any, panel: ChatPanel) -> None:
    """With what it is."""
    with pytest.raises(errors.UsageError, match=r"A message is text|The message is empty"):
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


# --- In a real kernel ---

PANEL = """\
import time, asyncio, threading
from halo_notebook import ChatPanel, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY

def reply(request):
    words = int(request["message"].split()[-1])
    for number in range(words):
        yield TextDelta(f"word{number} ")
        yield 0.02

agent = DemoAgent(first_byte_s=0, reply=reply).start()
panel = ChatPanel(client=HaloClient(DEMO_KEY, base_url=agent.url))
panel
"""


class KernelPage:
    """A panel's page, as far as the wire goes, on a real kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._asked = 0
        cell = kernel.run(PANEL)
        assert cell.status == "ok", cell.evalue
        self.comm_id = next(
            message.content["comm_id"]
            for message in cell.messages
            if message.msg_type == "comm_open"
            and message.content["data"]["state"].get("_anywidget_id", "").endswith("ChatPanel")
        )
        self.displays = cell.displays

    def ask(self, kind: str, **content: Any) -> str:
        self._asked += 1
        cid = f"c{self._asked}"
        data = {"method": "custom", "content": {"kind": kind, "cid": cid, **content}}
        self.kernel.send("comm_msg", {"comm_id": self.comm_id, "data": data}, wants_reply=False)
        return cid

    def of(self, kind: str) -> list[tuple[float, Message]]:
        """When each message of that kind came, and what it was."""
        return [
            (message.at, message.content["data"]["content"])
            for message in self.kernel.messages
            if message.msg_type == "comm_msg"
            and message.content["comm_id"] == self.comm_id
            and message.content["data"]["method"] == "custom"
            and message.content["data"]["content"]["kind"] == kind
        ]

    def wait(self, kind: str, count: int = 1, timeout: float = 20) -> list[tuple[float, Message]]:
        self.kernel.wait_until(lambda: len(self.of(kind)) >= count, f"{count} messages {kind!r}", timeout)
        return self.of(kind)


@pytest.mark.kernel
def test_a_turn_streams_on_while_a_cell_computes(kernel: Kernel) -> None:
    """What was begun goes on; what is asked meanwhile is answered when the cell has ended."""
    page = KernelPage(kernel)
    page.ask("send", text="words 60")
    page.wait("frame", 3)
    cell = kernel.start("print('computing', flush=True)\ntime.sleep(2.5)\nprint('done')")
    cell.wait_for_text("computing")
    began = time.monotonic()
    page.ask("send", text="words 2")
    page.wait("turn")
    ended_in_cell = not cell.done
    during = [at for at, _ in page.of("frame") if at > began]
    cell.result()
    assert ended_in_cell and len(during) > 3
    turns = page.wait("turn", 2)
    assert [turn["turn"]["asked"] for _, turn in turns] == ["words 60", "words 2"]
    assert turns[1][1]["turn"]["text"] == "word0 word1 "
    # A kernel's note of where to take the page's next message could be of a subshell that is gone.
    assert kernel.run("print('_reply_subshell_id' in vars(panel.comm))").stdout == "False\n"


@pytest.mark.kernel
def test_a_cells_turn_shows_in_the_panel_and_the_other_way_round(kernel: Kernel) -> None:
    """`%%halo` in the same session streams into the panel while its cell runs, and shares its history."""
    page = KernelPage(kernel)
    kernel.run(
        "%load_ext halo_notebook\nmagics = get_ipython().magics_manager.registry['HaloMagics']\n"
        "magics.connection.demo, magics.connection.demo_wanted = agent, True"
    )
    cell = kernel.start("%%halo\nwords 40")
    page.wait("frame", 5)
    assert not cell.done
    assert cell.result().status == "ok"
    page.wait("turn")
    page.ask("send", text="words 1")
    page.wait("turn", 2)
    assert kernel.run("print(len(panel.session.turns), panel.session is magics.sessions.current)").stdout == (
        "2 True\n"
    )


@pytest.mark.kernel
def test_the_panels_stop_ends_a_cells_turn(kernel: Kernel) -> None:
    """A program's `panel.stop()` from another thread: the cell fails as after an interrupt."""
    KernelPage(kernel)
    kernel.run(
        "%load_ext halo_notebook\nmagics = get_ipython().magics_manager.registry['HaloMagics']\n"
        "magics.connection.demo, magics.connection.demo_wanted = agent, True"
    )
    cell = kernel.start(
        "threading.Timer(0.5, panel.stop).start()\nget_ipython().run_cell_magic('halo', '', 'words 500')"
    )
    result = cell.result()
    assert (result.status, result.ename) == ("error", "ReplyStopped")
    assert "stopped" in str(result.displays[-1]["text/plain"])


@pytest.mark.kernel
def test_while_a_cell_awaits_the_panel_is_served(kernel: Kernel) -> None:
    """On ipykernel 7, Send and Stop work at once during an `await`; on 6 they wait for its end."""
    page = KernelPage(kernel)
    major = int(kernel.run("import ipykernel; print(ipykernel.version_info[0])").stdout)
    cell = kernel.start("print('awaiting', flush=True)\nawait asyncio.sleep(3)")
    cell.wait_for_text("awaiting")
    page.ask("send", text="words 500")
    if major >= 7:
        page.wait("frame", 3)
        page.ask("stop")
        assert page.wait("turn")[0][1]["turn"]["status"] == "stopped"
        assert not cell.done
    cell.result()
    if major < 7:
        page.wait("frame", 3)
        page.ask("stop")
        assert page.wait("turn")[0][1]["turn"]["status"] == "stopped"


@pytest.mark.kernel
def test_a_reply_costs_few_messages(kernel: Kernel) -> None:
    """2,000 chunks in two seconds: some fifty deltas, a fraction of what whole texts would be."""
    page = KernelPage(kernel)
    kernel.run(
        "def reply(request):\n"
        "    for number in range(2_000):\n"
        "        yield TextDelta(f'word {number % 7} ' + ('\\n\\n' if number % 40 == 0 else ''))\n"
        "        if number % 10 == 0: yield 0.01\n"
        "agent._reply = reply"
    )
    page.ask("send", text="go 1")
    began = page.wait("begin")[0][0]
    ended = page.wait("turn")[0][0]
    frames = page.of("frame")
    assert len(frames) <= (ended - began) / 0.06 + 3
    assert sum(len(json.dumps(frame)) for _, frame in frames) < 100_000
    text = page.of("turn")[0][1]["turn"]["text"]
    assert text.count("word") == 2_000


@pytest.mark.kernel
def test_the_cell_holds_a_static_twin(kernel: Kernel) -> None:
    """An output of its own with the conversation as safe HTML, brought up to date after each turn."""
    page = KernelPage(kernel)
    assert "application/vnd.jupyter.widget-view+json" in page.displays[0]
    assert "0 turns" in page.displays[1]["text/html"]
    page.ask("send", text="words 3")
    page.wait("turn")

    def updates() -> list[Message]:
        return [each.content for each in kernel.messages if each.msg_type == "update_display_data"]

    kernel.wait_until(
        lambda: any("word2" in str(update["data"]) for update in updates()), "the twin's update"
    )
    html = updates()[-1]["data"]["text/html"]
    assert "1 turn" in html and "words 3" in html and "word0 word1 word2" in html


@pytest.mark.kernel
def test_importing_the_panel_is_left_to_who_shows_one(kernel: Kernel) -> None:
    """`%halo panel NAME` shows one; before, no widget library is loaded."""
    kernel.run("%load_ext halo_notebook\n%halo demo start")
    assert kernel.run("import sys; print('anywidget' in sys.modules)").stdout == "False\n"
    cell = kernel.run("%halo panel billing")
    assert cell.status == "ok", cell.evalue
    assert "application/vnd.jupyter.widget-view+json" in cell.displays[0]
    assert cell.displays[0]["text/plain"] == "ChatPanel('billing', 0 turns)"
    assert "billing" in kernel.run("%halo sessions").stdout
