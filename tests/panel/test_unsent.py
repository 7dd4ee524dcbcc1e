"""A message waits for the one before it, is sent once, and is held back after a stop or a failure."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import ChatPanel, HaloClient, Reply, errors
from halo_notebook.panel import outbox
from halo_notebook.panel.state import PanelState, rendered
from halo_notebook.stream import TextDelta

from .conftest import asked

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent
    from halo_notebook.session import Session, SessionRegister

    from .conftest import Wire


def test_a_message_waits_for_the_one_before(
    panel: ChatPanel, page: Wire, release: threading.Event, agent: DemoAgent
) -> None:
    """It shows as waiting, can be taken back by the page or a program, and goes out in its turn."""
    page.send("one", "c1")
    page.wait(lambda: page.of("begin"))
    page.send("two", "c2")
    page.send("three", "c3")
    fourth = panel.ask("four")
    page.wait(lambda: [message["text"] for message in page.queue()] == ["two", "three", "four"])
    assert panel.busy
    assert "error" not in page.ask("unqueue", which="c2")
    assert fourth.cancel()
    page.wait(lambda: [message["cid"] for message in page.queue()] == ["c3"])
    release.set()
    turns = page.turns(2)
    assert [turn["asked"] for turn in turns] == asked(agent) == ["one", "three"]
    assert page.queue() == []
    assert "no longer waiting" in page.ask("unqueue", which="c3")["error"]


def test_stop_holds_the_messages_that_wait(
    panel: ChatPanel, page: Wire, release: threading.Event, agent: DemoAgent
) -> None:
    """The text received so far is kept. The page can release what waits; a program gets an error at once."""
    page.send("one")
    page.running()
    page.send("two", "c2")
    third = panel.ask("three")
    page.ask("stop")
    turn = page.turns(1)[0]
    assert (turn["status"], turn["text"], turn["again"]) == ("stopped", "one: first ", "twice")
    with pytest.raises(errors.ReplyStopped, match="an earlier turn was stopped or failed"):
        third.result(10)
    assert "ended" in repr(third)
    second, last = page.wait(lambda: page.queue()[1]["held"] and page.queue())
    assert second == {"cid": "c2", "text": "two", "images": [], "pictures": [], "held": True, "error": ""}
    page.wait(lambda: not panel.busy)
    assert (panel.status, asked(agent)) == ("stopped", ["one"])
    release.set()
    for message in (second, last):
        assert "error" not in page.ask("release", which=message["cid"])
    assert [turn["asked"] for turn in page.turns(3)] == ["one", "two", "three"]


def test_a_message_released_after_a_stop_is_sent(
    panel: ChatPanel, page: Wire, release: threading.Event, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even before the stopped turn has quite ended."""
    over = threading.Event()

    def late(*turn: Any) -> Any:
        over.wait(10)
        return rendered(*turn)

    page.send("one")
    page.running()
    page.send("two", "c2")
    monkeypatch.setattr("halo_notebook.panel.follower.rendered", late)
    page.ask("stop")
    release.set()
    assert "error" not in page.ask("release", which="c2")
    third = panel.ask("three")
    over.set()
    assert third.result(10).status == "complete"
    assert asked(agent) == ["one", "two", "three"]


