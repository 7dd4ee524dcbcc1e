"""Every transport gives the same errors, keeps the same text and knows what was sent."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import httpx
import pytest

from halo_notebook import AsyncHaloClient, Reply, errors
from halo_notebook.client.transports.aiohttp import REUSED_WITHIN_S, AiohttpTransport
from halo_notebook.client.transports.environment import proxy_for
from halo_notebook.demo import DEMO_KEY, DemoAgent

from ..harness.faults import FAULTS, Fault
from .clients import check

Serve: TypeAlias = Callable[[socket.socket], object]

TRANSPORTS: dict[str, Callable[[str], Any]] = {
    "network": lambda url: None,
    "aiohttp": AiohttpTransport,
    "the caller's httpx": lambda url: httpx.AsyncHTTPTransport(trust_env=False),
}
over_each = pytest.mark.parametrize("via", TRANSPORTS)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
HI = OK % 2 + b"hi"


def over(url: str, via: str = "aiohttp", **settings: Any) -> AsyncHaloClient:
    """A client that sends by that transport."""
    return AsyncHaloClient(DEMO_KEY, base_url=url, transport=TRANSPORTS[via](url), **settings)


def asked(
    url: str, via: str = "aiohttp", images: list[str] | None = None, **settings: Any
) -> tuple[Reply, errors.HaloError | None]:
    """What came of one message over a transport, and the error that it ended with."""

    async def ask() -> tuple[Reply, errors.HaloError | None]:
        async with over(url, via, max_retries=0, **({"silence_timeout_s": 1} | settings)) as client:
            stream = client.stream("Hello", images=images)
            try:
                async with stream:
                    await stream.to_end()
            except errors.HaloError as error:
                return stream.reply, error
            return stream.reply, None

    return asyncio.run(ask())


def not_connected(url: str, via: str, **settings: Any) -> str:
    """The error's line, when a message could certainly not be sent."""
    reply, error = asked(url, via, **settings)
    assert isinstance(error, errors.ConnectionFailed) and not reply.may_have_arrived
    assert "The message was not sent" in str(error)
    return str(error)


@contextmanager
def server(serve: Serve) -> Iterator[str]:
    """A server that does with each connection what `serve` does, one after the other; its base URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/sdk"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def received(connection: socket.socket) -> bytes:
    """The head of one request, which is read to its end; empty when the other side has left."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head


def answers(*parts: bytes, then: Serve = lambda _: None) -> Serve:
    """Reads a request, sends these parts of an answer, 0.1 s between them, and does `then`."""

    def serve(connection: socket.socket) -> None:
        received(connection)
        for number, part in enumerate(parts):
            time.sleep(0.1 if number else 0)
            connection.sendall(part)
        then(connection)

    return serve


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def is_left(connection: socket.socket) -> bool:
    """Wait until the other side leaves."""
    connection.settimeout(10)
    return connection.recv(1) == b""


@pytest.mark.parametrize("via", ["aiohttp", "the caller's httpx"])  # the network: test_errors_are_one_line
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_gives_the_same_error_over_every_transport(
    via: str, fault: Fault, agent: DemoAgent
) -> None:
    """The same error, the same text kept, sent once."""
    agent.faults.append(fault.name)
    reply, error = asked(agent.url, via)
    check(fault, reply, error)
    assert len(agent.requests) == 1


@over_each
def test_without_a_connection_nothing_was_sent(via: str) -> None:
    """Refused, not found, or too slow: each is known as not having arrived."""
    assert "127.0.0.1:1" in not_connected("http://127.0.0.1:1/api/sdk", via)
    not_connected("https://halo.invalid/api/sdk", via)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        held = [socket.socket() for _ in range(4)]
        for each in held:  # the queue of those who wait to be accepted is full
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/api/sdk"
        assert "within 0.2 s" in not_connected(url, via, connect_timeout_s=0.2)
        for each in held:
            each.close()


