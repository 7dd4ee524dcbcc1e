"""A panel whose page is a list of messages, and an agent that waits in mid-reply."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytest
from anywidget import AnyWidget

from halo_notebook import ChatPanel, HaloClient
from halo_notebook.kernel import Connection
from halo_notebook.session import SessionRegister
from halo_notebook.stream import JSON, TextDelta

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent, Step
    from halo_notebook.reply import Reply

    from ..harness.host_page import HostPage

Message = dict[str, Any]


class Wire:
    """What a panel's page gets, and what it asks. `lost` says of a message whether it is lost on its way."""

    def __init__(self) -> None:
        self.panel: ChatPanel
        self.messages: list[Message] = []
        self.lost: Callable[[Message], bool] = lambda message: False
        self._changed = threading.Condition()

    def put(self, message: Message) -> None:
        with self._changed:
            if not self.lost(message):
                # As it comes out of a browser's parser.
                self.messages.append(json.loads(json.dumps(message, allow_nan=False)))
            self._changed.notify_all()

    def of(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message["kind"] == kind]

    def wait(self, condition: Callable[[], Any], timeout_s: float = 30) -> Any:
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

    def ask(
        self, kind: str, *, cid: str | None = None, buffers: Sequence[bytes] = (), **content: Any
    ) -> Message:
        """Put a request as the page does; its answer."""
        before = len(self.of("answer"))
        cid = cid or f"cid-{before}"
        self.request({"kind": kind, "cid": cid, **content}, *buffers)
        answers = self.wait(lambda: self.of("answer")[before:])
        assert [answer["cid"] for answer in answers] == [cid]
        return cast("Message", answers[0])

    def request(self, content: Any, *buffers: bytes) -> None:
        """Put a request, as ipywidgets hands it over."""
        data = {"method": "custom", "content": content}
        self.panel._handle_msg({"content": {"data": data}, "buffers": [memoryview(each) for each in buffers]})

    def upload(self, data: bytes, part_bytes: int = 1_000_000) -> str:
        """Send a file in parts as the page does; its id."""
        which = f"upload-{len(self.of('answer'))}"
        parts = [data[at : at + part_bytes] for at in range(0, len(data) or 1, part_bytes)]
        for part, piece in enumerate(parts):
            sent: dict[str, Any] = {"which": which, "part": part, "parts": len(parts), "bytes": len(piece)}
            answer = self.ask("upload", **sent, buffers=[piece])
            assert set(answer) == {"kind", "cid"}, answer
        return which

    def send(self, text: str, cid: str | None = None) -> Message:
        return self.ask("send", text=text, cid=cid)

    def queue(self) -> list[Message]:
        """What waits, as the page was told last."""
        return next((each["queue"] for each in reversed(self.messages) if "queue" in each), [])

    def running(self) -> Reply:
        """The reply of the session's last turn, when it has text."""
        turns = self.panel.session.turns
        self.wait(lambda: turns and turns[-1].reply.text)
        return turns[-1].reply


def asked(agent: DemoAgent) -> list[JSON]:
    """The messages that have reached the agent."""
    return [request.body["message"] for request in agent.requests]


@pytest.fixture
def connection() -> Iterator[Connection]:
    """The kernel's: whom panels ask that have no client of their own."""
    made = Connection()
    yield made
    made.stop_demo()


@pytest.fixture
def register() -> SessionRegister:
    """The sessions of the kernel."""
    return SessionRegister()


@pytest.fixture
def open_panel(
    monkeypatch: pytest.MonkeyPatch, connection: Connection, register: SessionRegister
) -> Iterator[Callable[..., Wire]]:
    """Makes a panel in the test's one kernel and gives its wire, when the page shows it."""
    monkeypatch.setattr("halo_notebook.panel.widget.kernel_state", lambda shell: (connection, register))
    wires = defaultdict[int, Wire](Wire)
    monkeypatch.setattr(AnyWidget, "send", lambda panel, content, buffers=None: wires[id(panel)].put(content))

    def made(session: str = "docs", **arguments: Any) -> Wire:
        panel = ChatPanel(session, **arguments)
        wire = wires[id(panel)]
        wire.panel = panel
        wire.wait(lambda: wire.of("snapshot"))
        return wire

    yield made
    for wire in wires.values():
        wire.panel.close()


@pytest.fixture(scope="class")
def host_page() -> Iterator[HostPage]:
    """A page for all tests of a class, in which no script throws."""
    from ..harness.host_page import HostPage  # only where there is a browser

    with HostPage(size=(700, 800)) as page:
        yield page
        assert page.page_errors == [] and page.page.evaluate("window.__halo_pwned") is None


@pytest.fixture
def page(open_panel: Callable[..., Wire], client: HaloClient) -> Wire:
    """The page of a panel on the session `docs`."""
    return open_panel(client=client)


@pytest.fixture
def panel(page: Wire) -> ChatPanel:
    return page.panel


@pytest.fixture
def release(agent: DemoAgent) -> Iterator[threading.Event]:
    """Until it is set, the agent waits in mid-reply. It is set in the end, whatever the test does."""
    release = threading.Event()

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta(f"{request['message']}: first ")
        while not release.is_set():
            yield 0.01
        yield TextDelta("and last.")

    agent._reply = reply
    yield release
    release.set()
