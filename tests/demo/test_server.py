"""The demo agent's server starts, paces its replies and ends without leaving anything behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halo_notebook.demo import DemoAgent, Step
from halo_notebook.stream import JSON, Action, ActionSummary, TextDelta, encode

from .over_http import (
    EVENT_TRACKING,
    ask,
    connect,
    error_of,
    raw_chunks,
    raw_connection,
    raw_request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def serving_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "halo-demo-agent"]


# Start and stop.


def test_start_and_stop_can_be_repeated() -> None:
    """Starting twice makes one server, stopping twice does nothing, and a stopped agent can start again.

    Before the first start there is no URL; after the stop it is the same, and nothing listens there.
    """
    agent = DemoAgent(first_byte_s=0, chunk_s=0)
    with pytest.raises(RuntimeError, match="call start"):
        _ = agent.url
    agent.stop()
    for _ in range(3):
        assert agent.start() is agent.start()
        assert len(serving_threads()) == 1
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/sdk", agent.url)
        with connect(agent) as http:
            assert ask(http, "hi").status_code == 200
        agent.stop()
        agent.stop()
        assert not serving_threads()
    with connect(agent) as http, pytest.raises(httpx.ConnectError):
        ask(http, "hi")


# Pace.


def test_chunks_are_sent_on_schedule() -> None:
    """A late chunk does not delay the chunks after it."""
    first_byte_s, chunk_s = 0.1, 0.005
    with DemoAgent(first_byte_s=first_byte_s, chunk_s=chunk_s) as agent, connect(agent) as http:
        began = time.perf_counter()
        with http.stream("POST", "/chat/stream", json={"message": EVENT_TRACKING}) as response:
            answered = time.perf_counter() - began
            count = sum(1 for _ in response.iter_raw())
        took = time.perf_counter() - began
    due = first_byte_s + (count - 1) * chunk_s
    assert answered >= first_byte_s
    assert took >= due
    # Summed sleeps would be a millisecond late each, over 80 of them, on top of what a busy machine adds.
    assert took < due + 1


def test_a_hundred_replies_stream_at_once() -> None:
    """None waits for the end of another: here, each ends only when all of them have begun."""
    begun = 0

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        nonlocal begun
        begun += 1
        yield TextDelta("first")
        while begun < 100:
            yield 0.01
        yield TextDelta("last")

    async def asked(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw_request("Open a ticket"))
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
        return answer

    async def all_at_once(port: int) -> list[bytes]:
        return await asyncio.gather(*(asked(port) for _ in range(100)))

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        answers = asyncio.run(all_at_once(httpx.URL(agent.url).port or 0))
    assert [(b"first" in answer, b"last" in answer) for answer in answers] == [(True, True)] * 100


# A caller's reply.


def test_custom_reply_is_sent_step_by_step() -> None:
    """Each step of a custom reply is one chunk, as given, and a number is a pause."""
    received = []

    def reply(request: dict[str, JSON]) -> list[Step]:
        received.append(request)
        return [TextDelta("one"), 0.2, b"\xff\x1e__ACT", b"", Action({"é": 1}), ActionSummary([]), 0]

    with DemoAgent(first_byte_s=0, reply=reply) as agent, connect(agent) as http:
        began = time.perf_counter()
        chunks = raw_chunks(http, "/fault 500")
        assert time.perf_counter() - began >= 0.2
        whole = http.post("/chat", json={"message": "hi"}).json()
    assert chunks == [b"one", b"\xff\x1e__ACT", encode(Action({"é": 1})), encode(ActionSummary([]))]
    assert received == [{"message": "/fault 500"}, {"message": "hi"}]
    assert whole["response"] == "one\ufffd\x1e__ACT"


def test_custom_reply_that_fails_is_a_500_or_cut(caplog: pytest.LogCaptureFixture) -> None:
    """Before its first step a failure is a 500 that names it; later the reply is cut, and one line is logged.

    The log does not contain the error's text. A step of another type is a failure, too.
    """

    def reply(request: dict[str, JSON]) -> Iterator[Any]:
        if request["message"] == "at once":
            raise ZeroDivisionError("by design")
        yield b"so far"
        if request["message"] == "wrong step":
            yield "text"
        raise ZeroDivisionError("a secret")

    with DemoAgent(first_byte_s=0, reply=reply) as agent, connect(agent) as http:
        response = ask(http, "at once")
        assert response.status_code == 500
        assert "ZeroDivisionError: by design" in error_of(response)
        for message in ("later", "wrong step"):
            with pytest.raises(httpx.RemoteProtocolError):
                ask(http, message)
        assert ask(http, "hi", session_id="").status_code == 400
    assert [record.getMessage() for record in caplog.records] == [
        f"The demo agent's reply failed while it was sent: {name}"
        for name in ("ZeroDivisionError", "TypeError")
    ]


# Clients that leave, and stops.


def endless(request: dict[str, JSON]) -> Iterator[Step]:
    while True:
        yield b"more of the same. " * 50
        yield 0.001


async def open_connections() -> int:
    return len(asyncio.all_tasks()) - 2  # without the server's own task and this one


def test_clients_may_leave_at_any_time(caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves before, during or after its request leaves nothing behind."""
    caplog.set_level(logging.DEBUG, logger="asyncio")
    with DemoAgent(first_byte_s=0, reply=endless) as agent:
        request = raw_request("hi")
        for sent in (b"", request[:20], request[:-5], request):
            with raw_connection(agent) as connection:
                connection.sendall(sent)
                if sent == request:
                    assert connection.recv(100)
        agent.faults.extend(["stall", "stall first"])
        for _ in range(2):
            with raw_connection(agent) as connection:
                connection.sendall(request)
                time.sleep(0.05)
        with (
            connect(agent) as http,
            http.stream("POST", "/chat/stream", json={"message": "hi"}) as response,
        ):
            next(response.iter_raw())
        assert agent._server is not None
        deadline = time.monotonic() + 10
        while asyncio.run_coroutine_threadsafe(open_connections(), agent._server._loop).result(10):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_stop_closes_open_replies(caplog: pytest.LogCaptureFixture) -> None:
    """Replies that stream, stall or are not read are closed, and the stop returns soon."""
    agent = DemoAgent(first_byte_s=0, reply=endless).start()
    agent.faults.extend(["stall", "stall first"])
    connections = [raw_connection(agent) for _ in range(5)]  # the last sends nothing
    for connection in connections[:4]:
        connection.sendall(raw_request("hi"))  # nothing is read: the buffers of a reply fill up
        time.sleep(0.1)
    began = time.monotonic()
    agent.stop()
    assert time.monotonic() - began < 5
    assert not serving_threads()
    for connection in connections:
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
        connection.close()
    assert not caplog.records


