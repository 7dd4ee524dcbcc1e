"""A conversation, and the kernel's register of conversations. Its promises:

- A turn is on its session before it is sent, and its reply grows there as it is received, so an
  interrupt, an error or a closed tab loses nothing.
- The session's id survives errors and interrupts, and is sent with the next turn.
- Turns of one session run one at a time, in order of arrival; different sessions run side by side.
- An id is sent only to the service that gave it.
- A session that was read from a file, or branches off another one, is continued as a new conversation, which
  gets its messages as history.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from .client.exchange import AsyncReplyStream
from .client.masking import masked, masked_json
from .client.request import MAX_HISTORY_ITEMS
from .client.secrets import hide_token
from .client.sync import HaloClient, ReplyStream
from .concurrency.loop import post
from .concurrency.pulled import entered
from .concurrency.usercode import Home
from .display.text import one_line, short_repr
from .display.transcript import turn_markdown
from .display.wording import counted
from .errors import UsageError
from .recording.ratings import Rating, Vote
from .reply import Watchers, reply_from

if TYPE_CHECKING:
    from .client.client import Client
    from .client.request import RequestFields
    from .client.secrets import Secret
    from .client.user_tokens import CallUser
    from .concurrency.interrupts import Inbox
    from .evaluation.cases.case import Case
    from .recording.ratings import Verdict
    from .reply import Reply
    from .stream import JSON

DEFAULT_NAME = "default"

S = TypeVar("S", ReplyStream, AsyncReplyStream)


@dataclass(eq=False)
class Turn:
    """One message and its reply.

    Attributes:
        request: the request's body as sent, without the user token.
        reply: what has been received; it grows while the turn runs.
        target: the base URL that it was sent to.
        source: who answered, if not Halo, such as ``demo agent``.
        rating: what a person thought of it, or None. `Session.rate` sets it.
        vote: how it did beside the replies of other configurations, or None. `ArenaPanel` sets it.
        session: the session that it is a turn of, or None.
    """

    request: dict[str, JSON]
    reply: Reply
    target: str = ""
    source: str = ""
    rating: Rating | None = None
    session: Session | None = field(default=None, repr=False)
    vote: Vote | None = None

    @property
    def message(self) -> str:
        return str(self.request["message"])

    @property
    def masked_message(self) -> str:
        """The message as it may be written: it repeats no secret of the session."""
        return masked(self.message, self.session.secrets) if self.session else self.message

    @property
    def arrived(self) -> bool:
        """Whether the agent may have got the message."""
        return self.reply.may_have_arrived or self.reply.status == "complete"

    @property
    def sent_id(self) -> str | None:
        """The id of the conversation that it continued; None when it began one."""
        sent = self.request.get("session_id")
        return sent if isinstance(sent, str) else None

    def start_note(self) -> str:
        """What it started, in words; empty when it began no conversation from other messages."""
        history, session = self.request.get("conversation_history"), self.session
        if self.sent_id is not None:
            return ""
        if isinstance(history, list):
            count = counted(len(history), "earlier message")
            return f"a new conversation for the agent, which got {count} as its history"
        is_edited = session and session.edited and self not in session.turns[: session.copied]
        return "a new conversation for the agent" if is_edited else ""

    def as_case(self, id: str | None = None, expect: JSON = None, tags: Sequence[str] = ()) -> Case:  # noqa: A002  # as a case calls it
        """The conversation up to this turn as a case for `evaluate`: what the agent got before, and this.

        Messages have their request fields (context, images, user id, …), but never a secret, and no
        `agent_id`: whom a case is sent to is the evaluation's choice. A message that the agent did not get is
        left out, unless it is this one.

        Args:
            id: its name in tables. None: the message's first words, and a digest of all that is sent.
            expect: what is expected of the reply to this message: any JSON.
            tags: what groups it: strings or numbers.

        Returns:
            a case with the ratings as metadata: `rating` and `rating_note` of this turn,
            `earlier_ratings` of those before, `vote` as this turn's outcome, and `resumed` where the messages
            before are not known here.
        """
        # It needs what evaluates, which a conversation does not.
        from .evaluation.cases.case import read_cases
        from .evaluation.cases.sent_cases import rated_item

        turns = self.session.conversation(self) if self.session else [self]
        item = rated_item([turn.written() for turn in turns]) | {"expect": expect, "tags": tags}
        item |= {} if id is None else {"id": id}
        case = read_cases([item])[0]
        secrets = self.session.secrets if self.session else ()
        of_user: Any = masked_json([case.id, case.expect, [*case.tags]], secrets)
        return replace(case, id=of_user[0], expect=of_user[1], tags=tuple(of_user[2]))

    def written(self) -> tuple[dict[str, JSON], dict[str, Any], dict[str, Any]]:
        """The request, and the rating and the vote, which may be empty, without the session's secrets."""
        parts: Any = [self.request, *(asdict(each) if each else {} for each in (self.rating, self.vote))]
        written: Any = masked_json(parts, self.session.secrets) if self.session else parts
        return written[0], written[1], written[2]

    def to_dict(self) -> dict[str, JSON]:
        """The turn as plain JSON."""
        request, rating, vote = self.written()
        return {
            "request": request,
            "reply": self.reply.to_dict(),
            "rating": rating or None,
            "vote": vote or None,
            "target": self.target,
            "source": self.source,
            "may_have_arrived": self.reply.may_have_arrived,
        }


