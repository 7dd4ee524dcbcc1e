"""The demo agent as a client meets it: over real HTTP, on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import doctest
import gc
import itertools
import json
import logging
import os
import re
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from halo_notebook.demo import DEMO_KEY, DemoAgent, DemoRequest, Step, cut_awkwardly, sign_user_token
from halo_notebook.demo import server as demo
from halo_notebook.demo.__main__ import main
from halo_notebook.demo.script import FAULTS
from halo_notebook.stream import (
    JSON,
    Action,
    ActionSummary,
    Event,
    MalformedRecord,
    StreamParser,
    TextDelta,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = "How do I set up event tracking?"
SECRET = "ha_secret_of_the_tests"
# Nothing here speaks TLS, and loading certificates would be most of what these tests take.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
IMPATIENT = httpx.Timeout(30, read=1)


@pytest.fixture
def agent() -> Iterator[DemoAgent]:
    """An agent that answers at once."""
    with DemoAgent(first_byte_s=0, chunk_s=0) as running:
        yield running


@pytest.fixture
def client(agent: DemoAgent) -> Iterator[httpx.Client]:
    with connect(agent) as connected:
        yield connected


def connect(agent: DemoAgent, key: str = DEMO_KEY) -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(
        base_url=agent.url, headers=headers, trust_env=False, timeout=30, verify=NO_CERTIFICATES
    )


def ask(client: httpx.Client, message: str, **fields: Any) -> httpx.Response:
    return client.post("/chat/stream", json={"message": message, **fields})


def raw_chunks(client: httpx.Client, message: str) -> list[bytes]:
    """The reply's chunks as HTTP framed them: httpx never joins two."""
    with client.stream("POST", "/chat/stream", json={"message": message}) as response:
        return list(response.iter_raw())


def raw_request(message: str, path: str = "/api/sdk/chat/stream") -> bytes:
    body = json.dumps({"message": message}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: demo\r\nAuthorization: Bearer {DEMO_KEY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def raw_connection(agent: DemoAgent) -> socket.socket:
    url = httpx.URL(agent.url)
    return socket.create_connection((url.host, url.port or 0), timeout=30)


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        more = connection.recv(65536)
        assert more, f"the connection ended before {wanted!r}: {data!r}"
        data += more
    return data


def events_of(data: bytes) -> list[Event]:
    parser = StreamParser()
    return parser.feed(data) + parser.close()


def text_of(data: bytes) -> str:
    return "".join(event.text for event in events_of(data) if isinstance(event, TextDelta))


def actions_of(data: bytes) -> list[JSON]:
    return [event.payload for event in events_of(data) if isinstance(event, Action)]


def serving_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "halo-demo-agent"]


def error_of(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert isinstance(error, str)
    return error


# The server's life.


def test_example_in_the_docstring() -> None:
    """The public class's example holds."""
    failed, tried = doctest.testmod(demo)
    assert (failed, tried > 0) == (0, True)


def test_start_and_stop_can_be_repeated() -> None:
    """Starting twice is one server, stopping twice is no error, and a stopped agent can start again."""
    agent = DemoAgent(first_byte_s=0, chunk_s=0)
    agent.stop()
    for _ in range(3):
        assert agent.start() is agent.start()
        assert len(serving_threads()) == 1
        with connect(agent) as client:
            assert ask(client, "hi").status_code == 200
        agent.stop()
        agent.stop()
        assert not serving_threads()


def test_url_before_start() -> None:
    """Asking for the URL of an agent that was never started says to start it."""
    with pytest.raises(RuntimeError, match="call start"):
        _ = DemoAgent().url


def test_url_after_stop() -> None:
    """The URL stays after the stop, and nothing listens there."""
    with DemoAgent() as agent:
        pass
    with connect(agent) as client, pytest.raises(httpx.ConnectError):
        ask(client, "hi")


def test_listens_on_loopback_only(agent: DemoAgent) -> None:
    """The URL is a loopback URL with the API's path."""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/sdk", agent.url)


def test_given_port_and_port_in_use(agent: DemoAgent) -> None:
    """A port can be chosen; one in use is an OSError, and leaves nothing behind."""
    port = httpx.URL(agent.url).port
    assert port is not None
    other = DemoAgent(port=port)
    with pytest.raises(OSError, match="in use"):
        other.start()
    assert len(serving_threads()) == 1
    agent.stop()
    with other:
        assert httpx.URL(other.url).port == port


def test_identity_secret_is_in_no_repr() -> None:
    """Neither an agent's nor a recorded request's repr holds a secret."""
    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as agent, connect(agent) as client:
        token = sign_user_token(SECRET, "u1")
        assert ask(client, "hi", user_id="u1", user_token=token).status_code == 200
        shown = repr(agent) + repr(agent.requests)
    assert SECRET not in shown
    assert token not in shown
    assert DEMO_KEY not in shown


# The protocol.


def test_stream_of_text_and_records(client: httpx.Client) -> None:
    """A reply is chunked UTF-8 text with its actions, and ends in their summary."""
    response = ask(client, SEED)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["transfer-encoding"] == "chunked"
    assert re.fullmatch(r"sess_\d{10}_[0-9a-f]{6}", response.headers["x-session-id"])
    assert response.headers["x-agent-id"] == "agent_demo"
    actions = actions_of(response.content)
    assert [action["type"] for action in actions if isinstance(action, dict)] == ["highlight", "navigate"]
    assert events_of(response.content)[-1] == ActionSummary(actions)
    text = text_of(response.content)
    assert "```js" in text
    assert "`tm_write_`" in text
    assert "\x1e" not in text


def test_whole_answer(client: httpx.Client) -> None:
    """POST /chat gives the same text as one JSON object, with the ids."""
    response = client.post("/chat", json={"message": SEED, "session_id": "s1", "agent_id": "a1"})
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "response": text_of(ask(client, SEED).content),
        "session_id": "s1",
        "agent_id": "a1",
    }


def test_agent_id_of_the_request(client: httpx.Client) -> None:
    """A request that pins an agent is answered under that agent's id."""
    assert ask(client, "hi", agent_id="agent_7").headers["x-agent-id"] == "agent_7"


def test_config_needs_no_key(agent: DemoAgent) -> None:
    """GET /config tells of the agent and its organisation to anyone with a UUID."""
    org_id = "12345678-1234-5678-1234-567812345678"
    response = httpx.get(
        f"{agent.url}/config", params={"org_id": org_id}, trust_env=False, verify=NO_CERTIFICATES
    )
    assert response.status_code == 200
    assert response.json()["agent"]["id"] == "agent_demo"
    assert set(response.json()) == {"agent", "organization"}


@pytest.mark.parametrize("query", ["", "?org_id=", "?org_id=nobody"])
def test_config_without_a_uuid(client: httpx.Client, query: str) -> None:
    """GET /config without a UUID is a bad request."""
    assert client.get(f"/config{query}").status_code == 400


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ha_secret_1", "Basic ab_1", "ab_live_demo"]
)
def test_bad_key(agent: DemoAgent, authorization: str | None) -> None:
    """No key, or one that is no widget key, is a 401 that says what to send."""
    headers = {} if authorization is None else {"Authorization": authorization}
    response = httpx.post(
        f"{agent.url}/chat/stream", json={"message": "hi"}, headers=headers, trust_env=False
    )
    assert response.status_code == 401
    assert "Bearer ab_live_" in error_of(response)
    assert response.json()["docs_url"].startswith("https://")


