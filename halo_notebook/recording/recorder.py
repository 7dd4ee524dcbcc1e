"""What went to and fro between a client and its agent: kept in a file, and served from one.

What it promises:

- A recording holds an exchange as it was: what was asked, the bytes of the answer in the chunks
  and at the times in which they came, and how it ended. Each is a line, written when the exchange
  has ended, however it did; a process that is killed loses the one that was under way.
- No secret is in it: not the key, not a user token, also where the server has said it back.
- A replay gives the client what the network gave it then: the same statuses, bytes, chunks, breaks
  and times. It needs no key and reaches nobody.
- The same messages in the same order get the same replies, each time.
- A recording is data from outside: one that is not what it should be is refused as a whole, with
  its file and line.

It does not know what a reply means, but for where a step of it ends.

The file is JSON lines. The first is ``{"halo_recording": 1}``; each of the others is

    {"at": …, "source": "demo agent" | "", "try": 1, "request": {"method", "path", "body"},
     "response": {"status", "headers", "at_s"} | null, "chunks": [[at_s, text | {"base64"}], …],
     "ended": {"how": "whole" | "broken" | "stopped", "at_s", "may_have_arrived", …}}

with times in seconds from the request's being written, and bytes as text where they are UTF-8.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import difflib
import json
import os
import re
import threading
from collections import Counter, deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast, get_args
from urllib.parse import quote, urlsplit

from ..client.transports.protocol import BrokeOff, Clock, NotConnected, Silent, TransportError, Unreadable
from ..display.words import counted
from ..errors import ReplyInterrupted, UsageError
from ..stream import JSON, decode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ..client.tap import Sent
    from ..client.transports.protocol import Incoming, Outgoing
    from ..reply import Reply

FORMAT = 1
REPLAY_HOST = "https://replay.invalid"
"""The host of a replay's base URL: nobody can have it, so that no id of a recorded conversation goes to a
service, and none of a service's into a replay."""
MAX_FILE_BYTES = 256 * 1024 * 1024
WAITS = "waits for %halo step"
"""The state of a turn whose reply is served by steps and has come to the end of one."""

Pace: TypeAlias = Literal["own", "fast", "step"]
"""At the recording's own pace, without waiting, or by steps that somebody lets out."""
How: TypeAlias = Literal["whole", "broken", "stopped"]
"""Ended as HTTP has it, by an error of the transport's, or by its reader."""

_Chunks: TypeAlias = "tuple[tuple[float, bytes], ...]"
_HEADERS = ("Content-Type", "Retry-After", "X-Agent-Id", "X-Session-Id")
"""Those that the client reads."""
_ERRORS: dict[str, type[TransportError]] = {
    **{kind.__name__: kind for kind in (NotConnected, Silent, BrokeOff, Unreadable)},
    # What the first recordings say in their place.
    **dict.fromkeys(("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"), NotConnected),
    **dict.fromkeys(("ReadTimeout", "WriteTimeout"), Silent),
    "DecodingError": Unreadable,
}
_MAX_TIME_S = 1e6
_LEAST_TOLD = 8
"""What a cut reply may end with of a secret: ``ab_live_`` is no secret."""
_BREAK = re.compile(
    rb"(?P<action>\x1e__ACTION__[^\x1e]*\x1e)|\x1e__ACTIONS__[^\x1e]*\x1e|(?P<blank>\n(?:[ \t\r]*\n)+)|\Z"
)
_FENCE = re.compile(rb"^[ \t>]*(?:```|~~~)", re.MULTILINE)
T = TypeVar("T")


# --- An exchange ------------------------------------------------------------------------


