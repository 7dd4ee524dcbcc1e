"""Every transport gives the same errors, keeps the same text and knows what was sent."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halo_notebook import AsyncHaloClient, Reply, errors
from halo_notebook.client.transports.aiohttp import REUSED_WITHIN_S, AiohttpTransport
from halo_notebook.client.transports.environment import proxy_for
from halo_notebook.demo import DEMO_KEY, DemoAgent

from ..harness.faults import FAULTS, Fault

if TYPE_CHECKING:
    from halo_notebook.client.aio import AsyncReplyStream


TRANSPORTS: dict[str, Callable[[str], Any]] = {
    "network": lambda url: None,
    "aiohttp": AiohttpTransport,
    "the caller's httpx": lambda url: httpx.AsyncHTTPTransport(trust_env=False),
}
over_each = pytest.mark.parametrize("via", TRANSPORTS)


def asked(
    url: str, via: str = "aiohttp", images: Sequence[str] | None = None, **settings: Any
) -> tuple[Reply, errors.HaloError | None]:
    """What came of one message over a transport, and the error that it ended with."""

    async def ask() -> tuple[Reply, errors.HaloError | None]:
        settings.setdefault("silence_timeout_s", 1)
        async with AsyncHaloClient(
            DEMO_KEY, base_url=url, transport=TRANSPORTS[via](url), max_retries=0, **settings
        ) as client:
            stream = client.stream("Hello", images=images)
            try:
                async with stream:
                    await stream.to_end()
            except errors.HaloError as error:
                return stream.reply, error
            return stream.reply, None

    return asyncio.run(ask())


@contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[str]:
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
    """One request, read to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head


@pytest.mark.parametrize("via", ["aiohttp", "the caller's httpx"])  # the network: test_errors_are_one_line
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_gives_the_same_error_over_every_transport(
    via: str, fault: Fault, agent: DemoAgent
) -> None:
    """The same error, the same text kept, sent once."""
    agent.faults.append(fault.name)
    reply, error = asked(agent.url, via)
    if fault.error is None:
        assert error is None and reply.status == "complete"
    else:
        assert type(error) is fault.error, error
        assert all(words in str(error) for words in fault.words), error
    assert fault.text in reply.text
    assert len(agent.requests) == 1


@over_each
def test_text_arrives_in_chunks(via: str, agent: DemoAgent) -> None:
    """The first text is there long before the last, and times count from the request's leaving."""
    agent.faults.append("drip")
    reply, error = asked(agent.url, via)
    assert error is None
    assert reply.first_text_s is not None and reply.elapsed_s is not None
    assert 0 < reply.first_text_s < reply.elapsed_s / 4


@over_each
def test_without_a_connection_nothing_was_sent(via: str) -> None:
    """Refused, not found, or too slow: each is known as not having arrived."""
    reply, error = asked("http://127.0.0.1:1/api/sdk", via)
    assert isinstance(error, errors.ConnectionFailed) and not reply.may_have_arrived
    reply, error = asked("https://halo.invalid/api/sdk", via)
    assert isinstance(error, errors.ConnectionFailed) and not reply.may_have_arrived
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        held = [socket.socket() for _ in range(4)]
        for each in held:  # the queue of those who wait to be accepted is full
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/api/sdk"
        reply, error = asked(url, via, connect_timeout_s=0.2)
        for each in held:
            each.close()
    assert isinstance(error, errors.ConnectionFailed) and "within 0.2 s" in str(error)
    assert not reply.may_have_arrived


