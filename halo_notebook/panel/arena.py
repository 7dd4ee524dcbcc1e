"""One message to several agents, whose names are hidden until the user has voted.

What it promises:

- Each configuration has a session of its own, which `%%halo` and other panels may use, too. A conversation
  has its columns in one random order.
- Until the first vote of a conversation nothing in the page tells which column is whose: see `blind`.
- A vote is about the last message, when all columns have answered it. It is kept with the turns.
- Each column is a panel without a text box: what `follower` and `outbox` promise holds for it.

Kernel to page: the messages of a panel with the `column` that they are about, and `arena` (the state of the
whole). Page to kernel: those of a panel with a `column`; without one `send`, `stop`, `vote` and `new`.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..concurrency.loop import in_worker, post, spawn
from ..display.bundles import status_html
from ..display.columns import column_html, columns_html
from ..display.text import one_line
from ..display.wording import counted
from ..errors import ConfigError, InvalidRequest, UsageError
from ..evaluation.sending.configs import check_names
from ..recording.ratings import Vote
from . import follower, outbox, page_requests
from .blind import blinded, named
from .state import Fields, PanelState
from .views import COPY_NOTE, MAX_STATIC_BYTES, static_turn, static_words

if TYPE_CHECKING:
    from ..evaluation.sending.configs import Target
    from ..kernel import Connection
    from ..recording.ratings import Outcome
    from ..session import Session, SessionRegister, Turn
    from ..stream import JSON
    from .outbox import Sent
    from .views import View

LABELS = "ABCDEF"
"""As many columns as a page can show side by side."""
TIE, BOTH_BAD = "tie", "both bad"
_shuffle = random.SystemRandom().shuffle  # a notebook's seed would tell the order


class Column(PanelState):
    """The panel of one configuration."""

    publish_copy: Callable[[], None]

    def publish_static_copy(self, *, update: bool = True) -> None:
        """Publish the copy of the whole arena."""
        self.publish_copy()


class Arena:
    """What the columns of an arena share; it changes on the loop only, unless it says "any thread".

    Attributes:
        columns: by configuration; `order`: their names from left to right.
        revealed: whether the page shows the names.
        closed, requests: see `page_requests.Asked`.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        prefix: str,
        register: SessionRegister,
        connection: Connection,
        *,
        blind: bool,
        send: Callable[[View], None],
        publish_copy: Callable[[], None],
    ) -> None:
        self.blind, self.prefix, self.register = blind, prefix, register
        self.closed = False
        self.requests: dict[str, None] = {}
        self._send, self._connection = send, connection
        self._lock = threading.Lock()
        self._told: View | None = None
        self._busy: dict[str, bool] = {}
        names = {name: f"{prefix}/{name}" for name in targets}
        if any(each in register and register[each].turns for each in names.values()):
            for each in names.values():  # its columns may have been seen with their names
                register.new(each)
        self.columns: dict[str, Column] = {}
        for name, target in targets.items():
            to_page, changed = partial(self._from_column, name), partial(self._column_changed, name)
            column = Column(names[name], register, connection, target.client, to_page, changed)
            column.fields, column.publish_copy = Fields(target.fields), publish_copy
            self.columns[name] = column
        self._begin()

    def _begin(self) -> None:
        self.order = list(self.columns)
        self.revealed = not self.blind
        if self.blind:
            _shuffle(self.order)

    # --- To the page ---

    def tell(self, kind: str, **content: JSON) -> None:
        """Send one message, unless the arena is closed; on any thread."""
        with self._lock:
            if not self.closed:
                self._send({"kind": kind, **content})

    def _from_column(self, name: str, content: View) -> None:
        at = self.order.index(name)
        shown = self.shown(content, LABELS[at])
        if shown is not None:
            with self._lock:
                if not self.closed:
                    self._send({"column": at, **shown})
        if content["kind"] == "snapshot":  # a page that asked for one may have missed how the whole is
            self.tell("arena", **self.view())

    def shown(self, content: View, label: str) -> View | None:
        """What the page may get of a column's message, or None."""
        return named(content, label) if self.revealed else blinded(content, label)

    def _column_changed(self, name: str, trait: str, value: Any) -> None:
        if trait == "busy" and self._busy.get(name) is not value:  # it is told with each frame
            self._busy[name] = value
            spawn(self._note_soon())

    async def _note_soon(self) -> None:
        self.note()
        for session in self.sessions.values():
            await session.idle()  # the session is free a moment after its reply has ended
        self.note()

    def note(self) -> None:
        """Tell the page how the whole is, if that has changed."""
        view = self.view()
        if view != self._told:
            self._told = view
            self.tell("arena", **view)

    def view(self) -> View:
        """The state of the whole, beside the columns."""
        turns = self.round()
        vote = turns[0].vote if turns else None
        names = [one_line(name, 100) for name in self.order]
        sessions = [column.session.name for column in self._in_order()]
        return {
            "labels": [*LABELS[: len(self.order)]],
            "names": cast("JSON", names) if self.revealed else None,
            "sessions": cast("JSON", sessions) if self.revealed else None,
            "busy": self.busy,
            "round": self.counts() if turns and not vote else None,
            "outcomes": [turn.vote.outcome if turn.vote else None for turn in turns] if vote else None,
        }

    def snapshot(self) -> View | None:
        """What a page shows without a kernel; None before the first snapshot."""
        columns: list[JSON] = []
        for label, column in zip(LABELS, self._in_order(), strict=False):
            if column.saved is None:
                return None
            columns.append(self.shown({"kind": "snapshot", **column.saved}, label))
        return {"columns": columns, "arena": self.view()}

    # --- The round ---

    def _in_order(self) -> list[Column]:
        return [self.columns[name] for name in self.order]

    @property
    def sessions(self) -> dict[str, Session]:
        """The sessions by configuration."""
        return {name: self.register.get(column.session_name) for name, column in self.columns.items()}

    @property
    def busy(self) -> bool:
        """Whether a reply is awaited in a column; on any thread."""
        return any(
            session.busy
            or any(each.state != "held" for each in column.outbox(session).messages)
            or (column.session is session and column.following.ended < len(session.turns))
            for column, session in zip(self.columns.values(), self.sessions.values(), strict=True)
        )

    def round(self) -> list[Turn]:
        """The last turn of each column, in order, if all have answered the same message; else none."""
        sessions = [self.sessions[name] for name in self.order]
        if self.busy or not all(session.turns for session in sessions):
            return []
        turns = [session.turns[-1] for session in sessions]
        return turns if len({turn.message for turn in turns}) == 1 else []

    def counts(self) -> list[JSON]:
        """How many turns each column has: what a vote from the page is about."""
        return [len(self.sessions[name].turns) for name in self.order]

    def ask(self, text: Any, cids: list[str] | None = None) -> dict[str, Sent]:
        """Send a message to all columns; on any thread.

        Raises:
            HaloError: when one of the requests is not valid, or a round runs; nothing is sent then.
        """
        if not isinstance(text, str) or not text.strip():
            raise UsageError("A message must be a string that is not empty. Nothing was sent.")
        if self.busy:
            raise UsageError("A reply is still awaited. Nothing was sent; wait for its end, or stop it.")
        for column in self.columns.values():
            client: Any = column.client or self._connection.client()
            client.prepare(text, **column.fields)
        given = dict(zip(self.order, cids or [""] * len(self.order), strict=True))
        sent: dict[str, Sent] = {}
        for name in self.order:
            column, session = self.columns[name], self.sessions[name]
            post(outbox.drop_held, column, session)  # of an earlier round
            sent[name] = outbox.put(column, session, text, {}, cid=given[name])
        return {name: sent[name] for name in self.columns}

    def stop(self) -> None:
        """Stop all columns; on any thread."""
        for name, session in self.sessions.items():  # which a new conversation has before its column shows it
            outbox.stop(self.columns[name], session)

    def vote(self, choice: Any, names: Sequence[str] = ()) -> None:
        """Keep a vote on the last round; on any thread. `reveal` shows it.

        Args:
            choice: the label of a column, ``tie`` or ``both bad``, or one of `names`.
        """
        allowed = [*LABELS[: len(self.order)], TIE, BOTH_BAD]
        if choice in names and choice not in allowed:
            choice = LABELS[self.order.index(choice)]
        wanted = choice.upper() if isinstance(choice, str) and len(choice) == 1 else choice
        if wanted not in allowed:
            raise UsageError(
                f"A vote is {', '.join(map(repr, allowed[:-1]))} or {BOTH_BAD!r}, not {choice!r}. Nothing "
                "was changed."
            )
        turns = self.round()
        if not turns:
            raise UsageError(
                "There is nothing to vote on: the columns have not all answered the same message. Nothing "
                "was changed."
            )
        if turns[0].vote:
            raise UsageError("This message has a vote. Nothing was changed; send another message.")
        winner = self.order[allowed.index(wanted)] if len(wanted) == 1 else ""
        round_, at = uuid.uuid4().hex, datetime.now(UTC).isoformat(timespec="milliseconds")
        for name, turn in zip(self.order, turns, strict=True):
            outcome: Outcome = "won" if name == winner else "lost" if winner else cast("Outcome", wanted)
            turn.vote = Vote(round_, name, tuple(self.order), outcome, winner, not self.revealed, at)

    async def reveal(self) -> None:
        """Show the names, and what was hidden with them."""
        if not self.revealed:
            self.revealed = True
            self.note()
            for column in self._in_order():
                await column.refresh()
                size = len(json.dumps(column.saved, ensure_ascii=False))
                await asyncio.sleep(size / follower.MAX_BYTES_PER_S)  # the server drops a burst of messages
        self.note()
        column = self._in_order()[0]
        if column.has_static_copy:
            await in_worker(column.publish_static_copy)

    def new(self) -> None:
        """Start new conversations, in another random order; the ones before are kept. On any thread."""
        if self.busy:
            raise UsageError("A reply is still awaited. Nothing was changed; wait for its end, or stop it.")
        for column in self.columns.values():
            self.register.new(column.session_name)  # its watchers have `follow` called

    async def follow(self) -> None:
        """Show the sessions that have the columns' names now; other ones are another conversation."""
        changed = [
            name for name, session in self.sessions.items() if session is not self.columns[name].session
        ]
        if changed:
            self._begin()
        for name in [*self.order]:
            column = self.columns[name]
            if changed and name not in changed:  # it may have another place
                column.epoch, column.seq = column.epoch + 1, 0
                await column.refresh()
            else:
                await follower.show(column, self.register.get(column.session_name))
        self.note()

    def close(self) -> str:
        """Stop showing anything, on any thread; a line that says what is not sent."""
        with self._lock:
            self.closed = True
        lines = {""}
        for column in self.columns.values():
            with column.lock:
                column.closed = True
            lines.add(outbox.close(column))
            post(follower.leave, column)
        return max(lines)

    # --- The static copy ---

    def static_html(self, when: str) -> str:
        """The end of the conversation as HTML, the columns side by side."""
        columns = []
        most = MAX_STATIC_BYTES // len(self.order)
        for at, column in enumerate(self._in_order()):
            name = f"{LABELS[at]}: {self.order[at]}" if self.revealed else LABELS[at]
            columns.append(column_html(name, self._static_column(column, LABELS[at], most)))
        turns = max((column.following.ended for column in self.columns.values()), default=0)
        title = ["Halo arena", f"as of {when}", counted(turns, "round")]
        title += [] if self.revealed else ["the names are hidden until the vote"]
        return "\n".join([status_html(title), columns_html(columns), status_html([COPY_NOTE])])

    def _static_column(self, column: Column, label: str, most: int) -> str:
        parts: list[str] = []
        views, _ = column.turns_before(column.following.ended + 1)
        turns = column.session.turns[: column.following.ended][-len(views) :] if views else []
        for turn, view in reversed(list(zip(turns, cast("list[View]", views), strict=True))):
            shown = self.shown({"kind": "turn", "turn": view}, label)
            assert shown is not None
            words: list[str] = [turn.reply.status]
            words = static_words(turn, column.session.name) if self.revealed else words
            words += [turn.vote.outcome] if turn.vote else []
            html = static_turn(turn, cast("View", shown["turn"]), words)
            most -= len(html)
            if most < 0 and parts:
                parts.insert(0, status_html(["earlier turns are not shown"]))
                break
            parts.insert(0, html)
        return "\n".join(parts)


