"""A scripted agent behind a real HTTP server on loopback.

For tutorials and Binder, where nobody has a key, and for tests, where every byte must
be at hand. What it promises:

- It speaks the documented protocol and nothing else: `POST /chat/stream`, `POST /chat`
  and `GET /config` under `/api/sdk`, with the documented limits and errors.
- Its own replies are paced against a schedule and cut at awkward places: inside
  characters, tags and records, at the same places each time.
- With a `reply` of the caller's, each step is sent as one chunk, exactly as given.
- Each fault of `FAULTS` can be had once, from `DemoAgent.faults`, or by asking for it
  in a message: ``/fault cut text``. Both ways run the same code.
- A client may leave at any moment, and `stop` may come at any moment: the connection
  is closed and nothing is left behind or reported.
- It listens on 127.0.0.1 only, and keeps no key and logs no request.

It does not know what the real service does where the documentation is silent: what an
action's payload looks like, or what becomes of a session id it never gave out. Here
payloads are the script's own, and such an id is taken and continued.

    python -m halo_notebook.demo --port 8765
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import random
import re
import socket
import threading
import time
import uuid
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeAlias
from urllib.parse import parse_qs

import h11

from ..stream import JSON, Action, ActionSummary, StreamParser, TextDelta, encode
from .script import FAULTS, Conversation, new_session_id, scripted_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

DEMO_KEY = "ab_live_demo"
"""The key for the demo agent. It takes any key that starts with ``ab_``."""

DEMO_AGENT_ID = "agent_demo"

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_SESSIONS = 1_000
MAX_REQUESTS_KEPT = 10_000

MAX_MESSAGE_CHARACTERS = 10_000
MAX_CUSTOM_FIELDS_CHARACTERS = 10_000
MAX_BEHAVIOR_CHARACTERS = 5_000
MAX_HISTORY_ITEMS = 50
MODES = ("chat", "voice", "video", "livehelp")

Step: TypeAlias = TextDelta | Action | ActionSummary | bytes | float
"""One step of a reply: an event or raw bytes are sent as one chunk, a float is a pause
in seconds."""

_BASE_PATH = "/api/sdk"
_STREAM_PATH = f"{_BASE_PATH}/chat/stream"
_CHAT_PATH = f"{_BASE_PATH}/chat"
_CONFIG_PATH = f"{_BASE_PATH}/config"
_METHODS = {_STREAM_PATH: "POST", _CHAT_PATH: "POST", _CONFIG_PATH: "GET"}

_DOCS_URL = "https://docs.example.com/demo-agent"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """A request as the demo agent received it.

    `headers` has lower-case names; the value of ``authorization`` is only ``"set"``.
    `body` is the parsed JSON, or None for a body that is none; it is in no repr, since
    it may hold a user token.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any = field(repr=False)


