"""The demo agent accepts what the API's documentation allows, refuses the rest, and answers as it says."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook.demo import DEMO_KEY, DemoAgent, sign_user_token
from halo_notebook.demo.protocol import sign_token
from halo_notebook.stream import JSON, ActionSummary

from .over_http import EVENT_TRACKING, actions_of, ask, connect, error_of, events_of, raw_connection, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

SECRET = "ha_secret_of_the_tests"


def test_stream_consists_of_text_and_records(http: httpx.Client) -> None:
    """A reply is chunked UTF-8 text with its actions, and ends with their summary."""
    response = ask(http, EVENT_TRACKING)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["transfer-encoding"] == "chunked"
    assert re.fullmatch(r"sess_\d{10}_[0-9a-f]{6}", response.headers["x-session-id"])
    assert response.headers["x-agent-id"] == "agent_demo"
    actions = actions_of(response.content)
    assert [action["type"] for action in actions if isinstance(action, dict)] == ["highlight", "navigate"]
    assert events_of(response.content)[-1] == ActionSummary(actions)
    text = text_of(response.content)
    assert "```js" in text and "`tm_write_`" in text and "\x1e" not in text


def test_chat_answers_with_one_json_object(http: httpx.Client) -> None:
    """POST /chat returns the same text as one JSON object, with the ids."""
    response = http.post("/chat", json={"message": EVENT_TRACKING, "session_id": "s1", "agent_id": "a1"})
    assert response.headers["content-type"] == "application/json"
    streamed = ask(http, EVENT_TRACKING, agent_id="a1")
    assert streamed.headers["x-agent-id"] == "a1"
    assert response.json() == {"response": text_of(streamed.content), "session_id": "s1", "agent_id": "a1"}


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer ha_secret_1", "Basic ab_1", "ab_live_demo"])
def test_bad_key_is_refused(http: httpx.Client, key: str | None) -> None:
    """Without a widget key, which starts with ab_, the answer is a 401 that says what to send."""
    del http.headers["authorization"]
    http.headers.update({} if key is None else {"Authorization": key})
    response = ask(http, "hi")
    assert response.status_code == 401
    assert "Bearer ab_live_" in error_of(response)
    assert response.json()["docs_url"].startswith("https://")
    http.headers["Authorization"] = "Bearer ab_x"
    assert ask(http, "hi").status_code == 200


BAD_FIELDS: list[dict[str, JSON]] = [
    {"message": " \n"},
    {"message": 1},
    {"message": "x" * 10_001},
    {"conversation_history": [{"role": "user", "content": "x"}] * 51},
    {"conversation_history": {}},
    {"behavior_context": "x" * 5_001},
    {"custom_fields": {"x": "y" * 10_000}},
    {"custom_fields": []},
    {"context": []},
    {"user_id": 7},
    {"session_id": "a\nb"},  # not for a header
    {"session_id": ""},
]
HI: dict[str, JSON] = {"message": "hi"}
BAD_BODIES: list[JSON] = [["hi"], {}, *(HI | fields for fields in BAD_FIELDS)]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body)[:50])
def test_body_outside_the_documentation_is_refused(http: httpx.Client, body: JSON) -> None:
    """The answer is a 400 with one string that says why."""
    response = http.post("/chat/stream", json=body)
    assert response.status_code == 400
    assert error_of(response)


@pytest.mark.parametrize("content", [b"", b"message=hi", b'{"message": NaN}', b'"\xff"', b"[" * 100_000])
def test_body_that_is_not_json_is_refused(http: httpx.Client, content: bytes) -> None:
    """The answer is a 400, whatever the body is."""
    response = http.post("/chat/stream", content=content)
    assert (response.status_code, error_of(response)) == (400, "The body is not JSON.")


def test_request_at_the_limits_is_answered(http: httpx.Client) -> None:
    """A request with every field at its limit is answered."""
    fields: dict[str, Any] = {
        "user_id": "u",
        "user_token": "not checked without an identity secret",
        "session_id": "s",
        "company_id": "c",
        "mode": "voice",
        "context": {"cart": {"label": "Cart", "type": "list", "value": [{"sku": 1}]}},
        "custom_fields": {"x": "y" * 9_990},
        "conversation_history": [{"speaker": "user", "text": "x"}] * 50,
        "behavior_context": "x" * 5_000,
        "agent_id": "a",
        "images": ["data:image/png;base64," + "A" * 5_000_000, "https://example.com/cat.png"],
    }
    assert ask(http, "x" * 10_000, **fields).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/nowhere"), ("GET", "/../.."), ("GET", "/chat/stream"), ("PUT", "/chat")]
)
def test_other_paths_and_methods_are_refused(http: httpx.Client, method: str, path: str) -> None:
    """The answer is a 404, and the connection can still be used."""
    assert http.request(method, path).status_code == 404
    assert ask(http, "hi").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET //[ HTTP/1.1\r\nHost: demo\r\n\r\n",  # HTTP, but its target is not a URL
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000,
        b"\x16\x03\x01" * 9,
    ],
)
def test_bytes_that_are_not_a_request_end_the_connection(
    agent: DemoAgent, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing but an error may be answered, and nothing is logged."""
    answer = b""
    with raw_connection(agent) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert not answer or re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert not caplog.records


