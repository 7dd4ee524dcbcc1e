"""A recording that an editor has saved, and a message that is written in another form of Unicode."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from halo_notebook.errors import UsageError
from halo_notebook.recording.format import RecordedExchange, read_recording
from halo_notebook.recording.recorder import Recorder

from .recordings import replaying


def exchange(message: str) -> RecordedExchange:
    return RecordedExchange("/chat/stream", {"message": message}, 200, {}, 0.1, ((0.2, b"Hi"),), "whole", 0.3)


def test_a_byte_order_mark_is_no_part_of_a_recording(path: Path) -> None:
    """It can be replayed, and continued, also where the last line has lost its end."""
    Recorder(path).keep(exchange("Hello"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip())
    assert replaying(path).ask("Hello").text == "Hi"
    Recorder(path).keep(exchange("Bye"))
    assert [each.message for each in read_recording(path)] == ["Hello", "Bye"]


@pytest.mark.parametrize("end", ["\n", "\r\n\r\n", "\n \n\t"])
def test_a_blank_line_is_no_part_of_a_recording(path: Path, end: str) -> None:
    """At its end and between exchanges; it can be continued."""
    for message in ("Hello", "Bye"):
        Recorder(path).keep(exchange(message))
        path.write_bytes(path.read_bytes() + end.encode())
    assert replaying(path).ask("Bye").text == "Hi"
    assert [each.message for each in read_recording(path)] == ["Hello", "Bye"]


@pytest.mark.parametrize("message", ["Où est le café ?", "Ångström 1\u202f000", "한국어"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_canonically_equal_messages_are_equal(path: Path, message: str, form: str) -> None:
    """Asked in one form, recorded in the other."""
    Recorder(path).keep(exchange(unicodedata.normalize("NFC" if form == "NFD" else "NFD", message)))
    assert replaying(path).ask(unicodedata.normalize(form, message)).text == "Hi"  # type: ignore[arg-type]


def test_a_chunks_time_is_a_number(path: Path) -> None:
    """True is none, although Python counts it as 1."""
    Recorder(path).keep(exchange("Hello"))
    path.write_text(path.read_text().replace("[0.2,", "[true,"))
    with pytest.raises(UsageError, match="line 2"):
        read_recording(path)