def test_stop_closes_connections_that_are_being_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that arrives during the stop is closed like the others."""
    left: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: left.append(str(found.exc_value)))

    def connect_to(port: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            pass

    for _ in range(60):
        agent = DemoAgent().start()
        port = httpx.URL(agent.url).port or 0
        threads = [threading.Thread(target=connect_to, args=(port,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        agent.stop()
        for thread in threads:
            thread.join()
    gc.collect()
    assert left == []


def test_interpreter_exits_without_a_stop() -> None:
    """A program that ends with an open reply and without a stop ends at once and prints nothing."""
    program = """
import socket
from halo_notebook.demo import DemoAgent
agent = DemoAgent(first_byte_s=0).start()
port = int(agent.url.split(":")[2].split("/")[0])
agent.faults.append("stall")
connection = socket.create_connection(("127.0.0.1", port))
connection.sendall(b"POST /api/sdk/chat HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n")
assert connection.recv(1000)
connection.detach()
"""
    assert_says_nothing(program)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on open files")
@pytest.mark.parametrize("connections", [2, 5, 20])
def test_a_client_waits_while_too_many_files_are_open(connections: int) -> None:
    """It is answered when files have been closed, and nothing is printed meanwhile; so is every later one."""
    assert_says_nothing(f"""
import os, resource, socket, time
from halo_notebook.demo import DemoAgent
agent = DemoAgent(first_byte_s=0).start()
port = int(agent.url.split(":")[2].split("/")[0])
clients = [socket.socket() for _ in range({connections})]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = []
try:
    while True:
        files.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for client in clients:
    client.connect(("127.0.0.1", port))
    client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
time.sleep(0.2)  # the server cannot report that it fails to accept
for file in files:
    os.close(file)
for client in [*clients, socket.create_connection(("127.0.0.1", port))]:
    client.settimeout(30)
    if client not in clients:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 404")
    client.close()
agent.stop()
""")


def assert_says_nothing(program: str) -> None:
    """Run a Python program, which must succeed and print nothing."""
    # In this mode asyncio also reports what takes 0.1 s, and on a busy machine anything may.
    program = "import logging\nlogging.getLogger('asyncio').setLevel('ERROR')\n" + program
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
