"""The only decoder between transports and parser: it undoes a compression, in pieces of bounded size.

A reply is requested uncompressed, since a compressed one is held back until a block of it is full. If a
server compresses it all the same, once, with gzip or deflate, that is undone here; no other encoding is. A
byte order mark at the start is dropped.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from .protocol import BrokeOff, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_PIECE_BYTES = 64 * 1024
_MAX_INPUT_BYTES = 4 * 1024
"""zlib copies what it has not read yet, for each piece that it returns."""
_GZIP_WINDOW = zlib.MAX_WBITS | 16
_PLAIN = ("", "identity", "chunked")
_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Body:
    """The body of an answer, decoded as it arrives.

    Raises `Unreadable` for what cannot be decoded, and after `max_bytes`.
    """

    def __init__(self, headers: Mapping[str, str], max_bytes: int) -> None:
        given = ",".join(headers.get(name, "") for name in ("content-encoding", "transfer-encoding"))
        codings = [coding for each in given.lower().split(",") if (coding := each.strip()) not in _PLAIN]
        if len(codings) > 1 or not {*codings} <= {"gzip", "x-gzip", "deflate"}:
            raise Unreadable(
                f"its encoding {', '.join(codings)[:40]!r} was not requested and is not supported"
            )
        self._stream = _Stream(gzip=codings[0] != "deflate") if codings else None
        self._max_bytes = max_bytes
        self._received = self._given = 0
        self._start: bytes | None = b""  # what may become a mark; None once that is known

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """Add a chunk; gives what is decoded, in pieces."""
        self._received += len(chunk)
        if self._stream is None and self._start is None and self._received <= self._max_bytes:
            self._given += len(chunk)
            return (chunk,)  # as nearly always
        return self._pieces(chunk)

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        for decoded in self._inflated(chunk) if self._stream is not None else (chunk,):
            piece = decoded if self._start is None else self._unmarked(decoded)
            more = self._max_bytes - self._given
            self._given += len(piece)
            if piece:
                yield piece[:more]
            if self._given > self._max_bytes:
                break
        if max(self._given, self._received) > self._max_bytes:
            raise Unreadable(f"it has more than {self._max_bytes // 1024**2:,} MiB")

    def close(self) -> bytes:
        """The rest, at the end. Raises `BrokeOff` for a compressed body that is not complete."""
        if self._stream is not None and self._stream.unfinished:
            raise BrokeOff("its compression is not complete")
        return self._start or b""

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        assert self._stream is not None, "it is compressed"
        try:
            for at in range(0, len(data), _MAX_INPUT_BYTES):
                yield from self._stream.pieces(data[at : at + _MAX_INPUT_BYTES])
        except zlib.error as error:
            raise Unreadable(f"its compression is damaged: {error}") from error

    def _unmarked(self, piece: bytes) -> bytes:
        """The piece without a byte order mark at the start. Raises `Unreadable` for that of UTF-16."""
        assert self._start is not None, "the start is not known yet"
        start = self._start + piece
        if start.startswith(_UTF_16_MARKS):
            raise Unreadable("its text is UTF-16, not UTF-8")
        if start != _MARK and any(mark.startswith(start) for mark in (_MARK, *_UTF_16_MARKS)):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_MARK)


class _Stream:
    """A compressed body: with gzip, one member after the other; with deflate, with or without its head."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate = zlib.decompressobj(_GZIP_WINDOW if gzip else zlib.MAX_WBITS)
        self._first = b""  # the first byte, which alone does not show whether there is a zlib head
        self.unfinished = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate.eof:
                data = data.lstrip(b"\0") if self._gzip else b""  # padding
                if not data:
                    return
                self._inflate = zlib.decompressobj(_GZIP_WINDOW)
            first, self._first = self._first, b""
            try:
                piece = self._inflate.decompress(data, MAX_PIECE_BYTES)
            except zlib.error:
                if self._gzip or (self.unfinished and not first):
                    raise
                # Some servers call deflate what has no zlib head; only the first two bytes can tell.
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
                piece = self._inflate.decompress(first + data, MAX_PIECE_BYTES)
            if len(data) == 1 and not self.unfinished:
                self._first = data
            self.unfinished = not self._inflate.eof
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