def test_a_message_that_is_refused_stays_with_the_reason(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """It gets no turn, nothing is sent, and a program gets the error."""
    page.send("x" * 10_001, "long")
    message = page.wait(lambda: page.queue() and page.queue()[0]["held"] and page.queue()[0])
    assert message["cid"] == "long" and "the API takes 10,000" in message["error"]
    with pytest.raises(errors.InvalidRequest):
        panel.ask("Hello", mode="loud").result(10)
    assert panel.session.turns == []
    page.ask("unqueue", which="long")
    assert panel.ask("Hello").result(10).status == "complete"
    assert asked(agent) == ["Hello"]


def test_wrong_settings_show_when_a_message_is_sent(
    open_panel: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The panel is shown all the same; the message stays, with the reason."""
    monkeypatch.setenv("HALO_API_KEY", "ha_secret_confidential")
    page = open_panel()
    page.send("Hello", "mine")
    error = page.wait(lambda: page.queue() and page.queue()[0]["error"])
    assert error.startswith("An identity secret") and "confidential" not in str(page.messages)
    monkeypatch.delenv("HALO_API_KEY")
    page.ask("release", which="mine")
    assert page.turns(1)[0]["source"] == "demo agent"


def test_a_message_that_comes_twice_is_sent_once(panel: ChatPanel, page: Wire, agent: DemoAgent) -> None:
    """A page that got no answer may ask again: the kernel knows the request by its id."""
    page.send("Open a ticket", "same")
    page.turns(1)
    assert page.send("Open a ticket", "same") == {"kind": "answer", "cid": "same"}
    page.send("Hello", "other")
    page.turns(2)
    assert asked(agent) == ["Open a ticket", "Hello"]


def test_a_program_can_wait_for_its_reply(panel: ChatPanel) -> None:
    """By `result`, or by awaiting it on a loop; `cancel` takes back what has not left."""
    assert panel.ask("My name is Ada").result(10).status == "complete"

    async def ask() -> Reply:
        return await panel.ask("What is my name?")

    assert "Ada" in asyncio.run(ask()).text
    sent = panel.ask("Hello")
    sent.result(10)
    assert repr(sent) == "Sent('Hello', ended)"


@pytest.mark.parametrize("how", ["another session", "a new conversation"])
def test_waiting_messages_are_sent_when_the_panel_shows_something_else(
    how: str, panel: ChatPanel, page: Wire, release: threading.Event, agent: DemoAgent
) -> None:
    """They belong to the session: each is answered once, in its own conversation, and delays no other."""
    sent = [panel.ask(text) for text in ("one", "two", "three")]
    session = panel.session
    page.running()
    if how == "another session":
        panel.session_name = "other"
        page.wait(lambda: page.of("snapshot")[-1]["session"] == "other")
        page.send("elsewhere")
        page.wait(lambda: page.of("begin")[-1]["turn"]["asked"] == "elsewhere")
        assert session.busy
    else:
        page.ask("new")
        assert "continues as 'docs-1'" in page.wait(lambda: page.of("notice"))[0]["text"]
    release.set()
    assert [each.result(10).text.partition(":")[0] for each in sent] == ["one", "two", "three"]
    assert [text for text in asked(agent) if text != "elsewhere"] == ["one", "two", "three"]
    assert [turn.message for turn in session.turns] == ["one", "two", "three"]
    panel.session_name = session.name
    page.wait(lambda: not panel.busy)
    assert page.of("snapshot")[-1]["queue"] == []
    assert panel.ask("four").result(10).status == "complete"
    assert (panel.busy, panel.status) == (False, "complete")


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_closed_panel_sends_nothing_that_waits(
    others: int,
    panel: ChatPanel,
    page: Wire,
    release: threading.Event,
    *,
    agent: DemoAgent,
    open_panel: Callable[..., Wire],
    client: HaloClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line and the results say so. The turn that runs ends; another panel goes on in the session."""
    first = panel.ask("one")
    page.running()
    page.send("two")
    sent = [panel.ask(f"more {number}") for number in range(others)]
    if others:  # also those of the session that it showed before
        panel.session_name = "other"
    panel.close()
    texts = ", ".join(["'two'", *(f"'more {number}'" for number in range(others))])
    assert capsys.readouterr().out == (
        f"Not sent, since the panel was closed: {texts}. The session is kept.\n"
    )
    for each in sent:
        with pytest.raises(errors.ReplyStopped, match="the panel was closed"):
            each.result(10)
    page.request({"kind": "send", "cid": "late", "text": "late"})
    again = open_panel(client=client)
    second = again.panel.ask("again")
    release.set()
    assert (first.result(10).status, second.result(10).status) == ("complete", "complete")
    assert asked(agent) == ["one", "again"]
    assert [turn["asked"] for turn in again.turns(2)] == ["one", "again"]
    again.panel.close()
    assert capsys.readouterr().out == ""


def test_a_panel_can_be_closed_while_it_changes_its_session(
    panel: ChatPanel, page: Wire, monkeypatch: pytest.MonkeyPatch, register: SessionRegister
) -> None:
    """The loop may notice the change of a session while another thread closes the panel."""
    page.send("one")
    page.turns(1)
    posted: list[Session] = []

    def post(function: Any, state: PanelState, session: Session) -> None:
        posted.append(session)
        state.outbox(register.get(f"other {len(posted)}"))

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "post", post)
        panel.close()
    assert posted == [panel.session]


PERIODS = ("concurrency.interrupts.LOOK_S", "concurrency.usercode.LOOK_S", "panel.follower.MIN_INTERVAL_S")


@pytest.mark.timeout(30)
def test_a_result_is_there_at_once_and_the_panel_at_rest(
    panel: ChatPanel, page: Wire, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing polls. When the reply is there, the state is up to date and the page has been told."""
    for name in PERIODS:  # whatever looks again only after such a time exceeds the test's own
        monkeypatch.setattr(f"halo_notebook.{name}", 600.0)
    agent._reply = lambda request: [TextDelta("Hi.")]
    for number in range(1, 11):
        panel.ask("Hello").result()
        assert (panel.busy, panel.status) == (False, "complete")
        assert len({each["turn"]["key"] for each in page.of("turn")}) == number


def test_stop_right_after_sending(panel: ChatPanel, release: threading.Event) -> None:
    """No message is answered to its end, and each result says so."""
    for _ in range(10):
        first, second = panel.ask("one"), panel.ask("two")
        panel.stop()
        # Stopped in its turn, or before one began: then it raises, as what is held does.
        error = first.exception(10)
        assert isinstance(error, errors.ReplyStopped) or first.result().status == "stopped"
        with pytest.raises(errors.ReplyStopped, match="Held back"):
            second.result(10)
        assert not panel.busy or panel.session.busy


def test_a_message_right_after_a_stop_is_sent(
    panel: ChatPanel, page: Wire, agent: DemoAgent, release: threading.Event
) -> None:
    """Stop holds what was there before it, whether a turn runs or not."""
    first = panel.ask("one")
    page.running()
    waits = panel.ask("two")
    panel.stop()
    third = panel.ask("three")
    assert first.result(10).status == "stopped"
    with pytest.raises(errors.ReplyStopped, match="Held back"):
        waits.result(10)
    release.set()
    assert third.result(10).status == "complete"
    for _ in range(10):
        panel.stop()
        assert panel.ask("four").result(10).status == "complete"
    assert asked(agent) == ["one", "three", *["four"] * 10]


@pytest.mark.parametrize("interrupts", [1, 2, 6])
def test_interrupts_end_only_the_waiting(
    interrupts: int, panel: ChatPanel, page: Wire, release: threading.Event
) -> None:
    """One line says that the turn continues, however many there are."""
    sent = panel.ask("one")
    page.wait(lambda: page.of("begin"))
    main = threading.main_thread().ident
    assert main is not None
    handler = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        for _ in range(interrupts):
            signal.pthread_kill(main, signal.SIGINT)

    threading.Timer(0.2, interrupt).start()
    with pytest.raises(errors.HaloError, match="The turn continues"):
        sent.result(10)
    assert signal.getsignal(signal.SIGINT) == handler
    release.set()
    assert sent.result(10).status == "complete"


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), ValueError("no")],
    ids=lambda error: type(error).__name__,
)
def test_what_a_programs_code_raises_in_a_message_is_that_messages_error(
    error: BaseException, panel: ChatPanel, agent: DemoAgent
) -> None:
    """Its token's or its context's; the next message is sent."""

    def token() -> str:
        raise error

    async def later() -> str:
        await asyncio.sleep(0)
        raise error

    class Context(dict[str, Any]):
        def items(self) -> Any:
            raise error

    for fields in ({"user_token": token}, {"user_token": later}, {"context": Context(plan="team")}):
        with pytest.raises(errors.HaloError, match=type(error).__name__):
            panel.ask("Hello", user_id="u_1", **fields).result(10)
        assert not agent.requests
    assert panel.ask("Hello").result(10).status == "complete"


def test_fields_are_read_when_the_message_is_sent(panel: ChatPanel, page: Wire, agent: DemoAgent) -> None:
    """Its own override the panel's. One that was refused for its fields can be sent when they are fixed."""
    panel.fields = {"user_id": 5}
    page.send("Hello", "mine")
    page.wait(lambda: page.queue() and page.queue()[0]["error"])
    panel.fields = {"user_id": "u_1", "company_id": "c_1"}
    page.ask("release", which="mine")
    page.turns(1)
    panel.ask("Hello", company_id="c_2").result(10)
    bodies = [request.body for request in agent.requests]
    assert [(each["user_id"], each["company_id"]) for each in bodies] == [("u_1", "c_1"), ("u_1", "c_2")]
    bad: list[Any] = [7, None, {1: 2}, {"message": "x"}]
    for fields in bad:
        panel.fields = fields
        with pytest.raises(errors.InvalidRequest, match="Nothing was sent"):
            panel.ask("Hello").result(10)
