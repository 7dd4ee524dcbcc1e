"""Whose failure it is that a turn is not complete: the agent's, the rate limit's, the network's, or ours."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient
from halo_notebook.client.transports.protocol import BrokeOff, Incoming
from halo_notebook.demo import DEMO_KEY, DemoAgent

from ...client.servers import answers, is_left, resets, server
from ..agents import causes, in_two_parts, messages, ok, states, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from halo_notebook.client.transports.protocol import Outgoing

    from ..conftest import Run

BEGINNING = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\nThe first wo"


def reads_a_part(connection: socket.socket) -> None:
    """Reset the connection while the rest of the message is on its way."""
    connection.recv(1000)
    resets(connection)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        *((fault, "agent") for fault in ("500", "502", "503", "504", "cut text", "cut record")),
        *((fault, "agent") for fault in ("close", "stall", "stall first", "content type")),
        *((fault, "refused") for fault in ("400", "401", "403", "404", "413", "422", "redirect")),
        *((fault, "limit") for fault in ("429", "429 retry-after 0", "503 retry-after 0")),
        ("drip", ""),
    ],
)
@pytest.mark.usefixtures("given_up_early")
def test_the_cause_of_each_answer(fault: str, cause: str, agent: DemoAgent, run: Run, kept: Path) -> None:
    """It is in the file, and empty for a complete turn."""
    agent.faults.extend([fault] * 2)
    run(["one"], path=kept)
    assert causes(kept) == [cause]


@pytest.mark.parametrize(
    ("status", "cause"),
    [*((status, "refused") for status in (402, 405, 408, 409, 451)), (204, "agent"), (501, "agent")],
)
def test_any_refusal_says_nothing_about_the_agent(status: int, cause: str, run: Run, kept: Path) -> None:
    """It is missing, whatever its number is, and the same call sends the message again."""
    head = f"HTTP/1.1 {status} Odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    tries: list[int] = []
    with server(answers(head), tries=tries) as url:
        configs = {"a": HaloClient(DEMO_KEY, base_url=url)}
        for count in (1, 2 if cause == "refused" else 1):
            result = run(["one"], [ok], path=kept, configs=configs)
            assert result.passed("ok") == {"a": {"1": [None if cause == "refused" else False]}}
            assert len(tries) == count and causes(kept) == [cause] * count


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (answers(BEGINNING), "agent"),
        (answers(BEGINNING, then=resets), "agent"),
        (answers(BEGINNING, then=is_left), "agent"),
        (answers(then=resets), "agent"),
        (reads_a_part, "network"),
        (is_left, "network"),
    ],
    ids=["end", "reset", "silence", "reset first", "reset while it is sent", "reads one byte"],
)
def test_a_connection_that_breaks_off_is_the_agents_failure_once_it_has_the_message(
    serve: Any, cause: str, run: Run, kept: Path
) -> None:
    """If only a part of the message had left, nothing is said about the agent."""
    images = ["data:image/png;base64," + "A" * 9_000_000] if cause == "network" else None
    with server(serve) as url:
        client = HaloClient(DEMO_KEY, base_url=url, silence_timeout_s=0.5)
        run(["one"], path=kept, configs={"a": {"client": client, "images": images}})
    assert causes(kept) == [cause]


class Breaking:
    """A transport whose connection breaks in the middle of a reply, with an error of the system."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    async def send(self, outgoing: Outgoing) -> Incoming:
        outgoing.leaves()
        outgoing.has_left()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"The first wo"
            raise BrokeOff from self.error

        return Incoming(200, {"content-type": "text/plain"}, chunks)

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENETUNREACH, "network"),
        (errno.ENETDOWN, "network"),
        (errno.ETIMEDOUT, "network"),
        (errno.EHOSTUNREACH, "network"),
        (errno.ECONNRESET, "agent"),
        (errno.EPIPE, "agent"),
    ],
    ids=errno.errorcode.get,
)
def test_a_network_that_is_gone_is_not_the_agents_failure(
    number: int, cause: str, run: Run, kept: Path
) -> None:
    """The system says so: there is no network or no route any more, or no packet was acknowledged."""
    transport = Breaking(OSError(number, os.strerror(number)))
    run(["one"], path=kept, configs={"a": HaloClient(DEMO_KEY, transport=transport)})
    assert causes(kept) == [cause]


def _no_token() -> str:
    raise RuntimeError("The vault is closed")


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "http://127.0.0.1:1"},
        {"base_url": "https://nowhere.invalid"},
        {"base_url": "http://127.0.0.1:1", "user_id": "u", "user_token": _no_token},
    ],
    ids=["no connection", "no such name", "no user token"],
)
@pytest.mark.usefixtures("given_up_early")
def test_a_message_that_was_not_sent_says_nothing_about_the_agent(
    settings: dict[str, Any], run: Run, kept: Path
) -> None:
    """Neither without a connection, nor without what is needed to send it."""
    run(["one"], path=kept, configs={"a": HaloClient(DEMO_KEY, **settings, connect_timeout_s=1)})
    assert causes(kept) == ["network"]


def test_a_stop_is_nobodys_failure(run: Run, kept: Path) -> None:
    """The replies that it cut off say so."""
    with DemoAgent(first_byte_s=0, reply=in_two_parts(20)) as agent:

        def interrupt() -> None:
            wait_until(lambda: len(agent.requests) == 3)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        result = run(messages(3), path=kept, configs={"a": client}, concurrency=3)
    assert states(result) == ["interrupted"] * 3 and causes(kept) == ["stopped"] * 3
