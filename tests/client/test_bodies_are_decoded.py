"""A compressed body is undone in bounded pieces; one that cannot be undone is never taken for a reply."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.client.exchange import MAX_REPLY_BYTES
from halo_notebook.client.transports.body import MAX_PIECE_BYTES, Body
from halo_notebook.client.transports.protocol import BrokeOff, Unreadable

from .clients import KEY, answering
from .servers import answers, asked, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEXT = "grüße ".encode() * 1000
_RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)
RAW_DEFLATE = _RAW.compress(TEXT) + _RAW.flush()


def pieces(coding: str, data: bytes, size: int = 100, received: list[bytes] | None = None) -> list[bytes]:
    """The pieces of the decoded body of an answer, which arrives in chunks of `size` bytes."""
    made = [] if received is None else received
    body = Body({"content-encoding": coding}, 2**24)
    for at in range(0, len(data), size):
        made.extend(body.feed(data[at : at + size]))
    return [*made, body.close()]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        (" X-GZIP ", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:500]) + gzip.compress(TEXT[500:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", RAW_DEFLATE),
        ("gzip", gzip.compress(TEXT) + bytes(700)),
        ("identity, gzip", gzip.compress(TEXT)),
        ("", b"\xef\xbb\xbf" + TEXT),
        ("gzip", gzip.compress(b"\xef\xbb\xbf" + TEXT)),
    ],
    ids=[
        "absent",
        "identity",
        "gzip",
        "x-gzip",
        "members",
        "zlib",
        "raw",
        "padded",
        "both",
        "mark",
        "marked gzip",
    ],
)
def test_a_body_is_decoded_however_it_is_divided(coding: str, data: bytes, size: int) -> None:
    """Each encoding that can be undone, in chunks of any size."""
    assert b"".join(pieces(coding, data, size)) == TEXT


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "x-gzip", "chunked", "identity"])
def test_a_coding_of_the_transfer_is_undone_too(coding: str) -> None:
    """As aiohttp passes it on; the chunks have been joined by then."""
    body = gzip.compress(b"Hello") if "gzip" in coding else b"Hello"
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if "chunked" in coding else body
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: %b\r\n\r\n"
    with server(answers(head % coding.encode() + chunked)) as url:
        reply, error = asked(url, "aiohttp")
    assert (reply.text, error) == ("Hello", None)


@pytest.mark.parametrize("coding", ["br, chunked", "gzip, gzip, chunked", "compress"])
def test_a_coding_of_the_transfer_that_is_not_known_is_an_error(coding: str) -> None:
    """Its bytes are not shown as a reply."""
    with pytest.raises(Unreadable, match="was not requested"):
        Body({"transfer-encoding": coding}, 100)


@pytest.mark.parametrize(
    ("coding", "data", "error"),
    [
        ("br", b"x", Unreadable),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x")), Unreadable),
        ("gzip", b"plain", Unreadable),
        ("deflate", b"plain", Unreadable),
        ("gzip", gzip.compress(TEXT)[:-9], BrokeOff),
        ("", "Hello".encode("utf-16"), Unreadable),
        ("zstd", b"x", Unreadable),
        ("gzip, identity, deflate", b"x", Unreadable),
    ],
    ids=["unknown", "twice", "not gzip", "not zlib", "without its end", "UTF-16", "zstd", "two"],
)
def test_what_cannot_be_undone_is_an_error(coding: str, data: bytes, error: type[Exception]) -> None:
    """It is not shown as if it were text; what arrived of a body without its end is given first."""
    received: list[bytes] = []
    with pytest.raises(error):
        pieces(coding, data, 10, received)
    assert bool(received) is (error is BrokeOff)
    assert TEXT.startswith(b"".join(received))


def test_a_bomb_comes_in_bounded_pieces() -> None:
    """However much a chunk contains, a piece has a limit."""
    made = pieces("gzip", gzip.compress(bytes(10_000_000)), size=100_000)
    assert sum(len(piece) for piece in made) == 10_000_000
    assert max(len(piece) for piece in made) <= MAX_PIECE_BYTES


@pytest.mark.parametrize("path", ["stream", "chat"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_reply_has_a_bound(path: str, packed: bool) -> None:
    """It ends as failed, with the text up to there; a small body may become a large one."""
    data = b"x" * (MAX_REPLY_BYTES + 2000)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    content = gzip.compress(data, 1) if packed else data

    async def given() -> AsyncIterator[bytes]:
        yield content

    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, headers=headers | {"Content-Type": "text/plain"}, content=given())
    )
    client = HaloClient(KEY, transport=transport, max_record_bytes=1000)
    with pytest.raises(errors.ReplyUnreadable, match="more than 16 MiB") as caught:
        client.ask("Hello") if path == "stream" else client.chat("Hello")
    assert caught.value.reply is not None and len(caught.value.reply.text) == MAX_REPLY_BYTES + 1000


def test_a_marked_answer_in_one_piece_is_read() -> None:
    """RFC 8259, 8.1 lets a parser ignore the mark."""
    body = b'\xef\xbb\xbf{"response": "hi", "session_id": "s"}'
    reply = answering(200, content=body).chat("Hello")
    assert (reply.text, reply.session_id) == ("hi", "s")