@dataclass(eq=False)
class Session:
    """One conversation with an agent.

    Attributes:
        name: its name in this kernel.
        session_id: the server's id, opaque; None until the server has sent one.
        agent_id: the agent that answered last; None until the server has named one.
        target: the base URL to which the id belongs; None before the first turn.
        turns: in order.
        starts_anew: whether its next message begins a new conversation for the agent, with `history`: it was
            read from a file or branches off another session, and the agent has given no id since.
        edited: the turn of another session from which this one branches off, with another message; or None.
        copied: how many of its turns, the first ones, are copies of those before `edited`.
        secrets: the key and the user tokens of its turns, which are masked in what is written.
        watchers: called with a turn when it begins, when it has ended and when it is rated.

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
    starts_anew: bool = False
    edited: Turn | None = field(default=None, repr=False)
    copied: int = field(default=0, repr=False)
    secrets: set[Secret] = field(default_factory=set, repr=False)
    watchers: Watchers[Turn] = field(default_factory=Watchers, repr=False)
    stop_turn: Callable[[], object] = field(default=lambda: None, repr=False)
    _branches: int = field(default=0, repr=False)
    _place: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _owner: object = field(default=None, repr=False)

    @contextlib.contextmanager
    def turn(
        self,
        client: Client,
        message: str,
        *,
        whole: bool = False,
        inbox: Inbox | None = None,
        **fields: Unpack[RequestFields],
    ) -> Iterator[ReplyStream]:
        """Take a turn: the block gets the stream of one message, to be entered or opened.

        Args:
            whole: ask for the reply in one piece.
            inbox: where this thread waits, first for its turn and then for the reply.
            fields: see `RequestFields`. A `session_id` given here is continued from now on.

        Raises:
            InvalidRequest: when a field is not what the API accepts; the session has no new turn then.
            UsageError: when this thread is in the middle of a turn of this session.
        """
        hide_token(fields)
        path = "/chat" if whole else "/chat/stream"

        def make() -> ReplyStream:
            return ReplyStream(client, client.prepare(message, **fields), path, inbox)

        taken = self._taken(threading.get_ident(), client, fields, make, ReplyStream.ask_to_stop)
        with entered(taken, inbox) as stream:
            try:
                yield stream
            finally:
                stream.stop()

    @contextlib.asynccontextmanager
    async def aturn(
        self,
        client: Client,
        message: str,
        *,
        whole: bool = False,
        call: CallUser | None = None,
        **fields: Unpack[RequestFields],
    ) -> AsyncIterator[AsyncReplyStream]:
        """As `turn`, for code on the I/O thread's loop. `stop` ends the block; the code after it runs.

        Args:
            call: calls a `user_token` callable. None: on a thread, and what it returns is awaited on the
                kernel's loop.
        """
        hide_token(fields)
        call, path = call or Home().call_in_thread, "/chat" if whole else "/chat/stream"
        task = asyncio.current_task()
        assert task is not None, "this runs on the loop"
        stopped = False

        def make() -> AsyncReplyStream:
            return AsyncReplyStream(client, client.prepare(message, **fields), call, path)

        def stop(stream: AsyncReplyStream) -> None:
            nonlocal stopped
            stopped = stopped or task.cancel()

        async with self._taken(task, client, fields, make, stop) as stream:
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
        client: Client,
        fields: RequestFields,
        make: Callable[[], S],
        stop: Callable[[S], object],
    ) -> AsyncIterator[S]:
        """Wait until it is the turn of `owner`, a task or a thread, and take it."""
        if self._owner == owner:
            raise UsageError(
                f"Session {self.name!r} is in the middle of a turn. Nothing was sent; end that turn first, "
                "or use another session."
            )
        async with self._place:
            self.continue_with(fields, client.base_url)
            stream = make()
            turn = Turn(stream.request.body, stream.reply, client.base_url, client.source, session=self)
            self.secrets.update(stream.secrets)
            self.turns.append(turn)
            self._owner, self.stop_turn = owner, lambda: stop(stream)
            try:
                self.watchers.tell(turn)
                yield stream
            finally:
                self._owner, self.stop_turn = None, lambda: None
                stream.end(None)
                self.secrets.update(stream.secrets)  # with the user token, which was asked for
                self._continue_from(turn, fields.get("session_id"))
                self.watchers.tell(turn)

    @property
    def busy(self) -> bool:
        """Whether a turn runs; another one would wait for its end."""
        return self._place.locked()

    async def idle(self) -> None:
        """Wait until no turn runs; for code on the loop."""
        async with self._place:
            pass

    def stop(self) -> None:
        """Stop the turn that runs, from any thread; its text is kept. On the loop, `stop_turn` does so."""
        post(lambda: self.stop_turn())  # noqa: PLW0108  # that of the turn which runs then

    def rate(self, turn: Turn, value: Verdict, note: str = "") -> None:
        """Keep what a person thought of `turn`; an export of the session contains it.

        Raises `UsageError` for another value, a note that is not text, or a turn of another session.
        """
        if value not in ("up", "down", "") or not isinstance(note, str):
            raise UsageError("A rating is 'up', 'down' or empty, with a note as text. Nothing was changed.")
        if not any(each is turn for each in self.turns):
            raise UsageError(f"Session {self.name!r} has no such turn. Nothing was changed.")
        turn.rating = Rating(value, note) if value or note else None
        self.watchers.tell(turn)

    def ask(self, client: HaloClient, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Take a turn and return its reply once it has ended. Raises as `HaloClient.ask` does."""
        hide_token(fields)
        with self.turn(client, message, **fields) as stream, stream:
            return stream.to_end()

    def _continue_from(self, turn: Turn, sent_id: str | None) -> None:
        """Continue where `turn` has led; a turn that did not reach another service changes nothing."""
        reply, target = turn.reply, turn.target
        if self.target not in (None, target) and not reply.may_have_arrived:
            return
        if self.starts_anew and not (turn.arrived and (reply.session_id or sent_id)):
            return
        self.starts_anew = False
        if self.target != target:
            self.target, self.agent_id = target, None
        self.session_id = reply.session_id or sent_id
        self.agent_id = reply.agent_id or self.agent_id

    def id_for(self, target: str) -> str | None:
        """The id to send to `target`; None when it is another service's, or from a file."""
        return self.session_id if self.target in (None, target) and not self.starts_anew else None

    def continue_with(self, fields: RequestFields, target: str) -> None:
        """Add to a message's `fields` what continues this conversation at `target`, unless they say it."""
        if fields.get("session_id") is None:
            fields["session_id"] = self.id_for(target)
            if self.starts_anew and not fields.get("conversation_history"):
                fields["conversation_history"] = cast("list[dict[str, Any]]", self.history()) or None

    def conversation(self, until: Turn | None = None) -> list[Turn]:
        """The turns that the agent knows when it gets `until`, and that turn; in order.

        They are those of one conversation, without the messages that did not arrive. None: until the last
        message that arrived.
        """
        if until is None:
            until = next((turn for turn in reversed(self.turns) if turn.arrived), None)
        if until is None:
            return []
        found, wanted = [until], until.sent_id
        at = next((number for number, turn in enumerate(self.turns) if turn is until), 0)
        for turn in reversed(self.turns[:at]):
            if wanted is None:
                break
            if turn.arrived and (turn.reply.session_id or turn.sent_id) == wanted:
                found.append(turn)
                wanted = turn.sent_id
        return found[::-1]

    def history(self) -> list[JSON]:
        """The conversation as `conversation_history`: the last messages and replies, at most 50."""
        turns = self.conversation()
        given = turns[0].request.get("conversation_history") if turns else None
        items: list[JSON] = list(given) if isinstance(given, list) else []
        for turn in turns:
            items.append({"role": "user", "content": turn.message})
            if turn.reply.text:
                items.append({"role": "assistant", "content": turn.reply.text})
        return items[-MAX_HISTORY_ITEMS:]

    def start_note(self) -> str:
        """What the next message starts, in words; empty when it continues what the agent knows.

        Empty also while a turn runs: it decides what the message after it starts.
        """
        if not self.starts_anew or self._owner is not None:
            return ""
        history = self.history()
        gets = f", which gets {counted(len(history), 'earlier message')} as its history" if history else ""
        return f"a new conversation for the agent{gets}"

    @property
    def root(self) -> Session:
        """The first session of the branches to which this one belongs; itself if it was not branched off."""
        session = self
        while session.edited and session.edited.session:
            session = session.edited.session
        return session

    def branch(self, turn: Turn) -> Session:
        """A session with copies of the turns before `turn`, to send another message in its place.

        Its name is that of the first session and a number, such as ``docs (2)``; no register has it.
        The API cannot fork a conversation: the next message starts a new one, which gets the messages and
        replies before `turn` as `conversation_history`. This session is not changed. Raises `UsageError` when
        it has no such turn.
        """
        if turn not in self.turns:
            raise UsageError("The session has no such turn. Nothing was changed; give one of its turns.")
        before = self.turns[: self.turns.index(turn)]
        root = self.root
        root._branches += 1
        name = f"{root.name} ({root._branches + 1})"
        branch = Session(name, None, self.agent_id, self.target, starts_anew=True, secrets={*self.secrets})
        branch.edited, branch.copied = turn, len(before)
        branch.turns = [replace(each, session=branch) for each in before]
        return branch

    def as_case(self, id: str | None = None, expect: JSON = None, tags: Sequence[str] = ()) -> Case:  # noqa: A002  # as a case calls it
        """The conversation as a case for `evaluate`, up to its last message that arrived; see `Turn.as_case`.

        Raises:
            UsageError: when no message has arrived.
        """
        turns = self.conversation()
        if not turns:
            raise UsageError(f"No message of session {self.name!r} has arrived; send one to have a case.")
        return turns[-1].as_case(id, expect, tags)

    def about(self, reply: Reply, *, source: str = "") -> dict[str, JSON]:
        """The metadata of a reply's output, so that a saved notebook says which conversation it shows."""
        ids: dict[str, JSON] = {"session_id": reply.session_id, "agent_id": reply.agent_id}
        return {"session": self.name, **ids, "status": reply.status, "source": source}

    def summary(self) -> dict[str, JSON]:
        """The session as plain JSON, with the number of its turns in place of the turns."""
        ids = {"session_id": self.session_id, "agent_id": self.agent_id, "target": self.target}
        return {**ids, "turns": len(self.turns)}

    def to_dict(self) -> dict[str, JSON]:
        """The session as plain JSON, without secrets."""
        from .recording.exported import FORMAT  # here and below: loading the magics does not need it

        turns: list[JSON] = [turn.to_dict() for turn in self.turns]
        return {"halo_session": FORMAT, "name": self.name, **self.summary(), "turns": turns}

    def to_json(self) -> str:
        """The text of `to_dict`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The session as Markdown. The agent's text is in it as it came: it is untrusted."""
        head = f"# Halo session: {self.name}\n\n- session id: {self.session_id or 'none'}\n"
        parts = [f"{head}- agent: {self.agent_id or 'not named'}\n"]
        for number, turn in enumerate(self.turns, 1):
            request, rating, vote = turn.written()
            parts.append(turn_markdown(number, str(request["message"]), turn.reply, **rating, vote=vote))
        return "\n".join(parts)

    @classmethod
    def load(cls, path: str | Path) -> Session:
        """The session that `export` wrote to a ``.json`` file, with its turns, times and ratings.

        It can be shown, rated and evaluated. To continue it, the agent gets its messages as
        `conversation_history` of a new conversation: the file's session id is not sent.

        Raises:
            UsageError: naming the file and what is wrong with it.
        """
        from .recording.exported import read_export

        return cls.from_export(read_export(path))

    @classmethod
    def from_export(cls, content: Mapping[str, Any]) -> Session:
        """The session with the checked content of an export; see `load`."""
        ids = {name: content[name] for name in ("session_id", "agent_id", "target")}
        session = cls(content["name"], **ids, starts_anew=True)
        for each in content["turns"]:
            reply = reply_from(each["reply"])
            reply.may_have_arrived = each["may_have_arrived"]
            rating = Rating(**each["rating"]) if each["rating"] else None
            vote = Vote(**each["vote"]) if each["vote"] else None
            asked, target, source = each["request"], each["target"], each["source"]
            session.turns.append(Turn(asked, reply, target, source, rating, session, vote))
        return session

    def export(self, path: str | Path) -> Path:
        """Write the session to `path`: ``.md`` as Markdown, ``.json`` as JSON.

        Raises `UsageError` when the file cannot be written, or holds a recording or an evaluation.
        """
        from .recording.kinds import SESSION, check_replaceable

        try:
            file = Path(path)
        except TypeError as error:
            raise UsageError(f"This is not a path ({error}). Nothing was written; give one.") from None
        kind = file.suffix.lower()
        if kind not in (".md", ".json"):
            raise UsageError(
                f"{file.name!r} ends in neither .md nor .json. Nothing was written; use one of them."
            )
        text = self.to_markdown() if kind == ".md" else self.to_json()
        try:
            file = file.expanduser()
            check_replaceable(file, by=SESSION if kind == ".json" else "")
            file.write_text(text, encoding="utf-8", errors="replace")
        except (OSError, ValueError, RuntimeError) as error:  # a bad name, a user without a home
            why = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{str(file)!r} could not be written ({why}). The session is kept; choose another place."
            ) from None
        return file


