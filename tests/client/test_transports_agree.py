"""Every transport gives the same errors, keeps the same text and knows what was sent."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import zlib
from typing import TYPE_CHECKING

import pytest

from halo_notebook import Reply, errors
from halo_notebook.client.transports.aiohttp import REUSED_WITHIN_S
from halo_notebook.display.wording import status_words

from ..harness.faults import FAULTS, Fault
from .clients import check
from .servers import (
    HI,
    OK,
    Serve,
    answers,
    asked,
    is_left,
    not_connected,
    over,
    over_each,
    received,
    resets,
    server,
)

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Session-Id: s1\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


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
def test_without_a_connection_nothing_was_sent(via: str, agent: DemoAgent) -> None:
    """Refused, not found, without https, or too slow: each is known as not having arrived."""
    assert "127.0.0.1:1" in not_connected("http://127.0.0.1:1/api/sdk", via)
    assert "(ConnectError)" not in not_connected(agent.url.replace("http:", "https:"), via)
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


@pytest.mark.parametrize("then", [is_left, lambda _: None, resets], ids=["open", "ends", "resets"])
@pytest.mark.parametrize(
    "parts",
    [
        (CHUNKED + b"5\r\nHello\r\nZZ\r\n",),
        (CHUNKED, b"5\r\nHello\r\nZZ\r\n"),
        (CHUNKED[:-3], CHUNKED[-3:] + b"5\r\nHello\r\n-1\r\n"),
        (CHUNKED + b"5\r\nHelloand no line end\r\n",),
        (CHUNKED + b"5\r\nHello\r\n0\r\nno trailer\r\n\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"5\r\nHello\r\nZZ\r\n",),
    ],
    ids=["in one packet", "in two", "head in two", "no line end", "bad trailer", "after 100"],
)
@over_each
def test_what_came_before_something_unreadable_is_kept(
    via: str, parts: tuple[bytes, ...], then: Serve
) -> None:
    """Though it came in the same packet; the reply breaks off at once."""
    with server(answers(*parts, then=then)) as url:
        reply, error = asked(url, via, silence_timeout_s=20)
    assert isinstance(error, errors.ReplyInterrupted) and "broke off" in str(error), error
    assert (reply.text, reply.session_id, reply.status) == ("Hello", "s1", "failed")
    assert reply.elapsed_s is not None and reply.elapsed_s < 5


@over_each
def test_what_comes_after_the_end_of_a_reply_changes_nothing(via: str) -> None:
    """The reply is complete."""
    with server(answers(HEAD + b"Content-Length: 5\r\n\r\nHelloand more")) as url:
        reply, error = asked(url, via)
    assert (reply.text, reply.status, error) == ("Hello", "complete", None)


@pytest.mark.parametrize(
    ("ids", "known"),
    [
        (b"X-Session-Id: s1\r\nX-Session-Id: s2\r\n", None),
        (b"X-Session-Id: s1, s2\r\n", None),
        (b"X-Session-Id: s1\r\nX-Session-Id: \r\n", None),
        (b"X-Session-Id: s1\r\nx-session-id: s1\r\n", "s1"),
        (b"X-Session-Id: \r\n", None),
        (b"X-Session-Id: s\xff\xfe\x07\r\n", None),
    ],
    ids=["two", "a list", "one is empty", "twice the same", "empty", "unprintable"],
)
@over_each
def test_an_id_that_is_not_one_value_is_none(via: str, ids: bytes, known: str | None) -> None:
    """Of a conversation and of an agent; of a conversation, the status line says it."""
    head = OK[:-2] + ids + ids.lower().replace(b"session", b"agent") + b"\r\n"
    with server(answers(head % 2 + b"hi")) as url:
        reply, error = asked(url, via)
    if error is None:  # an HTTP parser may refuse control characters
        assert (reply.text, reply.session_id, reply.agent_id) == ("hi", known, known)
        assert any("no session id" in words for words in status_words(reply)) is (known is None)
    else:
        assert b"\x07" in ids and reply.session_id is None


@pytest.mark.parametrize(
    "location",
    [
        b"Location: " + each + b"\r\n"
        for each in (b"http://[", b"", b"\xff\xfe", b"//", b"http://a:99999", b"x" * 20_000)
    ]
    + [b"", b"Location: https://a.invalid\r\nLocation: https://b.invalid\r\n"],
    ids=lambda each: repr(each[10:25]),
)
@over_each
def test_a_redirect_is_one_wherever_it_leads(via: str, location: bytes) -> None:
    """Its address is not read."""
    with server(answers(b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n")) as url:
        reply, error = asked(url, via)
    assert isinstance(error, errors.StatusError) and "redirected the request (302)" in str(error)
    assert error.status_code == 302 and reply.status == "failed"


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </a>"])
@over_each
def test_interim_answers_without_an_end_are_bounded(via: str, interim: bytes) -> None:
    """They are no reply: without one, the agent is silent."""

    def serve(connection: socket.socket) -> None:
        received(connection)
        for _ in range(200):
            connection.sendall(b"HTTP/1.1 " + interim + b"\r\n\r\n")
            time.sleep(0.05)

    with server(serve) as url:
        reply, error = asked(url, via, silence_timeout_s=0.5)
    assert isinstance(error, errors.ReplyTimeout) and reply.may_have_arrived
    assert reply.elapsed_s is not None and reply.elapsed_s < 5


@pytest.mark.parametrize("cookie", [b"a=\xc3\xa9", b"session=ada; Path=/", b"a=b; Domain=.1; Max-Age=x"])
@over_each
def test_no_cookie_is_kept(via: str, cookie: bytes) -> None:
    """The next turn, which may be another user's, is sent without it."""
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        while head := received(connection):
            heads.append(head)
            connection.sendall(HI.replace(b"\r\n", b"\r\nSet-Cookie: " + cookie + b"\r\n", 1))

    async def ask_twice(url: str) -> None:
        async with over(url, via) as client:
            for _ in range(2):
                assert (await client.ask("Hello")).text == "hi"

    with server(serve) as url:
        asyncio.run(ask_twice(url))
    assert len(heads) == 2 and not any(b"cookie" in head.lower() for head in heads)


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
