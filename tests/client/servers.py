"""Servers whose bytes a test writes itself, and what comes of a message to them over each transport."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import httpx
import pytest

from halo_notebook import AsyncHaloClient, Reply, errors
from halo_notebook.client.transports.aiohttp import AiohttpTransport
from halo_notebook.demo import DEMO_KEY

if TYPE_CHECKING:
    import trustme

Serve: TypeAlias = Callable[[socket.socket], object]

TRANSPORTS: dict[str, Callable[[str], Any]] = {
    "network": lambda url: None,
    "aiohttp": AiohttpTransport,
    "the caller's httpx": lambda url: httpx.AsyncHTTPTransport(trust_env=False),
}
over_each = pytest.mark.parametrize("via", TRANSPORTS)
over_both = pytest.mark.parametrize("via", ["network", "aiohttp"])
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
def server(
    serve: Serve, certificate: trustme.LeafCert | None = None, tries: list[int] | None = None
) -> Iterator[str]:
    """A server that does with each connection what `serve` does, one after the other; its base URL.

    `tries` gets an item for each connection.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if certificate:
        certificate.configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if tries is not None:
                tries.append(1)
            with connection, suppress(OSError):  # the client refuses the certificate
                if certificate:
                    connection.settimeout(10)
                    connection = context.wrap_socket(connection, server_side=True)
                with connection:
                    serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        scheme = "https" if certificate else "http"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/api/sdk"
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
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
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


def tunnels(target: str, asked_for: list[bytes]) -> Serve:
    """A proxy that leads each tunnel to `target`; the heads of its requests are added to `asked_for`."""

    def serve(connection: socket.socket) -> None:
        asked_for.append(received(connection))
        address = urlsplit(target)
        with socket.create_connection((address.hostname, address.port)) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = [connection, far]
            while True:
                pending = isinstance(connection, ssl.SSLSocket) and connection.pending()
                for end in [connection] if pending else select.select(ends, [], [], 10)[0]:
                    if not (data := end.recv(65536)):
                        return
                    (far if end is connection else connection).sendall(data)

    return serve