@dataclass(frozen=True)
class Exchange:
    """One request and what came of it.

    Attributes:
        path: below the base URL, such as ``/chat/stream``.
        body: the request's JSON, its user token as 'set'.
        status: the HTTP status; None when there was no answer.
        headers: those of the answer that the client reads.
        head_at_s: when the answer's head came, in seconds from the request's being written.
        chunks: the answer's bytes as they came, each with its time.
        how: how it ended.
        ended_at_s: when.
        error: for a broken one, which of httpx's exceptions it was.
        why: what that said.
        silence_s: the silence after which the client gave up, where it did.
        may_have_arrived: whether the message, or a part of it, had left.
        tries: 1 for a turn's first request, 2 for the one after it, and so on.
        source: who answered, such as ``demo agent``; empty for Halo.
        at: when it began, in words.
    """

    path: str
    body: dict[str, JSON]
    status: int | None
    headers: dict[str, str]
    head_at_s: float
    chunks: _Chunks
    how: How
    ended_at_s: float
    error: str = ""
    why: str = ""
    silence_s: float | None = None
    may_have_arrived: bool = True
    tries: int = 1
    source: str = ""
    at: str = ""

    @property
    def message(self) -> str:
        """What was asked."""
        return str(self.body["message"])

    @property
    def sent_id(self) -> str | None:
        """The session id that was sent."""
        sent = self.body.get("session_id")
        return sent if isinstance(sent, str) else None

    @property
    def session_id(self) -> str | None:
        """The id of the conversation that it belongs to, as far as it says itself."""
        given: JSON = self.headers.get("X-Session-Id")
        if self.status == 200 and self.path == "/chat":
            with contextlib.suppress(ValueError):
                answer = decode_json(b"".join(data for _, data in self.chunks).decode("utf-8", "replace"))
                given = (answer.get("session_id") if isinstance(answer, dict) else None) or given
        return given if isinstance(given, str) and given else self.sent_id

    @property
    def was_cut_short(self) -> bool:
        """Whether its reader stopped it: what is here is not what the agent would have said."""
        return self.how == "stopped" and self.status in (None, 200)

    def to_line(self) -> dict[str, JSON]:
        """The exchange as plain JSON."""
        ended: dict[str, JSON] = {
            "how": self.how,
            "at_s": _rounded(self.ended_at_s),
            "may_have_arrived": self.may_have_arrived,
        }
        if self.error:
            ended |= {"error": self.error, "why": self.why}
        if self.silence_s is not None:
            ended["silence_s"] = self.silence_s
        response: JSON = None
        if self.status is not None:
            headers: dict[str, JSON] = {**self.headers}
            response = {"status": self.status, "headers": headers, "at_s": _rounded(self.head_at_s)}
        return {
            "at": self.at,
            "source": self.source,
            "try": self.tries,
            "request": {"method": "POST", "path": self.path, "body": self.body},
            "response": response,
            "chunks": [[_rounded(at_s), _legible(data)] for at_s, data in self.chunks],
            "ended": ended,
        }

    @classmethod
    def from_line(cls, line: JSON) -> Exchange:
        """The exchange that `to_line` made JSON of.

        Raises:
            ValueError: saying what is not as it should be.
        """
        request, ended = _part(line, "request", dict), _part(line, "ended", dict)
        body = _part(request, "body", dict)
        if not _part(body, "message", str).strip():
            raise ValueError("'message' is empty")
        path, how = _part(request, "path", str), _part(ended, "how", str)
        if not path.startswith("/"):
            raise ValueError("'path' is no path")
        if how not in get_args(How):
            raise ValueError(f"'how' is none of {', '.join(get_args(How))}")
        status, headers, head_at_s = None, dict[str, str](), 0.0
        if _part(line, "response", (dict, type(None))) is not None:
            response = _part(line, "response", dict)
            status, head_at_s = _part(response, "status", int), _seconds(response, "at_s")
            if not 200 <= status < 600:
                raise ValueError("'status' is none that ends an exchange")
            given = _part(response, "headers", dict)
            headers = {name: _part(given, name, str) for name in _HEADERS if name in given}
        elif how == "whole":
            raise ValueError("it ended whole and has no 'response'")
        chunks = tuple(_read_chunk(chunk) for chunk in _part(line, "chunks", list))
        ended_at_s = _seconds(ended, "at_s")
        times = [head_at_s, *(at_s for at_s, _ in chunks), ended_at_s]
        if times != sorted(times):
            raise ValueError("its times go backwards")
        return cls(
            path=path,
            body=body,
            status=status,
            headers=headers,
            head_at_s=head_at_s,
            chunks=chunks,
            how=cast("How", how),
            ended_at_s=ended_at_s,
            error=_part(ended, "error", str, ""),
            why=_part(ended, "why", str, ""),
            silence_s=_seconds(ended, "silence_s") if "silence_s" in ended else None,
            may_have_arrived=_part(ended, "may_have_arrived", bool, True),
            tries=_part(line, "try", int, 1),
            source=_part(line, "source", str, ""),
            at=_part(line, "at", str, ""),
        )


