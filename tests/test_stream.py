"""The stream's contract: the same events for any chunking, all text kept, nothing raised."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_notebook import stream
from halo_notebook.stream import (
    JSON,
    MAX_NESTING,
    Action,
    ActionSummary,
    Event,
    MalformedRecord,
    StreamParser,
    TextDelta,
    encode,
)

ACTION = b"\x1e__ACTION__"
SUMMARY = b"\x1e__ACTIONS__"

# This project's own vectors: name → (bytes, events with adjacent texts joined).
VECTORS: dict[str, tuple[bytes, list[Event]]] = {
    "text alone": (b"Good morning", [TextDelta("Good morning")]),
    "nothing": (b"", []),
    "action in a sentence": (
        b"See" + ACTION + b'{"type":"open","tab":2}\x1e there',
        [TextDelta("See"), Action({"type": "open", "tab": 2}), TextDelta(" there")],
    ),
    "records back to back": (
        ACTION + b"1\x1e" + ACTION + b"[2]\x1e" + SUMMARY + b"[1,[2]]\x1e",
        [Action(1), Action([2]), ActionSummary([1, [2]])],
    ),
    "shared separator is no frame": (
        ACTION + b"1\x1e__ACTION__2\x1e",
        [Action(1), TextDelta("__ACTION__2\x1e")],
    ),
    "text after the summary": (SUMMARY + b"[]\x1elate", [ActionSummary([]), TextDelta("late")]),
    "several scripts": (
        "żółw 🐢".encode() + ACTION + '"日本"'.encode() + b"\x1e" + "終".encode(),
        [TextDelta("żółw 🐢"), Action("日本"), TextDelta("終")],
    ),
    "escaped separator": (ACTION + b'"a\\u001eb"\x1e', [Action("a\x1eb")]),
    "lone separators": (b"\x1e\x1ea\x1e", [TextDelta("\x1e\x1ea\x1e")]),
    "separator before a tag": (b"\x1e" + ACTION + b"0\x1e", [TextDelta("\x1e"), Action(0)]),
    "tag cut by a separator": (b"\x1e__ACT" + ACTION + b"0\x1e", [TextDelta("\x1e__ACT"), Action(0)]),
    "almost a tag": (b"\x1e__ACTIONX__{}\x1e", [TextDelta("\x1e__ACTIONX__{}\x1e")]),
    "lower case is no tag": (b"\x1e__action__1\x1e", [TextDelta("\x1e__action__1\x1e")]),
    "tag in text": (b"use __ACTION__ so", [TextDelta("use __ACTION__ so")]),
    "ends in a tag": (b"a\x1e__ACTIONS_", [TextDelta("a\x1e__ACTIONS_")]),
    "ends in a record": (b"ok" + ACTION + b"[1", [TextDelta("ok"), MalformedRecord("[1", "truncated")]),
    "ends after a tag": (SUMMARY, [MalformedRecord("", "truncated")]),
    "ends in a character": (b"a\xf0\x9f\x9b", [TextDelta("a�")]),
    "character cut by a record": (
        b"a\xe2\x82" + ACTION + b"1\x1e\xac",
        [TextDelta("a�"), Action(1), TextDelta("�")],
    ),
    "character cut by a lone separator": (b"\xe2\x82\x1e\xac", [TextDelta("�\x1e�")]),
    "invalid bytes": (b"a\xffb\xc0\x80c", [TextDelta("a�b��c")]),
    "invalid bytes in a record": (ACTION + b'"\xff"\x1e', [Action("�")]),
    "summary that is an object": (SUMMARY + b"{}\x1e", [MalformedRecord("{}", "not an array")]),
    "lone surrogates": (
        ACTION + rb'{"\ud800":"\udfff\ud83d\ude00\ud83d \\ud800"}' + b"\x1e",
        [Action({"�": "�😀� \\ud800"})],
    ),
    "white space around a payload": (ACTION + b" \r\n\t1 \x1e", [Action(1)]),
    "null": (ACTION + b"null\x1e", [Action(None)]),
}
for _raw in ("{oops}", "", "1 2", "[NaN]", "-Infinity", "1e999", "\ufeff1", '"a\nb"'):
    VECTORS[f"not JSON: {_raw!a}"] = (
        b"a" + ACTION + _raw.encode() + b"\x1eb",
        [TextDelta("a"), MalformedRecord(_raw, "json"), TextDelta("b")],
    )


def joined(events: list[Event]) -> list[Event]:
    """The events with adjacent texts joined."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, TextDelta) and result and isinstance(result[-1], TextDelta):
            result[-1] = TextDelta(result[-1].text + event.text)
        else:
            result.append(event)
    return result


