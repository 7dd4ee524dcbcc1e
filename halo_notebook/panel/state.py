"""The state that the files of a panel share: its page, its messages, its callbacks.

Everything here changes on the loop only, each time in one step, except where it says "any thread". Each
message to the page carries the number after the last one's. A panel that no page shows sends none; the
page that shows it again gets a snapshot first.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections import UserDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias
from weakref import WeakKeyDictionary

from IPython.core.getipython import get_ipython
from IPython.display import publish_display_data

from ..client.secrets import checked_token
from ..client.settings import configured
from ..concurrency.loop import in_worker
from ..concurrency.usercode import Home, UserCodeError
from ..display.text import one_line
from ..display.timeline import Timeline
from ..display.wording import counted
from ..errors import ConfigError, HaloError
from .pictures import Pictures
from .static_copy import static_class, static_copy
from .uploads import Uploads
from .versions import versions_of
from .views import Frames, View, head_view, static_html, turn_view

if TYPE_CHECKING:
    from ..client.client import Client
    from ..kernel import Connection
    from ..recording.ratings import Rating
    from ..reply import Reply
    from ..session import Session, SessionRegister, Turn
    from ..stream import JSON

MAX_SNAPSHOT_TURNS = 30
MAX_SNAPSHOT_BYTES = 500_000

_log = logging.getLogger(__name__)


Callback: TypeAlias = "tuple[Callable[..., Any], Home]"
"""A program's callback, and where it belongs."""


class Fields(UserDict[str, Any]):
    """Request fields, in which a user token does not show."""

    def __setitem__(self, name: str, value: Any) -> None:
        is_token = name == "user_token" and isinstance(value, str) and value.strip()
        super().__setitem__(name, checked_token(value) if is_token else value)

    def __ior__(self, others: Any) -> Self:  # type: ignore[override,misc]  # as `update` takes it
        self.update(others)
        return self


@dataclass(eq=False)
class Message:
    """A message that has no turn yet.

    Attributes:
        cid: the page's id for it.
        exact: whether it is sent with its own `fields` only, without the panel's.
        sent: gets its reply, or its error.
        pictures: the page's ids of its images; `images`: what the page shows of them.
        state: ``new``: the loop has not seen it; ``waiting``; ``held``: not sent until it is released;
            ``sending``: too late to take it back.
        error: why it was refused.
    """

    cid: str
    text: str
    fields: Fields
    exact: bool
    sent: Future[Reply]
    pictures: Sequence[str] = ()
    images: list[JSON] = field(default_factory=list)
    state: Literal["new", "waiting", "held", "sending"] = "new"
    error: HaloError | None = None


@dataclass(eq=False)
class Outbox:
    """The messages of one session that have no turn yet, in order.

    Attributes:
        running: the task that sends them.
        unwatch: from then on, a bad end of the turn that runs holds no message.
    """

    messages: list[Message] = field(default_factory=list)
    running: asyncio.Task[None] | None = None
    unwatch: Callable[[], None] = lambda: None


@dataclass(eq=False)
class Following:
    """A session that panels show, and how far.

    Attributes:
        ended: how many of its turns have ended and are complete on the pages.
        views: these turns by number, each rendered when first needed, with its size in bytes.
        shown: what the frames of the running turn have shown so far; None when no turn runs.
        turns: set when a turn begins or changes, or a panel leaves.
        news: set when more of the running turn has arrived, or its reply has ended.
        step: set, and replaced by another, when a turn has ended or the last panel has left.
    """

    session: Session
    ended: int = field(init=False)
    panels: list[PanelState] = field(default_factory=list)
    views: dict[int, tuple[View, int]] = field(default_factory=dict)
    shown: View | None = None
    turns: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    step: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        turns = self.session.turns
        self.ended = len(turns) - (bool(turns) and turns[-1].reply.status == "streaming")