def test_requests_are_recorded_without_the_key(agent: DemoAgent, http: httpx.Client) -> None:
    """Each request is kept as received, except for the key."""
    ask(http, "hi", user_id="u1")
    http.post("/chat?x=1", content=b"no json")
    first, second = agent.requests
    assert (first.method, first.path) == ("POST", "/api/sdk/chat/stream")
    assert (second.method, second.path, second.body) == ("POST", "/api/sdk/chat", None)
    assert first.body == {"message": "hi", "user_id": "u1"}
    assert first.headers["content-type"] == "application/json"
    assert first.headers["authorization"] == "set"
    assert agent.requests.maxlen == 10_000


# Identity verification.


@pytest.fixture(scope="module")
def verifying() -> Iterator[DemoAgent]:
    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as agent:
        yield agent


def test_valid_token_is_accepted(verifying: DemoAgent) -> None:
    """It is signed with the secret, for this user, in the claim user_id or sub. No repr contains a secret."""
    with connect(verifying) as http:
        for token in (
            sign_user_token(SECRET, "u1"),
            sign_token(SECRET, {"alg": "HS256"}, {"sub": "u1"}),
            sign_token(SECRET, {"alg": "HS256"}, {"user_id": "u1", "exp": time.time() + 60}),
        ):
            assert ask(http, "hi", user_id="u1", user_token=token).status_code == 200
            shown = repr(verifying) + repr(verifying.requests)
            assert not [secret for secret in (SECRET, token, DEMO_KEY) if secret in shown]


def test_anonymous_user_needs_no_token(verifying: DemoAgent) -> None:
    """This holds for the name and for a request without a user."""
    with connect(verifying) as http:
        assert ask(http, "hi").status_code == 200
        assert ask(http, "hi", user_id="anonymous").status_code == 200


INVALID_TOKENS = {
    "none": None,
    "empty": "",
    "not a token": "a.b",
    "not base64": "é.é.é",
    "other user": sign_user_token(SECRET, "u2"),
    "other secret": sign_user_token("ha_secret_other", "u1"),
    "expired": sign_user_token(SECRET, "u1", expires_in_s=-1),
    "no algorithm": sign_token(SECRET, {"alg": "none"}, {"user_id": "u1"}),
    "expiry not a number": sign_token(SECRET, {"alg": "HS256"}, {"user_id": "u1", "exp": "never"}),
    "claims not an object": sign_token(SECRET, {"alg": "HS256"}, []),
    "claims changed": sign_token(SECRET, {"alg": "HS256"}, {}).replace(
        ".e30.", "." + base64.b64encode(b'{"user_id": "u1"}').decode() + "."
    ),
    "signature cut": sign_user_token(SECRET, "u1")[:-4],
}


@pytest.mark.parametrize("token", INVALID_TOKENS.values(), ids=INVALID_TOKENS.keys())
def test_invalid_token_is_refused(verifying: DemoAgent, token: str | None) -> None:
    """The answer is a 403, which does not repeat the token."""
    with connect(verifying) as http:
        response = ask(http, "hi", user_id="u1", **({} if token is None else {"user_token": token}))
    assert response.status_code == 403
    assert "user_token" in error_of(response)
    assert not token or token not in response.text
