"""What the files of a panel share, and how it tells its page of it.

Everything here changes on the loop only, each time in one step, so there are no locks. Each message to
the page carries the number after the last one's. A panel that no page shows sends none; the page that
shows it again gets a snapshot first.
"""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from IPython.display import publish_display_data

from ..client.settings import configured
from ..concurrency.loop import in_worker
from ..concurrency.usercode import Home
from ..display.text import one_line
from ..display.timeline import Timeline
from ..display.words import counted
from ..errors import ConfigError
from ..stream import JSON
from .callbacks import Callback, Callbacks
from .views import Frames, head_view, static_html, turn_view

if TYPE_CHECKING:
    from ..client.sync import HaloClient
    from ..kernel import Connection
    from ..reply import Reply
    from ..session import Rating, Session, SessionRegister, Turn
    from .views import View

MAX_SNAPSHOT_TURNS = 30
MAX_SNAPSHOT_BYTES = 500_000


@dataclass(eq=False)
class Message:
    """A message that has no turn yet.

    Attributes:
        cid: the page's id for it.
        exact: whether it is sent with its own `fields` only, without the panel's.
        sent: gets its reply, or its error.
        state: ``waiting``; ``held``: not sent until it is released, because of `error` where it was
            refused; ``sending``: too late to take it back.
    """

    cid: str
    text: str
    fields: dict[str, Any]
    exact: bool
    sent: Future[Reply]
    state: Literal["waiting", "held", "sending"] = "waiting"
    error: str = ""

    def view(self) -> JSON:
        return {"cid": self.cid, "text": self.text, "held": self.state == "held", "error": self.error}


@dataclass(eq=False)
class Outbox:
    """The messages of one session that have no turn yet, in order.

    Attributes:
        running: sends them as long as one waits; `attempt`: sends one of them.
        spare: ends what holds them when the turn that runs is stopped or fails.
    """

    session: Session
    messages: list[Message] = field(default_factory=list)
    running: asyncio.Task[None] | None = None
    attempt: asyncio.Task[None] | None = None
    spare: Callable[[], None] = lambda: None

    @property
    def next(self) -> Message | None:
        """The message to send next."""
        return next((message for message in self.messages if message.state == "waiting"), None)


@dataclass(eq=False)
class Following:
    """A session as it goes, for all the panels that show it.

    Attributes:
        ended: how many of its turns have ended, and are whole on the pages.
        views: these turns by their numbers, each rendered when it is first needed, and its size.
        frames: of the turn that runs; `shown`: what they have shown of it.
        turns: set when its turns or its panels have changed.
        news: set when something of the turn that runs has arrived; `over`: when its reply has ended.
        step: set, and replaced by another, when a turn has ended or the last panel has left.
    """

    session: Session
    ended: int = field(init=False)
    panels: list[PanelState] = field(default_factory=list)
    views: dict[int, tuple[View, int]] = field(default_factory=dict)
    frames: Frames | None = None
    shown: View = field(default_factory=dict)
    turns: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    step: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        turns = self.session.turns
        self.ended = len(turns) - (bool(turns) and turns[-1].reply.status == "streaming")


