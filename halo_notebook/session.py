"""A conversation, and the kernel's register of them.

What it promises:

- A turn is on its session before it is sent, and its reply grows there as it arrives, so
  an interrupt, an error or a closed tab loses nothing.
- The session's id survives errors and interrupts and goes with the next turn.
- Turns of one session run one at a time; different sessions run side by side.
- An id goes only to the service that gave it.

It does not know how a turn is shown, nor how it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, Unpack, cast

from .client.aio import AsyncHaloClient, AsyncReplyStream
from .client.sync import HaloClient, ReplyStream
from .concurrency.loop import post
from .concurrency.pulled import entered
from .concurrency.usercode import Home
from .errors import UsageError
from .reply import Watchers

if TYPE_CHECKING:
    from .client.request import RequestFields
    from .client.tokens import CallUser
    from .concurrency.inbox import Inbox
    from .reply import Reply
    from .stream import JSON

DEFAULT_NAME = "default"

S = TypeVar("S", ReplyStream, AsyncReplyStream)

Verdict: TypeAlias = Literal["up", "down", ""]


@dataclass(frozen=True)
class Rating:
    """What a person thought of a turn.

    Attributes:
        value: ``up``, ``down``, or empty for a note alone.
        note: why, in their own words.
    """

    value: Verdict = ""
    note: str = ""


@dataclass(eq=False)
class Turn:
    """One message and its reply.

    Attributes:
        request: the request's body as sent, without the user token.
        reply: what has arrived; it grows while the turn runs.
        target: the base URL that it was sent to.
        source: who answered, if not Halo, such as ``demo agent``.
        rating: what a person thought of it, or None. `Session.rate` sets it.
    """

    request: dict[str, JSON]
    reply: Reply
    target: str = ""
    source: str = ""
    rating: Rating | None = None

    @property
    def message(self) -> str:
        """What was asked."""
        return str(self.request["message"])

    def to_dict(self) -> dict[str, JSON]:
        """The turn as plain JSON."""
        rating = cast("JSON", asdict(self.rating)) if self.rating else None
        return {"request": self.request, "reply": self.reply.to_dict(), "rating": rating}


@dataclass(eq=False)
class Session:
    """One conversation with an agent.

    Attributes:
        name: what it is called in this kernel.
        session_id: the server's id, opaque; None until the server has named one.
        agent_id: the agent that answered last; None until one has named itself.
        target: the base URL that the id belongs to; None before the first turn.
        turns: in the order they were asked.
        watchers: told of a turn when it begins, when it has ended and when it is rated.

    >>> from halo_notebook.client.sync import HaloClient
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> session = Session()
    >>> with DemoAgent(chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
    ...     reply = session.ask(client, "My name is Ada")
    ...     reply = session.ask(client, "What is my name?")
    >>> "Ada" in reply.text
    True
    """

    name: str = DEFAULT_NAME
    session_id: str | None = None
    agent_id: str | None = None
    target: str | None = None
    turns: list[Turn] = field(default_factory=list)
    watchers: Watchers[Turn] = field(default_factory=Watchers, repr=False, compare=False)
    _place: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False, compare=False)
    _owner: object = field(default=None, repr=False, compare=False)
    _stop_turn: Callable[[], object] | None = field(default=None, repr=False, compare=False)

    @contextlib.contextmanager
    def turn(
        self,
        client: HaloClient,
        message: str,
        *,
        whole: bool = False,
        inbox: Inbox | None = None,
        **fields: Unpack[RequestFields],
    ) -> Iterator[ReplyStream]:
        """Take a turn: gives the stream of one message, to be entered or opened.

        Args:
            client: sends the message.
            message: see `HaloClient.stream`.
            whole: ask for the reply in one piece.
            inbox: where this thread waits, for its place and for the reply.
            fields: see `RequestFields`. A `session_id` given here is continued from now on.

        Raises:
            InvalidRequest: when a field is not what the API takes; the session has no new turn then.
            UsageError: when this thread is in the middle of a turn of this session.
        """

        def made(fields: RequestFields) -> tuple[ReplyStream, Callable[[], object]]:
            request, path = client.prepare(message, **fields), "/chat" if whole else "/chat/stream"
            stream = ReplyStream(client.aio, request, path, inbox)
            return stream, stream.ask_to_stop

        with entered(self._taken(threading.get_ident(), client, fields, made), inbox) as stream:
            try:
                yield stream
            finally:
                stream.stop()

    @contextlib.asynccontextmanager
    async def aturn(
        self,
        client: HaloClient | AsyncHaloClient,
        message: str,
        *,
        whole: bool = False,
        call: CallUser | None = None,
        **fields: Unpack[RequestFields],
    ) -> AsyncIterator[AsyncReplyStream]:
        """As `turn`, for code on the loop. `stop` ends the block, and the code after it runs.

        Args:
            call: calls a `user_token` callable. None: on a thread, and what it returns is awaited on the
                kernel's loop.
        """
        task = asyncio.current_task()
        assert task is not None, "this runs on the loop"
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = stopped or task.cancel()

        def made(fields: RequestFields) -> tuple[AsyncReplyStream, Callable[[], object]]:
            sends = client if isinstance(client, AsyncHaloClient) else client.aio
            ask, path = call or Home().call_in_thread, "/chat" if whole else "/chat/stream"
            return AsyncReplyStream(sends, sends.prepare(message, **fields), ask, path), stop

        async with self._taken(task, client, fields, made) as stream:
            try:
                yield stream
            except asyncio.CancelledError:
                if not stopped or task.cancelling() > 1:
                    raise
            finally:
                if stopped:
                    task.uncancel()

    @contextlib.asynccontextmanager
    async def _taken(
        self,
        owner: object,
        client: HaloClient | AsyncHaloClient,
        fields: RequestFields,
        made: Callable[[RequestFields], tuple[S, Callable[[], object]]],
    ) -> AsyncIterator[S]:
        """The place of a turn, on the loop: first come, first served.

        Args:
            owner: the task or the thread that takes the turn.
            made: makes its stream, and what stops it.
        """
        if self._owner == owner:
            raise UsageError(
                f"Session {self.name!r} is in the middle of a turn. Nothing was sent; end that turn first, "
                "or use another session."
            )
        target = client.base_url
        async with self._place:
            if fields.get("session_id") is None:
                fields["session_id"] = self.id_for(target)
            stream, self._stop_turn = made(fields)
            self._owner = owner
            turn = Turn(stream.request.body, stream.reply, target, client.source)
            self.turns.append(turn)
            try:
                self.watchers.tell(turn)
                yield stream
            finally:
                self._owner = self._stop_turn = None
                stream.exchange.end(None)
                self._take_over(stream, target, fields["session_id"])
                self.watchers.tell(turn)

    @property
    def busy(self) -> bool:
        """Whether a turn runs; another one would wait for its end."""
        return self._place.locked()

    def stop(self) -> None:
        """Stop the turn that runs, from any thread; the text received so far is kept."""
        post(lambda: self._stop_turn and self._stop_turn())

    def rate(self, turn: Turn, value: Verdict, note: str = "") -> None:
        """Keep what a person thought of `turn`: it goes with the session's export."""
        turn.rating = Rating(value, note) if value or note else None
        self.watchers.tell(turn)

    def ask(self, client: HaloClient, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Take a turn and return its reply once it has ended. Raises as `HaloClient.ask` does."""
        with self.turn(client, message, **fields) as stream, stream:
            for _ in stream:
                pass
        return stream.reply

    def _take_over(self, stream: ReplyStream | AsyncReplyStream, target: str, sent_id: str | None) -> None:
        """Go on from where that turn has led; one that reached nobody elsewhere changes nothing."""
        if self.target not in (None, target) and not stream.may_have_arrived:
            return
        if self.target != target:
            self.target, self.agent_id = target, None
        self.session_id = stream.reply.session_id or sent_id
        self.agent_id = stream.reply.agent_id or self.agent_id

    def id_for(self, target: str) -> str | None:
        """The id to send to `target`: none when another service gave it."""
        return self.session_id if self.target in (None, target) else None

    def about(self, reply: Reply, *, source: str = "") -> dict[str, JSON]:
        """What is written beside a shown reply, so that a saved notebook says what it shows.

        `source`: who answered where that is not Halo, see `status_words`.
        """
        return {
            "session": self.name,
            "session_id": reply.session_id,
            "agent_id": reply.agent_id,
            "status": reply.status,
            "source": source,
        }

    def summary(self) -> dict[str, JSON]:
        """The session in few words: all but its turns, which are counted."""
        return {
            "session_id": self.session_id,
            "agent_id": self.agent_id,
            "target": self.target,
            "turns": len(self.turns),
        }

    def to_dict(self) -> dict[str, JSON]:
        """The session as plain JSON, without secrets."""
        return {"name": self.name, **self.summary(), "turns": [turn.to_dict() for turn in self.turns]}

    def to_markdown(self) -> str:
        """The session as Markdown: each message and reply, the actions as JSON blocks.

        The agent's text stands there as it came: whoever renders the file must treat it as
        untrusted.
        """
        lines = [f"# Halo session: {self.name}", ""]
        lines += [f"- session id: {self.session_id or 'none'}", f"- agent: {self.agent_id or 'not named'}"]
        for number, turn in enumerate(self.turns, 1):
            reply = turn.reply
            lines += ["", f"## Turn {number}", "", "**You**", "", _closed(turn.message), "", "**Agent**", ""]
            lines.append(_closed(reply.text) or "*(no text)*")
            for payload in reply.actions:
                shown = json.dumps(payload, indent=2, ensure_ascii=False)
                fence = "`" * max(3, _longest_backtick_run(shown) + 1)
                lines += ["", f"{fence}json", shown, fence]
            if reply.status != "complete":
                lines += ["", f"*({reply.status}{': ' + reply.error if reply.error else ''})*"]
            if turn.rating:
                lines += ["", f"*(rated {turn.rating.value or 'with a note'})*"]
                lines += ["", _closed(turn.rating.note)] if turn.rating.note else []
        return "\n".join(lines) + "\n"

    def export(self, path: str | Path) -> Path:
        """Write the session to `path`: ``.md`` as Markdown, ``.json`` as JSON.

        Raises:
            UsageError: for another ending, or when the file cannot be written.
        """
        file = Path(path)
        if file.suffix.lower() == ".md":
            text = self.to_markdown()
        elif file.suffix.lower() == ".json":
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        else:
            raise UsageError(
                f"{file.name!r} ends in neither .md nor .json. Nothing was written; name the file with "
                "one of them."
            )
        try:
            file = file.expanduser()
            file.write_text(text, encoding="utf-8", errors="replace")
        except (OSError, ValueError, RuntimeError) as error:  # a bad name, a user without a home
            why = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{str(file)!r} could not be written ({why}). The session is kept; choose another place."
            ) from None
        return file


def _closed(text: str) -> str:
    """Markdown with its last code fence closed, so that what follows is not swallowed."""
    fence = ""
    for line in text.split("\n"):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark.group(1)
        elif mark and mark.group(1).startswith(fence) and not line.strip(" `~"):
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _longest_backtick_run(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


class SessionRegister:
    """The kernel's sessions under their names; `default` is there from the start.

    Attributes:
        watchers: told the name of a session that is new or another one than before.

    >>> register = SessionRegister()
    >>> register.current.name, sorted(register)
    ('default', ['default'])
    """

    def __init__(self) -> None:
        self._sessions = {DEFAULT_NAME: Session()}
        self._current = DEFAULT_NAME
        self._lock = threading.RLock()  # a panel's clicks may come on a thread of their own
        self.watchers: Watchers[str] = Watchers()

    @property
    def current(self) -> Session:
        """The session that a turn goes to when none is named."""
        return self._sessions[self._current]

    def get(self, name: str | None = None) -> Session:
        """The session of that name, made when there is none; the current one for None."""
        if name is None:
            return self.current
        with self._lock:
            is_new = name not in self._sessions
            session = self._sessions.setdefault(name, Session(name))
        if is_new:
            self.watchers.tell(name)
        return session

    def use(self, name: str) -> Session:
        """Make the session of that name the current one."""
        session = self.get(name)
        self._current = name
        return session

    def new(self, name: str | None = None) -> Session:
        """Start a new conversation under that name (the current one's for None).

        One that has turns or an id is kept beside it, as ``name-1`` and so on.
        """
        return self._replace(name, Session())

    def resume(self, session_id: str, name: str | None = None, *, target: str | None = None) -> Session:
        """Continue the conversation of that id, which `target` gave, under that name."""
        return self._replace(name, Session(session_id=session_id, target=target))

    def _replace(self, name: str | None, session: Session) -> Session:
        with self._lock:
            session.name = name = self._current if name is None else name
            old = self._sessions.get(name)
            if old is not None and (old.turns or old.session_id):
                number = 1
                while (kept := f"{name}-{number}") in self._sessions:
                    number += 1
                old.name = kept
                self._sessions[kept] = old
            self._sessions[name] = session
        self.watchers.tell(name)
        return session

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)

    def __getitem__(self, name: str) -> Session:
        """The session of that name.

        Raises:
            UsageError: naming those there are, when there is none of that name.
        """
        try:
            return self._sessions[name]
        except KeyError:
            raise UsageError(
                f"There is no session {name!r}. Nothing was changed; the sessions are {', '.join(self)}."
            ) from None
