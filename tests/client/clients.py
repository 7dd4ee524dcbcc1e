"""Clients whose answers a test writes itself, and their keys and tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from halo_notebook import HaloClient, Reply, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent

if TYPE_CHECKING:
    from ..harness.faults import Fault

KEY = "ab_live_" + "k3y" * 8
SECRET = "ha_secret_" + "s3cret" * 4


def token(exp: float | None) -> str:
    """An unsigned JWT: the client reads its claims and checks no signature."""
    claims = {"user_id": "u_1"} | ({} if exp is None else {"exp": exp})
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{middle}.c2lnbmF0dXJl"


def in_turn(*answers: httpx.Response | Exception) -> tuple[HaloClient, list[httpx.Request]]:
    """A client that gets each of these once and the last one ever after, and the requests it has sent."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        given = answers[min(len(sent), len(answers)) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    return HaloClient(KEY, transport=httpx.MockTransport(answer)), sent


def answering(*args: Any, **kwargs: Any) -> HaloClient:
    """A client that gets this `httpx.Response` for its request."""
    return in_turn(httpx.Response(*args, **kwargs))[0]


def check(fault: Fault, reply: Reply, error: errors.HaloError | None) -> None:
    """The error that the fault must give, in one line, and the text that is kept."""
    assert type(error) is (fault.error or type(None)), error
    line = str(error or "")
    assert (reply.status, reply.error) == ("failed" if error else "complete", line)
    assert "\n" not in line and len(line) < 400 and DEMO_KEY not in line
    assert all(words in line for words in fault.words), line
    assert fault.text in reply.text


@contextmanager
def replying(*steps: Any) -> Iterator[HaloClient]:
    """A client of an agent whose reply has these steps."""
    with DemoAgent(reply=lambda _: list(steps), first_byte_s=0) as agent:
        yield HaloClient(KEY, base_url=agent.url)
