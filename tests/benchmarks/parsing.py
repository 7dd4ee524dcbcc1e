"""What the parser costs beside decoding, which no reader of a stream gets round.

Times are the process's own on the CPU: what else the machine does does not count.
"""

from __future__ import annotations

import codecs
import itertools
import time
from collections.abc import Sequence
from functools import partial

from halo_notebook.stream import Action, StreamParser, TextDelta, encode

from .figures import Bound, Figure, in_turns

BULK_BYTES = 100_000_000
BULK_CHUNK_BYTES = 64 * 1024
TINY_CHUNKS = 1_000_000
TINY_CHUNK_BYTES = 10
TURNS = 5

# Their lengths share no factor with the chunks', so that every cut comes up, inside characters too.
_ASCII = "The report has three parts, and each of them says what it rests on; none is longer than a page. So "
_MIXED = "Świeża odpowiedź: café and naïve stay as they are, 12 € too, 日本語 and a 🐢 now and then. So on. "


def parser_bulk() -> list[Figure]:
    """Large chunks of plain text."""
    name = f"parser bulk: {BULK_CHUNK_BYTES // 1024} KiB chunks"
    return _speeds(name, BULK_BYTES, BULK_CHUNK_BYTES, Bound(0.5, of_ratio=True, at_least=True))


def parser_tiny() -> list[Figure]:
    """A million chunks of a few characters, as agents send them."""
    name = f"parser tiny: {TINY_CHUNKS:,} × {TINY_CHUNK_BYTES} bytes"
    bound = Bound(0.25, of_ratio=True, at_least=True)
    return _speeds(name, TINY_CHUNKS * TINY_CHUNK_BYTES, TINY_CHUNK_BYTES, bound)


def parser_records() -> list[Figure]:
    """Many records cost as much for each byte as few."""
    figures = []
    bound = Bound(1.5, of_ratio=True)
    for how, chunk_bytes in (("1 KiB chunks", 1024), ("byte by byte", 1)):
        # As many bytes in each: the shorter streams are read as often as makes up for it.
        few, more, most = in_turns(
            [partial(_records_ns, count, 20_000 // count, chunk_bytes) for count in (200, 2_000, 20_000)],
            TURNS,
        )
        for count, values in ((2_000, more), (20_000, most)):
            name = f"parser records: {count:,}, {how}"
            figures.append(Figure(name, "ns/byte", values, few, "a stream of 200", bound))
    return figures


def _cut(data: bytes, chunk_bytes: int) -> list[bytes]:
    return [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]


def _speeds(name: str, size: int, chunk_bytes: int, bound: Bound) -> list[Figure]:
    figures = []
    for kind, text in (("ASCII", _ASCII.encode()), ("mixed scripts", _MIXED.encode())):
        chunks = _cut((text * (size // len(text) + 1))[:size], chunk_bytes)
        measures = [partial(measure, chunks) for measure in (_parse_s, _decode_s, _decode_each_s)]
        fed, decoded, each = ([size / 1e6 / s for s in seconds] for seconds in in_turns(measures, TURNS))
        figures += [
            Figure(f"{name}, {kind}", "MB/s", fed, decoded, "incremental UTF-8 decoder", bound),
            Figure(f"{name}, {kind}", "MB/s", fed, each, "bytes.decode of each"),
        ]
    return figures


def _parse_s(chunks: Sequence[bytes]) -> float:
    parser = StreamParser()
    at = time.process_time()
    for chunk in chunks:
        parser.feed(chunk)
    parser.close()
    return time.process_time() - at


def _decode_s(chunks: Sequence[bytes]) -> float:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at = time.process_time()
    for chunk in chunks:
        decoder.decode(chunk)
    decoder.decode(b"", True)
    return time.process_time() - at


def _decode_each_s(chunks: Sequence[bytes]) -> float:
    at = time.process_time()
    for chunk in chunks:
        chunk.decode("utf-8", "replace")
    return time.process_time() - at


def _records_ns(count: int, times: int, chunk_bytes: int) -> float:
    """Nanoseconds for each byte of a stream of so many records, read so many times."""
    data = b"".join(
        encode(Action({"type": "open", "tab": number % 10})) + encode(TextDelta("Next: "))
        for number in range(count)
    )
    chunks = _cut(data, chunk_bytes)
    seconds = sum(_parse_s(chunks) for _ in itertools.repeat(None, times))
    return seconds * 1e9 / (len(data) * times)