class DemoAgent:
    """A scripted agent behind an HTTP server on a thread of its own.

    Args:
        port: where to listen on 127.0.0.1; 0 takes a free port.
        first_byte_s: seconds from the request's last byte to the answer's first.
        chunk_s: seconds between two chunks of a scripted reply; 0 sends them at once.
        identity_secret: when given, identity verification is on, as with the real service:
            a `user_id` other than ``"anonymous"`` needs a `user_token` signed with it.
        reply: takes a request's body and gives the steps of the reply, in place of the
            script. It runs on the server's loop: it must not block.

    Attributes:
        requests: the last 10,000 requests, oldest first.
        faults: names from `FAULTS`; each chat request takes the first and suffers it.

    >>> with DemoAgent() as agent:
    ...     agent.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        *,
        port: int = 0,
        first_byte_s: float = 0.15,
        chunk_s: float = 0.03,
        identity_secret: str | None = None,
        reply: Callable[[dict[str, JSON]], Iterable[Step]] | None = None,
    ) -> None:
        self.requests: deque[DemoRequest] = deque(maxlen=MAX_REQUESTS_KEPT)
        self.faults: deque[str] = deque()
        self._port = port
        self._first_byte_s = first_byte_s
        self._chunk_s = chunk_s
        self._identity_secret = identity_secret
        self._reply = reply
        self._sessions: OrderedDict[str, Conversation] = OrderedDict()
        self._url = ""
        self._changing = threading.Lock()
        self._server: _ServerThread | None = None

    @property
    def url(self) -> str:
        """The base URL, as ``http://127.0.0.1:PORT/api/sdk``; it stays after `stop`."""
        if not self._url:
            raise RuntimeError("the demo agent was never started: call start() first")
        return self._url

    def start(self) -> Self:
        """Listen for requests; nothing happens when it listens already.

        Raises:
            OSError: when the port cannot be had.
        """
        with self._changing:
            if self._server is None:
                listener = _listen(self._port)
                self._url = f"http://127.0.0.1:{listener.getsockname()[1]}{_BASE_PATH}"
                self._server = _ServerThread(listener, self._answer)
                self._server.start()
        return self

    def stop(self) -> None:
        """Close the server and every open reply; nothing happens when it is stopped."""
        with self._changing:
            if self._server is not None:
                self._server.stop()
                self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answer(self, received: _Received) -> _Answer:
        """Say what to send for a request. Runs on the server's loop and never raises."""
        body, is_json = _read_json(received.body)
        # Not urlsplit: it raises for some targets that a client may well send.
        path, _, query = received.target.partition("?")
        self.requests.append(DemoRequest(received.method, path, query, received.headers, body))
        try:
            allowed = _METHODS.get(path)
            if allowed is None:
                raise _Refusal(404, f"There is nothing at {path}.")
            if received.method != allowed:
                raise _Refusal(405, f"{path} takes {allowed} only.", headers=(("Allow", allowed),))
            if path == _CONFIG_PATH:
                return _config_answer(query)
            if (fault := self._next_fault()) is not None:
                return self._queued_fault_answer(fault, body)
            if not received.has_key:
                raise _Refusal(
                    401,
                    "Missing or invalid API key. Send 'Authorization: Bearer ab_live_…'.",
                    docs_url=_DOCS_URL,
                )
            if received.body is None:
                raise _Refusal(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
            if not is_json:
                raise _Refusal(400, "The body is not JSON.")
            request = _check(body)
            if self._identity_secret is not None:
                _verify_identity(self._identity_secret, request)
            return self._reply_answer(path, request)
        except _Refusal as refusal:
            return refusal.answer
        except Exception as error:  # noqa: BLE001 - whatever fails here, the client gets an answer
            return _error_answer(500, f"The demo agent failed: {type(error).__name__}: {error}")

    def _next_fault(self) -> str | None:
        # Asked for rather than looked at first: another thread may clear the faults in between.
        try:
            return self.faults.popleft()
        except IndexError:
            return None

    def _queued_fault_answer(self, fault: str, body: JSON) -> _Answer:
        # It strikes before the request is looked at, yet a conversation goes on under its id.
        try:
            request = _check(body)
        except _Refusal:
            request = {}
        return self._fault_answer(fault, self._session(request.get("session_id")), _agent_id(request))

    def _reply_answer(self, path: str, request: dict[str, JSON]) -> _Answer:
        session = self._session(request.get("session_id"))
        agent_id = _agent_id(request)
        session.turns += 1
        if self._reply is not None:
            given = iter(self._reply(request))
            # A generator fails at its first step, which is still in time for a 500.
            steps: Iterable[Step] = chain([first] if (first := next(given, None)) is not None else [], given)
        else:
            message = str(request["message"])
            if asked := re.match(r"\s*/(?:fault|error)\b(.*)", message, re.DOTALL | re.IGNORECASE):
                return self._fault_answer(asked.group(1), session, agent_id)
            steps = self._paced(scripted_reply(message, request, session))
        if path == _CHAT_PATH:
            return self._chat_answer(steps, session, agent_id)
        return self._stream_answer(steps, session, agent_id)

    def _session(self, session_id: JSON) -> Conversation:
        if not isinstance(session_id, str):
            session_id = new_session_id()
        session = self._sessions.setdefault(session_id, Conversation(session_id))
        self._sessions.move_to_end(session_id)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def _paced(self, data: bytes) -> list[Step]:
        steps: list[Step] = []
        for piece in cut_awkwardly(data):
            steps += (piece, self._chunk_s)
        return steps[:-1]

    def _stream_answer(
        self, steps: Iterable[Step], session: Conversation, agent_id: str, ending: _Ending = "end"
    ) -> _Answer:
        headers = (
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Session-Id", session.session_id),
            ("X-Agent-Id", agent_id),
        )
        return _Answer(200, headers, steps, ending, self._first_byte_s)

    def _chat_answer(self, steps: Iterable[Step], session: Conversation, agent_id: str) -> _Answer:
        # Whole answers have no pace of their own: they come at first_byte_s.
        parser = StreamParser()
        events = [
            event
            for step in steps
            if not isinstance(step, (int, float))
            for event in parser.feed(_step_bytes(step))
        ]
        events += parser.close()
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        answer = _json_answer(200, {"response": text, "session_id": session.session_id, "agent_id": agent_id})
        return replace(answer, after_s=self._first_byte_s)

    def _fault_answer(self, asked: str, session: Conversation, agent_id: str) -> _Answer:
        name = " ".join(asked.lower().split())
        if status := re.fullmatch(r"(\d{3})( retry-after( \d{1,6})?)?", name):
            code, retry = int(status.group(1)), status.group(2) is not None
            if code in _FAULT_ERRORS and (not retry or code in (429, 503)):
                after = (("Retry-After", (status.group(3) or "1").strip()),) if retry else ()
                return _fault_status_answer(code, name, after)

        def stream(*steps: Step, ending: _Ending = "end") -> _Answer:
            return self._stream_answer(steps, session, agent_id, ending)

        match name:
            case "redirect":
                location = f"{self.url}/moved/chat/stream"
                return _error_answer(
                    307, f"Asked for: moved to {location}", headers=(("Location", location),)
                )
            case "cut text":
                return stream(b"This reply will be cut in the middle of a sen", ending="cut")
            case "cut record":
                return stream(
                    b"This reply will be cut inside a record. ", b'\x1e__ACTION__{"type": "hi', ending="cut"
                )
            case "stall":
                return stream(b"This reply stalls here: the rest never comes,", ending="silence")
            case "stall first":
                return _Answer(None, ending="silence")
            case "drip":
                drops: list[Step] = []
                for drop in "This reply drips, byte by byte … done.".encode():
                    drops += (bytes([drop]), 0.05)
                return stream(*drops[:-1])
            case "empty":
                return stream()
            case "content type":
                page = (
                    b"<!doctype html><title>Sign in</title><p>This reply is a page of HTML, not a stream.</p>"
                )
                return replace(stream(page), headers=(("Content-Type", "text/html; charset=utf-8"),))
            case "json":
                return self._chat_answer(
                    [b"This reply is one JSON answer, where a stream of text was due."], session, agent_id
                )
            case "no headers":
                return replace(stream(b"This reply comes without its headers."), headers=())
            case "utf-8":
                return stream(
                    b"This reply holds bytes that are not UTF-8: \xff\xfe and \xc3( and \xe2\x82. It goes on."
                )
            case "malformed":
                return stream(
                    b"This reply holds a record that is not JSON, ",
                    b'\x1e__ACTION__{"type": "highlight", oops}\x1e',
                    b"then a summary that is no array, ",
                    b'\x1e__ACTIONS__{"type": "highlight"}\x1e',
                    b"and goes on.",
                )
            case "many actions":
                actions: list[JSON] = [
                    {"type": "highlight", "selector": f"#row-{row}", "number": row} for row in range(1, 201)
                ]
                return stream(
                    b"This reply sends 200 actions at once. ", *map(Action, actions), ActionSummary(actions)
                )
            case "close":
                return _Answer(None, ending="cut")
            case _:
                return _error_answer(400, f"There is no fault '{name}'. The faults are: {', '.join(FAULTS)}.")


def sign_user_token(secret: str, user_id: str, *, expires_in_s: float = 3600) -> str:
    """Return a user token (JWT, HS256) as a backend would sign it.

    Args:
        secret: the identity secret; a `DemoAgent` with the same `identity_secret` takes the token.
        user_id: whom the token is for.
        expires_in_s: seconds until it expires; negative gives one that has expired.
    """
    now = time.time()
    claims: dict[str, JSON] = {"user_id": user_id, "iat": int(now), "exp": int(now + expires_in_s)}
    signed = f"{_base64url_json({'alg': 'HS256', 'typ': 'JWT'})}.{_base64url_json(claims)}"
    return f"{signed}.{_base64url(_signature(secret, signed))}"


# The server: bytes in and out, one task per connection. It knows HTTP and no protocol.

_Ending: TypeAlias = Literal["end", "cut", "silence"]
"""How an answer ends: as HTTP has it; with the connection closed before that; or with
the connection open and silent, until the client leaves."""


def _listen(port: int) -> socket.socket:
    # With the protocol named, which socket.create_server does not do: asyncio turns
    # Nagle's algorithm off only then, and without that an answer's second packet waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)  # load tests connect a hundred times at once
    except BaseException:
        listener.close()
        raise
    return listener


@dataclass(frozen=True, slots=True)
class _Received:
    """A request off the wire. `body` is None when it was too large to keep."""

    method: str
    target: str
    headers: dict[str, str]
    has_key: bool
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What to send for a request. Without a `status` not even a head is sent."""

    status: int | None
    headers: tuple[tuple[str, str], ...] = ()
    steps: Iterable[Step] = ()
    ending: _Ending = "end"
    after_s: float = 0.0


class _ServerThread:
    """The loop that serves one listening socket, from `start` to `stop`."""

    def __init__(self, listener: socket.socket, answer: Callable[[_Received], _Answer]) -> None:
        self._listener = listener
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        # A daemon: an interpreter that ends must not wait for a demo.
        self._thread = threading.Thread(target=self._run, name="halo-demo-agent", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._stopping.is_set():
                writer.transport.abort()
                return
            # A task of our own, where start_server would make one: its done callback
            # differs between Python versions in what it says of a cancelled task.
            task = asyncio.get_running_loop().create_task(self._serve_connection(_Connection(reader, writer)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            # Here, not in a `finally`: a task that is cancelled before its first step runs none.
            task.add_done_callback(lambda _: writer.transport.abort())

        server = await asyncio.start_server(accept, sock=self._listener)
        await self._stopping.wait()
        # A connection that is accepted just as the server closes would be left open by asyncio. So no
        # more are taken, and those that were have the steps that they need to get to `accept` first.
        with suppress(NotImplementedError):  # not on Windows' loop
            asyncio.get_running_loop().remove_reader(self._listener)
        for _ in range(5):
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)  # an abort closes its socket in the loop's next step

    async def _serve_connection(self, connection: _Connection) -> None:
        with suppress(OSError):  # the client left
            while received := await connection.receive():
                arrived = asyncio.get_running_loop().time()
                if isinstance(received, _Answer):
                    answer = received
                else:
                    answer = self._answer(received)
                    if received.method == "HEAD":
                        answer = replace(answer, steps=())
                if not await connection.deliver(answer, arrived):
                    break
            await connection.close()


class _Connection:
    """One client's connection: requests in, answers out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def receive(self) -> _Received | _Answer | None:
        """Wait for the next request.

        Returns:
            The request; the answer to what is no HTTP; None when the client has left.
        """
        request: h11.Request | None = None
        body: bytearray | None = bytearray()
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                return _error_answer(error.error_status_hint, f"This is no HTTP/1.1 request: {error}")
            match event:
                case h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    self._http.receive_data(await self._reader.read(65536))
                case h11.Request():
                    request = event
                case h11.Data(data=data):
                    # What is too much is read and dropped: a client in mid-sentence would
                    # get a reset connection in place of the 413.
                    if body is not None:
                        body += data
                        if len(body) > MAX_BODY_BYTES:
                            body = None
                case h11.EndOfMessage() if request is not None:
                    return _received(request, body)
                case _:
                    return None

    async def deliver(self, answer: _Answer, arrived: float) -> bool:
        """Send an answer to a request that arrived at `arrived`, on the loop's clock.

        Returns:
            Whether the connection can take another request.

        Raises:
            OSError: when the client leaves before the end.
        """
        departure = asyncio.get_running_loop().create_task(self._departure())
        try:
            due = arrived + answer.after_s
            await _pause(departure, until=due)
            if answer.status is not None:
                await self._send_head(answer.status, answer.headers)
                try:
                    for step in answer.steps:
                        if isinstance(step, (int, float)):
                            # Each pause ends at a set time, so that delays do not add up.
                            due += step
                        else:
                            await self._send(h11.Data(data=_step_bytes(step)))
                        await _pause(departure, until=due)
                except OSError:
                    raise
                except Exception as error:  # noqa: BLE001 - a caller's `reply` may fail in any way
                    _log.warning("The demo agent's reply failed in mid-stream: %s", type(error).__name__)
                    return False
                if answer.ending == "end":
                    await self._send(h11.EndOfMessage())
            if answer.ending == "silence":
                await _pause(departure, until=None)
        finally:
            departure.cancel()
            await asyncio.wait({departure})
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        return False

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def _departure(self) -> None:
        """Return once the client has closed its side."""
        with suppress(OSError):
            if data := await self._reader.read(65536):
                # A request sent early: it is read when its turn comes. One read only,
                # so that a client that never stops sending fills its own buffers, not ours.
                self._http.receive_data(data)
                await asyncio.get_running_loop().create_future()

    async def _send_head(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        reason = HTTPStatus(status).phrase.encode()
        # Without a Content-Length h11 chunks the body, or closes after it for HTTP/1.0.
        await self._send(h11.Response(status_code=status, headers=list(headers), reason=reason))

    async def _send(
        self, event: h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage
    ) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()


async def _pause(departure: asyncio.Task[None], *, until: float | None) -> None:
    """Wait for a time on the loop's clock, or for ever; raise when the client leaves."""
    delay = None if until is None else until - asyncio.get_running_loop().time()
    if delay is not None and delay <= 0:
        await asyncio.sleep(0)  # the other connections' turn
    else:
        await asyncio.wait({departure}, timeout=delay)
    if departure.done():
        raise ConnectionResetError("the client left")


def _received(request: h11.Request, body: bytearray | None) -> _Received:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    has_key = re.fullmatch(r"bearer +ab_\S+", headers.get("authorization", ""), re.IGNORECASE) is not None
    if "authorization" in headers:
        headers["authorization"] = "set"
    return _Received(
        method=request.method.decode("latin-1"),
        target=request.target.decode("latin-1"),
        headers=headers,
        has_key=has_key,
        body=None if body is None else bytes(body),
    )


def _step_bytes(step: Step) -> bytes:
    match step:
        case bytes():
            return step
        case TextDelta() | Action() | ActionSummary():
            return encode(step)
        case _:
            raise TypeError(f"a step is an event, bytes or a pause, not {type(step).__name__}")


_SHORTEST_CHUNK, _LONGEST_CHUNK = 6, 28
_RECORD = re.compile(rb"(\x1e__ACTIONS?__)([^\x1e]*)\x1e")


@lru_cache(maxsize=64)
def cut_awkwardly(data: bytes) -> tuple[bytes, ...]:
    """Cut a reply into chunks of a few words, where it hurts a careless reader most.

    A cut inside a character is preferred to one inside a tag, to one inside a record's
    JSON, to any other. No tag stays whole. The same bytes are always cut the same way.
    """
    awkwardness = bytearray(len(data))
    for record in _RECORD.finditer(data):
        for at in range(record.start() + 1, record.end(1)):
            awkwardness[at] = 2
        for at in range(record.start(2), record.end()):
            awkwardness[at] = 1
    for at, byte in enumerate(data):
        if byte & 0xC0 == 0x80:
            awkwardness[at] = 3
    chooser = random.Random(0)  # noqa: S311 - it only has to repeat itself
    chunks = []
    start = 0
    while len(data) - start > _SHORTEST_CHUNK:
        places = range(start + _SHORTEST_CHUNK, min(start + _LONGEST_CHUNK + 1, len(data)))
        most = max(awkwardness[place] for place in places)
        end = chooser.choice([place for place in places if awkwardness[place] == most])
        chunks.append(data[start:end])
        start = end
    return (*chunks, data[start:])


# The protocol: what a request must hold, and the answers that are not replies.


class _Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        docs_url: str | None = None,
    ) -> None:
        super().__init__(error)
        self.answer = _error_answer(status, error, headers=headers, docs_url=docs_url)


def _json_answer(status: int, body: JSON, headers: tuple[tuple[str, str], ...] = ()) -> _Answer:
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    framing = (("Content-Type", "application/json"), ("Content-Length", str(len(data))))
    return _Answer(status, framing + headers, (data,))


def _error_answer(
    status: int, error: str, *, headers: tuple[tuple[str, str], ...] = (), docs_url: str | None = None
) -> _Answer:
    body: dict[str, JSON] = {"error": error}
    if docs_url is not None:
        body["docs_url"] = docs_url
    return _json_answer(status, body, headers)


def _config_answer(query: str) -> _Answer:
    try:
        uuid.UUID(parse_qs(query).get("org_id", [""])[0])
    except ValueError:
        raise _Refusal(400, "org_id must be a UUID.") from None
    return _json_answer(
        200,
        {
            "agent": {
                "id": DEMO_AGENT_ID,
                "name": "Demo agent",
                "skills": ["guide", "highlight", "navigate", "create_ticket"],
                "status": "active",
            },
            "organization": {"name": "Tidemark Analytics (demo)", "settings": {}},
        },
    )


def _read_json(body: bytes | None) -> tuple[JSON, bool]:
    """Return the body as JSON, and whether it is JSON at all."""
    try:
        value: JSON = json.loads((body or b"").decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None, False
    return value, True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check(body: JSON) -> dict[str, JSON]:
    """Hold a request's body against the documented fields and limits.

    Fields that are not documented are let through: whether the real service does so is
    not known.
    """
    if not isinstance(body, dict):
        raise _Refusal(400, "The body must be a JSON object.")
    message = _string(body, "message", MAX_MESSAGE_CHARACTERS)
    if not message or not message.strip():
        raise _Refusal(400, "message is required.")
    for name in ("user_id", "user_token", "company_id"):
        _string(body, name)
    _string(body, "behavior_context", MAX_BEHAVIOR_CHARACTERS)
    for name in ("session_id", "agent_id"):
        value = _string(body, name)
        # Both go back in a header.
        if value is not None and not re.fullmatch(r"[!-~]{1,200}", value):
            raise _Refusal(400, f"{name} must be 1 to 200 visible ASCII characters.")
    if _string(body, "mode") not in (None, *MODES):
        raise _Refusal(400, f"mode must be one of {', '.join(MODES)}.")
    _check_context(body.get("context", {}))
    custom_fields = body.get("custom_fields", {})
    if not isinstance(custom_fields, dict):
        raise _Refusal(400, "custom_fields must be an object.")
    if (
        len(json.dumps(custom_fields, ensure_ascii=False, separators=(",", ":")))
        > MAX_CUSTOM_FIELDS_CHARACTERS
    ):
        raise _Refusal(
            400, f"custom_fields must be at most {MAX_CUSTOM_FIELDS_CHARACTERS:,} characters as JSON."
        )
    _check_history(body.get("conversation_history", []))
    images = body.get("images", [])
    if not isinstance(images, list) or not all(
        isinstance(image, str) and image.startswith(("https://", "http://", "data:")) for image in images
    ):
        raise _Refusal(400, "images must be an array of image URLs or data: URLs.")
    return body


def _agent_id(request: dict[str, JSON]) -> str:
    return str(request.get("agent_id", DEMO_AGENT_ID))


def _string(body: dict[str, JSON], name: str, max_characters: int | None = None) -> str | None:
    if name not in body:
        return None
    value = body[name]
    if not isinstance(value, str):
        raise _Refusal(400, f"{name} must be a string.")
    if max_characters is not None and len(value) > max_characters:
        raise _Refusal(400, f"{name} must be at most {max_characters:,} characters.")
    return value


def _check_context(context: JSON) -> None:
    if not isinstance(context, dict):
        raise _Refusal(400, "context must be an object.")
    for key, entry in context.items():
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("label"), str)
            or not isinstance(entry.get("type", ""), str)
            or "value" not in entry
        ):
            raise _Refusal(400, f"context.{key} must be an object with label, value and, if any, type.")


