"""Clients whose answers a test writes itself, and their keys and tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from halo_notebook import HaloClient
from halo_notebook.demo import DemoAgent

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


@contextmanager
def replying(*steps: Any) -> Iterator[HaloClient]:
    """A client of an agent whose reply has these steps."""
    with DemoAgent(reply=lambda _: list(steps), first_byte_s=0) as agent:
        yield HaloClient(KEY, base_url=agent.url)
