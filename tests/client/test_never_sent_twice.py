"""A message that may have arrived is never sent twice; one that did not arrive is retried."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpcore
import httpx
import pytest
import trustme

from halo_notebook import HaloClient, Recorder, errors, evaluate
from halo_notebook.client.transports.protocol import (
    BrokeOff,
    Clock,
    Incoming,
    NotConnected,
    NotTrusted,
    Outgoing,
)
from halo_notebook.concurrency.loop import spawn
from halo_notebook.demo import DemoAgent
from halo_notebook.evaluation.sending import pace

from .clients import KEY, in_turn
from .servers import is_left, received, server


def test_a_server_that_comes_up_late_gets_the_message_once(agent: DemoAgent) -> None:
    """A server that comes up between two tries gets the message, once."""
    port = int(agent.url.split(":")[2].split("/")[0])
    agent.stop()
    late = DemoAgent(port=port, first_byte_s=0, chunk_s=0)
    stream = HaloClient(KEY, base_url=f"http://127.0.0.1:{port}/api/sdk").stream("Hello")
    stream.open()
    while "trying again" not in stream.reply.state:
        stream.next_event(0.05)
    with late, stream:
        assert stream.to_end().retries >= 1
        assert len(late.requests) == 1


def test_a_message_that_was_put_off_is_sent_again() -> None:
    """After the seconds that the server asks for, or at a date; one in the past means soon."""
    date = {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}
    put_off = httpx.Response(429, headers={"Retry-After": "1"}), httpx.Response(503, headers=date)
    client, sent = in_turn(*put_off, httpx.Response(200, text="Hi"))
    started = time.monotonic()
    reply = client.ask("Hello")
    assert (reply.status, reply.text, reply.retries, len(sent)) == ("complete", "Hi", 2, 3)
    assert 1 <= time.monotonic() - started < 10


CLOCK = "Thu, 26 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("asked_for", "date", "waits"),
    [
        ("1.5", None, "1.5"),
        (".5", None, "0.5"),
        ("2.", None, "2"),
        ("Thu, 26 Nov 2026 10:00:01 GMT", CLOCK, "1"),
        ("Thu, 26 Nov 2026 10:00:01 GMT", "Thu, 26 Nov 2026 09:59:31 GMT", "30"),
        ("Thursday, 26-Nov-26 10:00:02 GMT", CLOCK, "2"),
        ("Thu Nov 26 10:00:03 2026", CLOCK, "3"),
        ("Thu, 26 Nov 2026 11:00:04 +0100", CLOCK, "4"),
        ("1795687205", CLOCK, "5"),
        ("1795687206.5", CLOCK, "6.5"),
        ("1795687207000", CLOCK, "7"),
        ("0", None, "0.5"),
        ("2, 2", None, "2"),
        ("1.5,1.5", None, "1.5"),
        ("1771404540", CLOCK, "0.5"),
        ("Thu, 26 Nov 2026 09:59:00 GMT", CLOCK, "0.5"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read(
    status: int, asked_for: str, date: str | None, waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decimals; dates and times since 1970, from the answer's Date and not by this computer's clock."""
    waited: list[str] = []

    async def sleep(self: Clock, seconds: float) -> None:
        waited.append(f"{seconds:g}")

    monkeypatch.setattr(Clock, "sleep", sleep)
    headers = {"Retry-After": asked_for} | ({"Date": date} if date else {})
    client, sent = in_turn(httpx.Response(status, headers=headers), httpx.Response(200, text="Hi"))
    assert (client.ask("Hello").status, len(sent), waited) == ("complete", 2, [waits])


