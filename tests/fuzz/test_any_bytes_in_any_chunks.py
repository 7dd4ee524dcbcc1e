"""The stream parser keeps its invariant for any bytes, cut anywhere.

The invariant: what `StreamParser` has returned so far, with adjacent texts joined, is what a plain scan of
all bytes so far finds: the text without the pattern \\x1E__ACTIONS?__…\\x1E, and the records in their places.
It holds back only what may still become a tag or a character, and the open record, of which it keeps at most
`max_record_bytes`. After `close` nothing is held back, and the parser is as new. No input raises.

To search longer: `FUZZ_EXAMPLES=100000 python -m pytest tests/fuzz --timeout=0`. Add a failing input to
`SEEDS` once it is understood.
"""

from __future__ import annotations

import codecs
import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halo_notebook.stream import (
    JSON,
    MAX_NESTING,
    MAX_RECORD_BYTES,
    Action,
    ActionSummary,
    Event,
    MalformedRecord,
    StreamParser,
    TextDelta,
)

SEPARATOR = b"\x1e"
ACTION = b"\x1e__ACTION__"
SUMMARY = b"\x1e__ACTIONS__"
LONGEST_HELD = max(len(SUMMARY) - 1, 3)  # the start of a tag, or of a character

MAX_CHECKED_CUTS = 40
"""After this many chunks only the end is compared: each comparison scans all bytes so far."""

# An input is a byte for the limit, a byte that counts the sizes, the sizes, and the stream.
_HEADS = [b"\xff\x00", b"\xff\x01\x01", b"\xff\x03\x02\x00\x05", b"\x05\x01\x03", b"\x10\x02\x07\x01"]
_STREAMS = [
    b"plain text",
    "żółw 🐢 ".encode() + ACTION + b'{"type":"open"}\x1e' + "終".encode(),
    ACTION + b"1\x1e" + SUMMARY + b"[1, 2.50, -0]\x1e" + ACTION + b'"123456789012345678"\x1e',
    b"\x1e__ACT" + ACTION + b"0\x1e__ACTION__0\x1e\x1e__ACTIONX__",
    b"a\xe2\x82" + ACTION + b"1\x1e\xac \xf0\x9f\x90\x1e\xff\xc0\x80\xed\xa0\x80",
    ACTION + rb'{"\ud800":1,"\ufffd":2,"\uDC00":3,"\\ud800":"\ud83d\ud83d\ude00"}' + b"\x1e",
    ACTION + b"[NaN]\x1e" + ACTION + b"-1e999\x1e" + SUMMARY + b"{}\x1e" + ACTION + b"\x1e",
    ACTION + b"[" * 257 + b"]" * 257 + b"\x1e" + ACTION + b"[" * 256 + b"]" * 256 + b"\x1e",
    ACTION + b"9" * 4301 + b"\x1e" + ACTION + b"[" * 3000 + b"\x1e" + ACTION + b'"\xe2\x82\x1eend',
    ACTION + b"\xef\xbb\xbf1\x1e" + SUMMARY + b' [ "\x00" ] \x1e' + SUMMARY + b"[[",
    ACTION + b"[[]," + b"[" * 255 + b"]" * 256 + b"\x1e" + ACTION + rb'"\uDBFF"' + b"\x1e",
    b"cut in a long record" + ACTION + b'"12345678',
    b"held at the end \x1e__ACTIONS_",
    b"held at the end \xf0\x9f\x90",
]
SEEDS = [head + stream for head in _HEADS for stream in _STREAMS]


def check(data: bytes) -> None:
    """Raise AssertionError unless the invariant of this file holds for one input."""
    stream, sizes, max_record_bytes = _parts(data)
    parser = StreamParser(max_record_bytes=max_record_bytes)
    end = _scan(stream, max_record_bytes, ended=True)
    # One parser for all: after `close` it must be as new.
    for chunk_sizes in (sizes, [len(stream)], [1]):
        events: list[Event] = []
        fed = 0
        for number, chunk in enumerate(_cut(stream, chunk_sizes)):
            events += parser.feed(chunk)
            fed += len(chunk)
            assert len(parser._record) <= max_record_bytes, "more of a record is held than its limit"
            assert len(parser._held) <= LONGEST_HELD, "more than a tag or a character is held"
            if number < MAX_CHECKED_CUTS:
                _compare(events, _scan(stream[:fed], max_record_bytes, ended=False), stream[:fed])
        assert fed == len(stream)
        events += parser.close()
        _compare(events, end, stream)
        assert not any(event == TextDelta("") for event in events), "a text without characters"


def _parts(data: bytes) -> tuple[bytes, list[int], int]:
    """The stream, the sizes of its chunks (taken in turn, again and again) and the record limit."""
    limit, count = (*data[:2], 0, 0)[:2]
    sizes = list(data[2 : 2 + count % 8])
    stream = data[2 + len(sizes) :]
    return stream, sizes if any(sizes) else [len(stream)], MAX_RECORD_BYTES if limit > 64 else limit + 1


