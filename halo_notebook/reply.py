"""What an agent said and did, as far as it has been received.

A `Reply` grows while its stream runs: one thread adds events, other threads may read. It does not
know where its events come from or what a payload means.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args

from .stream import JSON, Action, ActionSummary, Event, MalformedRecord, TextDelta

T = TypeVar("T")
_log = logging.getLogger(__name__)
Status: TypeAlias = Literal["streaming", "complete", "stopped", "failed"]
_AS_WRITTEN = (
    *("summary", "session_id", "agent_id", "status", "error"),
    *("first_text_s", "elapsed_s", "retries", "raw"),
)
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("text", "error", "started_at", "status"), str),
    **dict.fromkeys(("session_id", "agent_id"), (str, NoneType)),
    **dict.fromkeys(("first_text_s", "elapsed_s"), (int, float, NoneType)),
    **dict.fromkeys(("actions", "action_events", "malformed"), list),
    "summary": (list, NoneType),
    "retries": int,
    "raw": (dict, list, str, int, float, NoneType),
}


class Watchers(Generic[T]):
    """Callbacks that are called when something has happened, on the thread on which it happened."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[T], None]] = []

    def add(self, callback: Callable[[T], None]) -> Callable[[], None]:
        """Call `callback`, which must be quick, from now on; return a function that removes it."""
        self._callbacks.append(callback)

        def remove() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return remove

    def tell(self, what: T) -> None:
        """Call each of them with `what`. What a callback raises is logged: it must not end a reply."""
        for callback in tuple(self._callbacks):
            try:
                callback(what)
            except Exception:  # noqa: BLE001  # of any kind
                _log.exception("A callback that watches %s failed", type(what).__name__)

    def __getstate__(self) -> dict[str, list[Callable[[T], None]]]:
        """A copy has no callbacks."""
        return {"_callbacks": []}


@dataclass(frozen=True)
class ActionEvent:
    """An action as it was received.

    Attributes:
        payload: opaque JSON.
        at_s: seconds from when the request was written.
        offset: how many characters of the reply's text were received before it.
    """

    payload: JSON
    at_s: float
    offset: int


