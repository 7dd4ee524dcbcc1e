"""Each fault of the demo agent comes once from the queue, or when a message asks for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from halo_notebook.demo.faults import FAULTS
from halo_notebook.stream import ActionSummary, MalformedRecord, TextDelta

from .over_http import actions_of, ask, error_of, events_of, raw_chunks, text_of

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent

IMPATIENT = httpx.Timeout(30, read=0.3)


@pytest.mark.parametrize("name", [name for name in FAULTS if name[:3].isdigit()] + ["429 retry-after 3"])
def test_status(agent: DemoAgent, http: httpx.Client, name: str) -> None:
    """A fault that is a status comes once from the queue, and each time that a message asks for it."""
    agent.faults.append(name)
    for message in ("hi", f"/fault {name}", f" /ERROR  {name.upper()}\n"):
        response = ask(http, message)
        assert response.status_code == int(name[:3])
        if name == "502":
            assert response.headers["content-type"] == "text/html"
            assert response.text.startswith("<html>")
        else:
            assert name in error_of(response)
        wanted = {"429 retry-after 3": "3", "429 retry-after": "1", "503 retry-after": "1"}.get(name)
        assert response.headers.get("retry-after") == wanted
    assert not agent.faults
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
    ("name", "arrives"),
    [
        ("cut text", b"This reply will be cut in the middle of a sen"),
        ("cut record", b'This reply will be cut inside a record. \x1e__ACTION__{"type": "hi'),
    ],
)
def test_cut(http: httpx.Client, name: str, arrives: bytes) -> None:
    """A cut reply arrives up to the cut, without the last chunk that HTTP requires."""
    with http.stream("POST", "/chat/stream", json={"message": f"/fault {name}"}) as response:
        assert response.status_code == 200
        chunks = response.iter_raw()
        received = b""
        while len(received) < len(arrives):
            received += next(chunks)
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
    assert received == arrives


def test_stall(http: httpx.Client) -> None:
    """A stalled reply is some text and then nothing, on an open connection."""
    message = {"message": "/fault stall"}
    with http.stream("POST", "/chat/stream", json=message, timeout=IMPATIENT) as response:
        chunks = response.iter_raw()
        assert next(chunks).startswith(b"This reply stalls here")
        with pytest.raises(httpx.ReadTimeout):
            next(chunks)


def test_stall_first(http: httpx.Client) -> None:
    """With 'stall first' not even the headers come."""
    with pytest.raises(httpx.ReadTimeout):
        http.post("/chat/stream", json={"message": "/fault stall first"}, timeout=IMPATIENT)


def test_close(http: httpx.Client) -> None:
    """With 'close' the connection ends without any answer."""
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        ask(http, "/fault close")


def test_drip(http: httpx.Client) -> None:
    """A dripping reply comes one byte at a time, over about two seconds."""
    began = time.perf_counter()
    chunks = raw_chunks(http, "/fault drip")
    assert time.perf_counter() - began >= 1.5
    assert {len(chunk) for chunk in chunks} == {1}
    assert text_of(b"".join(chunks)) == "This reply drips, byte by byte … done."


def test_empty(http: httpx.Client) -> None:
    """An empty reply is a 200 that ends correctly, without a byte."""
    response = ask(http, "/fault empty")
    assert (response.status_code, response.content) == (200, b"")
    assert "x-session-id" in response.headers


def test_wrong_content(http: httpx.Client) -> None:
    """An HTML page, or JSON, can come instead of a stream."""
    page = ask(http, "/fault content type")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "x-session-id" not in page.headers
    answer = ask(http, "/fault json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert "one JSON answer" in answer.json()["response"]


def test_no_headers(http: httpx.Client) -> None:
    """With 'no headers' the reply comes without its type and its ids."""
    response = ask(http, "/fault no headers")
    assert not {"content-type", "x-session-id", "x-agent-id"} & set(response.headers)
    assert response.text == "This reply comes without its headers."


def test_invalid_utf_8(http: httpx.Client) -> None:
    """With 'utf-8' the text contains bytes that are not UTF-8, and continues after them."""
    response = ask(http, "/fault utf-8")
    with pytest.raises(UnicodeDecodeError):
        response.content.decode()
    assert text_of(response.content).endswith("It goes on.")


def test_malformed_records(http: httpx.Client) -> None:
    """With 'malformed' two records cannot be read, and the text continues after them."""
    events = events_of(ask(http, "/fault malformed").content)
    reasons = [event.reason for event in events if isinstance(event, MalformedRecord)]
    assert reasons == ["json", "not an array"]
    assert events[-1] == TextDelta("and goes on.")


def test_many_actions(http: httpx.Client) -> None:
    """With 'many actions' 200 actions come, and their summary."""
    reply = ask(http, "/fault many actions").content
    actions = actions_of(reply)
    assert len(actions) == 200
    assert events_of(reply)[-1] == ActionSummary(actions)