def _cut(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(stream):
            return
        yield stream[at : at + size]
        at += size


def _compare(events: list[Event], expected: list[Event], stream: bytes) -> None:
    # Compare texts: in Python, True == 1 == 1.0 and -0.0 == 0.0.
    assert repr(_joined(events)) == repr(expected), f"{_joined(events)} is not {expected} for {stream!r}"


def _joined(events: list[Event]) -> list[Event]:
    joined: list[Event] = []
    for event in events:
        if joined and isinstance(event, TextDelta) and isinstance(joined[-1], TextDelta):
            joined[-1] = TextDelta(joined[-1].text + event.text)
        else:
            joined.append(event)
    return joined


# --- The plain scan: it sees all bytes at once and shares no code with the parser -------------


def _scan(data: bytes, max_record_bytes: int, *, ended: bool) -> list[Event]:
    """The events in `data`; unless it has `ended`, those that later bytes cannot change."""
    events: list[Event] = []
    text_from = at = 0
    while (at := data.find(SEPARATOR, at)) >= 0:
        tag = next((tag for tag in (ACTION, SUMMARY) if data[at : at + len(tag)] == tag), None)
        if tag is None:
            at += 1
            continue
        events.append(TextDelta(data[text_from:at].decode("utf-8", "replace")))
        start = at + len(tag)
        stop = data.find(SEPARATOR, start)
        raw = data[start:] if stop < 0 else data[start:stop]
        if len(raw) > max_record_bytes:
            events.append(MalformedRecord("", "too large"))
        elif stop >= 0:
            events.append(_record(raw.decode("utf-8", "replace"), summary=tag == SUMMARY))
        elif ended:
            events.append(MalformedRecord(raw.decode("utf-8", "replace"), "truncated"))
        text_from = at = stop + 1 if stop >= 0 else len(data)
    rest = data[text_from:]
    events.append(TextDelta(rest.decode("utf-8", "replace") if ended else _surely_text(rest)))
    return [event for event in events if event != TextDelta("")]


def _surely_text(rest: bytes) -> str:
    """`rest` without the end that may become a tag, or else without its unfinished character."""
    for length in range(min(len(rest), LONGEST_HELD), 0, -1):
        if any(tag[:length] == rest[-length:] for tag in (ACTION, SUMMARY)):
            return rest[:-length].decode("utf-8", "replace")
    return codecs.getincrementaldecoder("utf-8")("replace").decode(rest)


def _record(raw: str, *, summary: bool) -> Event:
    if _depth(raw) > MAX_NESTING:
        return MalformedRecord(raw, "json")
    try:
        payload: JSON = json.loads(
            raw, parse_constant=_refused, parse_float=_finite, object_pairs_hook=_sendable_object
        )
    except (ValueError, RecursionError):
        return MalformedRecord(raw, "json")
    payload = _sendable(payload)
    if not summary:
        return Action(payload)
    return ActionSummary(payload) if isinstance(payload, list) else MalformedRecord(raw, "not an array")


def _depth(raw: str) -> int:
    """How deep brackets outside of strings are nested."""
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", raw, flags=re.DOTALL)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _refused(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(digits)
    return float(digits)


def _sendable(value: JSON) -> JSON:
    """`value` with U+FFFD for each lone surrogate in its strings."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    return [_sendable(item) for item in value] if isinstance(value, list) else value


def _sendable_object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    # In order: of two keys that become the same, the later one counts.
    return {str(_sendable(key)): _sendable(value) for key, value in pairs}


# --- Inputs made by hypothesis ---------------------------------------------------------------

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
_pieces = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([SEPARATOR, ACTION, SUMMARY, ACTION[:5], b"S__", b"[]\x1e", b'"', b"\\", b"\xe2\x82"]),
    # With the defaults of `json.dumps`, NaN and lone surrogates get in.
    st.builds(
        lambda tag, value: tag + json.dumps(value).encode() + SEPARATOR,
        st.sampled_from([ACTION, SUMMARY]),
        _json_values,
    ),
    st.text('\\ud8DcC0f3/"bn', max_size=16).map(lambda text: ACTION + f'"{text}"'.encode() + SEPARATOR),
)
_inputs = st.builds(
    lambda limit, sizes, stream: bytes([limit, len(sizes), *sizes]) + stream,
    st.integers(0, 255),
    st.lists(st.integers(0, 9), max_size=7),
    st.lists(_pieces, max_size=14).map(b"".join),
)


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
def test_the_invariant_holds_for_the_seeds(data: bytes) -> None:
    """Each seed gives what a plain scan of it finds, however it is cut."""
    check(data)


@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(_inputs)
def test_the_invariant_holds_for_generated_inputs(data: bytes) -> None:
    """So does what hypothesis generates."""
    check(data)


def test_a_broken_parser_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that loses one held byte fails the check."""
    feed = StreamParser.feed

    def forgetful(self: StreamParser, data: bytes) -> object:
        events = feed(self, data)
        self._held = self._held[1:]
        return events

    monkeypatch.setattr(StreamParser, "feed", forgetful)
    with pytest.raises(AssertionError, match="is not"):
        check(b"\xff\x01\x01" + "żółw".encode())