@dataclass(eq=False)
class PanelState:
    """What the files of one panel share.

    Attributes:
        session_name: the session that the program wants shown. The page follows.
        client: sends the messages; None for the connection's.
        cases: the path of the file that turns are kept in as test cases.
        send: sends one message to the page; `publish`: sets one of the panel's traits.
        saved: the last snapshot.
        viewed: whether a page shows the panel; True until a page says otherwise.
        listens: whether the page has this epoch's first snapshot, and gets what follows.
        lock: held only while a message is sent or a trait is set.
        ratings: as the page knows them; `start_note`: what it shows of the next message.
        cids: the page's ids of the messages that were sent from here.
        acted: how many actions of a reply the callbacks have received.
        requests: the ids of the page's requests so far; `exports`: the names and texts of the last exports.
        uploads: files that are on their way from the page; `pictures`: the images that it has added.
    """

    session_name: str
    register: SessionRegister
    connection: Connection
    client: Client | None
    send: Callable[[View], None]
    publish: Callable[[str, Any], None]
    cases: str | Path = "cases.jsonl"
    home: Home = field(default_factory=Home)
    fields: Any = field(default_factory=Fields)
    following: Following = field(init=False)
    epoch: int = 0
    seq: int = 0
    saved: View | None = None
    viewed: bool = True
    listens: bool = False
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    outboxes: dict[Session, Outbox] = field(default_factory=dict)
    start_note: str = ""
    ratings: WeakKeyDictionary[Turn, Rating | None] = field(default_factory=WeakKeyDictionary)
    cids: WeakKeyDictionary[Turn, str] = field(default_factory=WeakKeyDictionary)
    acted: WeakKeyDictionary[Reply, int] = field(default_factory=WeakKeyDictionary)
    requests: dict[str, None] = field(default_factory=dict)
    exports: dict[str, tuple[str, str]] = field(default_factory=dict)
    uploads: Uploads = field(default_factory=Uploads)
    pictures: Pictures = field(default_factory=Pictures)
    static_class: str = field(default_factory=static_class)
    has_static_copy: bool = False
    on_reply: list[Callback] = field(default_factory=list)
    on_action: list[Callback] = field(default_factory=list)
    _called: Future[None] | None = None  # ends when the last callback has
    _calling: set[asyncio.Task[None]] = field(default_factory=set)  # the loop itself holds no task

    def __post_init__(self) -> None:
        self.following = Following(self.register.get(self.session_name))

    @property
    def session(self) -> Session:
        """The session that the page shows."""
        return self.following.session

    def outbox(self, session: Session) -> Outbox:
        """The outbox for that session; on any thread."""
        return self.outboxes.setdefault(session, Outbox())

    # --- To the page ---

    def tell(self, kind: str, **content: JSON) -> None:
        """Send one message, unless the panel is closed; on any thread."""
        with self.lock:
            if not self.closed:
                self.send({"kind": kind, **content})

    def emit(self, kind: str, **content: JSON) -> None:
        """Send the next message of the sequence."""
        if self.listens:
            self.seq += 1
            self.tell(kind, epoch=self.epoch, seq=self.seq, **content)

    def note_queue(self) -> None:
        """Tell the page what waits, and bring the traits up to date."""
        self.emit("queue", queue=self.waiting())
        self.note_status()

    def note_sessions(self) -> None:
        """Tell the page which sessions there are, and which are versions of this one's messages."""
        self.emit("sessions", sessions=self.sessions(), versions=versions_of(self.register, self.session))

    def note_start(self) -> None:
        """Tell the page what the next message starts, if that has changed."""
        note = self.session.start_note()
        if self.listens and note != self.start_note:
            self.start_note = note
            self.emit("start", start_note=note)

    def emit_turn(self, number: int) -> None:
        """Tell the page the whole of a turn that has ended."""
        self.emit("turn", turn=self._turn_view(self.following, number)[0])
        self.saved = self._snapshot()

    def notice(self, text: str) -> None:
        """Show one line in the page."""
        self.tell("notice", text=one_line(text, 500))

    async def refresh(self) -> None:
        """Send a snapshot, after which the page follows the sequence as long as it shows the panel."""
        await in_worker(self.turns_before, self.following.ended + 1)  # rendered there, not on the loop
        self.listens = self.viewed
        self.saved = self._snapshot()
        self.tell("snapshot", **self.saved)
        self.following.news.set()  # the running turn's frames were not sent while no page was open

    def turns_before(self, number: int) -> tuple[list[JSON], int]:
        """The last turns before that number, as many as fit in a message, and how many come before them."""
        views: list[JSON] = []
        room, following = MAX_SNAPSHOT_BYTES, self.following
        last = max(min(number - 1, following.ended), 0)
        for each in range(last, max(last - MAX_SNAPSHOT_TURNS, 0), -1):
            view, size = self._turn_view(following, each)
            room -= size
            if room < 0 and views:
                break
            views.insert(0, view)
        return views, last - len(views)

    def live_view(self) -> View:
        """The turn that runs, up to its last frame."""
        number = self.following.ended + 1
        turn = self.session.turns[number - 1]
        return {
            **head_view(turn, number),
            **(self.following.shown or {}),
            "cid": self.cids.get(turn),
            "status": "streaming",
            "state": turn.reply.state,
            "agent": turn.reply.agent_id,
            "source": turn.source,
        }

    def _snapshot(self) -> View:
        turns, earlier = self.turns_before(self.following.ended + 1)
        self.start_note = self.session.start_note()
        source = ""
        with suppress(ConfigError):  # whoever sends a message gets the reason
            source = (self.client or self.connection).source
        return {
            "epoch": self.epoch,
            "seq": self.seq,
            "session": self.session.name,
            "sessions": self.sessions(),
            "versions": versions_of(self.register, self.session),
            "turns": turns,
            "earlier": earlier,
            "live": None if self.following.shown is None else self.live_view(),
            "queue": self.waiting(),
            "agent": self.session.agent_id,
            "source": source,
            "start_note": self.start_note,
        }

    def _turn_view(self, following: Following, number: int) -> tuple[View, int]:
        """A turn that has ended, with its rating as it is now, and its size in bytes."""
        turn = following.session.turns[number - 1]
        if number not in following.views:
            following.views[number] = rendered(turn, number, frames_of(turn))
        view, size = following.views[number]
        rating = self.ratings[turn] = turn.rating
        shown: JSON = {"value": rating.value, "note": rating.note} if rating else None
        return {**view, "rating": shown, "cid": self.cids.get(turn)}, size

    def sessions(self) -> list[JSON]:
        """The kernel's sessions."""
        return [{"name": name, "turns": len(self.register[name].turns)} for name in self.register]

    def waiting(self) -> list[JSON]:
        """The messages that have no turn yet."""
        return [
            {
                "cid": each.cid,
                "text": each.text,
                "images": each.images,
                "pictures": [*each.pictures],
                "held": each.state == "held",
                "error": str(each.error or ""),
            }
            for each in self.outbox(self.session).messages
        ]

    # --- To the notebook ---

    def note_status(self) -> None:
        """Bring the traits `status` and `busy` up to date; on any thread."""
        session, following = self.register.get(self.session_name), self.following
        if following.session is not session:  # it will be soon
            following = Following(session)
        with self.lock:
            waits = any(message.state != "held" for message in self.outbox(session).messages)
            ended = following.ended  # which the loop may change meanwhile
            runs = len(session.turns) > ended
            if runs:
                status = session.turns[ended].reply.state or "streaming"
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
        views = [(session.turns[each - 1], self._turn_view(following, each)[0]) for each in numbers]
        html = static_html(session, views, f"{datetime.now().astimezone():%Y-%m-%d %H:%M}")
        name = self.static_class
        data = {
            "text/html": static_copy(name, html),
            "text/plain": f"ChatPanel({session.name!r}, {counted(len(session.turns), 'turn')})",
        }
        about = {"halo": {"session": session.name, "session_id": session.session_id}}
        publish_output(name, data, about, update=update)

    def call(self, callback: Callback, *args: Any) -> None:
        """Call `callback` soon, after those before it: one step of the loop later it is on its way."""
        (function, home), before, over = callback, self._called, Future[None]()
        self._called, called = over, list[bool]()

        async def in_turn() -> Any:
            # If that one is finished, this runs before the code that awaits the reply.
            if before is not None and not before.done():
                return None
            called.append(True)
            try:
                value = function(*args)
                return await value if inspect.isawaitable(value) else value
            finally:
                finish()

        def finish() -> None:
            with suppress(InvalidStateError):  # the next one does not wait for it any more
                over.set_result(None)

        async def reported() -> None:
            try:
                while not called:
                    try:
                        await home.call(in_turn)
                    except UserCodeError as error:
                        if called:  # otherwise its loop was about to end
                            self._report(function, error)
                    if before is not None and not called:
                        await asyncio.wrap_future(before)
            except RuntimeError:  # the interpreter exits
                _log.info("A callback of a panel was not called", exc_info=True)
            finally:
                finish()

        task = asyncio.ensure_future(reported())
        self._calling.add(task)
        task.add_done_callback(self._calling.discard)

    def _report(self, function: Callable[..., Any], error: UserCodeError) -> None:
        try:
            name = str(getattr(function, "__name__", type(function).__name__))
        except BaseException:  # noqa: BLE001  # a callable may be any object
            name = type(function).__name__
        self.notice(f"{name} raised {error}. The conversation continues.")
        _log.info("A callback of a panel failed: %s", name, exc_info=error)


