"""A scripted agent behind a real HTTP server on loopback, for tutorials, Binder and tests.

- Scripted replies are sent at fixed times and cut at awkward places: inside characters, tags and records.
- A client may leave and `stop` may be called at any moment: connections are closed, and nothing is reported.
- It listens on 127.0.0.1 only, keeps no key and logs no request.

Where the documentation of the real service is silent, it shows only one possibility: the payloads of actions
are the script's own, and a session id that it never gave out is accepted and continued.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import threading
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import h11

from ..stream import JSON, MAX_DOCUMENT_NESTING, decode_json
from . import protocol
from .faults import fault_answer
from .protocol import Answer, DemoRequest, Refusal, Step, error_answer, requested_agent_id, step_bytes
from .script import Conversation, new_session_id, scripted_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger(__name__)
_PAUSE_S = 0.05


class DemoAgent:
    """A scripted agent behind an HTTP server on a thread of its own.

    Args:
        port: where to listen on 127.0.0.1; 0 takes a free port.
        first_byte_s: seconds from the end of the request to the first byte of the answer.
        chunk_s: seconds between two chunks of a scripted reply; 0 sends them at once.
        identity_secret: turns identity verification on, as with the real service: a `user_id` other than
            ``"anonymous"`` needs a `user_token` signed with this secret.
        reply: replaces the script: takes a request's body and returns the steps of the reply, each of which
            is sent as one chunk. It runs on the server's event loop and must not block.

    Attributes:
        requests: the last 10,000 requests, oldest first.
        faults: names from `FAULTS`; each chat request takes the first one and fails that way. A message can
            ask for a fault, too: ``/fault cut text``.

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
        self.requests: deque[DemoRequest] = deque(maxlen=10_000)
        self.faults: deque[str] = deque()
        self._port = port
        self._first_byte_s = first_byte_s
        self._chunk_s = chunk_s
        self._identity_secret = identity_secret
        self._reply = reply
        self._sessions: dict[str, Conversation] = {}
        self._url = ""
        self._server: _ServerThread | None = None

    @property
    def url(self) -> str:
        """The base URL, ``http://127.0.0.1:PORT/api/sdk``. It stays the same after `stop`."""
        if not self._url:
            raise RuntimeError("the demo agent was never started: call start() first")
        return self._url

    def start(self) -> Self:
        """Listen for requests, unless it already does. Raises OSError if the port is not available."""
        if self._server is None:
            listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
            self._url = f"http://127.0.0.1:{listener.getsockname()[1]}{protocol.BASE_PATH}"
            self._server = _ServerThread(listener, self.answer)
        return self

    def stop(self) -> None:
        """Close the server and every open reply. Does nothing if it is already stopped."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Return what to send for a request, as the server or a transport without a server received it.

        `target` is path and query; the names of `headers` are in lower case.
        """
        path = target.partition("?")[0]  # urlsplit raises ValueError for some targets
        value: JSON = None
        with suppress(ValueError):
            value = decode_json(body.decode(), MAX_DOCUMENT_NESTING)
        key = headers.get("authorization")
        kept = headers if key is None else headers | {"authorization": "set"}
        self.requests.append(DemoRequest(method, path, kept, value))
        try:
            if method != "POST" or path not in (protocol.STREAM_PATH, protocol.CHAT_PATH):
                raise Refusal(404, f"There is nothing to {method} at {path}.")
            with suppress(IndexError):  # not `if self.faults`: another thread may clear them in between
                return self._reply_to(path, value if isinstance(value, dict) else {}, self.faults.popleft())
            protocol.check_key(key or "")
            if value is None:
                raise Refusal(400, "The body is not JSON.")
            request = protocol.check_request(value)
            if self._identity_secret is not None:
                protocol.verify_identity(self._identity_secret, request)
            return self._reply_to(path, request)
        except Refusal as error:
            return error_answer(*error.args)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the client gets an answer
            return error_answer(500, f"The demo agent failed: {type(error).__name__}: {error}")

    def _reply_to(self, path: str, request: dict[str, JSON], fault: str | None = None) -> Answer:
        session_id = str(request.get("session_id") or new_session_id())
        session = self._sessions.setdefault(session_id, Conversation())
        agent_id = requested_agent_id(request)
        message = str(request.get("message"))
        if fault is None:
            session.turns += 1
            asked = re.match(r"\s*/(?:fault|error)\b(.*)", message, re.DOTALL | re.IGNORECASE)
            fault = asked[1] if asked and self._reply is None else None
        if fault is not None:
            answer = fault_answer(fault, session_id, agent_id)
            return replace(answer, after_s=self._first_byte_s) if answer.status == 200 else answer
        steps: Iterable[Step]
        if self._reply is not None:
            given = iter(self._reply(request))
            # Take the first step now: a generator that fails there can still be answered with a 500.
            steps = chain([first] if (first := next(given, None)) is not None else [], given)
        else:
            chunks = cut_awkwardly(scripted_reply(message, request, session))
            steps = [step for chunk in chunks for step in (self._chunk_s, chunk)][1:]
        reply = protocol.chat_answer if path == protocol.CHAT_PATH else protocol.stream_answer
        return replace(reply(steps, session_id, agent_id), after_s=self._first_byte_s)


