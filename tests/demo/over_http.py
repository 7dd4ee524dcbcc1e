"""What the tests of the demo agent share: clients that talk HTTP to it on loopback."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import httpx

from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.stream import JSON, Action, Event, StreamParser, TextDelta

EVENT_TRACKING = "How do I set up event tracking?"
# The agent does not speak TLS, and loading certificates would take longer than most tests.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def connect(agent: DemoAgent) -> httpx.Client:
    headers = {"Authorization": f"Bearer {DEMO_KEY}"}
    return httpx.Client(
        base_url=agent.url, headers=headers, trust_env=False, timeout=30, verify=NO_CERTIFICATES
    )


def ask(http: httpx.Client, message: str, **fields: Any) -> httpx.Response:
    return http.post("/chat/stream", json={"message": message, **fields})


def raw_chunks(http: httpx.Client, message: str) -> list[bytes]:
    """The chunks of the reply as they were sent: httpx never joins two."""
    with http.stream("POST", "/chat/stream", json={"message": message}) as response:
        return list(response.iter_raw())


def raw_request(message: str) -> bytes:
    body = json.dumps({"message": message}).encode()
    head = f"POST /api/sdk/chat/stream HTTP/1.1\r\nHost: demo\r\nAuthorization: Bearer {DEMO_KEY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def raw_connection(agent: DemoAgent) -> socket.socket:
    url = httpx.URL(agent.url)
    return socket.create_connection((url.host, url.port or 0), timeout=30)


def events_of(data: bytes) -> list[Event]:
    parser = StreamParser()
    return parser.feed(data) + parser.close()


def text_of(data: bytes) -> str:
    return "".join(event.text for event in events_of(data) if isinstance(event, TextDelta))


def actions_of(data: bytes) -> list[JSON]:
    return [event.payload for event in events_of(data) if isinstance(event, Action)]


def error_of(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert isinstance(error, str)
    return error
