"""A chat panel in a notebook: an ipywidgets widget on a session that `%%halo` shares.

What it promises:

- What is said in the session shows here, whoever said it: this panel, another one, a `%%halo` cell or a
  program. A turn keeps running whatever becomes of the page.
- The page gets what is new, each message with a sequence number. A page that has missed one asks for a
  snapshot; a turn that has ended is sent whole in any case.
- A message that was typed is sent once: if it reaches the kernel again, its id is known.
- Any thread may call it. Clicks arrive on the kernel's main thread, where they wait while a cell
  computes, or on a subshell's, where they wait while that cell holds the interpreter. A turn streams on
  meanwhile, on the one loop, which waits for neither; nor does Stop wait for rendering.
- What the page gets from an agent is safe HTML made by `display`, or JSON that it shows as text.

It does not know what a reply means, nor how a page lays it out: `static/` does.

Kernel to page, custom messages by their `kind`: `snapshot` (everything), `begin`, `frame` and `turn` (a
turn begins, grows, has ended), `queue`, `sessions`, `start` (what the next message starts), `beat` (a silent
turn still runs), `answer` (to a request), `notice`, `views` (do you show the panel?), `closed`. Page to
kernel: see `page_requests`.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import anywidget
from IPython.display import publish_display_data
from traitlets import Any as AnyTrait
from traitlets import Bool, List, TraitError, Unicode, validate

from ..client.request import image_urls
from ..client.secrets import hide_token
from ..client.sync import HaloClient
from ..concurrency.loop import post, spawn
from ..concurrency.usercode import Home
from ..display.text import one_line, writable
from ..display.wording import counted
from ..errors import UsageError
from ..kernel import current_shell, kernel_state
from . import follower, outbox, page_requests
from .assets import bundle, styles
from .sending import send_to_page
from .state import Callback, Fields, PanelState

if TYPE_CHECKING:
    from ..client.request import RequestFields
    from ..reply import ActionEvent, Reply
    from ..session import Session
    from .outbox import Sent


class ChatPanel(anywidget.AnyWidget):
    """A chat panel on a session that `%%halo` shares.

    Show it as a cell's last line or with `display`, or several side by side with
    ``HBox([panel_a, panel_b])``. Where no widget can be shown (a notebook saved without widget state,
    nbconvert, GitHub), the cell shows the conversation as static HTML, as of the last turn. A panel
    inside another widget (`HBox`) has no static copy, and after the page has been reloaded the copy is
    updated only when the cell is run again.

    Args:
        session: the session's name. A new name makes a new session.
        title: shown at the top. None: the agent's name.
        height: a CSS length.
        suggestions: messages to send with a click, shown while the session has no turn.
        placeholder: shown in the empty text box.
        client: sends the messages. None: the client that `%%halo` uses, by the settings at that time.
        cases: the ``.jsonl`` file to which *Keep as a test case* adds a turn's conversation; a relative path
            starts in the kernel's working directory.

    Attributes:
        busy: whether a turn of the session runs, or a message from here waits to be sent. Observable.
        status: ``ready``, ``queued``; while a turn runs one line such as ``streaming``; then
            ``complete``, ``stopped`` or ``failed``; ``closed`` at the end. Observable.
        session_name: the session that is shown. Set it to show another; a message that is edited in the page
            changes it, too. Observable; observers are called as callbacks are, see `on_reply`.

    Raises:
        UsageError: when an argument has the wrong type.

    >>> from halo_notebook.client.sync import HaloClient
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
    ...     panel = ChatPanel("docs", client=client)
    ...     reply = panel.ask("My name is Ada").result()
    >>> reply.status, len(panel.session.turns)
    ('complete', 1)
    >>> panel.close()
    """

    _esm = bundle("chat/panel.js")
    _css = styles()

    title = Unicode(None, allow_none=True).tag(sync=True)
    height = Unicode("520px").tag(sync=True)
    suggestions = List(Unicode()).tag(sync=True)
    placeholder = Unicode("Ask the agent").tag(sync=True)
    busy = Bool(False, read_only=True)
    status = Unicode("ready", read_only=True)
    session_name = Unicode("default")
    _static_class = Unicode("").tag(sync=True)
    # Made when the page asks for it, from the state at that moment; never sent automatically.
    _snapshot = AnyTrait(None).tag(
        sync=True,
        to_json=lambda value, panel: panel._state.saved,
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
        cases: str | Path = "cases.jsonl",
    ) -> None:
        if not _is_text(session):
            raise UsageError("session must be a name, such as 'default'. Nothing was shown.")
        if isinstance(suggestions, str):
            raise UsageError("suggestions must be a list of messages. Nothing was shown; put it in [ ].")
        if client is not None and not isinstance(client, HaloClient):
            raise UsageError(f"client must be a HaloClient, not {type(client).__name__}. Nothing was shown.")
        if not _is_case_file(cases):
            raise UsageError("cases must be the path of a .jsonl file. Nothing was shown.")
        connection, register = kernel_state(current_shell())
        state = PanelState(session, register, connection, client, self._send_to_page, self.set_trait, cases)
        self._state = state
        try:
            super().__init__(
                title=title,
                height=height,
                suggestions=list(suggestions),
                placeholder=placeholder,
                _static_class=state.static_class,
                # In an HBox panels share the width; without this they would have none.
                layout={"flex": "1 1 auto", "min_width": "0"},
            )
        except TraitError as error:
            state.closed = True
            raise UsageError(f"{one_line(str(error))} Nothing was shown; fix that argument.") from None
        self._unwatch_register = register.watchers.add(self._register_changed)
        self.on_msg(lambda widget, content, buffers: spawn(page_requests.handle(state, content, buffers)))
        self.session_name = session
        spawn(follower.show(state, self.session))

    @property
    def session(self) -> Session:
        """The session that is shown, which `%%halo -s NAME` uses too."""
        return self._state.register.get(self._state.session_name)

    @property
    def fields(self) -> MutableMapping[str, Any]:
        """Request fields that are sent with each message from here, see `RequestFields`. Can be set."""
        fields: MutableMapping[str, Any] = self._state.fields
        return fields

    @fields.setter
    def fields(self, fields: MutableMapping[str, Any]) -> None:
        self._state.fields = Fields(fields) if isinstance(fields, dict) else fields

    def ask(self, text: str, **fields: Unpack[RequestFields]) -> Sent:
        """Send `text` as if it had been typed here, behind the messages that wait.

        Args:
            text: the message.
            fields: request fields for this message; they override those of the panel.

        Returns:
            at once a handle: `result()` or `await` gives the reply, also for a stopped turn.

        Raises:
            UsageError: when the panel is closed or `text` is not a message.
            InvalidRequest: when an item of `images` is not an image.
        """
        hide_token(fields)
        self._check_open("Nothing was sent")
        state, session = self._state, self.session
        if fields.get("images") is not None:  # drawn here: a figure may change before it is sent
            fields["images"] = image_urls(fields["images"])
        return outbox.put(state, session, text, fields)

    def stop(self) -> None:
        """Stop the turn that runs; the text received so far is kept. Messages that wait are held back."""
        outbox.stop(self._state, self.session)

    def on_reply(self, callback: Callable[[Reply], Any]) -> Callable[[], None]:
        """Call `callback(reply)` whenever a turn of the shown session has ended, in whatever way.

        It may be async. Callbacks run one at a time on the kernel's loop, so they wait while a cell
        computes. If one raises, the panel shows one line. Returns a function that removes the callback.
        """
        return self._added(self._state.on_reply, callback)

    def on_action(self, callback: Callable[[ActionEvent], Any]) -> Callable[[], None]:
        """Call `callback(event)` once for each action of the shown session, as it arrives; see `on_reply`.

        The event is an `ActionEvent`, whose `payload` is the action's JSON.
        """
        return self._added(self._state.on_action, callback)

    def close(self) -> None:
        """Remove the panel from the page for good. The session and its turns continue.

        Messages that wait are not sent; one line says which.
        """
        state = getattr(self, "_state", None)
        if state is None or state.closed:  # one whose arguments were refused is closed by its finaliser
            return
        state.tell("closed")
        with state.lock:
            state.closed = True
        self._unwatch_register()
        if line := outbox.close(state):
            print(writable(line))  # noqa: T201  # the page is gone
        post(follower.leave, state)
        self.set_trait("status", "closed")
        self.set_trait("busy", False)
        super().close()

    def __repr__(self) -> str:
        return f"ChatPanel({self.session_name!r}, {counted(len(self.session.turns), 'turn')})"

    def _ipython_display_(self) -> None:
        if self._state.closed:
            print(repr(self), "is closed")  # noqa: T201  # what a display of it shows
            return
        shown: Any = self._repr_mimebundle_()
        publish_display_data(data=shown[0] if isinstance(shown, tuple) else shown)
        self._state.has_static_copy = True
        self._state.publish_static_copy(update=False)

    def _added(self, callbacks: list[Callback], function: Any) -> Callable[[], None]:
        if not callable(function):
            raise UsageError("A callback must be callable. Nothing was changed.")
        self._check_open("Nothing was changed")
        callback = (function, Home())
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    def _check_open(self, outcome: str) -> None:
        if self._state.closed:
            raise UsageError(f"This panel is closed. {outcome}; create another one.")

    def notify_change(self, change: Any) -> None:
        """Call observers: those of busy, status and session_name in the way that callbacks are called."""
        if change.name not in ("busy", "status", "session_name"):
            super().notify_change(change)
            return
        if change.name == "session_name":
            self._state.session_name = change.new
            self._state.note_status()
            spawn(follower.show(self._state, self.session))
        notify = partial(super().notify_change, change)
        vars(notify)["__name__"] = f"An observer of {change.name}"
        post(self._state.call, (notify, self._state.home))

    @validate("session_name")
    def _checked_name(self, proposal: Any) -> str:
        name = proposal["value"]
        if not _is_text(name):
            raise UsageError("A session's name is text, such as 'default'. Nothing was changed.")
        return str(name)

    def _register_changed(self, name: str) -> None:
        spawn(follower.register_changed(self._state))

    def _send_to_page(self, content: dict[str, Any]) -> None:
        send_to_page(self, content)


def _is_case_file(path: object) -> bool:
    return isinstance(path, str | Path) and Path(path).suffix.lower() == ".jsonl"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
