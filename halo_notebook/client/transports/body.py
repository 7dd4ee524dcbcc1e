"""The only decoder between transports and parser: it undoes a compression, in pieces of bounded size.

A reply is requested uncompressed, since a compressed one is held back until a block of it is full. If a
server compresses it all the same, once, with gzip or deflate, that is undone here; no other encoding is. A
byte order mark at the start is dropped.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from .protocol import BrokeOff, Incoming, Unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MAX_PIECE_BYTES = 64 * 1024
_MAX_INPUT_BYTES = 4 * 1024
"""zlib copies what it has not read yet, for each piece that it returns."""
_GZIP_WINDOW = zlib.MAX_WBITS | 16
_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


async def decoded(incoming: Incoming, max_bytes: int) -> AsyncIterator[bytes]:
    """The answer's body as it arrives, decoded.

    Raises `Unreadable` for what cannot be decoded, and after `max_bytes`; `BrokeOff` for a compressed body
    that is not complete.
    """
    given = incoming.headers.get("content-encoding", "").lower().split(",")
    codings = [coding for each in given if (coding := each.strip()) not in ("", "identity")]
    if len(codings) > 1 or not {*codings} <= {"gzip", "x-gzip", "deflate"}:
        raise Unreadable(f"its encoding {', '.join(codings)[:40]!r} was not requested and is not supported")
    read = _limited(incoming.chunks(), max_bytes)
    pieces = _inflated(read, gzip=codings[0] != "deflate") if codings else read
    async for piece in _limited(_unmarked(pieces), max_bytes):
        yield piece


async def _limited(pieces: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    left = max_bytes
    async for piece in pieces:
        if len(piece) > left:
            yield piece[:left]
            raise Unreadable(f"it has more than {max_bytes // 1024**2:,} MiB")
        left -= len(piece)
        yield piece


async def _unmarked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces without a byte order mark at the start. Raises `Unreadable` for that of UTF-16."""
    start: bytes | None = b""
    async for piece in pieces:
        if start is None:
            yield piece
            continue
        start += piece
        if start.startswith(_UTF_16_MARKS):
            raise Unreadable("its text is UTF-16, not UTF-8")
        if not any(mark.startswith(start) for mark in (_MARK, *_UTF_16_MARKS)):
            yield start.removeprefix(_MARK)
            start = None
        elif start == _MARK:
            start = None
    if start:
        yield start


async def _inflated(chunks: AsyncIterator[bytes], *, gzip: bool) -> AsyncIterator[bytes]:
    stream = _Stream(gzip=gzip)
    async for data in chunks:
        try:
            for at in range(0, len(data), _MAX_INPUT_BYTES):
                for piece in stream.pieces(data[at : at + _MAX_INPUT_BYTES]):
                    yield piece
        except zlib.error as error:
            raise Unreadable(f"its compression is damaged: {error}") from error
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
                data = data.lstrip(b"\0") if self._gzip else b""  # padding
                if not data:
                    return
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
