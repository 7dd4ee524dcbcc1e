"""The demo agent's protocol: what a request must contain, and what an answer consists of.

It follows the documentation of the real service and its limits. It knows neither sockets nor the script.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..stream import JSON, Action, ActionSummary, StreamParser, TextDelta, decode_json, encode

BASE_PATH = "/api/sdk"
STREAM_PATH = f"{BASE_PATH}/chat/stream"
CHAT_PATH = f"{BASE_PATH}/chat"

DEMO_KEY = "ab_live_demo"
"""The key for the demo agent, which accepts any key that starts with ``ab_``."""

Step: TypeAlias = TextDelta | Action | ActionSummary | bytes | float
"""One step of a reply: an event or bytes, sent as one chunk, or a pause in seconds."""
Headers: TypeAlias = tuple[tuple[str, str], ...]
Ending: TypeAlias = Literal["end", "cut", "silence"]
"""How an answer ends: as HTTP requires; by closing the connection too early; or never."""


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """A request as the demo agent received it.

    `headers` has lower-case names; the value of ``authorization`` is only ``"set"``. `body` is the parsed
    JSON, or None if it is not JSON; the repr leaves it out, since it may contain a user token.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send for a request, `after_s` seconds after it arrived. Without a `status`, nothing is sent."""

    status: int | None
    headers: Headers = ()
    steps: Iterable[Step] = ()
    ending: Ending = "end"
    after_s: float = 0.0


class Refusal(Exception):
    """A request that gets an error as its answer: the status and the text."""


def step_bytes(step: Step) -> bytes:
    """Return the chunk that a step of a reply, other than a pause, is sent as."""
    if isinstance(step, TextDelta | Action | ActionSummary):
        return encode(step)
    if isinstance(step, bytes):
        return step
    raise TypeError(f"a step must be an event, bytes or a pause, not {type(step).__name__}")


def stream_answer(steps: Iterable[Step], session_id: str, agent_id: str, ending: Ending = "end") -> Answer:
    """Return a reply to ``POST /chat/stream``."""
    headers = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Session-Id", session_id),
        ("X-Agent-Id", agent_id),
    )
    return Answer(200, headers, steps, ending)


def chat_answer(steps: Iterable[Step], session_id: str, agent_id: str) -> Answer:
    """Return the same reply to ``POST /chat``: its text as one JSON object, without pauses."""
    parser = StreamParser()
    events = parser.feed(b"".join(step_bytes(step) for step in steps if not isinstance(step, (int, float))))
    text = "".join(event.text for event in events + parser.close() if isinstance(event, TextDelta))
    return _json_answer(200, {"response": text, "session_id": session_id, "agent_id": agent_id})


def error_answer(status: int, error: str, headers: Headers = ()) -> Answer:
    body: dict[str, JSON] = {"error": error}
    if status in (401, 403):
        body["docs_url"] = "https://docs.example.com/demo-agent"
    return _json_answer(status, body, headers)


def _json_answer(status: int, body: JSON, headers: Headers = ()) -> Answer:
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    framing = (("Content-Type", "application/json"), ("Content-Length", str(len(data))))
    return Answer(status, framing + headers, (data,))


def check_key(authorization: str) -> None:
    """Raise a 401 unless the header contains a widget key."""
    if not re.fullmatch(r"bearer +ab_\S+", authorization, re.IGNORECASE):
        raise Refusal(401, "Missing or invalid API key. Send 'Authorization: Bearer ab_live_…'.")


def requested_agent_id(request: dict[str, JSON]) -> str:
    return str(request.get("agent_id", "agent_demo"))


def check_request(body: JSON) -> dict[str, JSON]:
    """Check a request's body against the documented types and limits, and return it.

    Unknown fields are accepted, because it is not known whether the real service refuses them.
    """
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object.")
    if not str(body.get("message", "")).strip():
        raise Refusal(400, "message is required.")
    for name, (kind, limit, what) in _FIELDS.items():
        value = body.get(name, kind())
        if not isinstance(value, kind) or _length(value) > limit:
            raise Refusal(400, f"{name} must be {what}.")
    for name in ("session_id", "agent_id"):
        if not re.fullmatch(r"[!-~]{1,200}", str(body.get(name, "unset"))):  # both are sent back in a header
            raise Refusal(400, f"{name} must be 1 to 200 visible ASCII characters.")
    return body


def _length(value: JSON) -> int:
    as_json = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(value) if isinstance(value, (str, list)) else len(as_json)


_FIELDS: dict[str, tuple[type[str | list[JSON] | dict[str, JSON]], float, str]] = {
    **dict.fromkeys(("user_id", "user_token", "company_id", "mode"), (str, math.inf, "a string")),
    **dict.fromkeys(("session_id", "agent_id"), (str, math.inf, "a string")),
    "message": (str, 10_000, "a string of at most 10,000 characters"),
    "behavior_context": (str, 5_000, "a string of at most 5,000 characters"),
    "custom_fields": (dict, 10_000, "an object of at most 10,000 characters as JSON"),
    "context": (dict, math.inf, "an object"),
    "conversation_history": (list, 50, "an array of at most 50 items"),
    "images": (list, math.inf, "an array"),
}
"""The documented fields with their type and the length that they may have."""


def sign_user_token(secret: str, user_id: str, *, expires_in_s: float = 3600) -> str:
    """Return a user token (JWT, HS256) as a backend would sign it.

    Args:
        secret: the identity secret; a `DemoAgent` with the same `identity_secret` accepts the token.
        user_id: the user whom the token identifies.
        expires_in_s: seconds until it expires; negative for a token that has expired.
    """
    now = time.time()
    claims: dict[str, JSON] = {"user_id": user_id, "iat": int(now), "exp": int(now + expires_in_s)}
    return sign_token(secret, {"alg": "HS256", "typ": "JWT"}, claims)


def sign_token(secret: str, header: JSON, claims: JSON) -> str:
    """Return a token with this header and these claims, signed with HMAC-SHA256 whatever the header says."""
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (header, claims))
    return _signed(secret, ".".join(map(_base64url, parts)))


def verify_identity(secret: str, request: dict[str, JSON]) -> None:
    """Raise a 403 unless the request is anonymous or its token is valid for its user."""
    user_id = request.get("user_id", "anonymous")
    if user_id == "anonymous":
        return
    if "user_token" not in request:
        raise Refusal(403, "Identity verification is on: user_token is required.")
    if not _is_valid(str(request["user_token"]), secret, user_id):
        raise Refusal(403, "Identity verification failed: user_token is not valid.")


def _is_valid(token: str, secret: str, user_id: JSON) -> bool:
    """Whether a token is signed with `secret`, has not expired and identifies this user."""
    content = token.rpartition(".")[0]
    if not hmac.compare_digest(token.encode(), _signed(secret, content).encode()):
        return False
    header, claims = (decode_json(_from_base64url(part)) for part in content.split("."))
    # A token that names another algorithm, or none, is refused whatever its signature.
    if not isinstance(header, dict) or header.get("alg") != "HS256" or not isinstance(claims, dict):
        return False
    expires = claims.get("exp", math.inf)
    is_valid_now = isinstance(expires, (int, float)) and expires > time.time()
    return is_valid_now and claims.get("user_id", claims.get("sub")) == user_id


def _signed(secret: str, content: str) -> str:
    return f"{content}.{_base64url(hmac.digest(secret.encode(), content.encode(), 'sha256'))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
