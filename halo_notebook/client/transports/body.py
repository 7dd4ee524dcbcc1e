"""The only decoder between transports and parser: it undoes a compression, in pieces of bounded size.

A reply is requested uncompressed, since a compressed one is held back until a block of it is full. If a
server compresses it all the same with gzip or deflate, that is undone here; no other encoding is.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from .protocol import BrokeOff, Incoming, Unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MAX_PIECE_BYTES = 64 * 1024
_GZIP_WINDOW = zlib.MAX_WBITS | 16


def decoded(incoming: Incoming) -> AsyncIterator[bytes]:
    """The answer's body as it arrives, decoded. Raises `Unreadable` for what cannot be decoded."""
    coding = incoming.headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return incoming.chunks()
    return _inflated(incoming, coding)


async def _inflated(incoming: Incoming, coding: str) -> AsyncIterator[bytes]:
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise Unreadable(f"the encoding {coding[:40]!r} is not supported")
    stream = _Stream(gzip=coding != "deflate")
    async for data in incoming.chunks():
        try:
            for piece in stream.pieces(data):
                yield piece
        except zlib.error as error:
            raise Unreadable(str(error)) from error
    if stream.unfinished:
        raise BrokeOff("its compression is not complete")


class _Stream:
    """A compressed body: with gzip, one member after the other; with deflate, with or without its head."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate = zlib.decompressobj(_GZIP_WINDOW if gzip else zlib.MAX_WBITS)
        self.unfinished = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate.eof:
                if not self._gzip:
                    return  # what follows is padding
                self._inflate = zlib.decompressobj(_GZIP_WINDOW)
            try:
                piece = self._inflate.decompress(data, MAX_PIECE_BYTES)
            except zlib.error:
                if self._gzip or self.unfinished:
                    raise
                # Some servers call deflate what has no zlib head; only the first bytes can tell.
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
                piece = self._inflate.decompress(data, MAX_PIECE_BYTES)
            self.unfinished = not self._inflate.eof
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