class PanelState:
    """What the files of one panel share.

    Args:
        session_name: of the session that the program wants shown. The page follows.
        register, connection: the kernel's.
        client: sends the messages; None for the connection's.
        send: sends one message to the page.
        publish: sets one of the panel's traits.
    """

    def __init__(
        self,
        session_name: str,
        register: SessionRegister,
        connection: Connection,
        client: HaloClient | None,
        *,
        send: Callable[[View], None],
        publish: Callable[[str, Any], None],
    ) -> None:
        self.session_name = session_name
        self.register = register
        self.connection = connection
        self.client = client
        self.send = send
        self.publish = publish
        self.home = Home()  # where the user's code runs
        self.fields: Any = {}
        self.following = Following(register.get(session_name))
        self.epoch = self.seq = 0
        self.saved: View | None = None  # the last snapshot
        self.viewed = True  # until the page says otherwise
        self.listens = False  # whether it has the snapshot with which the epoch begins
        self.closed = False
        self.lock = threading.Lock()  # held while a message is sent or a trait set, and for no longer
        self.outboxes: dict[Session, Outbox] = {}
        self.queue: list[JSON] = []  # what waits, as the page knows it
        self.ratings: WeakKeyDictionary[Turn, Rating | None] = WeakKeyDictionary()  # as the page knows them
        self.cids: WeakKeyDictionary[Turn, str] = WeakKeyDictionary()  # of the messages sent from here
        self.acted: WeakKeyDictionary[Turn, int] = WeakKeyDictionary()  # actions that callbacks have had
        self.requests: OrderedDict[str, None] = OrderedDict()  # the ids of those that have come
        self.exported: list[str] = []  # the parts of the last export
        self.display_id = f"halo-{uuid.uuid4().hex}"
        self.has_static_copy = False
        self.on_reply: list[Callback] = []
        self.on_action: list[Callback] = []
        self.callbacks = Callbacks(self._callback_failed)

    @property
    def session(self) -> Session:
        """The session that the page shows."""
        return self.following.session

    # --- To the page ---

    def tell(self, content: View) -> None:
        """Send one message, unless the panel is closed; on any thread."""
        with self.lock:
            if not self.closed:
                self.send(content)

    def emit(self, kind: str, **content: JSON) -> None:
        """Send the next message of the sequence."""
        if self.listens:
            self.seq += 1
            self.tell({"kind": kind, "epoch": self.epoch, "seq": self.seq, **content})

    def beat(self, state: str) -> None:
        """Tell the page that a turn is still running."""
        self.tell({"kind": "beat", "epoch": self.epoch, "seq": self.seq, "state": state})

    def emit_queue(self) -> None:
        """Tell the page what waits, when that has changed."""
        queue = self.waiting()
        if queue != self.queue:
            self.queue = queue
            self.emit("queue", queue=queue)

    def emit_turn(self, number: int) -> None:
        """Tell the page the whole of a turn that has ended."""
        self.emit("turn", turn=self.turn_view(self.following, number)[0])
        self.saved = self.snapshot()

    def notice(self, text: str) -> None:
        """Show one line in the page."""
        self.tell({"kind": "notice", "text": one_line(text, 500)})

    async def refresh(self) -> None:
        """Send a snapshot, after which the page follows the sequence as long as it shows the panel."""
        await in_worker(self.turns_before, self.following.ended + 1)  # rendered there, not on the loop
        self.listens = self.viewed
        self.queue = self.waiting()
        self.saved = self.snapshot()
        self.tell(self.saved)

    def snapshot(self) -> View:
        """The session as it stands, with its last turns."""
        following = self.following
        turns, earlier = self.turns_before(following.ended + 1)
        return {
            "kind": "snapshot",
            "epoch": self.epoch,
            "seq": self.seq,
            "session": self.session.name,
            "sessions": self.session_list(),
            "turns": list[JSON](turns),
            "earlier": earlier,
            "live": self.live_view() if following.frames else None,
            "queue": self.queue,
            "agent": self.session.agent_id,
            "source": self._source(),
        }

    def turns_before(self, number: int) -> tuple[list[View], int]:
        """The last turns before the one of that number, as many as fit, and how many are further back."""
        views: list[View] = []
        room, following = MAX_SNAPSHOT_BYTES, self.following
        last = min(number - 1, following.ended)
        for each in range(last, max(last - MAX_SNAPSHOT_TURNS, 0), -1):
            view, size = self.turn_view(following, each)
            room -= size
            if room < 0 and views:
                break
            views.insert(0, view)
        return views, max(last, 0) - len(views)

    def turn_view(self, following: Following, number: int) -> tuple[View, int]:
        """A turn that has ended, with its rating as it is now, and its size in bytes."""
        turn = following.session.turns[number - 1]
        if number not in following.views:
            following.views[number] = rendered(turn, number)
        view, size = following.views[number]
        rating = self.ratings[turn] = turn.rating
        shown: JSON = {"value": rating.value, "note": rating.note} if rating else None
        return {**view, "rating": shown, "cid": self.cids.get(turn)}, size

    def live_view(self) -> View:
        """The turn that runs, as far as its frames have shown it."""
        number = self.following.ended + 1
        turn = self.session.turns[number - 1]
        return {
            **head_view(turn, number),
            **self.following.shown,
            "cid": self.cids.get(turn),
            "status": "streaming",
            "state": turn.reply.state,
            "agent": turn.reply.agent_id,
            "source": turn.source,
        }

    def session_list(self) -> list[JSON]:
        return [{"name": name, "turns": len(self.register[name].turns)} for name in self.register]

    def waiting(self) -> list[JSON]:
        """The messages of the session that have no turn yet."""
        outbox = self.outboxes.get(self.session)
        return [message.view() for message in outbox.messages] if outbox else []

    def _source(self) -> str:
        """Who answers the next message where that is not Halo."""
        if self.client is not None:
            return self.client.source
        try:
            return self.connection.source
        except ConfigError:  # whoever sends a message gets the reason
            return ""

    # --- To the notebook ---

    def note_status(self) -> None:
        """Bring the traits `status` and `busy` up to date; from any thread."""
        session, following = self.register.get(self.session_name), self.following
        with self.lock:
            outbox = self.outboxes.get(session)
            waits = outbox is not None and any(message.state != "held" for message in outbox.messages)
            follows = following.session is session  # else it is about to
            runs = len(session.turns) > following.ended if follows else session.busy
            if runs:
                status = session.turns[following.ended if follows else -1].reply.state or "streaming"
            elif waits:
                status = "queued"
            else:
                status = session.turns[-1].reply.status if session.turns else "ready"
            if not self.closed:
                self.publish("status", status)
                self.publish("busy", runs or waits)

    def publish_static_copy(self, *, update: bool = True) -> None:
        """Show the conversation as an output of its own, for a front end without widgets; on any thread."""
        following, session = self.following, self.session
        numbers = range(max(1, following.ended + 1 - MAX_SNAPSHOT_TURNS), following.ended + 1)
        views = [(session.turns[each - 1], self.turn_view(following, each)[0]) for each in numbers]
        html = static_html(session, views, f"{datetime.now().astimezone():%Y-%m-%d %H:%M}")
        # While a panel is in the output before this one, its own style hides this. Where there is none,
        # the style here hides what a front end says in its place.
        name = f"{self.display_id}-static"
        style = (
            f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{name}):not(:has(.halo-panel)){{display:none}}"
        )
        publish_display_data(
            data={
                "text/html": f'<div class="halo-static {name}"><style>{style}</style>{html}</div>',
                "text/plain": f"ChatPanel({session.name!r}, {counted(len(session.turns), 'turn')})",
            },
            metadata={"halo": {"session": session.name, "session_id": session.session_id}},
            transient={"display_id": self.display_id},
            update=update,
        )

    def _callback_failed(self, callback: Callable[..., Any], error: str) -> None:
        name = getattr(callback, "__name__", type(callback).__name__)
        self.notice(f"{name} raised {error}. The conversation continues.")


def frames_of(turn: Turn) -> Frames:
    """The frames of a turn's reply, as the settings are now."""
    return Frames(Timeline(turn.reply, images=bool(configured("show_images"))))


def rendered(turn: Turn, number: int, frames: Frames | None = None) -> tuple[View, int]:
    """A turn that has ended as JSON for the page, and its size in bytes."""
    view = turn_view(turn, number, frames or frames_of(turn), source=turn.source)
    return view, len(json.dumps(view, ensure_ascii=False).encode("utf-8", "replace"))
