"""A message that may have arrived is never sent twice; one that did not arrive is retried."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.demo import DemoAgent

from .clients import KEY, in_turn


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


def test_a_message_that_was_put_off_is_sent_again() -> None:
    """After the seconds that the server asks for, or at a date; one in the past means at once."""
    date = {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}
    put_off = httpx.Response(429, headers={"Retry-After": "1"}), httpx.Response(503, headers=date)
    client, sent = in_turn(*put_off, httpx.Response(200, text="Hi"))
    started = time.monotonic()
    reply = client.ask("Hello")
    assert (reply.status, reply.text, reply.retries, len(sent)) == ("complete", "Hi", 2, 3)
    assert 1 <= time.monotonic() - started < 10


UNREADABLE = ["soon", "-1", "", "1e3", "9" * 30, "Mon, 32 Foo 2020 00:00:00 GMT"]
UNREADABLE += ["Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 +99999999999999"]


@pytest.mark.parametrize(
    ("outcome", "expected", "times"),
    [
        (httpx.ConnectTimeout("t"), errors.ConnectionFailed, 3),
        (httpx.ConnectError("c"), errors.ConnectionFailed, 3),
        (httpx.PoolTimeout("p"), errors.ConnectionFailed, 3),
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