@over_each
def test_a_server_that_closes_may_have_the_message(via: str) -> None:
    """Closed before an answer, reset, or with an answer that is no HTTP: none is taken for 'not sent'."""

    def closes(connection: socket.socket) -> None:
        received(connection)

    def resets(connection: socket.socket) -> None:
        received(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def babbles(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(b"NOT HTTP AT ALL\r\n\r\n")

    for serve in (closes, resets, babbles):
        with server(serve) as url:
            reply, error = asked(url, via)
        assert type(error) is errors.ReplyInterrupted, (serve, error)
        assert reply.may_have_arrived


def test_message_is_not_resent_after_server_closed_idle_connection() -> None:
    """The message that meets it may have arrived: the error says so, and no other connection sends it."""
    requests = []

    def serve(connection: socket.socket) -> None:
        requests.append(received(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi")
        requests.append(received(connection))  # and closes without a word

    async def ask_twice(url: str) -> tuple[Reply, Reply]:
        async with AsyncHaloClient(DEMO_KEY, base_url=url, transport=AiohttpTransport(url)) as client:
            first = await client.ask("one")
            stream = client.stream("two")
            with pytest.raises(errors.ReplyInterrupted, match="not sent again automatically"):
                async with stream:
                    pass
            return first, stream.reply

    with server(serve) as url:
        first, second = asyncio.run(ask_twice(url))
    assert first.text == "hi"
    assert second.may_have_arrived and second.status == "failed"
    assert len(requests) == 2


def test_an_idle_connection_is_not_reused() -> None:
    """After `REUSED_WITHIN_S` a server may be closing it."""
    connections = 0

    def serve(connection: socket.socket) -> None:
        nonlocal connections
        connections += 1
        received(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi")
        while connection.recv(65536):  # until the other side leaves
            pass

    async def ask_twice(url: str) -> None:
        async with AsyncHaloClient(DEMO_KEY, base_url=url, transport=AiohttpTransport(url)) as client:
            await client.ask("one")
            await asyncio.sleep(REUSED_WITHIN_S + 0.3)
            assert (await client.ask("two")).text == "hi"

    with server(serve) as url:
        asyncio.run(ask_twice(url))
    assert connections == 2


def test_connections_are_reused(agent: DemoAgent) -> None:
    """Message after message goes by the one that is there, which spares a handshake each."""

    async def ask() -> None:
        transport = AiohttpTransport(agent.url)
        async with AsyncHaloClient(DEMO_KEY, base_url=agent.url, transport=transport) as client:
            for number in range(5):
                assert (await client.ask(f"message {number}")).status == "complete"
            assert transport._session is not None and transport._session.connector is not None
            connector: Any = transport._session.connector
            assert sum(len(kept) for kept in connector._conns.values()) == 1

    asyncio.run(ask())
    assert len(agent.requests) == 5


@pytest.mark.parametrize("via", ["network", "aiohttp"])
@pytest.mark.parametrize("names", [("HTTP_PROXY", "HTTPS_PROXY"), ("ALL_PROXY",)])
def test_a_proxy_is_used_except_for_this_machine(
    names: tuple[str, ...], via: str, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy from the environment does not see what goes to this machine, nor to a host of NO_PROXY."""
    for name in names:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert asked(agent.url, via)[1] is None
    reply, error = asked("https://halo.invalid/api/sdk", via)
    assert isinstance(error, errors.ConnectionFailed) and not reply.may_have_arrived
    proxied = str(error)
    monkeypatch.setenv("NO_PROXY", "localhost, ::1/128, .invalid")
    reply, error = asked("https://halo.invalid/api/sdk", via)
    assert isinstance(error, errors.ConnectionFailed) and str(error) != proxied
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
        _, error = asked("https://halo.invalid/api/sdk", via)
    assert isinstance(error, errors.ConnectionFailed) and "by the proxy: 502 Bad Gateway" in str(error)
    assert b"CONNECT halo.invalid:443" in asked_for[0] and b"Proxy-Authorization: Basic " in asked_for[0]
    assert "p4ssword" not in str(error) and b"Bearer" not in asked_for[0]


def test_a_proxy_that_cannot_be_used_is_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message does not go around it; the line names no password."""
    monkeypatch.setenv("ALL_PROXY", "socks5://user:p4ssword@127.0.0.1:9")
    _, error = asked("https://halo.invalid/api/sdk")
    assert isinstance(error, errors.ConfigError) and "socks5:// is not supported" in str(error)
    assert "p4ssword" not in str(error)


def test_a_reply_that_is_left_closes_its_connection() -> None:
    """The server notices, and need not go on."""
    left = threading.Event()

    def serve(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\nfirst")
        connection.settimeout(10)
        if connection.recv(1) == b"":
            left.set()

    async def leave(url: str) -> None:
        async with AsyncHaloClient(DEMO_KEY, base_url=url, transport=AiohttpTransport(url)) as client:
            async with client.stream("one") as events:
                async for _ in events:
                    break
            assert events.reply.status == "stopped" and events.reply.text == "first"
            assert await asyncio.to_thread(left.wait, 10)

    with server(serve) as url:
        asyncio.run(leave(url))


@over_each
def test_a_silence_is_measured_from_the_last_chunk(via: str) -> None:
    """An answer that takes longer than a silence may last is read to its end; one that stops is not."""
    pause = threading.Event()

    def serve(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n")
        for letter in b"piecemeal":
            connection.sendall(bytes([letter]))
            pause.wait(0.1)

    def stops(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\npiece")
        while connection.recv(65536):  # until the other side leaves
            pass

    with server(serve) as url:
        reply, error = asked(url, via, silence_timeout_s=0.5)
    assert error is None and reply.text == "piecemeal"
    assert reply.elapsed_s is not None and reply.elapsed_s > 0.5
    with server(stops) as url:
        reply, error = asked(url, via, silence_timeout_s=0.5)
    assert isinstance(error, errors.ReplyTimeout) and "silent for 0.5 s" in str(error)
    assert reply.text == "piece" and reply.may_have_arrived
    assert reply.elapsed_s is not None and reply.elapsed_s < 5


@pytest.mark.parametrize("fault", [None, "drip"], ids=["before its head", "in its midst"])
def test_a_busy_loop_is_not_taken_for_a_silent_agent(fault: str | None, agent: DemoAgent) -> None:
    """A check may compute for long on the notebook's own loop; what came meanwhile is there when it ends."""
    if fault:
        agent.faults.append(fault)

    async def ask() -> Reply:
        transport = AiohttpTransport(agent.url)
        async with AsyncHaloClient(
            DEMO_KEY, base_url=agent.url, transport=transport, silence_timeout_s=0.3
        ) as client:
            stream = client.stream("Hello")
            asking = asyncio.ensure_future(read(stream))
            while not (stream.reply.text if fault else stream.may_have_arrived):  # noqa: ASYNC110
                await asyncio.sleep(0)
            time.sleep(0.6)  # noqa: ASYNC251  # which is what it is about
            return await asking

    async def read(stream: AsyncReplyStream) -> Reply:
        async with stream:
            return await stream.to_end()

    assert asyncio.run(ask()).status == "complete"


@over_each
def test_a_server_that_reads_nothing_times_out(via: str) -> None:
    """A server that reads nothing holds up no turn for ever; of the message a part may have arrived."""
    never = threading.Event()

    def serve(connection: socket.socket) -> None:
        never.wait(20)

    with server(serve) as url:
        reply, error = asked(
            url, via, silence_timeout_s=0.5, images=["data:image/png;base64," + 16_000_000 * "A"]
        )
        never.set()
    assert isinstance(error, errors.ReplyTimeout), error
    assert reply.may_have_arrived


@over_each
def test_an_unrequested_compression_is_undone(via: str) -> None:
    """It is undone over every transport; what cannot be undone is an error."""
    whole = zlib.compress("grüße".encode())
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(head % len(whole) + whole)

    def babbles(connection: socket.socket) -> None:
        received(connection)
        connection.sendall(head % 5 + b"plain")

    with server(serve) as url:
        reply, error = asked(url, via)
    assert error is None and reply.text == "grüße"
    with server(babbles) as url:
        reply, error = asked(url, via)
    assert isinstance(error, errors.ReplyUnreadable) and "compression" in str(error)
