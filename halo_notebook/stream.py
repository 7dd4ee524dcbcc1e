"""The reply's bytes → events, and back.

A Halo reply is UTF-8 text with JSON records between, framed by the byte 0x1E:

    \\x1E__ACTION__<json>\\x1E          one action, sent as it resolves
    \\x1E__ACTIONS__<json array>\\x1E   the summary of all actions

The contract of `StreamParser`:

- Any chunking of the same bytes gives the same events, once adjacent texts are
  joined.
- The joined text is what the pattern ``\\x1E__ACTIONS?__…\\x1E`` leaves of the whole
  stream: the records removed, all else kept, a lone 0x1E too.
- Text is passed on at once: held back are at most the bytes that may still turn
  out to be a tag, or an unfinished UTF-8 character.
- No input raises. A bad record is an event, and the stream goes on.
- Work is linear in the bytes fed, whatever the chunking; memory is bounded by one
  record of `max_record_bytes`.

This module does no I/O, knows no clock and uses the standard library only. It does
not know what a payload means: that is opaque JSON.

Lines are never split here: both ``str.splitlines`` and ``httpx``'s ``iter_lines``
take 0x1E for the end of a line and would eat the frames.
"""

from __future__ import annotations

import json
import math
import re
from codecs import utf_8_decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias, Union

JSON: TypeAlias = Union[None, bool, int, float, str, "list[JSON]", "dict[str, JSON]"]
"""A JSON value, as `json` reads it."""

MalformedReason: TypeAlias = Literal["json", "not an array", "truncated", "too large"]

MAX_RECORD_BYTES = 8 * 1024 * 1024
MAX_NESTING = 256
"""Levels of nesting a payload may have. Python's own bound moves with its version and
with the depth of the caller's stack; a fixed one gives the same events everywhere."""
MAX_DOCUMENT_NESTING = MAX_NESTING + 16
"""Levels of nesting a request or a file may have, which hold payloads and values some levels down."""

_SEPARATOR = b"\x1e"
_ACTION_TAG = b"\x1e__ACTION__"
_SUMMARY_TAG = b"\x1e__ACTIONS__"
_TAG = re.compile(rb"\x1e__ACTIONS?__")


@dataclass(frozen=True, slots=True, init=False)
class TextDelta:
    """The next piece of the reply's text; never empty."""

    text: str

    def __init__(self, text: str) -> None:
        # The generated one takes twice the time, and there is one of these for every chunk.
        _set_text(self, text)


_set_text: Callable[[TextDelta, str], None] = vars(TextDelta)["text"].__set__


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that the agent did or asks the page to do.

    `payload` is opaque JSON: no shape is published. Lone surrogates in its strings
    are replaced by U+FFFD, since they cannot be sent to a browser.
    """

    payload: JSON


@dataclass(frozen=True, slots=True)
class ActionSummary:
    """All actions of the reply, as the agent sums them up at the end."""

    payloads: list[JSON]


@dataclass(frozen=True, slots=True)
class MalformedRecord:
    """A record that could not be read.

    `reason` is one of ``"json"`` (not strict JSON, or deeper than `MAX_NESTING`),
    ``"not an array"`` (a summary that is something else), ``"truncated"`` (the stream
    ended inside it) and ``"too large"``. `raw` is the record's text without its frame;
    empty when it was too large, since such a record is not kept.
    """

    raw: str
    reason: MalformedReason


Event: TypeAlias = TextDelta | Action | ActionSummary | MalformedRecord


class StreamParser:
    r"""Turns a reply's bytes, chunk by chunk, into events.

    Args:
        max_record_bytes: a record with a longer JSON part is dropped as ``too large``.

    >>> parser = StreamParser()
    >>> parser.feed(b'Look\x1e__ACTION__{"type": "high')
    [TextDelta(text='Look')]
    >>> parser.feed(b'light"}\x1e here')
    [Action(payload={'type': 'highlight'}), TextDelta(text=' here')]
    >>> parser.close()
    []
    """

    __slots__ = ("_dropping", "_held", "_max_record_bytes", "_record", "_tag")

    def __init__(self, *, max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        if max_record_bytes < 1:
            raise ValueError(f"max_record_bytes must be at least 1, not {max_record_bytes}")
        self._max_record_bytes = max_record_bytes
        self._held = b""  # the start of a tag or of a character
        self._tag = b""  # the tag of the open record; empty while in text
        self._record = bytearray()  # a bytearray: a list of tiny chunks costs 40 times the bytes
        self._dropping = False

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take the next bytes, cut anywhere, and return the events that they complete, in order.

        Never raises for what the bytes hold.
        """
        if isinstance(data, memoryview):  # whose `in` looks for numbers
            data = bytes(data)
        if not self._tag and not self._held and _SEPARATOR not in data:
            # Nearly every chunk is plain text; this path is what streaming costs.
            text, consumed = utf_8_decode(data, "replace", False)
            if consumed != len(data):
                self._held = bytes(data[consumed:])
            return [TextDelta(text)] if text else []

        data = self._held + bytes(data)
        self._held = b""
        events: list[Event] = []
        at = 0
        while at < len(data):
            at = self._feed_record(data, at, events) if self._tag else self._feed_text(data, at, events)
        return events

    def close(self) -> list[Event]:
        """End the stream and return what was held back.

        A record left open gives a `MalformedRecord` ``truncated``; the start of a tag
        or of a character is text after all. The parser is then as new.
        """
        events: list[Event] = []
        if self._tag:
            if not self._dropping:
                events.append(MalformedRecord(_decode(self._record), "truncated"))
        elif self._held:
            events.append(TextDelta(_decode(self._held)))
        self._held = self._tag = b""
        self._record = bytearray()
        self._dropping = False
        return events

    def _feed_text(self, data: bytes, start: int, events: list[Event]) -> int:
        """Read text up to the next tag, and the tag; return where to go on."""
        tag = _TAG.search(data, start)
        if tag:
            end, at = tag.start(), tag.end()
            self._tag = tag.group()
        else:
            at = len(data)
            end = at - _unfinished_tag_length(data, start)
            self._held = data[end:]
        # Before a separator no character can go on, so only a bare end may hold one back.
        text, consumed = utf_8_decode(data[start:end], "replace", end < len(data))
        if start + consumed < end:
            self._held = data[start + consumed :]
        if text:
            events.append(TextDelta(text))
        return at

    def _feed_record(self, data: bytes, start: int, events: list[Event]) -> int:
        """Read the open record up to its separator; return where to go on."""
        found = data.find(_SEPARATOR, start)
        end = len(data) if found < 0 else found
        if not self._dropping:
            if len(self._record) + end - start > self._max_record_bytes:
                self._dropping = True
                self._record = bytearray()
                events.append(MalformedRecord("", "too large"))
            else:
                self._record += data[start:end]
        if found < 0:
            return end
        if not self._dropping:
            events.append(_read_record(self._tag, _decode(self._record)))
            self._record = bytearray()
        self._dropping = False
        self._tag = b""
        return found + 1