def _rounded(seconds: float) -> float:
    return round(seconds, 4)


def _legible(data: bytes) -> JSON:
    """Bytes as text where they are; a chunk may end within a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _read_chunk(chunk: JSON) -> tuple[float, bytes]:
    if not isinstance(chunk, list) or len(chunk) != 2:
        raise ValueError("a chunk is not a time and its bytes")
    at_s, data = chunk
    if isinstance(data, str):
        return _checked_seconds("a chunk's time", at_s), data.encode()
    encoded = _part(data, "base64", str)
    return _checked_seconds("a chunk's time", at_s), base64.b64decode(encoded, validate=True)


def _part(whole: JSON, name: str, kind: type[T] | tuple[type[T], ...], otherwise: T | None = None) -> T:
    value = whole.get(name, cast("JSON", otherwise)) if isinstance(whole, dict) else None
    # A bool is an int in Python, and is none in JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name!r} is missing, or not what it should be")
    return value


def _seconds(whole: dict[str, JSON], name: str) -> float:
    return _checked_seconds(f"{name!r}", whole.get(name))


def _checked_seconds(what: str, value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_TIME_S:
        raise ValueError(f"{what} is no time in seconds")
    return float(value)


def read_recording(path: str | Path) -> list[Exchange]:
    """The exchanges of a recording, in the order in which they ended.

    A last line that was torn, by the end of its process or a full disk, is passed over.

    Raises:
        UsageError: naming the file, and the line where it is one, when this is no recording.
    """
    file = Path(path)
    exchanges: list[Exchange] = []
    for number, raw, whole in _read_lines(file):
        try:
            line = decode_json(raw.decode())
        except ValueError as error:
            if not whole and number > 1:
                break
            raise _unreadable(file, number, "it is not JSON") from error
        try:
            if number == 1:
                _check_head(file, line)
            else:
                exchanges.append(Exchange.from_line(line))
        except ValueError as error:
            raise _unreadable(file, number, str(error)) from error
    return exchanges


def _read_lines(file: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Each line with its number, and whether it is whole."""
    try:
        if file.exists() and not file.is_file():  # a device may be read for ever
            raise OSError(None, "it is no file")
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UsageError(
                f"{file.name!r} has {size:,} bytes; a recording may have {MAX_FILE_BYTES:,}. Nothing was "
                "changed; record less in one file."
            )
        with file.open("rb") as opened:
            number = 0
            for number, raw in enumerate(opened, 1):
                yield number, raw, raw.endswith(b"\n")
    except (OSError, ValueError) as error:  # a bad name
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"The recording {str(file)!r} could not be read ({why}). Nothing was changed; check the path."
        ) from None
    if not number:
        raise _unreadable(file, 1, "the file is empty")


def _check_head(file: Path, line: JSON) -> None:
    version = _part(line, "halo_recording", int)
    if version > FORMAT:
        raise UsageError(
            f"{file.name!r} was recorded by a later version of this package (line 1: format {version}; this "
            f"one reads {FORMAT}). Nothing was changed; bring the package up to date."
        )
    if version < 1:
        raise ValueError("'halo_recording' is no format")


