"""No key and no user token is written, wherever the server repeats it."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.client.masking import MASK
from halo_notebook.demo import DemoAgent, sign_user_token
from halo_notebook.recording.format import read_recording
from halo_notebook.recording.recorder import Recorder
from halo_notebook.stream import Action, encode

from .recordings import KEY, SECRET, asked, replaying


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_secret_that_the_server_repeats_is_masked(size: int, path: Path) -> None:
    """Wherever it stands and however it is cut; nothing else changes."""
    token = sign_user_token(SECRET, "u_1")
    text = f"Your key is {KEY}, and again {KEY}. Token:"
    reply = text.encode() + encode(Action({"type": "tell", "token": token, KEY: 1}))
    steps = [reply[start : start + size] for start in range(0, len(reply), size)]
    with DemoAgent(first_byte_s=0, reply=lambda _: steps) as agent:
        client = HaloClient(KEY, base_url=agent.url, record=Recorder(path))
        then = client.ask(f"Is {KEY} it?", user_token=token, context={"plan": KEY})
    held = path.read_text()
    assert KEY not in then.text and then.actions == [
        {"type": "tell", "token": token[:8] + MASK, SHOWN_KEY: 1}
    ]
    assert KEY not in held and token not in held and KEY[:20] not in held
    (exchange,) = read_recording(path)
    assert exchange.body["user_token"] == "set"
    assert b"".join(data for _, data in exchange.chunks).decode() == (
        reply.decode().replace(KEY, SHOWN_KEY).replace(token, token[:8] + MASK)
    )


SHOWN_KEY = "ab_live_" + MASK


def test_a_secret_that_is_cut_off_is_masked(path: Path) -> None:
    """A reply that ends in the midst of a key holds no part of it that is worth something."""
    with DemoAgent(first_byte_s=0, reply=lambda _: [b"Your key is ", KEY[:25].encode()]) as agent:
        HaloClient(KEY, base_url=agent.url, record=Recorder(path)).ask("Hello")
    assert KEY[:12] not in path.read_text()
    assert b"".join(data for _, data in read_recording(path)[0].chunks) == f"Your key is {SHOWN_KEY}".encode()


def test_a_secret_in_a_compressed_reply_is_masked(path: Path) -> None:
    """A compression that nobody asked for is undone in the recording; a broken one is broken as it was."""
    packed = gzip.compress(f"Your key is {KEY}.".encode())
    answers = [packed, packed[:30] + b"garbage" + packed[30:]]

    async def given(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 10):
            yield data[start : start + 10]

    transport = httpx.MockTransport(
        lambda request: httpx.Response(
            200, headers={"Content-Encoding": "gzip"}, content=given(answers.pop(0))
        )
    )
    client = HaloClient(KEY, transport=transport, record=Recorder(path))
    assert client.ask("Hello").text == f"Your key is {SHOWN_KEY}."
    _, then = asked(client, "Hello")
    assert KEY not in path.read_text()
    replay = replaying(path)
    assert replay.ask("Hello").text == f"Your key is {SHOWN_KEY}."
    _, now = asked(replay, "Hello")
    assert isinstance(then, errors.ReplyUnreadable) and type(now) is type(then)


def test_a_short_secret_spoils_no_line(path: Path) -> None:
    """A token of one letter is not looked for: it would spoil every reply."""
    with DemoAgent(first_byte_s=0, reply=lambda _: [b"a\xc3", b"\xa9t"]) as agent:
        HaloClient(KEY, base_url=agent.url, record=Recorder(path)).ask("at", user_token="a")
    (exchange,) = read_recording(path)
    assert (exchange.message, b"".join(data for _, data in exchange.chunks).decode()) == ("at", "aét")
