"""Each fault of the demo agent comes once from the queue, or when a message asks for it.

The client's tests show what else a reply with a fault contains.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx
import pytest

from halo_notebook.demo.faults import FAULTS

from .over_http import ask, error_of

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent

STATUSES = [name for name in FAULTS if name[:3].isdigit()]
IMPATIENT = httpx.Timeout(30, read=0.3)


@pytest.mark.parametrize("name", [*STATUSES, "429 retry-after 3"])
def test_status(agent: DemoAgent, http: httpx.Client, name: str) -> None:
    """A fault that is a status comes once from the queue, and each time that a message asks for it."""
    agent.faults.append(name)
    for message in ("hi", f"/fault {name}", f" /ERROR  {name.upper()}\n"):
        response = ask(http, message)
        assert response.status_code == int(name[:3])
        is_page = response.headers["content-type"] == "text/html"
        assert is_page == (name == "502")
        assert name in (response.text if is_page else error_of(response))
        wanted = {"429 retry-after 3": "3", "429 retry-after": "1", "503 retry-after": "1"}.get(name)
        assert response.headers.get("retry-after") == wanted
    assert ask(http, "hi").status_code == 200


@pytest.mark.parametrize("name", ["", "nothing", "418", "500 retry-after", "429 retry-after soon"])
def test_unknown_fault_is_refused(agent: DemoAgent, http: httpx.Client, name: str) -> None:
    """The answer is a 400 that lists the faults."""
    agent.faults.append(f"{name} ")
    for response in (ask(http, "hi"), ask(http, f"/fault {name}")):
        assert response.status_code == 400
        assert ", ".join(FAULTS) in error_of(response)


def test_each_chat_request_takes_one_fault(agent: DemoAgent, http: httpx.Client) -> None:
    """Faults are taken in order, one for each chat request; other requests take none."""
    agent.faults.extend(["500", "404"])
    http.post("/nowhere")
    assert [ask(http, "hi").status_code for _ in range(3)] == [500, 404, 200]
    agent.faults.append("429")
    assert http.post("/chat", json={"message": "hi"}).status_code == 429


def test_fault_keeps_the_conversation(agent: DemoAgent, http: httpx.Client) -> None:
    """A reply with a fault from the queue has the ids of its request."""
    agent.faults.extend(["empty", "empty"])
    headers = ask(http, "hi", session_id="s1", agent_id="a1").headers
    assert (headers["x-session-id"], headers["x-agent-id"]) == ("s1", "a1")
    assert ask(http, "").headers["x-session-id"].startswith("sess_")


def test_redirect(agent: DemoAgent, http: httpx.Client) -> None:
    """'redirect' is a 307 to another path of the agent, which records a client that follows it."""
    response = ask(http, "/fault redirect")
    assert response.status_code == 307
    assert response.headers["location"] == "/api/sdk/moved/chat/stream"
    assert len(agent.requests) == 1


@pytest.mark.parametrize(
    ("name", "arrives", "ends"),
    [
        ("cut text", b"This reply will be cut in the middle of a sen", httpx.RemoteProtocolError),
        (
            "cut record",
            b'This reply will be cut inside a record. \x1e__ACTION__{"type": "hi',
            httpx.RemoteProtocolError,
        ),
        ("stall", b"This reply stalls here: the rest never comes,", httpx.ReadTimeout),
        ("stall first", None, httpx.ReadTimeout),
        ("close", None, httpx.RemoteProtocolError),
        ("empty", b"", None),
        ("no headers", b"This reply comes without its headers.", None),
    ],
)
def test_reply_ends(
    http: httpx.Client, name: str, arrives: bytes | None, ends: type[Exception] | None
) -> None:
    """What arrives of a reply, and whether it ends with an error, a silence or correctly.

    A reply that stalls leaves its connection open. Without `arrives`, not even the headers come.
    """
    received: bytes | None = None
    message = {"message": f"/fault {name}"}
    with (
        pytest.raises(ends) if ends else contextlib.nullcontext(),
        http.stream("POST", "/chat/stream", json=message, timeout=IMPATIENT) as response,
    ):
        received = b""
        assert response.status_code == 200
        ids = {"content-type", "x-session-id", "x-agent-id"} & set(response.headers)
        assert len(ids) == (0 if name == "no headers" else 3)
        for chunk in response.iter_raw():
            received += chunk
    assert received == arrives