class Reply:
    """What the agent said and did, as far as it has been received.

    Attributes:
        action_events: the actions as they were received, each an `ActionEvent`.
        summary: the payloads of the closing summary, or None when there was none.
        malformed: the records that could not be read.
        session_id: the conversation's id: from the server, otherwise the one that was sent, or None.
        agent_id: the id of the agent that answered, or None when the server named none.
        status: ``streaming``, then ``complete``, ``stopped`` (by the user) or ``failed``.
        error: the one line that says why it failed; empty otherwise.
        state: one line on what is happening, such as ``waiting for the agent``; empty after the end.
        may_have_arrived: whether the message, or a part of it, has left and was not refused.
        first_text_s: seconds from when the request was written to the first text, or None.
        elapsed_s: seconds from when the request was written to the end, or None before the end.
        retries: how often the request was sent again because it had not arrived.
        started_at: when the turn began, in UTC.
        watchers: called, on the thread that adds, when something was received or changed.
        raw: the JSON answer of `chat`, unchanged; None for a streamed reply.

    >>> reply = Reply()
    >>> reply.add(TextDelta("Done."), at_s=0.2)
    >>> reply.add(Action({"type": "highlight"}), at_s=0.3)
    >>> reply.text, reply.actions
    ('Done.', [{'type': 'highlight'}])
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._joined = (0, "")  # of how many parts, and their text
        self.action_events: list[ActionEvent] = []
        self.summary: list[JSON] | None = None
        self.malformed: list[MalformedRecord] = []
        self.session_id: str | None = None
        self.agent_id: str | None = None
        self.status: Status = "streaming"
        self.error = ""
        self.state = "connecting"
        self.may_have_arrived = False
        self.watchers: Watchers[Reply] = Watchers()
        self.first_text_s: float | None = None
        self.elapsed_s: float | None = None
        self.retries = 0
        self.started_at = datetime.now(UTC)
        self.raw: JSON = None

    @property
    def text(self) -> str:
        """The text so far, unchanged: untrusted Markdown."""
        # Parts are only ever added, by one thread; another may read meanwhile.
        count, text = self._joined
        more, now = self.text_since(count)
        if more:
            self._joined = (now, text + more)
        return text + more

    def text_since(self, part: int) -> tuple[str, int]:
        """The text from the `part`-th piece on, and the number of pieces so far.

        To follow a reply that is still arriving, start with 0 and pass the number each time.
        """
        now = len(self._parts)
        return "".join(self._parts[part:now]), now

    @property
    def actions(self) -> list[JSON]:
        """The payloads in order, each once: those received on their own, then those only in the summary."""
        return [event.payload for event in self.action_events] + self.summary_only

    @property
    def summary_only(self) -> list[JSON]:
        """The payloads of the summary that were not received on their own."""
        if not self.summary:
            return []
        seen = Counter(_canonical(event.payload) for event in self.action_events)
        rest = []
        for payload in self.summary:
            key = _canonical(payload)
            if seen[key]:
                seen[key] -= 1
            else:
                rest.append(payload)
        return rest

    def add(self, event: Event, at_s: float) -> None:
        """Add the next event, which was received at `at_s`."""
        match event:
            case TextDelta(text):
                self._parts.append(text)
                self._length += len(text)
                if self.first_text_s is None:
                    self.first_text_s = at_s
            case Action(payload):
                self.action_events.append(ActionEvent(payload, at_s, self._length))
            case ActionSummary(payloads):
                self.summary = (self.summary or []) + payloads
            case MalformedRecord():
                self.malformed.append(event)
        self.watchers.tell(self)

    def set_state(self, state: str) -> None:
        """Change `state`, and tell the watchers."""
        if state != self.state:
            self.state = state
            self.watchers.tell(self)

    def to_dict(self) -> dict[str, JSON]:
        """The reply as plain JSON, without secrets: every attribute, with text and actions."""
        return {
            "text": self.text,
            "actions": self.actions,
            "action_events": [cast(JSON, asdict(event)) for event in self.action_events],
            "malformed": [cast(JSON, asdict(record)) for record in self.malformed],
            "started_at": self.started_at.isoformat(timespec="milliseconds"),
            **{name: getattr(self, name) for name in _AS_WRITTEN},
        }

    def __repr__(self) -> str:
        from .display.text import writable

        text = self.text
        shown = text if len(text) <= 60 else text[:59] + "…"
        about = f"{len(self.actions)} actions, session {self.session_id}"
        return writable(f"Reply({self.status}, {shown!r}, {about})")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # Heavy, and needed only where a reply is shown.
        from .display.bundles import reply_bundle
        from .display.wording import status_words

        return reply_bundle(self, status_words(self))


def check_reply(content: Mapping[str, Any]) -> None:
    """Raise `ValueError`, which says what is wrong, unless `Reply.to_dict` may have given `content`.

    It comes from a file, which may come from anybody; its strings hold no lone surrogates.
    """
    for name, kinds in _KINDS.items():  # before what is slower, since a file may have many replies
        if name not in content:
            raise ValueError(f"{name!r} is missing")
        if not isinstance(content[name], kinds):
            raise ValueError(f"{name!r} is {str(content[name])[:40]!r}")
    _check("status", content["status"] in get_args(Status), content["status"])
    _check("started_at", is_moment(content["started_at"]), content["started_at"])
    _check("retries", _is_count(content["retries"]), content["retries"])
    for name in ("first_text_s", "elapsed_s"):
        _check(name, content[name] is None or _is_time(content[name]), content[name])
    for event in content["action_events"]:
        _check_names(event, "payload", "at_s", "offset")
        _check("at_s", _is_time(event["at_s"]), event["at_s"])
        _check("offset", _is_count(event["offset"]), event["offset"])
    for record in content["malformed"]:
        _check_names(record, "raw", "reason")
        for name, value in record.items():
            _check(name, isinstance(value, str), value)


def _check(name: str, fits: bool, value: Any) -> None:
    if not fits:
        raise ValueError(f"{name!r} is {str(value)[:40]!r}")


def _check_names(value: Any, *names: str) -> None:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError(f"an item needs {', '.join(names)}")


def is_moment(value: str) -> bool:
    """Whether it is a time that a table can hold."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return False
    return 1970 <= moment.year < 2200  # pandas holds no time that is far from it


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _is_time(value: Any) -> bool:
    """Whether it is a number of seconds, and not NaN; an answer may come before the message has all left."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value < 1e9


def reply_from(content: Mapping[str, Any]) -> Reply:
    """A reply from the content that `Reply.to_dict` gave."""
    reply = Reply()
    if content["text"]:
        reply.add(TextDelta(content["text"]), 0.0)
    reply.action_events = [ActionEvent(**event) for event in content["action_events"]]
    reply.malformed = [MalformedRecord(**record) for record in content["malformed"]]
    for name in _AS_WRITTEN:
        setattr(reply, name, content[name])
    reply.started_at = datetime.fromisoformat(content["started_at"])
    reply.state = ""
    return reply


def _canonical(payload: JSON) -> str:
    # As text: True and 1 are equal in Python and differ in JSON. 1.0 and 1 are the same number.
    return json.dumps(json.loads(json.dumps(payload), parse_float=_number), sort_keys=True)


def _number(written: str) -> int | float:
    value = float(written)
    return int(value) if value.is_integer() else value
