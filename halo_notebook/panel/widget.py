"""A chat pane in a notebook: an ipywidgets widget on a session that the magic shares.

What it promises:

- What is said in the session shows here, whoever said it: this pane, another one, a `%%halo`
  cell or a program. A turn goes on whatever becomes of the page.
- The page gets what is new, each message with a sequence number. A page that has missed one
  asks, and gets the whole as it stands; the finished turn comes whole in any case.
- A message that was typed is sent once: one that reaches the kernel again is known by its id.
- Any thread may call it. Clicks come on the kernel's main thread or on a subshell's, each with
  a loop of its own. On the first they wait while a cell computes, on the other as long as that
  holds the interpreter. A turn streams on meanwhile, on threads that wait for neither.
- What reaches the page of an agent's is safe HTML made by `render`, or JSON that it shows as text.

It does not know what a reply means, nor how a page lays it out: `static/` does.

Kernel to page, each a custom message with a `kind`: `snapshot` (all as it stands), `begin`,
`frame` and `turn` (a turn begins, grows, has ended), `queue`, `sessions`, `beat` (a sign of
life), `answer` (to a request), `notice`. Page to kernel, each answered once: the methods of
`_Requests`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack, cast
from weakref import WeakKeyDictionary

import anywidget
from IPython.core.getipython import get_ipython
from IPython.display import publish_display_data
from traitlets import Any as AnyTrait
from traitlets import Bool, List, TraitError, Unicode, observe, validate

from ..client.settings import configured
from ..concurrency import loop as bridge
from ..concurrency import threads
from ..display.pacer import Pacer
from ..display.text import one_line
from ..display.timeline import Timeline
from ..errors import ConfigError, HaloError, InvalidRequest, ReplyStopped, UsageError
from ..kernel import shared_by
from ..reply import ActionEvent
from ..stream import JSON
from .bundle import bundle, styles
from .views import Frames, View, head_view, static_html, turn_view

if TYPE_CHECKING:
    from ..client.request import RequestFields
    from ..client.sync import HaloClient
    from ..reply import Reply
    from ..session import Session, Turn, Verdict

MIN_INTERVAL_S = 0.06
MAX_BYTES_PER_S = 600_000
"""Deltas are small; the Jupyter server drops messages beyond 1 MB a second."""
BEAT_S = 2.0
"""How often a page hears of a turn that is silent."""
MAX_SNAPSHOT_TURNS = 30
MAX_SNAPSHOT_BYTES = 500_000
EXPORT_PART_CHARS = 300_000
"""An export goes to the page in parts of this size, which it asks for one by one."""
MAX_NOTE_CHARS = 2_000
_MAX_KNOWN = 1_000

_log = logging.getLogger(__name__)
_sending: ContextVar[_Outbox | None] = ContextVar("sending", default=None)
"""The outbox whose thread takes a turn: the session tells of it on the loop, in that thread's context."""