def test_any_widget_key_is_taken(agent: DemoAgent) -> None:
    """Any key that starts with ab_ will do."""
    with connect(agent, key="ab_test_x") as client:
        assert ask(client, "hi").status_code == 200


BAD_BODIES: dict[str, JSON] = {
    "not an object": ["hi"],
    "no message": {},
    "empty message": {"message": " \n"},
    "message not a string": {"message": 1},
    "message too long": {"message": "x" * 10_001},
    "history too long": {"message": "hi", "conversation_history": [{"role": "user", "content": "x"}] * 51},
    "history not an array": {"message": "hi", "conversation_history": {}},
    "history item without content": {"message": "hi", "conversation_history": [{"role": "user"}]},
    "behaviour too long": {"message": "hi", "behavior_context": "x" * 5_001},
    "custom fields too long": {"message": "hi", "custom_fields": {"x": "y" * 10_000}},
    "custom fields not an object": {"message": "hi", "custom_fields": []},
    "context without a label": {"message": "hi", "context": {"cart": {"value": 1}}},
    "context without a value": {"message": "hi", "context": {"cart": {"label": "Cart"}}},
    "context not an object": {"message": "hi", "context": []},
    "unknown mode": {"message": "hi", "mode": "shout"},
    "images not URLs": {"message": "hi", "images": ["cat.png"]},
    "user id not a string": {"message": "hi", "user_id": 7},
    "session id not for a header": {"message": "hi", "session_id": "a\nb"},
    "empty session id": {"message": "hi", "session_id": ""},
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_request(client: httpx.Client, body: JSON) -> None:
    """A body beyond what is documented is a 400 with one string that says why."""
    response = client.post("/chat/stream", json=body)
    assert response.status_code == 400
    assert error_of(response)


@pytest.mark.parametrize("content", [b"", b"message=hi", b'{"message": NaN}', b'"\xff"', b"[" * 100_000])
def test_body_that_is_no_json(client: httpx.Client, content: bytes) -> None:
    """A body that is no JSON is a 400, whatever it is."""
    response = client.post("/chat/stream", content=content)
    assert (response.status_code, error_of(response)) == (400, "The body is not JSON.")


def test_full_request_within_the_limits(client: httpx.Client) -> None:
    """A request with every field at its limit is answered."""
    response = ask(
        client,
        "x" * 10_000,
        user_id="u",
        user_token="t",
        session_id="s",
        company_id="c",
        mode="voice",
        context={"cart": {"label": "Cart", "type": "list", "value": [{"sku": 1}]}},
        custom_fields={"x": "y" * 9_990},
        conversation_history=[{"speaker": "user", "text": "x"}] * 50,
        behavior_context="x" * 5_000,
        agent_id="a",
        images=["data:image/png;base64,AAAA", "https://example.com/cat.png"],
    )
    assert response.status_code == 200


def test_body_too_large(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body over the bound is read to its end and answered with 413."""
    monkeypatch.setattr(demo, "MAX_BODY_BYTES", 100_000)
    assert ask(client, "hi", images=["data:" + "x" * 5_000_000]).status_code == 413
    assert ask(client, "hi").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/nowhere", 404),
        ("GET", "/../..", 404),
        ("GET", "/chat/stream", 405),
        ("HEAD", "/chat", 405),
        ("PUT", "/chat", 405),
        ("POST", "/config", 405),
    ],
)
def test_other_paths_and_methods(client: httpx.Client, method: str, path: str, status: int) -> None:
    """Other paths are 404, other methods 405, and the connection lives on."""
    response = client.request(method, path)
    assert response.status_code == status
    assert ("allow" in response.headers) == (status == 405)
    assert ask(client, "hi").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000,
        b"\x16\x03\x01" * 9,
    ],
)
def test_what_is_no_http(agent: DemoAgent, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no HTTP request is answered with an error status, and nothing is logged."""
    with raw_connection(agent) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        # The answer may be lost with bytes that were not read, so only the end is certain.
        try:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            answer = b""
    assert not answer or re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert not caplog.records


def test_target_that_is_no_url(agent: DemoAgent) -> None:
    """A target that is no URL is just another path without anything there."""
    with raw_connection(agent) as connection:
        connection.sendall(b"GET //[ HTTP/1.1\r\nHost: demo\r\n\r\n")
        assert b"404 Not Found" in read_until(connection, b"}")


def test_requests_on_one_connection(agent: DemoAgent) -> None:
    """A connection is kept, and a request that comes early is answered in its turn."""
    with raw_connection(agent) as connection:
        connection.sendall(raw_request("help", "/api/sdk/chat") + raw_request("hi", "/api/sdk/chat"))
        answers = read_until(connection, b"no model is behind me")
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.index(b"match them loosely") < answers.index(b"no model is behind me")


def test_client_that_waits_for_100_continue(agent: DemoAgent) -> None:
    """A client that asks before it sends its body (curl does, for large ones) is told to go on."""
    head, body = raw_request("hi").split(b"\r\n\r\n")
    with raw_connection(agent) as connection:
        connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert b"100 " in read_until(connection, b"\r\n\r\n")
        connection.sendall(body)
        read_until(connection, b"0\r\n\r\n")


def test_http_1_0(agent: DemoAgent) -> None:
    """An HTTP/1.0 client gets the reply without chunks, ended by the end of the connection."""
    with raw_connection(agent) as connection:
        connection.sendall(raw_request("hi").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"no model is behind me" in answer
    assert b"chunked" not in answer.lower()


def test_requests_are_recorded(agent: DemoAgent, client: httpx.Client) -> None:
    """Each request is kept as received, but for the key."""
    ask(client, "hi", user_id="u1")
    client.post("/chat", content=b"no json")
    client.get("/config?org_id=1")
    assert [(request.method, request.path) for request in agent.requests] == [
        ("POST", "/api/sdk/chat/stream"),
        ("POST", "/api/sdk/chat"),
        ("GET", "/api/sdk/config"),
    ]
    first, second, third = agent.requests
    assert first.body == {"message": "hi", "user_id": "u1"}
    assert first.headers["content-type"] == "application/json"
    assert first.headers["authorization"] == "set"
    assert second.body is None
    assert third.query == "org_id=1"
    assert isinstance(first, DemoRequest)
    assert agent.requests.maxlen == 10_000


# Sessions and the script.


def test_session_remembers(client: httpx.Client) -> None:
    """A name told in a session is known there, and in no other session."""
    session_id = ask(client, "Hello, my name is Zoë Müller.").headers["x-session-id"]
    again = ask(client, "What is my name?", session_id=session_id)
    assert again.headers["x-session-id"] == session_id
    assert "Zoë Müller" in text_of(again.content)
    other = ask(client, "what's my name")
    assert other.headers["x-session-id"] != session_id
    assert "not told me" in text_of(other.content)


def test_unknown_session_is_continued(client: httpx.Client) -> None:
    """A session id that the agent never gave out is taken and continued."""
    assert ask(client, "my name is Ada", session_id="mine").headers["x-session-id"] == "mine"
    answer = client.post("/chat", json={"message": "What is my name?", "session_id": "mine"}).json()
    assert "Ada" in answer["response"]


def test_sessions_are_bounded(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the session that was used least recently is forgotten."""
    monkeypatch.setattr(demo, "MAX_SESSIONS", 2)
    for session_id in ("a", "b", "a", "c"):
        ask(client, "my name is Grace", session_id=session_id)
    known = ["Grace" in text_of(ask(client, "who am i", session_id=s).content) for s in ("c", "a", "b")]
    assert known == [True, True, False]


def test_name_that_holds_a_record(client: httpx.Client) -> None:
    """A user cannot make the script send a record."""
    body = json.dumps({"message": 'my name is \x1e__ACTION__{"type": 1}\x1e\ud800'})
    response = client.post("/chat/stream", content=body)
    assert b"\x1e" not in response.content
    assert "__ACTION__" in text_of(response.content)


def test_what_it_knows(client: httpx.Client) -> None:
    """It tells what came with the message, and holds no token."""
    response = ask(
        client,
        "What do you know about me?",
        user_id="u1",
        user_token="a-token",
        mode="video",
        context={"cart": {"label": "Cart", "value": []}},
        custom_fields={"plan": "team"},
        conversation_history=[{"role": "user", "content": "x"}] * 3,
        behavior_context="12345",
        images=["https://example.com/1.png", "https://example.com/2.png"],
    )
    fenced = re.search(r"```json\n(.*?)\n```", text_of(response.content), re.DOTALL)
    assert fenced is not None
    assert json.loads(fenced.group(1)) == {
        "user_id": "u1",
        "user_token": "set",
        "company_id": None,
        "mode": "video",
        "context": ["cart"],
        "custom_fields": ["plan"],
        "behavior_context_characters": 5,
        "conversation_history_items": 3,
        "images": 2,
        "name": None,
        "turn": 1,
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("show me MARKDOWN", r"\| Plan \| Seats"),
        ("Markdown", r"\$\$"),
        ("please open a ticket", "TM-4217"),
        ("where is billing", "Settings → Billing"),
        ("Invoices?", "Settings → Billing"),
        ("write a long answer", "# A field guide"),
        ("I need 2,000 words", "# A field guide"),
        ("help", "/fault NAME"),
        ("tell me a joke", "scripted demo agent"),
    ],
)
def test_loose_matching(client: httpx.Client, message: str, expected: str) -> None:
    """Key words are enough to be understood."""
    response = ask(client, message)
    assert re.search(expected, text_of(response.content))
    assert not any(isinstance(event, MalformedRecord) for event in events_of(response.content))


def test_long_answer(client: httpx.Client) -> None:
    """The long answer has some 2,000 words, and no paragraph twice."""
    text = text_of(ask(client, "write a long answer").content)
    assert 1_900 <= len(text.split()) <= 2_200
    paragraphs = text.strip().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)


def test_ticket_payload_is_nested(client: httpx.Client) -> None:
    """The ticket's payload has objects, arrays and null in it."""
    [action] = actions_of(ask(client, "open a ticket").content)
    assert isinstance(action, dict)
    assert isinstance(action["ticket"], dict)
    assert isinstance(action["ticket"]["timeline"], list)


def test_help_names_every_fault(client: httpx.Client) -> None:
    """The help lists each fault by its name."""
    text = text_of(ask(client, "help").content)
    assert all(f"`{name}`" in text for name in FAULTS)


# Chunks and pace.


def is_cut_inside_character(before: bytes) -> bool:
    """Whether the bytes end in a character that has not ended."""
    try:
        before.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def test_chunks_are_cut_at_awkward_places(client: httpx.Client) -> None:
    """Chunks end inside characters, inside tags and inside records, and joined they are the reply."""
    chunks = raw_chunks(client, SEED)
    reply = b"".join(chunks)
    assert reply == ask(client, SEED).content
    assert len(chunks) > 50
    before = [reply[: sum(map(len, chunks[:count]))] for count in range(1, len(chunks))]
    assert any(is_cut_inside_character(text) for text in before)
    assert any(re.search(rb"\x1e_[_A-Z]{0,8}\Z", text) for text in before)
    assert any(re.search(rb"__ACTIONS?__[^\x1e]+\Z", text) for text in before)


def test_cuts_are_the_same_each_time() -> None:
    """The same bytes are cut the same way, and nothing is lost."""
    for reply in (b"", b"x", "é".encode(), "日本語".encode() * 50, encode(Action({"é": "€" * 99}))):
        chunks = cut_awkwardly(reply)
        cut_awkwardly.cache_clear()
        assert chunks == cut_awkwardly(reply)
        assert b"".join(chunks) == reply


def test_no_tag_stays_whole() -> None:
    """A tag is cut wherever it stands."""
    for length, record in itertools.product(range(40), (encode(Action(None)), encode(ActionSummary([])))):
        reply = b"x" * length + record + b"y" * length
        assert not any(re.search(rb"\x1e__ACTIONS?__", chunk) for chunk in cut_awkwardly(reply))


def test_pace() -> None:
    """Chunks come by schedule: late ones do not put off those that follow."""
    first_byte_s, chunk_s = 0.1, 0.005
    with DemoAgent(first_byte_s=first_byte_s, chunk_s=chunk_s) as agent, connect(agent) as client:
        began = time.perf_counter()
        with client.stream("POST", "/chat/stream", json={"message": SEED}) as response:
            answered = time.perf_counter() - began
            count = sum(1 for _ in response.iter_raw())
        took = time.perf_counter() - began
    due = first_byte_s + (count - 1) * chunk_s
    assert answered >= first_byte_s
    assert took >= due
    # Summed sleeps would be a millisecond late each, over 80 of them, on top of what a busy machine adds.
    assert took < due + 1


# Identity verification.


@pytest.fixture
def verifying() -> Iterator[httpx.Client]:
    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as agent, connect(agent) as connected:
        yield connected


def forged_token(header: dict[str, JSON], claims: dict[str, JSON], secret: str = SECRET) -> str:
    """A token with any header and claims, signed as it should be."""
    genuine = demo._base64url_json(header) + "." + demo._base64url_json(claims)
    return f"{genuine}.{demo._base64url(demo._signature(secret, genuine))}"


def test_valid_token(verifying: httpx.Client) -> None:
    """A token signed with the secret for this user is taken, with the claim user_id or sub."""
    for token in (
        sign_user_token(SECRET, "u1"),
        forged_token({"alg": "HS256"}, {"sub": "u1"}),
        forged_token({"alg": "HS256"}, {"user_id": "u1", "exp": time.time() + 60}),
    ):
        assert ask(verifying, "hi", user_id="u1", user_token=token).status_code == 200


def test_anonymous_needs_no_token(verifying: httpx.Client) -> None:
    """Nobody, by name or by absence, needs no token."""
    assert ask(verifying, "hi").status_code == 200
    assert ask(verifying, "hi", user_id="anonymous").status_code == 200


INVALID_TOKENS = {
    "none": None,
    "empty": "",
    "not a token": "a.b",
    "not base64": "é.é.é",
    "other user": sign_user_token(SECRET, "u2"),
    "other secret": sign_user_token("ha_secret_other", "u1"),
    "expired": sign_user_token(SECRET, "u1", expires_in_s=-1),
    "no algorithm": forged_token({"alg": "none"}, {"user_id": "u1"}),
    "expiry no number": forged_token({"alg": "HS256"}, {"user_id": "u1", "exp": "never"}),
    "claims no object": forged_token({"alg": "HS256"}, {}).replace(
        ".e30.", "." + base64.b64encode(b"[]").decode()
    ),
    "signature cut": sign_user_token(SECRET, "u1")[:-4],
}


@pytest.mark.parametrize("token", INVALID_TOKENS.values(), ids=INVALID_TOKENS.keys())
def test_invalid_token(verifying: httpx.Client, token: str | None) -> None:
    """A user without a valid token is a 403, which does not repeat the token."""
    fields = {} if token is None else {"user_token": token}
    response = ask(verifying, "hi", user_id="u1", **fields)
    assert response.status_code == 403
    assert "user_token" in error_of(response)
    assert not token or token not in response.text


def test_tokens_are_not_looked_at_without_a_secret(client: httpx.Client) -> None:
    """Without an identity secret any user is taken at their word."""
    assert ask(client, "hi", user_id="u1").status_code == 200


# Faults.


@pytest.mark.parametrize("name", [name for name in FAULTS if name[:3].isdigit()] + ["429 retry-after 3"])
def test_status_faults(agent: DemoAgent, client: httpx.Client, name: str) -> None:
    """A fault that is a status comes once, from the queue, and again when it is asked for."""
    agent.faults.append(name)
    for response in (
        ask(client, "hi"),
        ask(client, f"/fault {name}"),
        ask(client, f" /ERROR  {name.upper()}\n"),
    ):
        assert response.status_code == int(name[:3])
        if name == "502":
            assert response.headers["content-type"] == "text/html"
            assert response.text.startswith("<html>")
        else:
            assert name in error_of(response)
        wanted = {"429 retry-after 3": "3", "429 retry-after": "1", "503 retry-after": "1"}.get(name)
        assert response.headers.get("retry-after") == wanted
    assert not agent.faults
    assert ask(client, "hi").status_code == 200


@pytest.mark.parametrize("name", ["", "nothing", "418", "500 retry-after", "429 retry-after soon"])
def test_unknown_fault(agent: DemoAgent, client: httpx.Client, name: str) -> None:
    """A fault that does not exist is a 400 that lists those that do."""
    agent.faults.append(f"{name} ")
    for response in (ask(client, "hi"), ask(client, f"/fault {name}")):
        assert response.status_code == 400
        assert ", ".join(FAULTS) in error_of(response)


def test_faults_are_for_chat_requests(agent: DemoAgent, client: httpx.Client) -> None:
    """Faults are taken in order, one a chat request; other requests take none."""
    agent.faults.extend(["500", "404"])
    client.get("/config?org_id=1")
    client.post("/nowhere")
    assert [ask(client, "hi").status_code for _ in range(3)] == [500, 404, 200]
    agent.faults.append("429")
    assert client.post("/chat", json={"message": "hi"}).status_code == 429


def test_fault_in_a_conversation(agent: DemoAgent, client: httpx.Client) -> None:
    """A reply that suffers a fault from the queue comes under the ids of its request."""
    agent.faults.extend(["empty", "empty"])
    headers = ask(client, "hi", session_id="s1", agent_id="a1").headers
    assert (headers["x-session-id"], headers["x-agent-id"]) == ("s1", "a1")
    assert ask(client, "").headers["x-session-id"].startswith("sess_")


def test_redirect(agent: DemoAgent, client: httpx.Client) -> None:
    """The fault 'redirect' is a 307 to another place on loopback; who follows it is on record."""
    response = ask(client, "/fault redirect")
    assert response.status_code == 307
    assert response.headers["location"] == f"{agent.url}/moved/chat/stream"
    assert len(agent.requests) == 1


@pytest.mark.parametrize(
    ("name", "arrives"),
    [
        ("cut text", b"This reply will be cut in the middle of a sen"),
        ("cut record", b'This reply will be cut inside a record. \x1e__ACTION__{"type": "hi'),
    ],
)
def test_cut(client: httpx.Client, name: str, arrives: bytes) -> None:
    """A cut reply arrives up to the cut, and its last chunk never."""
    with client.stream("POST", "/chat/stream", json={"message": f"/fault {name}"}) as response:
        assert response.status_code == 200
        chunks = response.iter_raw()
        got = b""
        while len(got) < len(arrives):
            got += next(chunks)
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
    assert got == arrives


def test_stall(client: httpx.Client) -> None:
    """A stalled reply is some text and then nothing, with the connection open."""
    message = {"message": "/fault stall"}
    with client.stream("POST", "/chat/stream", json=message, timeout=IMPATIENT) as response:
        chunks = response.iter_raw()
        assert next(chunks).startswith(b"This reply stalls here")
        with pytest.raises(httpx.ReadTimeout):
            next(chunks)


def test_stall_first(client: httpx.Client) -> None:
    """With 'stall first' not even the headers come."""
    with pytest.raises(httpx.ReadTimeout):
        client.post("/chat/stream", json={"message": "/fault stall first"}, timeout=IMPATIENT)


def test_close(client: httpx.Client) -> None:
    """With 'close' the connection ends without any answer."""
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        ask(client, "/fault close")


def test_drip(client: httpx.Client) -> None:
    """A dripping reply comes one byte at a time, over some two seconds."""
    began = time.perf_counter()
    chunks = raw_chunks(client, "/fault drip")
    assert time.perf_counter() - began >= 1.5
    assert {len(chunk) for chunk in chunks} == {1}
    assert text_of(b"".join(chunks)) == "This reply drips, byte by byte … done."


def test_empty(client: httpx.Client) -> None:
    """An empty reply is a 200 that ends as it should, without a byte."""
    response = ask(client, "/fault empty")
    assert (response.status_code, response.content) == (200, b"")
    assert "x-session-id" in response.headers


def test_wrong_content(client: httpx.Client) -> None:
    """A page of HTML, or JSON, can come in place of a stream."""
    page = ask(client, "/fault content type")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "x-session-id" not in page.headers
    answer = ask(client, "/fault json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert "one JSON answer" in answer.json()["response"]


def test_no_headers(client: httpx.Client) -> None:
    """With 'no headers' the reply comes without its type and its ids."""
    response = ask(client, "/fault no headers")
    assert not {"content-type", "x-session-id", "x-agent-id"} & set(response.headers)
    assert response.text == "This reply comes without its headers."


def test_invalid_utf_8(client: httpx.Client) -> None:
    """With 'utf-8' the text holds bytes that are none, and goes on."""
    response = ask(client, "/fault utf-8")
    with pytest.raises(UnicodeDecodeError):
        response.content.decode()
    assert text_of(response.content).endswith("It goes on.")


def test_malformed_records(client: httpx.Client) -> None:
    """With 'malformed' two records cannot be read, and the text goes on after them."""
    events = events_of(ask(client, "/fault malformed").content)
    reasons = [event.reason for event in events if isinstance(event, MalformedRecord)]
    assert reasons == ["json", "not an array"]
    assert events[-1] == TextDelta("and goes on.")


def test_many_actions(client: httpx.Client) -> None:
    """With 'many actions' 200 actions come, and their summary."""
    reply = ask(client, "/fault many actions").content
    actions = actions_of(reply)
    assert len(actions) == 200
    assert events_of(reply)[-1] == ActionSummary(actions)


# A reply of the caller's.


def test_custom_reply_is_sent_step_by_step() -> None:
    """Each step of a custom reply is one chunk, as given, and a float is a pause."""
    received = []

    def reply(request: dict[str, JSON]) -> list[Step]:
        received.append(request)
        return [TextDelta("one"), 0.2, b"\xff\x1e__ACT", b"", Action({"é": 1}), ActionSummary([]), 0]

    with DemoAgent(first_byte_s=0, reply=reply) as agent, connect(agent) as client:
        began = time.perf_counter()
        chunks = raw_chunks(client, "/fault 500")
        assert time.perf_counter() - began >= 0.2
        whole = client.post("/chat", json={"message": "hi"}).json()
    assert chunks == [b"one", b"\xff\x1e__ACT", encode(Action({"é": 1})), encode(ActionSummary([]))]
    assert received == [{"message": "/fault 500"}, {"message": "hi"}]
    assert whole["response"] == "one\ufffd\x1e__ACT"


def test_custom_reply_that_fails_at_once() -> None:
    """A custom reply that fails before its first step is a 500 that names the failure."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        if request:
            raise ZeroDivisionError("by design")
        yield b"never sent"

    with DemoAgent(reply=reply) as agent, connect(agent) as client:
        response = ask(client, "hi")
        assert response.status_code == 500
        assert "ZeroDivisionError: by design" in error_of(response)


def test_custom_reply_that_fails_later(caplog: pytest.LogCaptureFixture) -> None:
    """A custom reply that fails in mid-stream is cut there, and one line is logged."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield b"so far"
        raise ZeroDivisionError("a secret")

    with DemoAgent(first_byte_s=0, reply=reply) as agent, connect(agent) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            ask(client, "hi")
        assert ask(client, "hi", session_id="").status_code == 400
    assert [record.getMessage() for record in caplog.records] == [
        "The demo agent's reply failed in mid-stream: ZeroDivisionError"
    ]


def test_custom_reply_of_something_else(caplog: pytest.LogCaptureFixture) -> None:
    """A step that is none ends the reply as a failure does."""
    agent = DemoAgent(reply=lambda request: ["text"])  # type: ignore[list-item]
    with agent, connect(agent) as client, pytest.raises(httpx.RemoteProtocolError):
        ask(client, "hi")
    assert "TypeError" in caplog.text


# Clients that leave, and stops.


def endless(request: dict[str, JSON]) -> Iterator[Step]:
    while True:
        yield b"more of the same. " * 50
        yield 0.001


def test_clients_may_leave_at_any_time(caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves in mid-reply, before it or in mid-request leaves nothing behind."""
    caplog.set_level(logging.DEBUG, logger="asyncio")
    with DemoAgent(first_byte_s=0, reply=endless) as agent:
        request = raw_request("hi")
        for sent in (b"", request[:20], request[:-5], request, request * 2):
            with raw_connection(agent) as connection:
                connection.sendall(sent)
                if len(sent) >= len(request):
                    read_until(connection, b"more")
        agent.faults.extend(["stall", "stall first"])
        for _ in range(2):
            with raw_connection(agent) as connection:
                connection.sendall(request)
                time.sleep(0.05)
        with (
            connect(agent) as client,
            client.stream("POST", "/chat/stream", json={"message": "hi"}) as response,
        ):
            next(response.iter_raw())
        deadline = time.monotonic() + 10
        while (left := open_connections(agent)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def open_connections(agent: DemoAgent) -> int:
    """How many connections the agent still serves: the tasks of its loop but the first."""
    server = agent._server
    assert server is not None
    asked: list[int] = []
    answered = threading.Event()

    def count() -> None:
        asked.append(len(asyncio.all_tasks(server._loop)) - 1)
        answered.set()

    server._loop.call_soon_threadsafe(count)
    assert answered.wait(10)
    return asked[0]


def test_stop_with_open_replies(caplog: pytest.LogCaptureFixture) -> None:
    """A stop closes the replies that are open, streaming or stalled or full, and returns soon."""
    agent = DemoAgent(first_byte_s=0, reply=endless).start()
    agent.faults.extend(["stall", "stall first"])
    connections = [raw_connection(agent) for _ in range(5)]
    for connection in connections[:3]:
        connection.sendall(raw_request("hi"))
        if connection is not connections[1]:
            time.sleep(0.1)
    connections[3].sendall(raw_request("hi"))  # never read: the buffers fill up
    time.sleep(0.1)
    began = time.monotonic()
    agent.stop()
    assert time.monotonic() - began < 5
    assert not serving_threads()
    for connection in connections:
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        connection.close()
    assert not caplog.records


def test_many_at_once() -> None:
    """A hundred replies stream side by side, each with its first byte on time."""
    first_byte_s = 0.5
    ready = threading.Barrier(100)

    def one(connection: socket.socket) -> float:
        ready.wait(30)
        began = time.perf_counter()
        connection.sendall(raw_request(SEED))
        head = connection.recv(65536)
        first = time.perf_counter() - began
        assert head.startswith(b"HTTP/1.1 200")
        if b"\r\n0\r\n\r\n" not in head:
            read_until(connection, b"\r\n0\r\n\r\n")
        return first

    with DemoAgent(first_byte_s=first_byte_s, chunk_s=0.002) as agent, ThreadPoolExecutor(100) as pool:
        connections = [raw_connection(agent) for _ in range(100)]
        firsts = sorted(pool.map(one, connections))
        for connection in connections:
            connection.close()
        assert len(agent.requests) == 100
    assert firsts[0] >= first_byte_s
    # Half a second of slack, since the hundred clients share the machine and this process.
    assert statistics.median(firsts) < first_byte_s + 0.5


# The command.


def run_module(*arguments: str) -> subprocess.Popen[str]:
    # A process started in the background may have inherited a deaf ear for Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "halo_notebook.demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C cannot be sent to one process elsewhere")
def test_module_serves_until_ctrl_c() -> None:
    """`python -m halo_notebook.demo` says where it listens and how to use it, and ends cleanly."""
    with run_module("--port", "0", "--first-byte-s", "0", "--chunk-s", "0") as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not (lines and lines[-1].startswith("Ctrl-C")):
                lines.append(process.stdout.readline())
                assert lines[-1], process.communicate()
            said = "".join(lines)
            url = re.search(r"HALO_BASE_URL=(\S+)", said)
            assert url is not None
            assert f"HALO_API_KEY={DEMO_KEY}" in said
            headers = {"Authorization": f"Bearer {DEMO_KEY}"}
            body = {"message": "/fault stall"}
            with (
                httpx.Client(trust_env=False, headers=headers, timeout=30) as client,
                client.stream("POST", f"{url[1]}/chat/stream", json=body) as response,
            ):
                next(response.iter_raw())
                process.send_signal(signal.SIGINT)
                _, complaints = process.communicate(timeout=30)
            assert (process.returncode, complaints) == (0, "")
        finally:
            process.kill()


def test_module_with_a_port_in_use(agent: DemoAgent) -> None:
    """A port in use is one line that says what to do, and exit code 1."""
    port = httpx.URL(agent.url).port
    with run_module("--port", str(port)) as process:
        said, complaints = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == ""
    assert complaints == f"Port {port} is in use: choose another with --port N, or --port 0.\n"


def test_main_with_a_bad_port(capsys: pytest.CaptureFixture[str]) -> None:
    """A port out of range is a usage error."""
    with pytest.raises(SystemExit) as ended:
        main(["--port", "65536"])
    assert ended.value.code == 2
    assert "from 0 to 65535" in capsys.readouterr().err


def test_stop_while_connections_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is accepted just then is closed as the others are."""
    left: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: left.append(str(found.exc_value)))

    def connect(port: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            pass

    for _ in range(60):
        agent = DemoAgent().start()
        port = urlsplit(agent.url).port
        assert port is not None
        threads = [threading.Thread(target=connect, args=(port,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        agent.stop()
        for thread in threads:
            thread.join()
    gc.collect()
    assert left == []


def test_interpreter_that_never_stops_the_agent() -> None:
    """A program that ends with an open reply and no stop ends at once and says nothing."""
    program = """
import socket
from halo_notebook.demo import DemoAgent
agent = DemoAgent(first_byte_s=0).start()
port = int(agent.url.split(":")[2].split("/")[0])
agent.faults.append("stall")
connection = socket.create_connection(("127.0.0.1", port))
connection.sendall(b"POST /api/sdk/chat HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0\\r\\n\\r\\n")
assert connection.recv(1000)
connection.detach()
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