def parse(chunks: list[bytes], **options: int) -> list[Event]:
    parser = StreamParser(**options)
    return joined([event for chunk in chunks for event in parser.feed(chunk)] + parser.close())


def chunkings(data: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and at every split into two."""
    return [
        [data],
        [data[i : i + 1] for i in range(len(data))],
        *([data[:i], data[i:]] for i in range(len(data) + 1)),
    ]


def reference(data: bytes) -> tuple[str, list[str]]:
    """The documented pattern over the whole decoded text: what it leaves, and each record's JSON part."""
    text = data.decode("utf-8", "replace")
    pattern = re.compile("\x1e__ACTIONS?__([^\x1e]*)\x1e")
    left = pattern.sub("", text)
    # A record that never ends is not in the pattern: what follows its tag is cut off.
    end = max((match.end() for match in pattern.finditer(text)), default=0)
    if open_tag := re.search("\x1e__ACTIONS?__", text[end:]):
        left = pattern.sub("", text[:end]) + text[end : end + open_tag.start()]
    return left, pattern.findall(text)


@pytest.mark.parametrize(("data", "events"), VECTORS.values(), ids=VECTORS)
def test_vectors_hold_for_every_chunking(data: bytes, events: list[Event]) -> None:
    """A stream gives its events whole, byte by byte and at every split into two."""
    for chunks in chunkings(data):
        assert parse(chunks) == events


def described(event: Event) -> dict[str, JSON]:
    """The event in the words of the shared vectors."""
    match event:
        case TextDelta(text):
            return {"text": text}
        case Action(payload):
            return {"action": payload}
        case ActionSummary(payloads):
            return {"summary": payloads}
    return {"malformed": event.reason}


def test_shared_vectors_hold_for_every_chunking() -> None:
    """The vectors kept beside the project hold too, where they are."""
    file = Path(__file__).parents[2] / "shared" / "wire" / "vectors.json"
    if not file.exists():
        pytest.skip("the vectors beside the project are not here; its own are tested above")
    for vector in json.loads(file.read_text(encoding="utf-8"))["vectors"]:
        for chunks in chunkings(bytes.fromhex(vector["hex"])):
            assert [described(event) for event in parse(chunks)] == vector["events"], vector["name"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Pieces that a stream is made of and those that it may be mistaken for.
pieces = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([b"\x1e", ACTION, SUMMARY, b"__ACTION", b"__ACTIONS__", b"{}\x1e", b"[]\x1e"]),
    st.sampled_from([b'{"a":1}', b"NaN\x1e", b"\xe2\x82"]),
    json_values.map(lambda value: encode(Action(value))),
    st.lists(json_values, max_size=3).map(lambda values: encode(ActionSummary(values))),
)
streams = st.lists(pieces, max_size=12).map(b"".join)


@st.composite
def chunked_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    data = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    edges = [0, *cuts, len(data)]
    return data, [data[a:b] for a, b in itertools.pairwise(edges)]


@given(chunked_streams())
def test_any_chunking_gives_the_same_events(made: tuple[bytes, list[bytes]]) -> None:
    """However a stream is cut, its events are the same once adjacent texts are joined."""
    data, chunks = made
    assert parse(chunks) == parse([data])


@given(streams)
def test_text_and_records_are_what_the_documented_pattern_says(data: bytes) -> None:
    """The joined text is what the pattern leaves; the records are what it takes out, in order."""
    events = parse([data])
    left, records = reference(data)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == left
    closed = [e for e in events if not isinstance(e, TextDelta) and getattr(e, "reason", "") != "truncated"]
    assert len(closed) == len(records)
    for event, raw in zip(closed, records, strict=True):
        match event:
            case MalformedRecord(kept, _):
                assert kept == raw
            case Action(payload):
                assert payload == json.loads(raw.encode("utf-8", "surrogatepass"))
            case ActionSummary(payloads):
                assert payloads == json.loads(raw)


@given(streams)
def test_text_is_passed_on_at_once(data: bytes) -> None:
    """At most the start of a tag or of a character is held back."""
    parser = StreamParser()
    parser.feed(data)
    held = sum(len(event.text.encode()) for event in parser.close() if isinstance(event, TextDelta))
    assert held < len(SUMMARY)


@given(st.lists(json_values, max_size=4), st.text())
def test_what_is_encoded_is_read_back(payloads: list[JSON], text: str) -> None:
    """`encode` and the parser are each other's inverse."""
    text = text.replace("\x1e", "")
    events: list[Event] = [*map(Action, payloads), ActionSummary(payloads)]
    if text:
        events.insert(0, TextDelta(text))
    data = b"".join(encode(event) for event in events if not isinstance(event, MalformedRecord))
    assert parse([data]) == events


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"9" * 6_000,
        b"-" + b"9" * 6_000,
        b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1),
    ],
    ids=["open brackets", "brackets", "objects", "digits", "negative digits", "just too deep"],
)
def test_what_python_cannot_parse_is_malformed(raw: bytes) -> None:
    """Nesting and numbers beyond Python's reach are an event, and the stream goes on."""
    events = parse([ACTION, raw, b"\x1eafter"])
    assert events == [MalformedRecord(raw.decode(), "json"), TextDelta("after")]