@pytest.mark.parametrize(
    "serve",
    [answers(), answers(then=resets), answers(b"NOT HTTP AT ALL\r\n\r\n")],
    ids=["closes", "resets", "babbles"],
)
@over_each
def test_a_server_that_closes_may_have_the_message(via: str, serve: Serve) -> None:
    """Closed before an answer, reset, or with an answer that is not HTTP: none is taken for 'not sent'."""
    with server(serve) as url:
        reply, error = asked(url, via)
    assert type(error) is errors.ReplyInterrupted, error
    assert reply.may_have_arrived


def test_message_is_not_resent_after_server_closed_idle_connection() -> None:
    """The message that meets it may have arrived: the error says so, and no other connection sends it."""
    requests = []

    def serve(connection: socket.socket) -> None:
        requests.append(received(connection))
        connection.sendall(HI)
        requests.append(received(connection))  # and closes without a word

    async def ask_twice(url: str) -> None:
        async with over(url) as client:
            assert (await client.ask("one")).text == "hi"
            stream = client.stream("two")
            with pytest.raises(errors.ReplyInterrupted, match="not sent again automatically"):
                async with stream:
                    pass
            assert stream.reply.may_have_arrived and stream.reply.status == "failed"

    with server(serve) as url:
        asyncio.run(ask_twice(url))
    assert len(requests) == 2


def test_a_connection_is_reused_but_not_after_it_was_idle() -> None:
    """Reusing one spares a handshake; after `REUSED_WITHIN_S` the server may be closing it."""
    requests: list[int] = []  # of each connection

    def serve(connection: socket.socket) -> None:
        requests.append(0)
        while received(connection):
            requests[-1] += 1
            connection.sendall(HI)

    async def ask(url: str) -> None:
        async with over(url) as client:
            for pause_s in (0, 0, REUSED_WITHIN_S + 0.3):
                await asyncio.sleep(pause_s)
                assert (await client.ask("Hello")).text == "hi"

    with server(serve) as url:
        asyncio.run(ask(url))
    assert requests == [2, 1]