def _check_history(history: JSON) -> None:
    if not isinstance(history, list):
        raise _Refusal(400, "conversation_history must be an array.")
    if len(history) > MAX_HISTORY_ITEMS:
        raise _Refusal(400, f"conversation_history must have at most {MAX_HISTORY_ITEMS} items.")
    for item in history:
        if not (
            isinstance(item, dict)
            and isinstance(item.get("role", item.get("speaker")), str)
            and isinstance(item.get("content", item.get("text")), str)
        ):
            raise _Refusal(400, "Each item of conversation_history must have a role and a content.")


def _verify_identity(secret: str, request: dict[str, JSON]) -> None:
    user_id = request.get("user_id", "anonymous")
    if user_id == "anonymous":
        return
    token = request.get("user_token")
    if not isinstance(token, str):
        raise _Refusal(403, "Identity verification is on: user_token is required.", docs_url=_DOCS_URL)
    claims = _verified_claims(secret, token)
    if claims is None or claims.get("user_id", claims.get("sub")) != user_id:
        raise _Refusal(403, "Identity verification failed: user_token is not valid.", docs_url=_DOCS_URL)


def _verified_claims(secret: str, token: str) -> dict[str, JSON] | None:
    """Return the claims of a token that is signed with `secret` and has not expired."""
    signed, _, signature = token.rpartition(".")
    try:
        header, claims = (json.loads(_from_base64url(part)) for part in signed.split("."))
        matches = hmac.compare_digest(_from_base64url(signature), _signature(secret, signed))
    except (ValueError, RecursionError):
        return None
    # A token that names another algorithm, or none, is refused whatever its signature.
    if not matches or not isinstance(header, dict) or header.get("alg") != "HS256":
        return None
    if not isinstance(claims, dict):
        return None
    expires = claims.get("exp")
    if expires is not None and not (isinstance(expires, (int, float)) and expires > time.time()):
        return None
    return claims


def _signature(secret: str, signed: str) -> bytes:
    return hmac.new(secret.encode(), signed.encode("utf-8", "replace"), hashlib.sha256).digest()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _base64url_json(value: dict[str, JSON]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _from_base64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


# The faults.

_FAULT_ERRORS = {
    400: "Bad request",
    401: "Missing or invalid API key",
    403: "Identity verification failed",
    404: "Not found",
    413: "The request is too large",
    422: "The request cannot be processed",
    429: "Too many requests",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "The agent took too long",
}


def _fault_status_answer(status: int, name: str, headers: tuple[tuple[str, str], ...]) -> _Answer:
    error = f"{_FAULT_ERRORS[status]} (the fault '{name}' was asked for)."
    if status == 502:
        # As a proxy in between would put it.
        page = f"<html><title>502 Bad Gateway</title><h1>{error}</h1></html>\n".encode()
        framing = (("Content-Type", "text/html"), ("Content-Length", str(len(page))))
        return _Answer(status, framing, (page,))
    return _error_answer(status, error, headers=headers, docs_url=_DOCS_URL if status in (401, 403) else None)
