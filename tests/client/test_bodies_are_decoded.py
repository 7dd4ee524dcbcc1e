"""A compressed body is undone in bounded pieces; one that cannot be undone is never taken for a reply."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import TYPE_CHECKING

import pytest

from halo_notebook.client.transports.body import MAX_PIECE_BYTES, decoded
from halo_notebook.client.transports.protocol import BrokeOff, Incoming, Unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEXT = "grüße ".encode() * 1000
_RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)
RAW_DEFLATE = _RAW.compress(TEXT) + _RAW.flush()


def pieces(coding: str, data: bytes, size: int = 100, received: list[bytes] | None = None) -> list[bytes]:
    """The pieces of the decoded body of an answer, which arrives in chunks of `size` bytes."""
    made = [] if received is None else received

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    async def read() -> None:
        async for piece in decoded(Incoming(200, {"content-encoding": coding}, chunks), 2**24):
            made.append(piece)

    asyncio.run(read())
    return made


@pytest.mark.parametrize("size", [2, 7, 10_000])
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
    ],
    ids=["absent", "identity", "gzip", "x-gzip", "members", "zlib", "raw"],
)
def test_a_body_is_decoded_however_it_is_divided(coding: str, data: bytes, size: int) -> None:
    """Each encoding that can be undone, in chunks of any size."""
    assert b"".join(pieces(coding, data, size)) == TEXT


@pytest.mark.parametrize(
    ("coding", "data", "error"),
    [
        ("br", b"x", Unreadable),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x")), Unreadable),
        ("gzip", b"plain", Unreadable),
        ("deflate", b"plain", Unreadable),
        ("gzip", gzip.compress(TEXT)[:-9], BrokeOff),
    ],
    ids=["unknown", "twice", "not gzip", "not zlib", "without its end"],
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