class Sent(Future["Reply"]):
    """A message on its way: its `result()` is the reply, and so is what it gives when awaited.

    Both raise the `HaloError` that the turn ended with, and `ReplyStopped` when the message was
    held back, since a turn before it was stopped or failed. A turn that was itself stopped gives
    its reply.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def result(self, timeout: float | None = None) -> Reply:
        """The reply; an interrupt ends the waiting for it, not the turn."""
        try:
            return super().result(timeout)
        except KeyboardInterrupt:
            raise HaloError(
                "Stopped waiting for the reply. The turn goes on and shows in the panel; panel.stop() ends "
                "it."
            ) from None

    def __await__(self) -> Generator[Any, None, Reply]:
        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        state = "ended" if self.done() else "on its way"
        return f"Sent({one_line(self._text, 40)!r}, {state})"


_HELD = (
    "Held back: a turn before it was stopped or failed. The message was not sent and the session is kept; "
    "send it from the panel, or send it again."
)


@dataclass(eq=False)
class _Message:
    """What somebody wants sent.

    Attributes:
        cid: the page's id for it.
        held: not to be sent by itself, since a turn before it did not come to its end, or since it
            was refused, as `error` says.
        taken: it is being sent, and can be taken back no more.
        stopped: stop was asked for when it had been taken and its turn had not begun.
        exact: it goes with its own fields alone, not with the panel's.
        behind: it was sent while a turn ran, or behind another message that waits for one: it is held
            back with it. One that comes when a turn has ended does not depend on how.
        after_stop: it was sent, or told to be, when the turn before it had been stopped and was not
            over yet: it does not wait for being told again.
    """

    cid: str
    text: str
    fields: dict[str, Any]
    sent: Sent
    held: bool = False
    error: str = ""
    taken: bool = False
    stopped: bool = False
    exact: bool = False
    behind: bool = False
    after_stop: bool = False

    def hold(self, error: HaloError | None = None) -> None:
        """Keep it back, and let whoever waits for its reply know."""
        self.held, self.taken = True, False
        self.error = str(error or "")
        if not self.sent.done():
            self.sent.set_exception(error or ReplyStopped(_HELD))

    def view(self) -> JSON:
        return {"cid": self.cid, "text": self.text, "held": self.held, "error": self.error}


@dataclass(eq=False)
class _Outbox:
    """The messages of one session that wait for their turn, in order, and the thread that sends them."""

    session: Session
    messages: list[_Message] = field(default_factory=list)
    thread: threads.Thread | None = None
    stopping: bool = False  # the turn that runs has been stopped, and is not over yet


class ChatPanel(anywidget.AnyWidget):
    """A chat pane on a session that `%%halo` shares.

    Show it as a cell's last line or with `display`; put it beside others with
    ``HBox([panel_a, panel_b])``.

    Where no widget can be shown (a notebook saved without widget state, nbconvert, GitHub), the
    cell shows the conversation as static HTML: it is an output of its own, below the pane, which
    is brought up to date when a turn ends and hidden by the pane as long as that is there. It
    says when it was made. After the page has been reloaded, the front end no longer knows which
    output that was: what is said from then on is in it when the cell has been run again. A pane
    within another widget (`HBox`) has none.

    Args:
        session: the session's name; it is made when new.
        title: what stands at the top; None for the agent's own name.
        height: a CSS length.
        suggestions: messages to send with a click, shown while nothing has been said.
        placeholder: what the empty text box says.
        client: sends the messages. None: the kernel's own, as for `%%halo`, by the settings as
            they are then.

    Attributes:
        fields: request fields to send with each message from here, see `RequestFields`.
        busy: whether a turn of the session runs, or a message from here waits to be sent. Observable.
        status: ``ready``, ``queued``; while a turn runs one line such as ``streaming``; then
            ``complete``, ``stopped`` or ``failed``. ``closed`` at the end. Observable, and
            observers may be called on another thread.
        session_name: the session that is shown; set it to show another. Observable.

    Raises:
        UsageError: when an argument is not what it should be.

    >>> from halo_notebook.client.sync import HaloClient
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
    ...     panel = ChatPanel("docs", client=client)
    ...     reply = panel.ask("My name is Ada").result()
    >>> reply.status, len(panel.session.turns)
    ('complete', 1)
    >>> panel.close()
    """

    _esm = bundle()
    _css = styles()

    title = Unicode(None, allow_none=True).tag(sync=True)
    height = Unicode("520px").tag(sync=True)
    suggestions = List(Unicode()).tag(sync=True)
    placeholder = Unicode("Ask the agent").tag(sync=True)
    busy = Bool(False, read_only=True)
    status = Unicode("ready", read_only=True)
    session_name = Unicode("default")
    _closed = True  # until it is made: one whose arguments are refused is closed by its finaliser
    _static_class = Unicode("").tag(sync=True)
    # Made when it is asked for: as it stands then, and never sent by itself.
    _snapshot = AnyTrait(None).tag(
        sync=True,
        to_json=lambda value, panel: panel._snapshot_now(),
        from_json=lambda value, panel: None,
    )

    def __init__(
        self,
        session: str = "default",
        *,
        title: str | None = None,
        height: str = "520px",
        suggestions: Sequence[str] = (),
        placeholder: str = "Ask the agent",
        client: HaloClient | None = None,
    ) -> None:
        if not _is_text(session):
            raise UsageError("A panel's session is a name. Nothing was shown; give one, such as 'default'.")
        if isinstance(suggestions, str):
            raise UsageError("suggestions is a list of messages. Nothing was shown; put it in [ ].")
        if client is not None and not hasattr(client, "chat_stream"):
            raise UsageError(
                f"client is {type(client).__name__}. Nothing was shown; give a HaloClient, or leave it out."
            )
        self.fields: dict[str, Any] = {}
        self._client = client
        self._connection, self._register = shared_by(get_ipython())
        self._loop = bridge.kernels_loop()
        self._callbacks = bridge.Callbacks(self._loop, self._callback_failed)
        self._on_reply: list[Callable[[Reply], Any]] = []
        self._on_action: list[Callable[[ActionEvent], Any]] = []
        # Guards what follows. Held while a message goes out, so that they go out in order.
        self._lock = threads.RLock()
        self._epoch = 0
        self._seq = 0
        self._session = self._register.get(session)
        self._follower: _Follower | None = None
        self._outboxes: dict[Session, _Outbox] = {}
        self._told_queue: list[JSON] = []
        self._views: WeakKeyDictionary[Turn, tuple[View, int]] = WeakKeyDictionary()
        self._cids: WeakKeyDictionary[Turn, str] = WeakKeyDictionary()  # of the messages sent from here
        self._known: OrderedDict[str, None] = OrderedDict()  # the page's requests that have come
        self._shown = False
        self._closed = False
        self._static_id = f"halo-{uuid.uuid4().hex}"
        self._unwatch: Callable[[], None] = lambda: None
        self._unwatch_register = self._register.watchers.add(self._register_changed)
        try:
            super().__init__(
                title=title,
                height=height,
                suggestions=list(suggestions),
                placeholder=placeholder,
                _static_class=f"{self._static_id}-static",
                # In an HBox panels share the width; without this they would have none.
                layout={"flex": "1 1 auto", "min_width": "0"},
            )
        except TraitError as error:
            self._closed = True
            self._unwatch_register()
            raise UsageError(f"{one_line(str(error))} Nothing was shown; mend that argument.") from None
        self._requests = _Requests(self)
        self.on_msg(self._asked)
        self._attach(self._session)
        self.session_name = session

    # --- What a program does with it ---

    @property
    def session(self) -> Session:
        """The session that is shown, the one that `%%halo -s NAME` uses."""
        return self._session

    def ask(self, text: str, **fields: Unpack[RequestFields]) -> Sent:
        """Send `text` as if it had been typed here, after what waits already; returns at once.

        Args:
            text: the message.
            fields: request fields for this message, beside and before `fields` of the panel.

        Returns:
            its `result()`, or what it gives when awaited, is the reply; that of a turn that was
            stopped, too.

        Raises:
            UsageError: when the panel is closed or `text` is no text.
        """
        _checked_text(text)
        if self._closed:
            raise UsageError("This panel is closed. Nothing was sent; make another one.")
        return self._enqueue(uuid.uuid4().hex, text, dict(fields)).sent

    def stop(self) -> None:
        """Stop the turn that runs, keeping what had arrived. What waits is held back."""
        with self._lock:
            outbox = self._outboxes.get(self._session)
            for message in outbox.messages if outbox else ():
                if message.taken:
                    message.stopped = True
                elif not message.held:
                    message.hold()
            if outbox:
                outbox.stopping = True
            self._tell_queue(self._session)
            self._session.stop()
        self._note_status()

    def on_reply(self, callback: Callable[[Reply], Any]) -> Callable[[], None]:
        """Have `callback(reply)` called when a turn of the shown session has ended, however it did.

        Args:
            callback: sync or async; it runs on the kernel's loop, one after the other, and waits
                while a cell computes. What it raises is shown in the panel as one line.

        Returns:
            what ends it.
        """
        return self._added(self._on_reply, callback)

    def on_action(self, callback: Callable[[ActionEvent], Any]) -> Callable[[], None]:
        """Have `callback(event)` called for each action of the shown session, once, as it arrives.

        Args:
            callback: takes an `ActionEvent`, whose `payload` is the action's JSON; else as for
                `on_reply`.

        Returns:
            what ends it.
        """
        return self._added(self._on_action, callback)

    def _added(self, callbacks: list[Any], callback: Any) -> Callable[[], None]:
        if not callable(callback):
            raise UsageError("A callback has to be callable. Nothing was changed.")
        if self._closed:
            raise UsageError("This panel is closed. Nothing was changed; make another one.")
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    def close(self) -> None:
        """Take the panel from the page for good. The session, and a turn that runs, go on."""
        if self._closed:
            return
        with self._lock:
            self._closed = True
            self._detach()
            self._unwatch_register()
            self._tell({"kind": "closed"})
        self._set_state("closed", busy=False)
        super().close()

    def __repr__(self) -> str:
        turns = len(self._session.turns)
        return f"ChatPanel({self.session_name!r}, {turns} turn{'' if turns == 1 else 's'})"

    def _ipython_display_(self) -> None:
        if self._closed:
            print(repr(self), "is closed")  # noqa: T201  # what a display of it shows
            return
        bundle: Any = self._repr_mimebundle_()
        publish_display_data(data=bundle[0] if isinstance(bundle, tuple) else bundle)
        self._shown = True
        self._show_static(update=False)

    # --- The session that is shown ---

    @validate("session_name")
    def _checked_name(self, proposal: Any) -> str:
        name = proposal["value"]
        if not _is_text(name):
            raise UsageError("A session's name is text. Nothing was changed; give one, such as 'default'.")
        return str(name)

    @observe("session_name")
    def _session_named(self, change: Any) -> None:
        session = self._register.get(change["new"])
        if session is not self._session:
            self._attach(session)

    def _register_changed(self, name: str) -> None:
        session = self._register.get(self.session_name)
        if session is not self._session:
            old, waiting = self._session, self._queue()
            self._attach(session)  # a new conversation under that name
            if old.busy or waiting:
                self._notice(
                    f"The conversation that was here goes on as {old.name!r}, with what waits in it."
                )
        else:
            self._emit("sessions", sessions=self._session_list())

    def _attach(self, session: Session) -> None:
        """Show that session from now on, as it stands."""
        with self._lock:
            if self._closed:
                return
            self._detach()
            self._session = session
            self._epoch += 1
            self._seq = 0
            self._unwatch = session.watchers.add(lambda turn: self._turn_changed(session, turn))
            last = session.turns[-1] if session.turns else None
            if last is not None and last.reply.status == "streaming":
                self._follow(last)
            self._tell(self._snapshot_now())
        self._note_status()

    def _detach(self) -> None:
        self._unwatch()
        if self._follower is not None:
            self._follower.over = True
            self._follower.news.set()
            self._follower = None

    def _turn_changed(self, session: Session, turn: Turn) -> None:
        """A turn of the session has begun, has ended or has been rated; on whichever thread did it."""
        with self._lock:
            if self._closed or session is not self._session:
                return
            following = self._follower is not None and self._follower.turn is turn
            if turn.reply.status == "streaming" and not following:
                self._begin(turn)
            elif not following and turn in self._views and self._views[turn][0]["rating"] != _rating(turn):
                self._emit("turn", turn=self._view(turn))
        self._note_status()

    def _begin(self, turn: Turn) -> None:
        if self._follower is not None:
            self._commit(self._follower)  # it has ended, and its own thread has not got to it yet
        outbox = self._outboxes.get(self._session)
        if outbox and _sending.get() is outbox:
            self._begun(outbox, turn)
        self._emit("begin", turn=self._live_view(self._follow(turn)))
        self._tell_queue(self._session)

    def _begun(self, outbox: _Outbox, turn: Turn) -> None:
        """The message that was taken has become a turn; the panel may show another session by now."""
        with self._lock:
            message = next((each for each in outbox.messages if each.taken), None)
            if message is not None:
                self._cids[turn] = message.cid
                outbox.messages.remove(message)

    def _follow(self, turn: Turn) -> _Follower:
        self._follower = _Follower(self, turn)
        self._follower.start()
        return self._follower

    # --- To the page ---

    def _tell(self, content: View) -> None:
        """One custom message."""
        self.send(content)
        # ipykernel 7 takes the page's next messages to the subshell that it notes here, the one that
        # this was sent from. After a reload that one is gone, and they would be dropped. Without the
        # note they go to the subshell that the page itself names, also while a cell computes.
        getattr(self.comm, "__dict__", {}).pop("_reply_subshell_id", None)

    def _emit(self, kind: str, **content: Any) -> None:
        """The next message of the sequence."""
        with self._lock:
            if not self._closed:
                self._seq += 1
                self._tell({"kind": kind, "epoch": self._epoch, "seq": self._seq, **content})

    def _beat(self, state: str) -> None:
        with self._lock:
            self._tell({"kind": "beat", "epoch": self._epoch, "seq": self._seq, "state": state})

    def _notice(self, text: str) -> None:
        self._tell({"kind": "notice", "text": one_line(text, 500)})

    def _snapshot_now(self) -> View:
        """All as it stands, but for the turns that are further back."""
        with self._lock:
            follower = self._follower
            self._told_queue = self._queue()
            running = follower.number if follower else len(self._session.turns) + 1
            views, earlier = self._views_before(running)
            return {
                "kind": "snapshot",
                "epoch": self._epoch,
                "seq": self._seq,
                "session": self._session.name,
                "sessions": self._session_list(),
                "turns": list[JSON](views),
                "earlier": earlier,
                "live": self._live_view(follower) if follower else None,
                "queue": self._told_queue,
                "agent": self._session.agent_id,
                "source": self._source(),
            }

    def _views_before(self, number: int) -> tuple[list[View], int]:
        """The last turns before the one of that number, as many as fit, and how many are further back."""
        views: list[View] = []
        room = MAX_SNAPSHOT_BYTES
        turns = self._session.turns[: max(number - 1, 0)]
        # One that has just been added, of which nobody was told yet.
        turns = turns[:-1] if turns and turns[-1].reply.status == "streaming" else turns
        for turn in reversed(turns[-MAX_SNAPSHOT_TURNS:]):
            view = self._view(turn)
            room -= self._views[turn][1]
            if room < 0 and views:
                break
            views.insert(0, view)
        return views, len(turns) - len(views)

    def _view(self, turn: Turn, frames: Frames | None = None) -> View:
        """A turn that has ended, made once; its rating as it is now."""
        if turn not in self._views:
            number = self._session.turns.index(turn) + 1
            frames = frames or Frames(Timeline(turn.reply, images=bool(configured("show_images"))))
            view = turn_view(turn, number, frames, source=turn.source)
            self._views[turn] = view, len(json.dumps(view, ensure_ascii=False).encode("utf-8", "replace"))
        view, size = self._views[turn]
        view = {**view, "rating": _rating(turn), "cid": self._cids.get(turn)}
        self._views[turn] = view, size
        return view

    def _live_view(self, follower: _Follower) -> View:
        reply = follower.turn.reply
        return {
            **head_view(follower.turn, follower.number),
            **follower.frames.so_far(),
            "cid": self._cids.get(follower.turn),
            "status": "streaming",
            "state": reply.state,
            "agent": reply.agent_id,
            "source": follower.turn.source,
        }

    def _session_list(self) -> list[JSON]:
        return [{"name": name, "turns": len(self._register[name].turns)} for name in self._register]

    def _queue(self) -> list[JSON]:
        outbox = self._outboxes.get(self._session)
        return [message.view() for message in outbox.messages] if outbox else []

    def _source(self) -> str:
        """Who answers the next message where that is not Halo."""
        if self._client is not None:
            return self._client.source
        try:
            return self._connection.source
        except ConfigError:  # whoever sends a message is told
            return ""

    def _show_static(self, *, update: bool) -> None:
        """Bring the output that stands in for the pane up to date."""
        with self._lock:
            if not self._shown or self._closed:
                return
            turns = [turn for turn in self._session.turns[-MAX_SNAPSHOT_TURNS:] if turn in self._views]
            when = f"{datetime.now().astimezone():%Y-%m-%d %H:%M}"
            html = static_html(self._session, [(turn, self._view(turn)) for turn in turns], when)
        # While a pane is in the output before this one, its own style hides this. Where there is none,
        # the style here hides what a front end says in its place.
        name = self._static_class
        style = (
            f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{name}):not(:has(.halo-panel)){{display:none}}"
        )
        publish_display_data(
            data={
                "text/html": f'<div class="halo-static {name}"><style>{style}</style>{html}</div>',
                "text/plain": repr(self),
            },
            metadata={"halo": {"session": self._session.name, "session_id": self._session.session_id}},
            transient={"display_id": self._static_id},
            update=update,
        )

    # --- A turn as it goes, on its follower's thread ---

    def _paint(self, follower: _Follower) -> int:
        """Tell the page what is new of a turn; how many bytes that took, about."""
        with self._lock:
            if follower is not self._follower:
                return 0
            frame = follower.frames.frame()
            self._emit("frame", key=f"t{follower.number}", state=follower.turn.reply.state, **frame)
        return len(json.dumps(frame, ensure_ascii=False))

    def _commit(self, follower: _Follower) -> None:
        """Tell the page the whole of a turn that has ended, once."""
        with self._lock:
            if follower is self._follower:
                self._follower = None
                self._emit("turn", turn=self._view(follower.turn, follower.frames))
                self._emit("sessions", sessions=self._session_list())
        self._note_status()

    def _acted(self, event: ActionEvent) -> None:
        for callback in tuple(self._on_action):
            self._callbacks.call(callback, event)

    def _replied(self, reply: Reply) -> None:
        for callback in tuple(self._on_reply):
            self._callbacks.call(callback, reply)

    def _callback_failed(self, callback: Callable[..., Any], error: Exception) -> None:
        name = getattr(callback, "__name__", type(callback).__name__)
        self._notice(f"{name} raised {type(error).__name__}: {error}. The conversation goes on.")
        _log.info("A panel's callback failed: %s", name, exc_info=error)

    def _note_status(self) -> None:
        with self._lock:
            follower = self._follower
            outbox = self._outboxes.get(self._session)
            waiting = bool(outbox and any(not message.held for message in outbox.messages))
            turns = self._session.turns
            if follower is not None:
                status = follower.turn.reply.state or "streaming"
            elif waiting:
                status = "queued"
            else:
                status = turns[-1].reply.status if turns else "ready"
            busy = follower is not None or waiting
            closed = self._closed
        if not closed:
            self._set_state(status, busy=busy)

    def _set_state(self, status: str, *, busy: bool) -> None:
        """Not under the lock: an observer may do anything, and what it raises is its own."""
        for name, value in (("status", status), ("busy", busy)):
            try:
                self.set_trait(name, value)
            except Exception as error:  # noqa: BLE001  # an observer's, of any kind
                self._notice(f"An observer of {name} raised {type(error).__name__}: {error}.")
                _log.info("An observer of a panel's %s failed", name, exc_info=error)

    # --- Sending ---

    def _enqueue(self, cid: str, text: str, fields: dict[str, Any], *, exact: bool = False) -> _Message:
        message = _Message(cid, text, fields, Sent(text), exact=exact)
        with self._lock:
            session = self._session
            outbox = self._outboxes.setdefault(session, _Outbox(session))
            message.after_stop = outbox.stopping
            runs = bool(session.turns) and session.turns[-1].reply.status == "streaming"
            message.behind = runs or any(
                each.taken or (each.behind and not each.held) for each in outbox.messages
            )
            outbox.messages.append(message)
            if session.busy or len(outbox.messages) > 1:
                self._tell_queue(session)
            self._start_sending(outbox)
        self._note_status()
        return message

    def _tell_queue(self, session: Session) -> None:
        """Tell the page what waits, when that is not what it was told last."""
        if session is self._session and (queue := self._queue()) != self._told_queue:
            self._told_queue = queue
            self._emit("queue", queue=queue)

    def _start_sending(self, outbox: _Outbox) -> None:
        if outbox.thread is None:
            outbox.thread = threads.Thread(
                target=self._send_all, args=(outbox,), name="halo-panel-send", daemon=True
            )
            outbox.thread.start()

    def _send_all(self, outbox: _Outbox) -> None:
        while (message := self._next_message(outbox)) is not None:
            if not message.taken:
                # Until it can be sent at once it waits here, where it can be taken back.
                threads.sleep(0.05)
                continue
            complete = self._take_turn(outbox, message)
            with self._lock:
                for waiting in () if complete else outbox.messages:
                    if waiting.behind and not (waiting.held or waiting.after_stop):
                        waiting.hold()
                    waiting.after_stop = False
                outbox.stopping = False
                self._tell_queue(outbox.session)
            self._note_status()

    def _next_message(self, outbox: _Outbox) -> _Message | None:
        """The first that is not held, taken when it can be sent; None, and the thread's end, without one."""
        with self._lock:
            message = next((each for each in outbox.messages if not (each.held or each.taken)), None)
            if message is None:
                outbox.thread = None
            elif not outbox.session.busy:
                if message.sent.set_running_or_notify_cancel():
                    message.taken = True
                    outbox.stopping = False
                else:  # a program has cancelled it
                    outbox.messages.remove(message)
                    self._tell_queue(outbox.session)
            return message

    def _take_turn(self, outbox: _Outbox, message: _Message) -> bool:
        """Send one message and wait for the end of its reply; whether that is complete."""
        error: Exception | None = None
        reply: Reply | None = None
        begun: _Follower | None = None
        _sending.set(outbox)
        try:
            client = self._client or self._connection.client()
            turn = outbox.session.turn(client, message.text, **self._fields_of(message))
            with bridge.awaiting_on(self._loop), turn as stream:
                reply = stream.reply
                self._begun(outbox, outbox.session.turns[-1])
                begun = self._follower  # it may be done with the turn, and gone, before we are
                stream.attended = True  # by whoever sees the panel say what it waits for
                if not message.stopped:
                    stream.open()
                while not stream.ended and not message.stopped:
                    stream.next_event()
        except Exception as caught:  # noqa: BLE001  # whatever it is, it belongs to this message
            error = caught
        if reply is None:
            self._not_taken(outbox, message, error)
            return False
        # First what the panel says of itself and its callbacks, then whoever waits for the reply.
        follower = self._follower
        if follower is not None and follower.turn.reply is reply:
            self._commit(follower)
        self._note_status()
        tell = (
            partial(message.sent.set_exception, error) if error else partial(message.sent.set_result, reply)
        )
        if begun is not None and begun.turn.reply is reply:
            begun.when_told(tell)
        else:
            tell()
        return reply.status == "complete"

    def _fields_of(self, message: _Message) -> dict[str, Any]:
        if message.exact:
            return message.fields
        own: Any = self.fields
        if not isinstance(own, Mapping) or not all(isinstance(name, str) for name in own):
            raise InvalidRequest("panel.fields must be a dict with string keys. Nothing was sent; mend it.")
        fields = {**own, **message.fields}
        if "message" in fields:
            raise InvalidRequest("There is no field 'message'. Nothing was sent; leave it out of the fields.")
        return fields

    def _not_taken(self, outbox: _Outbox, message: _Message, error: Exception | None) -> None:
        """No turn came of a message: it stays where it is, held, with the reason."""
        if not isinstance(error, HaloError):
            _log.error("A panel's message could not be sent", exc_info=error)
            error = HaloError(f"The message could not be sent ({type(error).__name__}). The session is kept.")
        with self._lock:
            message.hold(error)
            self._tell_queue(outbox.session)

    # --- From the page ---

    def _asked(self, widget: Any, content: Any, buffers: Any) -> None:
        """A request of the page's, on whichever thread the kernel handles it."""
        if not isinstance(content, dict) or self._closed:
            return
        cid = content.get("cid")
        if not isinstance(cid, str):
            return
        with self._lock:
            known = cid in self._known
            self._known[cid] = None
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        answer: View = {}
        if not known:
            try:
                answer = self._requests.answer(content)
            except HaloError as error:
                answer = {"error": str(error)}
            except Exception as error:  # noqa: BLE001  # the page waits for an answer, whatever went wrong
                _log.error("A panel's request failed", exc_info=error)
                answer = {"error": f"That failed in the kernel ({type(error).__name__})."}
        self._tell({"kind": "answer", "cid": cid, **answer})