def encode(event: TextDelta | Action | ActionSummary) -> bytes:
    r"""Return the bytes that give `event` when a `StreamParser` reads them.

    Text is sent as it is, so text that holds a whole record is read as that record.

    >>> encode(Action({"type": "highlight"}))
    b'\x1e__ACTION__{"type": "highlight"}\x1e'

    Raises:
        ValueError: for a payload that JSON cannot say (NaN, infinities).
    """
    match event:
        case TextDelta(text):
            return text.encode("utf-8", "replace")
        case Action(payload):
            return _ACTION_TAG + _encode_json(payload) + _SEPARATOR
    return _SUMMARY_TAG + _encode_json(event.payloads) + _SEPARATOR


def _encode_json(value: JSON) -> bytes:
    # JSON escapes control characters, so no payload can end its own record.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _decode(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")


def _unfinished_tag_length(data: bytes, start: int) -> int:
    """How many of the last bytes may still become a tag."""
    # Only the last separator counts: one before it would have the later one in its tag.
    at = data.rfind(_SEPARATOR, max(start, len(data) - len(_SUMMARY_TAG) + 1))
    if at < 0:
        return 0
    tail = data[at:]
    return len(tail) if _ACTION_TAG.startswith(tail) or _SUMMARY_TAG.startswith(tail) else 0


def _read_record(tag: bytes, raw: str) -> Event:
    try:
        payload = decode_json(raw)
    except ValueError:
        return MalformedRecord(raw, "json")
    if tag == _ACTION_TAG:
        return Action(payload)
    if isinstance(payload, list):
        return ActionSummary(payload)
    return MalformedRecord(raw, "not an array")


class NestedTooDeep(ValueError):
    """JSON has more levels of nesting than are read."""


def decode_json(text: str, max_nesting: int = MAX_NESTING) -> JSON:
    """Return what strict JSON says, as it can be sent on to a browser.

    Lone surrogates in its strings are replaced by U+FFFD.

    Raises:
        ValueError: for what is no JSON, NaN and the infinities, a number beyond Python's reach,
            and, as `NestedTooDeep`, for nesting deeper than `max_nesting`.
    """
    try:
        value: JSON = _STRICT_JSON.decode(_replace_lone_surrogates(text))
    except RecursionError:
        raise NestedTooDeep("the JSON is nested too deeply") from None
    if is_deeper(max_nesting, value, text):
        raise NestedTooDeep("the JSON is nested too deeply")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite_float(digits: str) -> float:
    # 1e999 is JSON, but what Python makes of it (inf) could not be sent on as JSON.
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is beyond a float")
    return value


_STRICT_JSON = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite_float)

# A surrogate pair, a lone surrogate, or any other escape (so that an escaped backslash
# before 'u' is not taken for the start of one).
_ESCAPE = re.compile(
    r"(\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)


def _replace_lone_surrogates(raw: str) -> str:
    if "\\ud" not in raw and "\\uD" not in raw:
        return raw
    return _ESCAPE.sub(lambda escape: "\\ufffd" if escape.group(2) else escape.group(), raw)


def is_deeper(levels: int, payload: JSON, raw: str) -> bool:
    """Whether a payload, which is `raw` as JSON, has more levels of nesting."""
    if raw.count("[") + raw.count("{") <= levels:
        return False
    level = [payload] if isinstance(payload, (list, dict)) else []
    for _ in range(levels):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, (list, dict))
        ]
        if not level:
            return False
    return True