class SessionRegister:
    """The kernel's sessions by name; there is always one named `default`.

    Attributes:
        watchers: called with a name when a session is added or replaced under it.

    >>> SessionRegister().current.name
    'default'
    """

    def __init__(self) -> None:
        self._sessions = {DEFAULT_NAME: Session()}
        self._current = DEFAULT_NAME
        self._lock = threading.Lock()  # panels use it on the I/O thread
        self.watchers: Watchers[str] = Watchers()

    @property
    def current(self) -> Session:
        """The session of a turn for which no session is named."""
        return self._sessions[self._current]

    def get(self, name: str | None = None) -> Session:
        """The session of that name, created if there is none; the current one for None."""
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
        """Start a conversation under that name, or the current one's; an old one is kept as ``name-1``."""
        return self._replace(name, Session())

    def resume(self, session_id: str, name: str | None = None, *, target: str | None = None) -> Session:
        """Continue the conversation with that id, which is `target`'s, under that name."""
        return self._replace(name, Session(session_id=session_id, target=target))

    def add(self, session: Session, name: str) -> Session:
        """Register a session under that name; one that has it is kept as ``name-1``."""
        return self._replace(name, session)

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
        """The session of that name. Raises `UsageError` when there is none."""
        if name in self._sessions:
            return self._sessions[name]
        known = one_line(", ".join(self), 400)
        raise UsageError(f"No session named {short_repr(name)}. Nothing was changed. Sessions: {known}.")