class _Requests:
    """What a page may ask for. Each method takes the request and gives what its answer holds."""

    def __init__(self, panel: ChatPanel) -> None:
        self._panel = panel
        self._exported: list[str] = []  # the parts of the last export

    def answer(self, request: dict[str, Any]) -> View:
        method = getattr(self, f"do_{request.get('kind')}", None)
        if method is None:
            raise UsageError("The page asks for what this version does not know. Reload the page.")
        return cast(View, method(request) or {})

    def do_send(self, request: dict[str, Any]) -> None:
        text = _text(request, "text")
        _checked_text(text)
        self._panel._enqueue(_text(request, "cid"), text, {})

    def do_stop(self, request: dict[str, Any]) -> None:
        self._panel.stop()

    def do_again(self, request: dict[str, Any]) -> None:
        turn = self._turn(request)
        given = {name: value for name, value in turn.request.items() if name not in ("message", "session_id")}
        self._panel._enqueue(_text(request, "cid"), turn.message, given, exact=True)

    def do_unqueue(self, request: dict[str, Any]) -> None:
        panel = self._panel
        with panel._lock:
            outbox, message = self._waiting(request)
            outbox.messages.remove(message)
            message.sent.cancel()
            panel._tell_queue(outbox.session)
        panel._note_status()

    def do_release(self, request: dict[str, Any]) -> None:
        panel = self._panel
        with panel._lock:
            outbox, message = self._waiting(request)
            if message.sent.done():  # refused once; this is another try
                message.sent = Sent(message.text)
            message.held, message.stopped, message.error = False, False, ""
            message.after_stop = outbox.stopping
            panel._tell_queue(outbox.session)
            panel._start_sending(outbox)
        panel._note_status()

    def do_rate(self, request: dict[str, Any]) -> None:
        value = _text(request, "value")
        if value not in ("up", "down", ""):
            raise UsageError("A rating is 'up', 'down' or nothing. Nothing was changed.")
        note = _text(request, "note")[:MAX_NOTE_CHARS]
        self._panel.session.rate(self._turn(request), cast("Verdict", value), note)

    def do_switch(self, request: dict[str, Any]) -> None:
        name = _text(request, "name").strip()
        if not name or not name.isprintable() or len(name) > 100:
            raise UsageError("A session's name is a line of at most 100 characters. Nothing was changed.")
        self._panel.session_name = name

    def do_new(self, request: dict[str, Any]) -> None:
        self._panel._register.new(self._panel.session_name)

    def do_export(self, request: dict[str, Any]) -> View:
        session, part = self._panel.session, request.get("part", 0)
        form = "json" if request.get("format") == "json" else "md"
        if part == 0:
            whole = session.to_markdown()
            if form == "json":
                whole = json.dumps(session.to_dict(), indent=2, ensure_ascii=False) + "\n"
            self._exported = [
                whole[start : start + EXPORT_PART_CHARS] for start in range(0, len(whole), EXPORT_PART_CHARS)
            ]
        if not isinstance(part, int) or not 0 <= part < len(self._exported):
            raise UsageError("The page asks for a part of an export that there is not. Export it anew.")
        return {
            "name": f"{session.name}.{form}",
            "mime": "application/json" if form == "json" else "text/markdown",
            "text": self._exported[part],
            "parts": len(self._exported),
        }

    def do_earlier(self, request: dict[str, Any]) -> View:
        before = request.get("before")
        if not isinstance(before, int):
            raise UsageError("The page asks for turns before none. Reload the page.")
        with self._panel._lock:
            views, earlier = self._panel._views_before(before)
        return {"turns": list[JSON](views), "earlier": earlier, "before": before}

    def do_sync(self, request: dict[str, Any]) -> None:
        with self._panel._lock:
            self._panel._tell(self._panel._snapshot_now())

    def _turn(self, request: dict[str, Any]) -> Turn:
        turns = self._panel.session.turns
        number = _text(request, "key").removeprefix("t")
        if not number.isascii() or not number.isdigit() or not 0 < int(number) <= len(turns):
            raise UsageError("There is no such turn in this session. Nothing was changed.")
        return turns[int(number) - 1]

    def _waiting(self, request: dict[str, Any]) -> tuple[_Outbox, _Message]:
        outbox = self._panel._outboxes.get(self._panel.session)
        which = request.get("which")
        messages = outbox.messages if outbox else []
        found = next((message for message in messages if message.cid == which and not message.taken), None)
        if outbox is None or found is None:
            raise UsageError("That message waits no longer: it has been sent or taken back.")
        return outbox, found