def _unreadable(file: Path, number: int, why: str) -> UsageError:
    what = "is no recording" if number == 1 else "cannot be replayed"
    return UsageError(
        f"{file.name!r} {what}: line {number:,} is not as it should be ({why}). Nothing was changed; choose "
        "another file, or record it anew."
    )


# --- Recording --------------------------------------------------------------------------


class Recorder:
    """Keeps what passes between a client and its agent: ``HaloClient(record=Recorder(path))``.

    It stands between the client and whatever carries its requests, a `transport` or the network
    with its proxies, and changes nothing of either. Several clients may share one, on any thread.

    Args:
        path: the file. An existing recording is continued.

    Attributes:
        count: how many exchanges the file holds.
        lost: how many could not be kept.
        error: why the last of those could not, in a line.

    Raises:
        UsageError: when the file holds something else, or cannot be written.

    >>> import tempfile
    >>> from halo_notebook.client.sync import HaloClient
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> path = Path(tempfile.mkdtemp()) / "ada.jsonl"
    >>> with DemoAgent(chunk_s=0) as agent:
    ...     with HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(path)) as client:
    ...         then = client.ask("My name is Ada")
    >>> with HaloClient(transport=Replay(path, pace="fast")) as client:
    ...     now = client.ask("My name is Ada")
    >>> now.text == then.text, now.session_id == then.session_id
    (True, True)
    """

    def __init__(self, path: str | Path) -> None:
        self.count = self.lost = 0
        self.error = ""
        self._secrets: dict[str, None] = {}  # all that went with a request; a reply may say one later
        self._lock = threading.Lock()
        try:
            self.path = Path(path).expanduser().absolute()  # wherever the process goes
            if self.path.exists() and self.path.stat().st_size:
                self.count = len(read_recording(self.path))
                self._mend_end()
            with self._lock:
                self._append(b"")
        except (OSError, ValueError, RuntimeError) as error:  # a bad name, a user without a home
            why = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{str(path)!r} could not be written ({why}). Nothing is recorded; choose another place."
            ) from None

    def keeps(self, path: str | Path) -> bool:
        """Whether that is the file, and still there."""
        # Unlike a Path's own, this raises for no name.
        return self.path == Path(os.path.expanduser(path)).absolute() and self.path.exists()  # noqa: PTH111

    def begin(self, sent: Sent) -> Passing:
        """Keep the exchange that begins; see `client.tap.Tap`."""
        self._secrets |= dict.fromkeys(secret.reveal() for secret in sent.secrets)
        return Passing(self, sent)

    def keep(self, exchange: Exchange) -> None:
        """Add an exchange to the file, without its secrets. One that cannot be written is `lost`."""
        secrets = sorted(self._secrets, key=len, reverse=True)  # one may be a part of another
        masked = replace(
            exchange,
            body={name: _masked(value, secrets) for name, value in exchange.body.items()},
            headers={name: _masked_text(value, secrets) for name, value in exchange.headers.items()},
            chunks=_masked_chunks(exchange.chunks, secrets),
            why=_masked_text(exchange.why, secrets),
        )
        text = json.dumps(masked.to_line(), ensure_ascii=False, separators=(",", ":"))
        try:
            decode_json(text)  # what could not be read again would spoil the rest
            with self._lock:
                self._append(text.encode("utf-8", "replace") + b"\n")
                self.count += 1
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            self.lost += 1
            self.error = f"{self.path.name!r} lacks a reply, which could not be written ({why})"

    def _append(self, line: bytes) -> None:
        # Opened each time: nothing is left to close, and what was written is the system's at once.
        with self.path.open("ab") as file:
            if file.tell() == 0:
                line = json.dumps({"halo_recording": FORMAT}).encode() + b"\n" + line
            file.write(line)

    def _mend_end(self) -> None:
        """End the last line, or take away what was torn of one."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            try:
                decode_json(data[whole:].decode())
            except ValueError:
                with self.path.open("r+b") as file:
                    file.truncate(whole)
            else:
                with self.path.open("ab") as file:
                    file.write(b"\n")

    def __repr__(self) -> str:
        return f"Recorder({str(self.path)!r}, {counted(self.count, 'exchange')})"


class Passing:
    """An exchange while it passes; it is kept when it has ended."""

    def __init__(self, recorder: Recorder, sent: Sent) -> None:
        self._recorder = recorder
        self._sent = sent
        self._over = False
        self._chunks: list[tuple[float, bytes]] = []
        self._exchange = Exchange(
            path=sent.path,
            body=sent.body,
            status=None,
            headers={},
            head_at_s=0.0,
            chunks=(),
            how="whole",
            ended_at_s=0.0,
            tries=sent.tries,
            source=sent.source,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    def head(self, incoming: Incoming) -> None:
        headers = incoming.headers
        self._exchange = replace(
            self._exchange,
            status=incoming.status,
            head_at_s=self._sent.now_s(),
            headers={name: headers[name.lower()] for name in _HEADERS if name.lower() in headers},
        )

    def chunk(self, data: bytes) -> None:
        self._chunks.append((self._sent.now_s(), data))

    def end(self, error: BaseException | None) -> None:
        if self._over:
            return
        self._over = True
        broken = isinstance(error, Exception)
        self._recorder.keep(
            replace(
                self._exchange,
                chunks=tuple(self._chunks),
                how="broken" if broken else "whole" if error is None else "stopped",
                ended_at_s=self._sent.now_s(),
                error=(type(error).__name__ if isinstance(error, TransportError) else "BrokeOff")
                if broken
                else "",
                why=str(error) if broken else "",
                silence_s=error.after_s if isinstance(error, Silent) else None,
                may_have_arrived=self._sent.may_have_arrived() and not isinstance(error, NotConnected),
            )
        )


def _masked(value: JSON, secrets: Sequence[str]) -> JSON:
    """JSON without the secrets in its strings and keys."""
    match value:
        case str():
            return _masked_text(value, secrets)
        case list():
            return [_masked(each, secrets) for each in value]
        case dict():
            return {_masked_text(key, secrets): _masked(each, secrets) for key, each in value.items()}
    return value


def _masked_text(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "*" * len(secret))
    return text


def _masked_chunks(chunks: _Chunks, secrets: Sequence[str]) -> _Chunks:
    """The chunks without the secrets, wherever their bytes are cut; the lengths stay."""
    data = b"".join(chunk for _, chunk in chunks)
    for secret in secrets:
        # As it is, and as JSON writes it within a string.
        for told in {secret.encode(), json.dumps(secret)[1:-1].encode()}:
            data = data.replace(told, b"*" * len(told))
            for length in range(len(told) - 1, _LEAST_TOLD, -1):  # a reply that was cut in the midst of it
                if data.endswith(told[:length]):
                    data = data[:-length] + b"*" * length
    masked, start = [], 0
    for at_s, chunk in chunks:
        masked.append((at_s, data[start : start + len(chunk)]))
        start += len(chunk)
    return tuple(masked)


# --- Replaying --------------------------------------------------------------------------


class Replay:
    """Serves a recording in place of the network: ``HaloClient(transport=Replay(path))``.

    A request gets what its message got then. Where several exchanges have that message, those of
    the conversation that the request goes on with come first (without a session id, those that
    began one), then those whose other fields are most alike, then the one that was served least
    often: so the n-th time gives the n-th, and after the last comes the first again. One that its
    reader had stopped is served only where there is no other. What a fresh user token had mended
    is served as mended.

    The times of a reply are those of the recording, at any pace.

    Args:
        path: the recording.
        pace: ``own``, as it was; ``fast``, without waiting; ``step``, where the reply waits for
            `step` after each paragraph and action, if somebody attends to its turn (in a `%%halo`
            cell and a panel; elsewhere see `AsyncReplyStream.attended`), and goes at its own pace
            otherwise.

    Attributes:
        exchanges: what the recording holds.

    Raises:
        UsageError: naming the file, and the line where it is one, when this is no recording.

    >>> import tempfile
    >>> from halo_notebook.client.sync import HaloClient
    >>> path = Path(tempfile.mkdtemp()) / "hello.jsonl"
    >>> body = {"message": "Hello"}
    >>> asked = Exchange("/chat/stream", body, 200, {}, 0.2, ((0.3, b"Hi "), (0.4, b"there.")), "whole", 0.5)
    >>> Recorder(path).keep(asked)
    >>> with HaloClient(transport=Replay(path, pace="fast")) as client:
    ...     reply = client.ask("Hello")
    >>> reply.text, reply.first_text_s, reply.elapsed_s
    ('Hi there.', 0.3, 0.5)
    """

    offline = True
    """The client needs no key and asks for no user token."""

    def __init__(self, path: str | Path, *, pace: Pace = "own") -> None:
        if pace not in get_args(Pace):
            raise UsageError(f"A pace is {', '.join(get_args(Pace))}, not {pace!r}. Nothing was changed.")
        try:
            self.path = Path(path).expanduser()
        except RuntimeError as error:  # a user without a home
            raise UsageError(f"There is no such path ({error}). Nothing was changed.") from None
        self.pace: Pace = pace
        self.exchanges = read_recording(self.path)
        if not self.exchanges:
            raise UsageError(f"{self.path.name!r} holds no exchange yet. Nothing was changed; record one.")
        self._messages = [_alike(each.message) for each in self.exchanges]
        self._conversations = _conversations(self.exchanges)
        self._served: Counter[int] = Counter()  # by their place in the file
        self._lock = threading.Lock()
        self._waiting: list[Play] = []

    @property
    def base_url(self) -> str:
        """Where its clients send to: an address that names the file, and that nobody has."""
        return f"{REPLAY_HOST}/{quote(self.path.name, safe='', errors='replace')}"

    @property
    def source(self) -> str:
        """Who answers: ``replay of FILE``, and whether the demo agent was recorded."""
        demo = all(each.source == "demo agent" for each in self.exchanges)
        return f"replay of {self.path.name}{' (demo agent)' if demo else ''}"

    def step(self, reply: Reply | None = None) -> int:
        """Let each turn that waits have its next step, or the turn of `reply` alone. From any thread.

        Returns:
            how many waited.
        """
        waiting = self._that_wait(reply)
        for play in waiting:
            play.go_on()
        return len(waiting)

    def waits(self, reply: Reply) -> bool:
        """Whether the turn of `reply` waits for its next step."""
        return bool(self._that_wait(reply))

    def add_waiting(self, play: Play) -> None:
        with self._lock:
            self._waiting.append(play)

    def remove_waiting(self, play: Play) -> None:
        with self._lock:
            self._waiting = [each for each in self._waiting if each is not play]

    def _that_wait(self, reply: Reply | None) -> list[Play]:
        with self._lock:
            return [play for play in self._waiting if reply is None or play.reply is reply]

    def run_on(self) -> None:
        """End the steps: what waits goes on, and all else, at its own pace."""
        self.pace = "own" if self.pace == "step" else self.pace
        self.step()

    async def send(self, outgoing: Outgoing) -> Incoming:
        """Answer as the recording has it."""
        try:
            body = decode_json(outgoing.body.decode())
            asked = _part(body, "message", str)
        except ValueError:
            raise UsageError("A replay answers chat requests alone. Nothing was sent.") from None
        assert isinstance(body, dict), "it has a message"
        play = Play(self, self._next(urlsplit(outgoing.url).path, asked, body), outgoing)
        return await play.answer()

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _next(self, path: str, message: str, body: dict[str, JSON]) -> Exchange:
        """The exchange to serve for a request; it counts as served."""
        alike = _alike(message)
        same = [
            number
            for number, recorded in enumerate(self._messages)
            if recorded == alike and path.endswith(self.exchanges[number].path)
        ]
        if not same:
            raise self._missing(message)
        sent_id = body.get("session_id")

        def rank(number: int) -> tuple[bool, int, bool, int, int]:
            each = self.exchanges[number]
            goes_on = sent_id in (each.sent_id, self._conversations[number]) if sent_id else not each.sent_id
            differing = sum(
                body.get(name) != each.body.get(name)
                for name in {*body, *each.body} - {"message", "session_id", "user_token"}
            )
            return not goes_on, differing, each.was_cut_short, self._served[number], number

        with self._lock:
            number = min(same, key=rank)
            self._served[number] += 1
            while self.exchanges[number].status == 403 and (mended := _retried(self.exchanges, number)):
                number = mended
                self._served[number] += 1
        return self.exchanges[number]

    def _missing(self, message: str) -> UsageError:
        from ..display.text import one_line

        asked = dict(zip(self._messages, self.exchanges, strict=True))
        if each := asked.get(_alike(message)):
            how = "as a stream" if each.path == "/chat/stream" else "in one piece"
            return UsageError(
                f"{one_line(message, 60)!r} is in {self.path.name!r} {how} only. Nothing was sent; ask for "
                "it in that way."
            )
        close = difflib.get_close_matches(
            _alike(message)[:200], [text[:200] for text in asked], n=3, cutoff=0.5
        )
        shown = [*close, *(text for text in asked if text[:200] not in close)][:3]
        named = ", ".join(repr(one_line(text, 60)) for text in shown)
        more = f" and {len(asked) - len(shown):,} more" if len(asked) > len(shown) else ""
        return UsageError(
            f"{one_line(message, 60)!r} is not in the recording {self.path.name!r}. Nothing was sent; it "
            f"holds {named}{more}."
        )

    def __repr__(self) -> str:
        return f"Replay({str(self.path)!r}, {counted(len(self.exchanges), 'exchange')}, pace={self.pace!r})"


def _alike(message: str) -> str:
    """A message as it is compared: how its words are set apart changes nothing."""
    return " ".join(message.split())


def _retried(exchanges: Sequence[Exchange], number: int) -> int | None:
    """The place of the exchange in which the client sent the same turn again; None when it did not."""
    one = exchanges[number]
    for later in range(number + 1, len(exchanges)):
        other = exchanges[later]
        if (other.path, other.message, other.sent_id) == (one.path, one.message, one.sent_id):
            return later if other.tries == one.tries + 1 else None
    return None


def _conversations(exchanges: Sequence[Exchange]) -> list[str | None]:
    """The conversation of each exchange. One that came to none is of that which the next with its
    message began: so it is met again where the conversation is begun again."""
    found: list[str | None] = []
    began: dict[str, str | None] = {}
    for each in reversed(exchanges):
        found.append(each.session_id or began.get(each.message))
        if each.sent_id is None:
            began[each.message] = found[-1]
    return found[::-1]


class Play(Clock):
    """An exchange that is served: the clock of its turn, and its answer."""

    def __init__(self, replay: Replay, exchange: Exchange, outgoing: Outgoing) -> None:
        super().__init__()
        self.headers = {name.lower(): value for name, value in exchange.headers.items()}
        self._outgoing = outgoing
        self._turn = outgoing.turn
        self._replay = replay
        self._exchange = exchange
        self._at_s = 0.0
        self._due_s = 0.0
        self._gate: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def reply(self) -> Reply | None:
        """What it becomes."""
        return self._turn.reply if self._turn is not None else None

    @property
    def status(self) -> int:
        return self._exchange.status or 0

    def now_s(self) -> float:
        """What the recording's clock says: seconds from the request's being written."""
        if self._due_s == self._at_s:
            return self._at_s
        return min(max(self._at_s, super().now_s()), self._due_s)

    async def sleep(self, seconds: float) -> None:
        """Wait as the client would before it sends again."""
        await asyncio.sleep(seconds if self._replay.pace == "own" else 0)

    async def answer(self) -> Incoming:
        exchange = self._exchange
        if exchange.may_have_arrived:
            self._outgoing.leaves()
            self._outgoing.has_left()
        if self._turn is not None:
            self._turn.clock = self
        if exchange.status is None:
            await self._until(exchange.ended_at_s)
            raise self._end()
        await self._until(exchange.head_at_s)
        return self

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def chunks(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        by_steps = self._replay.pace == "step" and self._turn is not None and self._turn.attended
        ends = _step_ends(exchange) if by_steps else []
        for at_s, data, step_begins in _cut(exchange.chunks, ends):
            if step_begins and self._replay.pace == "step":
                await self._next_step()
                self.set_to(at_s)
            await self._until(at_s)
            yield data
        await self._until(exchange.ended_at_s)
        if exchange.how == "broken" or exchange.was_cut_short:
            raise self._end()

    def _end(self) -> Exception:
        exchange = self._exchange
        if exchange.how == "broken":
            kind = _ERRORS.get(exchange.error, BrokeOff)
            if kind is Silent:
                return Silent(exchange.silence_s or self._outgoing.silence_s)
            return kind(exchange.why)
        return ReplyInterrupted(
            "The recording of this reply ends here: it was stopped when it was recorded. What had arrived "
            "and the session are kept; record it anew to have the rest."
        )

    async def _until(self, at_s: float) -> None:
        self._due_s = at_s
        pace = self._replay.pace
        await asyncio.sleep(0 if pace == "fast" else max(0.0, at_s - super().now_s()))
        self._at_s = at_s

    async def _next_step(self) -> None:
        gate = asyncio.Event()
        self._gate = asyncio.get_running_loop(), gate
        self._replay.add_waiting(self)
        if self._turn is not None:
            self._turn.state = WAITS
        try:
            await gate.wait()
        finally:
            self._replay.remove_waiting(self)
        if self._turn is not None:
            self._turn.state = "streaming"

    def go_on(self) -> None:
        """Have the step that is waited for come; from any thread, and at once no more waited for."""
        assert self._gate is not None, "it waits"
        loop, gate = self._gate
        self._replay.remove_waiting(self)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the turn with it
            loop.call_soon_threadsafe(gate.set)


def _step_ends(exchange: Exchange) -> list[int]:
    """The places in the answer's bytes at which a step ends: behind an action, and behind a paragraph.

    A block of code is not left half open, and after the last place something is still to be shown.
    """
    if exchange.status != 200 or exchange.path != "/chat/stream":
        return []
    data = b"".join(chunk for _, chunk in exchange.chunks)
    ends: list[int] = []
    begun, in_code = False, False  # whether words have come since the last end
    start = shown = 0  # of the text that is looked at, and how far something is to be seen
    for match in _BREAK.finditer(data):
        text = data[start : match.start()]
        in_code ^= len(_FENCE.findall(text)) % 2 == 1
        if text.strip():
            begun, shown = True, match.start()
        if acted := match["action"] is not None:
            shown = match.end()
        start = match.end()
        if acted or (match["blank"] is not None and begun and not in_code):
            ends.append(match.end())
            begun = False
    return [end for end in ends if end < shown]


def _cut(chunks: _Chunks, ends: Sequence[int]) -> Iterator[tuple[float, bytes, bool]]:
    """The chunks, cut at the ends too, of which the parser makes the same; and whether a step begins."""
    rest = deque(ends)
    start, begins = 0, False
    for at_s, data in chunks:
        stop = start + len(data)
        while rest and rest[0] <= stop:
            end = rest.popleft()
            yield at_s, data[: end - start], begins
            data, start, begins = data[end - start :], end, True  # noqa: PLW2901  # what is left of it
        if data:
            yield at_s, data, begins
            begins = False
        start = stop