def check_targets(targets: Mapping[str, Target], connection: Connection) -> None:
    """Raise `HaloError` unless an arena can show these configurations."""
    if not 2 <= len(targets) <= len(LABELS):
        raise InvalidRequest(
            f"configs has {counted(len(targets), 'configuration')}. Nothing was shown; give 2 to "
            f"{len(LABELS)}."
        )
    check_names(targets)
    for target in targets.values():
        with suppress(ConfigError):  # who sends a message gets the reason
            client: Any = target.client or connection.client()
            client.prepare("Hello", **target.fields)


# --- What the page asks for without a column ---


def _send(arena: Arena, request: page_requests.Request) -> None:
    cids = request.get("cids")
    if (
        not isinstance(cids, list)
        or len(cids) != len(arena.order)
        or not all(isinstance(each, str) for each in cids)
    ):
        raise UsageError("The page is out of date. Nothing was sent; reload the page.")
    arena.ask(request.get("text"), cids)


async def _vote(arena: Arena, request: page_requests.Request) -> None:
    if request.get("round") != arena.counts():
        raise UsageError("The columns have changed. Nothing was changed; look at them and vote again.")
    arena.vote(request.get("choice"))
    await arena.reveal()


HANDLERS: dict[str, Callable[[Arena, page_requests.Request], Any]] = {
    "send": _send,
    "stop": lambda arena, request: arena.stop(),
    "vote": _vote,
    "new": lambda arena, request: arena.new(),
}


async def handle(arena: Arena, request: Any) -> None:
    """Do what the page asks for, of a column or of the whole."""
    if not isinstance(request, dict):
        return
    column, places = request.get("column"), range(len(arena.order))
    if column is None:
        await page_requests.answer(arena, request, HANDLERS)
    elif not isinstance(column, bool) and column in places and request.get("kind") in _OF_COLUMNS:
        await page_requests.handle(arena.columns[arena.order[column]], request)


# A column has no text box of its own, and always shows its own session. Its name is in an export.
_OF_COLUMNS = {"again", "unqueue", "release", "earlier", "sync", "views", "export"}