@pytest.mark.parametrize(
    ("asked_for", "says"),
    [
        ("61", "wait 61 s and run"),
        ("3598.2", "wait 3,599 s and run"),
        ("86400", "wait more than a day and run"),
        ("999999999", "wait more than a day and run"),
        ("1995687207", "wait more than a day and run"),
        ("999999999999999", "wait more than a day and run"),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "wait more than a day and run"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_long_wait_is_said_and_not_waited_for(status: int, asked_for: str, says: str) -> None:
    """Up to a day in seconds."""
    client, sent = in_turn(httpx.Response(status, headers={"Retry-After": asked_for, "Date": CLOCK}))
    with pytest.raises(errors.StatusError, match=says) as caught:
        client.ask("Hello")
    assert len(sent) == 1 and caught.value.arrived == "refused" and caught.value.again_s is not None


@pytest.mark.parametrize(
    ("status", "arrived"),
    [
        *((status, "refused") for status in (402, 405, 408, 409, 451)),
        *((status, "maybe") for status in (204, 501, 520)),
    ],
)
def test_the_line_of_any_status_agrees_with_what_the_error_knows(status: int, arrived: str) -> None:
    """A 4xx is a refusal, and the line does not say that the message may have arrived."""
    client, sent = in_turn(httpx.Response(status))
    with pytest.raises(errors.StatusError, match=rf"\({status}\)") as caught:
        client.ask("Hello")
    assert len(sent) == 1 and caught.value.arrived == arrived
    assert ("Halo refused the request" in str(caught.value)) == (arrived == "refused")
    assert ("may have arrived" in str(caught.value)) == (arrived == "maybe")


UNREADABLE = [
    "soon",
    "-1",
    "",
    "1e3",
    "1.5 s",
    "1,5",
    "5, 6",
    "+5",
    "nan",
    "inf",
    "0x10",
    ".",
    "9" * 30,
    "Mon, 32 Foo 2020 00:00:00 GMT",
]
UNREADABLE += ["Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999"]


@pytest.mark.parametrize(
    ("outcome", "expected", "times"),
    [
        (httpx.ConnectTimeout("t"), errors.ConnectionFailed, 3),
        (httpx.ConnectError("c"), errors.ConnectionFailed, 3),
        (httpx.PoolTimeout("p"), errors.ConnectionFailed, 3),
        (httpx.ProxyError("p"), errors.ConnectionFailed, 3),
        (httpx.UnsupportedProtocol("u"), errors.ConnectionFailed, 3),
        (httpx.InvalidURL("i"), errors.ConnectionFailed, 3),
        (ConnectionRefusedError(111, "refused"), errors.ConnectionFailed, 3),
        (socket.gaierror(-2, "Name or service not known"), errors.ConnectionFailed, 3),
        (httpx.LocalProtocolError("l"), errors.ReplyInterrupted, 1),
        (ConnectionResetError(104, "reset"), errors.ReplyInterrupted, 1),
        (TimeoutError("t"), errors.ReplyTimeout, 1),
        (httpx.ReadTimeout("r"), errors.ReplyTimeout, 1),
        (httpx.WriteTimeout("w"), errors.ReplyTimeout, 1),
        (httpx.WriteError("w"), errors.ReplyInterrupted, 1),
        (httpx.RemoteProtocolError("r"), errors.ReplyInterrupted, 1),
        (RuntimeError("a transport of the caller's own"), errors.ReplyInterrupted, 1),
        # Only a time that can be read is a promise that the message was not taken.
        *((httpx.Response(503, headers={"Retry-After": at}), errors.ServerError, 1) for at in UNREADABLE),
    ],
    ids=lambda value: str(getattr(value, "headers", {}).get("retry-after", type(value).__name__)),
)
def test_a_message_that_may_have_arrived_is_sent_once(
    outcome: httpx.Response | Exception, expected: type[errors.HaloError], times: int
) -> None:
    """Only an exchange that ended before the message could leave is tried again."""
    client, sent = in_turn(outcome)
    with pytest.raises(expected) as caught:
        client.ask("Hello")
    assert len(sent) == times
    assert sent[0].extensions["timeout"]["connect"] == 10
    reply = caught.value.reply
    assert reply is not None and (reply.retries, reply.may_have_arrived) == (times - 1, times == 1)


class Spoiling(httpx.AsyncHTTPTransport):
    """A caller's own transport that changes requests before it sends them."""

    def __init__(self, **headers: str) -> None:
        super().__init__(trust_env=False)
        self._headers = headers
        self.tries = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.tries += 1
        request.headers.update(self._headers)
        return await super().handle_async_request(request)


@pytest.mark.parametrize(
    ("base_url", "headers"),
    [
        ("https://127.0.0.1:9", {}),
        ("https://halo.invalid", {}),
        ("https://a..b", {}),
        ("{agent}", {"X-Note": "two\nlines"}),
        ("{agent}", {"X-Note": "a\0b"}),
        ("{tls}", {}),
    ],
    ids=["refused", "no such host", "no host's name", "bad header", "bad value", "no TLS"],
)
def test_nothing_left_through_a_callers_transport(
    base_url: str, headers: dict[str, str], agent: DemoAgent
) -> None:
    """What fails before a connection exists has not arrived."""
    places = {"{agent}": agent.url, "{tls}": agent.url.replace("http:", "https:")}
    transport = Spoiling(**headers)
    client = HaloClient(KEY, base_url=places.get(base_url, base_url), transport=transport, max_retries=0)
    stream = client.stream("Hello")
    with pytest.raises(errors.ConnectionFailed, match="was not sent"), stream:
        pass
    assert not stream.reply.may_have_arrived and not agent.requests


class SendingAgain(httpx.AsyncHTTPTransport):
    """A caller's own transport that sends a request that broke off to another address."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except httpx.RemoteProtocolError:
            request.url = httpx.URL("http://127.0.0.1:1")
            return await super().handle_async_request(request)


def test_a_message_that_left_before_a_connection_failed_may_have_arrived() -> None:
    """A transport's last error says nothing about what it had sent before."""
    heads: list[bytes] = []
    with server(lambda connection: heads.append(received(connection))) as url:
        client = HaloClient(KEY, base_url=url, transport=SendingAgain(trust_env=False))
        with pytest.raises(errors.ReplyInterrupted, match="may have arrived"):
            client.ask("Hello")
    assert len(heads) == 1


_PLACE: Any = type("Key", (), {"host": "halo.invalid", "port": 443, "ssl": True})()
UNCONNECTED = [
    aiohttp.ClientConnectorError(_PLACE, OSError(113, "no route")),
    aiohttp.ClientConnectorDNSError(_PLACE, OSError(-2, "no such name")),
    aiohttp.ConnectionTimeoutError("connect"),
    httpcore.ConnectError("refused"),
    httpcore.ConnectTimeout("connect"),
    httpx.ConnectError("refused"),
    httpx.ProxyError("no tunnel"),
    socket.herror(1, "unknown host"),
]
"""What HTTP libraries raise before there is a connection."""


class Raising:
    """A caller's own `Transport`, which does not know when bytes leave."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.tries = error, 0

    async def send(self, outgoing: Outgoing) -> Incoming:
        self.tries += 1
        outgoing.leaves()
        raise self.error

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "expected", "tries"),
    [
        (NotConnected("no"), errors.ConnectionFailed, 3),
        (ConnectionRefusedError(111, "refused"), errors.ConnectionFailed, 3),
        (socket.gaierror(-2, "no such name"), errors.ConnectionFailed, 3),
        (NotTrusted("self-signed certificate"), errors.ConnectionFailed, 1),
        *((error, errors.ConnectionFailed, 3) for error in UNCONNECTED),
        (aiohttp.ServerDisconnectedError(), errors.ReplyInterrupted, 1),
        (httpx.ReadError("r"), errors.ReplyInterrupted, 1),
        (httpcore.WriteError("w"), errors.ReplyInterrupted, 1),
        (BrokeOff(), errors.ReplyInterrupted, 1),
        (ConnectionResetError(104, "reset"), errors.ReplyInterrupted, 1),
        (OSError("of any kind"), errors.ReplyInterrupted, 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_transport_of_another_kind_is_believed(
    error: Exception, expected: type[errors.HaloError], tries: int, tmp_path: Path
) -> None:
    """Only what means that there was no connection is sent again; a recording says the same."""
    transport, recording = Raising(error), tmp_path / "recording.jsonl"
    client = HaloClient(KEY, transport=transport, record=Recorder(recording))
    with pytest.raises(expected) as caught:
        client.ask("Hello")
    assert transport.tries == tries
    maybe = expected is not errors.ConnectionFailed
    assert caught.value.reply is not None and caught.value.reply.may_have_arrived is maybe
    assert ('"may_have_arrived":true' in recording.read_text()) is maybe


@pytest.mark.parametrize("error", UNCONNECTED, ids=lambda error: type(error).__name__)
def test_an_httpx_transport_of_the_callers_may_wrap_another_library(error: Exception) -> None:
    """Its errors before a connection mean that the message was not sent."""
    client, sent = in_turn(error)
    with pytest.raises(errors.ConnectionFailed):
        client.ask("Hello")
    assert len(sent) == 3


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
def test_a_transport_that_ends_python_ends_its_turn_only(end: BaseException, tmp_path: Path) -> None:
    """The I/O thread lives on: an evaluation ends, and the next turn works."""
    client = HaloClient(KEY, transport=Raising(end))
    with pytest.raises(errors.ReplyInterrupted, match=f"The transport raised {type(end).__name__}"):
        client.ask("Hello")
    result = evaluate(["Hi"], configs={"a": client}, progress=False)
    assert list(result.df.status) == ["interrupted"]
    assert in_turn(httpx.Response(200, text="Hi"))[0].ask("Hello").status == "complete"


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_ends_python_ends_only_itself(end: BaseException) -> None:
    """The I/O thread continues with what else waits on its loop."""

    async def ending() -> None:
        raise end

    async def waiting() -> str:
        await asyncio.sleep(0)
        return "done"

    tasks = spawn(ending()), spawn(waiting())
    with pytest.raises(type(end)):
        tasks[0].result(10)
    assert tasks[1].result(10) == "done"


@pytest.mark.parametrize("read", [b"all of it", b""])
def test_a_transport_that_cannot_close_loses_nothing(read: bytes) -> None:
    """The reply has ended by then."""

    class Closing(Raising):
        async def send(self, outgoing: Outgoing) -> Incoming:
            async def chunks() -> AsyncIterator[bytes]:
                yield read

            async def aclose() -> None:
                raise self.error

            return Incoming(200, {}, chunks, aclose)

    reply = HaloClient(KEY, transport=Closing(RuntimeError("no"))).ask("Hello")
    assert (reply.status, reply.text) == ("complete", read.decode())


def test_a_certificate_is_tried_once_through_a_callers_transport() -> None:
    """As through the network's own."""
    tries: list[int] = []
    with server(is_left, trustme.CA().issue_cert("127.0.0.1"), tries) as url:
        client = HaloClient(KEY, base_url=url, transport=httpx.AsyncHTTPTransport(trust_env=False))
        with pytest.raises(errors.ConnectionFailed, match="certificate is not trusted"):
            client.ask("Hello")
    assert len(tries) == 1


def test_an_evaluation_asks_again_what_a_callers_transport_did_not_send(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is failed, not interrupted, and the next run on the same path sends the message."""
    monkeypatch.setattr(pace, "NEVER_REACHED_S", -1)
    transport = Spoiling()
    client = HaloClient(KEY, base_url="https://127.0.0.1:9", transport=transport)
    for run in (1, 2):
        result = evaluate(["Hi"], configs={"a": client}, path=tmp_path / "run.jsonl", progress=False)
        assert (list(result.df.status), transport.tries) == (["failed"], run)


def test_an_interrupt_knows_whether_the_message_left(client: HaloClient, agent: DemoAgent) -> None:
    """It has not while a refused message waits for its next try."""
    agent.faults.append("503 retry-after 30")
    for state, left in (("trying again", False), ("waiting", True)):
        stream = client.stream("/fault stall first")
        stream.open()
        while state not in stream.reply.state:
            assert stream.next_event(0.05) is None
        assert stream.reply.may_have_arrived is left
        stream.stop()
        assert stream.reply.status == "stopped"
