"""Whatever fails is one clear line, which says what was kept and what to do."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.client.failures import TRANSPORT_ERRORS
from halo_notebook.client.transports.httpx import mapped
from halo_notebook.client.transports.protocol import NotConnected, Outgoing, TransportError

from ..harness.faults import FAULTS, Fault
from .clients import answering, check

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_one_clear_line(fault: Fault, client: HaloClient, agent: DemoAgent) -> None:
    """Each fault gives one clear line, keeps what came and sends one request where one is allowed."""
    agent.faults.extend([fault.name] * 3)
    stream = client.stream("Hello", session_id="sess_1_kept")
    error = None
    try:
        with stream as events:
            list(events)
    except errors.HaloError as caught:
        error = caught
        assert error.reply is stream.reply
        assert error._render_traceback_() == [f"{type(error).__name__}: {error}"]
    check(fault, stream.reply, error)
    assert len(agent.requests) == fault.sent
    assert stream.reply.retries == fault.sent - 1
    agent.faults.clear()
    assert client.ask("Hello").status == "complete"


def test_every_httpx_error_is_mapped() -> None:
    """A new exception in httpx is one of the four of a transport, by its own name or by its parent's."""
    roots = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
    known = [value for value in vars(httpx).values() if inspect.isclass(value) and issubclass(value, roots)]
    outgoing = Outgoing("https://x", {}, b"", connect_s=1, silence_s=1)
    not_sent = set()
    for kind in known:
        error = kind.__new__(kind)
        Exception.__init__(error, "why")
        for left in (True, False, None):
            assert type(mapped(error, outgoing, left=left)) in TRANSPORT_ERRORS, kind
        assert not isinstance(mapped(error, outgoing, left=True), NotConnected)
        assert isinstance(mapped(error, outgoing, left=False), NotConnected)
        if isinstance(mapped(error, outgoing, left=None), NotConnected):
            not_sent.add(kind)
    before_sending = {httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout}
    assert not_sent == before_sending | {httpx.InvalidURL, httpx.ProxyError, httpx.UnsupportedProtocol}
    kinds = TransportError.__subclasses__()
    assert TRANSPORT_ERRORS.keys() == {*kinds, *(each for kind in kinds for each in kind.__subclasses__())}


def test_an_error_body_that_drips_does_not_hold_up_its_error() -> None:
    """What came of it in a few seconds is enough: the status says what has to be said."""

    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.1)

    started = time.monotonic()
    with pytest.raises(errors.AuthenticationError):
        answering(401, stream=Dripping()).ask("Hello")
    assert time.monotonic() - started < 30


def test_errors_can_be_sent_between_processes() -> None:
    """With all that is known about them."""
    with pytest.raises(errors.RateLimited) as caught:
        answering(429, headers={"Retry-After": "90"}).ask("Hello")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # made in the line itself
    assert str(again) == str(caught.value)
    assert (again.status_code, again.retry_after_s, again.reply.status) == (429, 90.0, "failed")
