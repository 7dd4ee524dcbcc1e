"""A message that may have arrived is never sent twice; one that did not arrive is retried."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from halo_notebook import AsyncHaloClient, HaloClient, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent

from .clients import KEY


def test_a_refused_connection_is_retried_and_then_reported() -> None:
    """Nothing arrived, so it may be tried again; then the line says that nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    client = HaloClient(KEY, base_url=f"http://127.0.0.1:{port}")
    stream = client.stream("Hello")
    with pytest.raises(errors.ConnectionFailed, match="The message was not sent") as caught, stream:
        pass
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert stream.reply.retries == 2


def test_a_server_that_comes_up_late_gets_the_message_once(agent: DemoAgent) -> None:
    """A server that comes up between two tries gets the message, once."""
    port = int(agent.url.split(":")[2].split("/")[0])
    agent.stop()
    late = DemoAgent(port=port, first_byte_s=0, chunk_s=0)
    timer = threading.Timer(0.3, late.start)
    timer.start()
    try:
        reply = HaloClient(KEY, base_url=f"http://127.0.0.1:{port}/api/sdk").ask("Hello")
        assert reply.retries >= 1
        assert len(late.requests) == 1
    finally:
        timer.join()
        late.stop()


def test_a_429_that_passes_is_not_an_error(client: HaloClient, agent: DemoAgent) -> None:
    """The message was not taken, so it is sent again after the time asked for."""
    agent.faults.append("429 retry-after 1")
    started = time.monotonic()
    reply = client.ask("Hello")
    assert reply.status == "complete" and reply.retries == 1
    assert time.monotonic() - started >= 1
    assert len(agent.requests) == 2


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "-1",
        "",
        "1e3",
        "9" * 30,
        "Mon, 32 Foo 2020 00:00:00 GMT",
        "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999",
    ],
)
def test_a_503_with_an_unreadable_retry_after_is_not_retried(value: str) -> None:
    """Only a time that can be read is a promise that the message was not taken."""
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(503, headers={"Retry-After": value})

    with pytest.raises(errors.ServerError):
        HaloClient(KEY, transport=httpx.MockTransport(answer)).ask("Hello")
    assert len(sent) == 1


def test_retry_after_may_be_a_date() -> None:
    """An HTTP date in the past means at once."""
    answers = iter([httpx.Response(503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}), None])

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers) or httpx.Response(200, text="Hi")

    assert HaloClient(KEY, transport=httpx.MockTransport(answer)).ask("Hello").text == "Hi"


@pytest.mark.parametrize(
    ("raised", "expected", "sent"),
    [
        (httpx.ConnectTimeout("t"), errors.ConnectionFailed, 3),
        (httpx.ConnectError("c"), errors.ConnectionFailed, 3),
        (httpx.PoolTimeout("p"), errors.ConnectionFailed, 3),
        (httpx.ReadTimeout("r"), errors.ReplyTimeout, 1),
        (httpx.WriteTimeout("w"), errors.ReplyTimeout, 1),
        (httpx.WriteError("w"), errors.ReplyInterrupted, 1),
        (httpx.RemoteProtocolError("r"), errors.ReplyInterrupted, 1),
        (RuntimeError("a transport of the caller's own"), errors.ReplyInterrupted, 1),
    ],
    ids=lambda value: getattr(type(value), "__name__", str(value)),
)
def test_a_message_that_may_have_arrived_is_sent_once(
    raised: Exception, expected: type[errors.HaloError], sent: int
) -> None:
    """Only an exchange that ended before the message could leave is tried again."""
    count = 0

    def fail(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        raise raised

    with pytest.raises(expected):
        HaloClient(KEY, transport=httpx.MockTransport(fail)).ask("Hello")
    assert count == sent


def test_an_interrupt_knows_whether_the_message_left() -> None:
    """Not while a refused message waits for its next try, nor before a connection is there."""
    with DemoAgent(first_byte_s=0) as agent:
        agent.faults.append("503 retry-after 30")
        stream = HaloClient(KEY, base_url=agent.url).stream("Hello")
        stream.open()
        while "trying again" not in stream.reply.state:
            assert stream.next_event(0.05) is None
        assert not stream.reply.may_have_arrived
        stream.stop()
        stream = HaloClient(KEY, base_url=agent.url).stream("/fault stall first")
        stream.open()
        while "waiting" not in stream.reply.state:
            assert stream.next_event(0.05) is None
        assert stream.reply.may_have_arrived
        stream.stop()
        assert stream.reply.status == "stopped"


def test_a_message_that_another_transport_has_may_have_arrived() -> None:
    """With any other than the network's own and this one, a failure may have been after the sending."""

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ReadError("gone")

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"hi"

    class Speaks(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert request.extensions["timeout"]["connect"] == 10
            return httpx.Response(200, stream=Body())

    async def ask() -> None:
        client = AsyncHaloClient(DEMO_KEY, base_url="http://127.0.0.1:1", transport=Silent())
        stream = client.stream("one")
        with pytest.raises(errors.ReplyInterrupted):
            async with stream:
                pass
        assert stream.reply.may_have_arrived
        spoken = AsyncHaloClient(DEMO_KEY, base_url="http://127.0.0.1:1", transport=Speaks())
        assert (await spoken.ask("one")).text == "hi"

    asyncio.run(ask())