def publish_output(
    display_id: str, data: dict[str, str], metadata: dict[str, Any] | None = None, *, update: bool
) -> None:
    """Show an output beside a widget, or update it; on any thread."""
    # Not as an output of the cell that showed the panel: when it has ended, nbclient ignores its updates.
    context = Context() if update else copy_context()
    transient = {"display_id": display_id}
    context.run(_publish, data=data, metadata=metadata or {}, transient=transient, update=update)


def _publish(*, update: bool, **content: Any) -> None:
    """Publish an output; an update also when another cell, whose outputs are captured, runs."""
    hook: Any = getattr(get_ipython(), "displayhook", None)
    if update and hasattr(hook, "pub_socket"):
        parent = hook.parent_header
        hook.session.send(hook.pub_socket, "update_display_data", content, parent=parent, ident=hook.topic)
    else:
        publish_display_data(**content, update=update)


def frames_of(turn: Turn) -> Frames:
    """The frames of a turn's reply, as the settings are now."""
    return Frames(Timeline(turn.reply, images=bool(configured("show_images"))))


def rendered(turn: Turn, number: int, frames: Frames) -> tuple[View, int]:
    """A turn that has ended as JSON for the page, and its size in bytes."""
    view = turn_view(turn, number, frames)
    return view, len(json.dumps(view, ensure_ascii=False).encode("utf-8", "replace"))