def test_nesting_up_to_the_limit_is_read() -> None:
    """The deepest payload that is let through, also when brackets stand in strings beside it."""
    deep = "[" * MAX_NESTING + "]" * MAX_NESTING
    assert isinstance(parse([ACTION + deep.encode() + b"\x1e"])[0], Action)
    brackets = json.dumps(["[" * 1000, {"a": "{" * 1000}])
    assert parse([ACTION + brackets.encode() + b"\x1e"]) == [Action(json.loads(brackets))]


def test_a_record_beyond_the_largest_size_is_dropped_and_reported_once() -> None:
    """`max_record_bytes` counts the JSON part, whatever the chunking, whether or not the record ends."""
    too_large = MalformedRecord("", "too large")
    for chunks in chunkings(ACTION + b'"1234"\x1eb'):
        assert parse(chunks, max_record_bytes=6) == [Action("1234"), TextDelta("b")]
        assert parse(chunks, max_record_bytes=5) == [too_large, TextDelta("b")]
    for chunks in chunkings(ACTION + b'"12345678'):
        assert parse(chunks, max_record_bytes=4) == [too_large]


def test_a_64_mb_record_is_dropped_without_being_kept() -> None:
    """Memory is bounded by one record: what is beyond it is not held."""
    parser = StreamParser()
    events = parser.feed(ACTION)
    for _ in range(1024):
        events += parser.feed(b"x" * 65_536)
        assert len(parser._record) <= 8 * 1024 * 1024
    events += parser.feed(b"\x1eafter") + parser.close()
    assert events == [MalformedRecord("", "too large"), TextDelta("after")]


def test_a_closed_parser_is_as_new() -> None:
    """After `close` nothing of the stream before is left."""
    parser = StreamParser(max_record_bytes=2)
    for data in (b"a\x1e__AC", ACTION + b"1", ACTION + b"12345", b"\xe2\x82"):
        parser.feed(data)
        parser.close()
        assert parser.feed(b"b") == [TextDelta("b")]
        assert parser.close() == []


def test_other_kinds_of_bytes_are_taken() -> None:
    """A bytearray is read like bytes and is not held on to; so is a memoryview."""
    assert StreamParser().feed(memoryview(ACTION + b"1\x1e")) == [Action(1)]
    buffer = bytearray(b"a\xe2")
    parser = StreamParser()
    assert parser.feed(buffer) == [TextDelta("a")]
    buffer[:] = b"\x82\xac"
    assert parser.feed(buffer) == [TextDelta("€")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_encoding_refuses_what_json_cannot_say(value: float) -> None:
    """NaN and the infinities are refused rather than written as what no browser reads."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(Action([value]))


def test_a_limit_below_one_is_refused() -> None:
    """A parser that could read no record at all is a mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        StreamParser(max_record_bytes=0)


def test_equal_events_are_equal() -> None:
    """Events are values: equal content is equal, and they cannot be changed."""
    events: list[Event] = [TextDelta("a"), Action("a")]
    assert events[0] == TextDelta("a") != events[1]
    with pytest.raises(AttributeError):
        TextDelta("a").text = "b"  # type: ignore[misc]


@pytest.mark.parametrize("chunk_size", [1, 7, 4096])
def test_work_is_linear(chunk_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the records cost ten times the bytes looked at: counted, not timed."""
    looked_at: list[int] = []
    decode = stream._decode

    def counting(data: bytes | bytearray) -> str:
        looked_at.append(len(data))
        return decode(data)

    monkeypatch.setattr(stream, "_decode", counting)
    costs = []
    for count in (200, 2000):
        looked_at.clear()
        data = encode(Action({"n": "x" * 50})) * count
        parse([data[i : i + chunk_size] for i in range(0, len(data), chunk_size)])
        costs.append(sum(looked_at))
    assert costs[1] == 10 * costs[0]
