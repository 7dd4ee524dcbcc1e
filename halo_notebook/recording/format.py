"""The format of a recording: a file with one exchange between a client and its agent per line.

The file is JSON lines. The first is ``{"halo_recording": 1}``; each of the others is

    {"at": …, "source": "demo agent" | "", "try": 1, "request": {"method", "path", "body"},
     "response": {"status", "headers", "at_s"} | null, "chunks": [[at_s, text | {"base64"}], …],
     "ended": {"how": "whole" | "broken" | "stopped", "at_s", "may_have_arrived", …}}

with times in seconds since the request was written, and bytes as text where they are UTF-8. The lines are in
the order in which the exchanges ended. A recording comes from outside: a file that does not have this form
is refused as a whole, and the error names the line.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, cast, get_args

from ..errors import UsageError
from ..stream import JSON, MAX_DOCUMENT_NESTING, decode_json

FORMAT = 1
HEADERS = ("Content-Type", "Retry-After", "X-Agent-Id", "X-Session-Id")
"""The headers that the client reads; no others are recorded."""
MAX_FILE_BYTES = 256 * 1024 * 1024

How: TypeAlias = Literal["whole", "broken", "stopped"]
"""Ended as HTTP requires, by an error of the transport, or by the reader."""
Chunks: TypeAlias = "tuple[tuple[float, bytes], ...]"

_MAX_TIME_S = 1e6
T = TypeVar("T")


@dataclass(frozen=True)
class RecordedExchange:
    """One request and its answer. Times are in seconds since the request was written.

    Attributes:
        path: below the base URL, such as ``/chat/stream``.
        body: the request's JSON, its user token as 'set'.
        status: the HTTP status; None when there was no answer.
        headers: those of the answer that the client reads.
        head_at_s: when the answer's head arrived.
        chunks: the answer's bytes as they arrived, each with its time.
        error: the name of the `TransportError` that broke it.
        why: what that error said.
        may_have_arrived: whether the message, or a part of it, had left.
        tries: 1 for a turn's first request, 2 for the next one, and so on.
        source: who answered, if not Halo, such as ``demo agent``.
        at: the date and time of its start, in ISO format.
    """

    path: str
    body: dict[str, JSON]
    status: int | None
    headers: dict[str, str]
    head_at_s: float
    chunks: Chunks
    how: How
    ended_at_s: float
    error: str = ""
    why: str = ""
    may_have_arrived: bool = True
    tries: int = 1
    source: str = ""
    at: str = ""

    @property
    def message(self) -> str:
        return str(self.body["message"])

    @property
    def sent_id(self) -> str | None:
        """The session id that was sent."""
        sent = self.body.get("session_id")
        return sent if isinstance(sent, str) else None

    @property
    def session_id(self) -> str | None:
        """The id of the conversation that it belongs to, as far as it says so itself."""
        given = self.headers.get("X-Session-Id")
        if self.status == 200 and self.path == "/chat":
            with contextlib.suppress(ValueError):
                answer = decode_json(b"".join(data for _, data in self.chunks).decode("utf-8", "replace"))
                given = part(answer, "session_id", str) or given
        return given or self.sent_id

    @property
    def was_cut_short(self) -> bool:
        """Whether its reader stopped it: the agent would have said more."""
        return self.how == "stopped" and self.status in (None, 200)

    @property
    def arrived(self) -> bool:
        """Whether the agent may have got the message: it had left, and was not refused."""
        refused = self.status is not None and 400 <= self.status < 500
        refused |= self.status == 503 and "Retry-After" in self.headers
        return self.may_have_arrived and not refused

    def to_line(self) -> dict[str, JSON]:
        """The exchange as plain JSON."""
        at_s = round(self.ended_at_s, 4)
        ended: dict[str, JSON] = {"how": self.how, "at_s": at_s, "may_have_arrived": self.may_have_arrived}
        if self.error:
            ended |= {"error": self.error, "why": self.why}
        response: JSON = None
        if self.status is not None:
            headers: dict[str, JSON] = {**self.headers}
            response = {"status": self.status, "headers": headers, "at_s": round(self.head_at_s, 4)}
        return {
            "at": self.at,
            "source": self.source,
            "try": self.tries,
            "request": {"method": "POST", "path": self.path, "body": self.body},
            "response": response,
            "chunks": [[round(at_s, 4), _legible(data)] for at_s, data in self.chunks],
            "ended": ended,
        }

    @classmethod
    def from_line(cls, line: JSON) -> RecordedExchange:
        """The exchange of a line. Raises `ValueError`, which says what is wrong with it."""
        request, ended = part(line, "request", dict), part(line, "ended", dict)
        body, path, how = part(request, "body", dict), part(request, "path", str), part(ended, "how", str)
        if not part(body, "message", str).strip():
            raise ValueError("'message' is empty")
        if not path.startswith("/"):
            raise ValueError("'path' does not begin with '/'")
        if how not in get_args(How):
            raise ValueError(f"'how' must be one of {', '.join(get_args(How))}")
        status, headers, head_at_s = None, dict[str, str](), 0.0
        if part(line, "response", (dict, type(None))) is not None:
            response = part(line, "response", dict)
            status, head_at_s = part(response, "status", int), part(response, "at_s", (int, float))
            if not 200 <= status < 600:
                raise ValueError("'status' cannot end an exchange")
            given = part(response, "headers", dict)
            headers = {name: part(given, name, str) for name in HEADERS if name in given}
        elif how == "whole":
            raise ValueError("it ended whole and has no 'response'")
        chunks = tuple(_read_chunk(chunk) for chunk in part(line, "chunks", list))
        ended_at_s = part(ended, "at_s", (int, float))
        times = [0, head_at_s, *(at_s for at_s, _ in chunks), ended_at_s, _MAX_TIME_S]
        if times != sorted(times):
            raise ValueError("its times are not seconds in order")
        return cls(
            path=path,
            body=body,
            status=status,
            headers=headers,
            head_at_s=head_at_s,
            chunks=chunks,
            how=cast("How", how),
            ended_at_s=ended_at_s,
            error=part(ended, "error", str, ""),
            why=part(ended, "why", str, ""),
            may_have_arrived=part(ended, "may_have_arrived", bool, True),
            tries=part(line, "try", int, 1),
            source=part(line, "source", str, ""),
            at=part(line, "at", str, ""),
        )


def part(whole: JSON, name: str, kind: type[T] | tuple[type[T], ...], otherwise: T | None = None) -> T:
    """The value of that name and type in a JSON object. Raises `ValueError` without it."""
    value = whole.get(name, cast("JSON", otherwise)) if isinstance(whole, dict) else None
    # In Python a bool is an int.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name!r} is missing or has the wrong type")
    return value


def _legible(data: bytes) -> JSON:
    try:
        return data.decode()
    except UnicodeDecodeError:  # a chunk may end within a character
        return {"base64": base64.b64encode(data).decode()}


def _read_chunk(chunk: JSON) -> tuple[float, bytes]:
    match chunk:
        case [bool(), _]:  # an int, in Python
            pass
        case [int() | float() as at_s, str() as text]:
            return at_s, text.encode()
        case [int() | float() as at_s, {"base64": str() as text}]:
            return at_s, base64.b64decode(text, validate=True)
    raise ValueError("a chunk is not a time and its bytes")


def read_recording(path: str | Path) -> list[RecordedExchange]:
    """The exchanges of a recording. A last line that was cut short, by a crash or a full disk, is skipped.

    Raises:
        UsageError: naming the file and the line, when this is not a recording.
    """
    file = Path(path)
    exchanges: list[RecordedExchange] = []
    for number, raw in enumerate(_read_lines(file) or [b""], 1):
        if number > 1 and not raw.strip():
            continue
        try:
            # An editor may have put a byte order mark before the first line.
            line = decode_json(raw.decode("utf-8-sig" if number == 1 else "utf-8"), MAX_DOCUMENT_NESTING)
        except ValueError as error:
            if number > 1 and not raw.endswith(b"\n"):
                break
            why = "it is not JSON" if raw else "the file is empty"
            raise _unreadable(file, number, why) from error
        try:
            if number > 1:
                exchanges.append(RecordedExchange.from_line(line))
            else:
                _check_version(file, part(line, "halo_recording", int))
        except ValueError as error:
            raise _unreadable(file, number, str(error)) from error
    return exchanges


def read_whole(file: Path, kind: str, todo: str) -> bytes:
    """The content of a file that comes from outside.

    Raises:
        UsageError: when it cannot be read or is too large; `kind` says what it should be, `todo` what helps.
    """
    try:
        if file.exists() and not file.is_file():  # reading a device may never end
            raise OSError(None, "it is not a file")
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UsageError(
                f"{file.name!r} has {size:,} bytes; {kind} may have {MAX_FILE_BYTES:,}. Nothing was changed; "
                f"{todo}."
            )
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the path cannot be a file's
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{str(file)!r} could not be read ({why}). Nothing was changed; give the path of {kind}."
        ) from None


def is_recording(data: bytes) -> bool:
    """Whether a file with that content begins as a recording does."""
    first = data.removeprefix(codecs.BOM_UTF8).partition(b"\n")[0]
    return first.lstrip().startswith(b'{"halo_recording"')


def _read_lines(file: Path) -> list[bytes]:
    return io.BytesIO(read_whole(file, "a recording", "record less in one file")).readlines()


def _check_version(file: Path, version: int) -> None:
    if version > FORMAT:
        raise UsageError(
            f"{file.name!r} was recorded by a later version of this package (line 1: format {version}; this "
            f"one reads {FORMAT}). Nothing was changed; update the package."
        )
    if version < 1:
        raise ValueError("'halo_recording' is not a format")


def _unreadable(file: Path, number: int, why: str) -> UsageError:
    what = "is not a recording" if number == 1 else "cannot be replayed"
    return UsageError(
        f"{file.name!r} {what}: line {number:,} is not valid ({why}). Nothing was changed; choose another "
        "file, or record it again."
    )