class _ServerThread:
    """The thread and event loop that serve one listening socket, until `stop`."""

    def __init__(
        self, listener: socket.socket, answer: Callable[[str, str, dict[str, str], bytes], Answer]
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._answer = answer
        self._loop = asyncio.SelectorEventLoop()  # Windows' default loop has no add_reader
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        # A daemon thread: an interpreter that exits must not wait for a demo.
        self._thread = threading.Thread(target=self._run, name="halo-demo-agent", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        # The runner cancels what is still served when it closes.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        # asyncio's own server would leave a connection open that it accepts while it is being closed.
        with self._listener:
            self._listen()
            await self._stopping.wait()
            self._loop.remove_reader(self._listener)
        await asyncio.sleep(0)  # a task that is cancelled before its first step would not close its socket

    def _listen(self) -> None:
        if not self._stopping.is_set():
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # the client has left
            return
        except OSError:  # too many files are open: let the client wait, and try again a little later
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_PAUSE_S, self._listen)
            return
        task = self._loop.create_task(self._serve_connection(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_connection(self, client: socket.socket) -> None:
        with client, suppress(OSError, h11.RemoteProtocolError):  # it left, or does not speak HTTP
            # asyncio does this for its own sockets only: the second packet of an answer would wait 40 ms.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                http = h11.Connection(h11.SERVER)
                reusable = True
                while reusable and (answer := await self._next_answer(http, reader)) is not None:
                    reusable = await _deliver(answer, http, reader, writer)
                writer.close()
                await writer.wait_closed()
            finally:
                writer.transport.abort()

    async def _next_answer(self, http: h11.Connection, reader: asyncio.StreamReader) -> Answer | None:
        """Wait for the next request, and return what to send for it; None if the client has left."""
        body = bytearray()
        while True:
            match http.next_event():
                case h11.NEED_DATA:
                    http.receive_data(await reader.read(65536))
                case h11.Request(method=method, target=target, headers=fields):
                    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage():
                    return self._answer(method.decode(), target.decode("latin-1"), headers, bytes(body))
                case _:
                    return None


async def _deliver(
    answer: Answer, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Send an answer; return whether the connection can be used again.

    If the client leaves, or sends something although its answer has not ended, this task is cancelled.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + answer.after_s
    watching = loop.create_task(_cancel_on_departure(reader, asyncio.current_task()))

    async def send(event: h11.Event) -> None:
        writer.write(http.send(event) or b"")
        await writer.drain()

    try:
        await asyncio.sleep(answer.after_s)
        if answer.status is not None:
            reason = HTTPStatus(answer.status).phrase.encode()
            await send(h11.Response(status_code=answer.status, headers=list(answer.headers), reason=reason))
            try:
                for step in answer.steps:
                    if isinstance(step, (int, float)):
                        due += step  # on a schedule, so that delays do not add up
                    else:
                        await send(h11.Data(data=step_bytes(step)))
                    await asyncio.sleep(due - loop.time())  # also lets the other connections run
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - a caller's `reply` may fail in any way
                _log.warning("The demo agent's reply failed while it was sent: %s", type(error).__name__)
                return False
            if answer.ending == "end":
                await send(h11.EndOfMessage())
        if answer.ending == "silence":
            await asyncio.Event().wait()
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
        return False
    http.start_next_cycle()
    return True


async def _cancel_on_departure(reader: asyncio.StreamReader, task: asyncio.Task[Any] | None) -> None:
    with suppress(OSError):
        await reader.read(1)
    if task is not None:
        task.cancel()


_SHORTEST_CHUNK, _LONGEST_CHUNK = 6, 28
_RECORD = re.compile(rb"(\x1e__ACTIONS?__)[^\x1e]*\x1e")


@lru_cache(maxsize=64)
def cut_awkwardly(data: bytes) -> tuple[bytes, ...]:
    """Cut a reply into chunks of a few words, at the places that a careless reader handles worst.

    A cut inside a character is preferred to one inside a tag, that to one inside a record's JSON, and that to
    any other, so every tag among ASCII is cut. The same bytes are always cut in the same way.
    """
    awkwardness = [3 if byte & 0xC0 == 0x80 else 0 for byte in data]
    for record in _RECORD.finditer(data):
        for at in range(record.start() + 1, record.end()):
            awkwardness[at] = max(awkwardness[at], 2 if at < record.end(1) else 1)
    chooser = random.Random(0)  # noqa: S311 - it only has to repeat itself
    chunks = []
    start = 0
    while len(data) - start > _SHORTEST_CHUNK:
        places = range(start + _SHORTEST_CHUNK, min(start + _LONGEST_CHUNK + 1, len(data)))
        end = max(places, key=lambda place: (awkwardness[place], chooser.random()))
        chunks.append(data[start:end])
        start = end
    return (*chunks, data[start:])