class _Follower(threads.Thread):
    """Tells a panel's page of one turn as it goes, whoever takes it."""

    def __init__(self, panel: ChatPanel, turn: Turn) -> None:
        super().__init__(name="halo-panel-follow", daemon=True)
        self.panel = panel
        self.turn = turn
        self.number = panel.session.turns.index(turn) + 1
        self.frames = Frames(Timeline(turn.reply, images=bool(configured("show_images"))))
        self.news = threads.Event()
        self._told = False  # the callbacks have been called for, or never will be
        self._waiting: list[Callable[[], object]] = []
        self._lock = threads.Lock()
        self.over = False  # the panel shows something else by now
        self._actions = 0

    def run(self) -> None:
        reply = self.turn.reply
        unwatch = reply.watchers.add(lambda _: self.news.set())
        try:
            self._until_ended(reply)
        finally:
            unwatch()
        try:
            self._acted()
            if not self.over:
                for payload in reply.summary_only:
                    self.panel._acted(ActionEvent(payload, reply.elapsed_s or 0.0, len(reply.text)))
                self.panel._commit(self)
                self.panel._replied(reply)
        finally:
            with self._lock:
                self._told = True
            for waiting in self._waiting:
                waiting()
        if not self.over:
            self.panel._show_static(update=True)

    def when_told(self, call: Callable[[], object]) -> None:
        """Have `call` called, once, when the user's callbacks have been called for."""
        with self._lock:
            if not self._told:
                self._waiting.append(call)
                return
        call()

    def _until_ended(self, reply: Reply) -> None:
        pacer = Pacer(interval_s=MIN_INTERVAL_S, bytes_per_s=MAX_BYTES_PER_S)
        painted_text = False
        while self._goes_on():
            if not self.news.wait(BEAT_S):
                self.panel._beat(reply.state)
                continue
            first_text = not painted_text and reply.first_text_s is not None
            if not first_text:
                threads.sleep(pacer.wait_s())
            self.news.clear()
            if not self._goes_on():
                return
            painted_text = painted_text or first_text
            since = pacer.clock()
            pacer.spent(since=since, size=self.panel._paint(self))
            self._acted()
            self.panel._note_status()

    def _goes_on(self) -> bool:
        return not self.over and self.turn.reply.status == "streaming"

    def _acted(self) -> None:
        events = self.turn.reply.action_events[self._actions :]
        self._actions += len(events)
        for event in () if self.over else events:
            self.panel._acted(event)


def _rating(turn: Turn) -> JSON:
    return {"value": turn.rating.value, "note": turn.rating.note} if turn.rating else None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _checked_text(value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"A message is text, not {type(value).__name__}. Nothing was sent; write one.")
    if not value.strip():
        raise UsageError("The message is empty. Nothing was sent; write one.")


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise UsageError(f"The page's request has no {name!r}. Reload the page.")
    return value