@pytest.mark.parametrize("via", ["network", "aiohttp"])
@pytest.mark.parametrize("names", [("HTTP_PROXY", "HTTPS_PROXY"), ("ALL_PROXY",)])
def test_a_proxy_is_used_except_for_this_machine(
    names: tuple[str, ...], via: str, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy from the environment does not see what goes to this machine, nor to a host of NO_PROXY."""
    for name in names:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert asked(agent.url, via)[1] is None
    proxied = not_connected("https://halo.invalid/api/sdk", via)
    monkeypatch.setenv("NO_PROXY", "localhost, ::1/128, .invalid")
    assert not_connected("https://halo.invalid/api/sdk", via) != proxied
    assert proxy_for("https://halo.invalid/api/sdk") is None


@pytest.mark.parametrize("via", ["network", "aiohttp"])
def test_a_proxy_gets_its_password_and_no_error_shows_it(via: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses the connection has seen the password; the message was not sent."""
    asked_for: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        asked_for.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    with server(serve) as url:
        monkeypatch.setenv("ALL_PROXY", url.replace("//", "//user:p4ssword@").removesuffix("/api/sdk"))
        line = not_connected("https://halo.invalid/api/sdk", via)
    assert "by the proxy: 502 Bad Gateway" in line and "p4ssword" not in line
    assert b"CONNECT halo.invalid:443" in asked_for[0] and b"Proxy-Authorization: Basic " in asked_for[0]
    assert b"Bearer" not in asked_for[0]


@pytest.mark.parametrize(
    ("via", "name", "value"),
    [
        ("network", "ALL_PROXY", "foo://127.0.0.1"),
        ("network", "ALL_PROXY", "http://[::1"),
        ("network", "ALL_PROXY", "http://127.0.0.1:port"),
        ("aiohttp", "ALL_PROXY", "socks5://user:p4ssword@127.0.0.1:9"),
        ("network", "SSL_CERT_FILE", "/nonexistent/certificates"),
    ],
)
def test_a_network_that_cannot_be_set_up_is_one_line(
    via: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message does not go around a proxy that cannot be used; the line names no password."""
    monkeypatch.setenv(name, value)
    reply, error = asked("https://halo.invalid/api/sdk", via)
    assert isinstance(error, errors.ConfigError) and "network could not be set up" in str(error)
    assert reply.status == "failed"
    assert ("socks5:// is not supported" in str(error)) is (via == "aiohttp")
    assert "p4ssword" not in str(error)


def test_a_reply_that_is_left_closes_its_connection() -> None:
    """The server notices, and need not continue."""
    left = threading.Event()

    def notices(connection: socket.socket) -> None:
        if is_left(connection):
            left.set()

    async def leave(url: str) -> None:
        async with over(url) as client:
            async with client.stream("one") as events:
                async for _ in events:
                    break
            assert events.reply.status == "stopped" and events.reply.text == "first"
            assert await asyncio.to_thread(left.wait, 10)

    with server(answers(OK % 99 + b"first", then=notices)) as url:
        asyncio.run(leave(url))


@over_each
def test_a_silence_is_measured_from_the_last_chunk(via: str) -> None:
    """An answer that takes longer than a silence may last is read as it arrives; one that stops is not."""
    with server(answers(OK % 9, *(bytes([letter]) for letter in b"piecemeal"))) as url:
        reply, error = asked(url, via, silence_timeout_s=0.5)
    assert error is None and reply.text == "piecemeal"
    assert reply.first_text_s is not None and reply.elapsed_s is not None
    assert 0 < reply.first_text_s < reply.elapsed_s / 2 and reply.elapsed_s > 0.5
    with server(answers(OK % 9 + b"piece", then=is_left)) as url:
        reply, error = asked(url, via, silence_timeout_s=0.5)
    assert isinstance(error, errors.ReplyTimeout) and "silent for 0.5 s" in str(error)
    assert reply.text == "piece" and reply.may_have_arrived
    assert reply.elapsed_s is not None and reply.elapsed_s < 5


@pytest.mark.parametrize("fault", [None, "drip"], ids=["before its head", "in its midst"])
def test_a_busy_loop_is_not_taken_for_a_silent_agent(fault: str | None, agent: DemoAgent) -> None:
    """A check may compute for long on the notebook's own loop; what came meanwhile is there when it ends."""
    agent.faults.extend([fault] if fault else [])

    async def ask() -> Reply:
        async with over(agent.url, silence_timeout_s=0.3) as client:
            asking = asyncio.ensure_future(client.ask("Hello"))
            while not (client.last and (client.last.text if fault else client.last.may_have_arrived)):  # noqa: ASYNC110
                await asyncio.sleep(0)
            time.sleep(0.6)  # noqa: ASYNC251  # which is what it is about
            return await asking

    assert asyncio.run(ask()).status == "complete"


@over_each
def test_a_server_that_reads_nothing_times_out(via: str) -> None:
    """It holds up no turn for ever; a part of the message may have arrived."""
    never = threading.Event()
    with server(lambda _: never.wait(20)) as url:
        image = "data:image/png;base64," + 16_000_000 * "A"
        reply, error = asked(url, via, images=[image], silence_timeout_s=0.5)
        never.set()
    assert isinstance(error, errors.ReplyTimeout), error
    assert reply.may_have_arrived


@over_each
def test_an_unrequested_compression_is_undone(via: str) -> None:
    """It is undone over every transport; what cannot be undone is an error."""
    deflated = OK.replace(b"Type: text/plain", b"Encoding: deflate")
    whole = zlib.compress("grüße".encode())
    with server(answers(deflated % len(whole) + whole)) as url:
        reply, error = asked(url, via)
    assert error is None and reply.text == "grüße"
    with server(answers(deflated % 5 + b"plain")) as url:
        _, error = asked(url, via)
    assert isinstance(error, errors.ReplyUnreadable) and "compression" in str(error)
