"""Untrusted text as plain text: without control characters, on one line, within a size.

All of an agent's text that is shown goes through here, for terminals and for HTML. Characters that reorder
text (U+202A–202E, U+2066–2069) are dropped, too: they can make code or an address look different from what it
is, and right-to-left text does not need them.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Final

MAX_PLAIN_BYTES = 500_000
"""The most that `plain` returns: it travels in the same message as the HTML."""

REORDERING: Final = "\u202a-\u202e\u2066-\u2069"
# All of C0 and C1 except \n and \t. Only single characters are dropped, never sequences, so the result does
# not depend on how a text is divided into pieces; `PlainPieces` handles a CR LF that is divided.
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
_PLAIN: Final[dict[int, str | None]] = {
    **dict.fromkeys([*_CONTROLS, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    **dict.fromkeys(map(ord, "\v\f\r\x85\u2028\u2029"), "\n"),
}
# Most texts have none of them, and finding that out is faster than translating.
_NOT_PLAIN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{REORDERING}]")


def terminal_text(text: str) -> str:
    r"""Return `text` without what a terminal would act on.

    A line end of any kind becomes a newline: CR LF, CR, VT, FF, NEL, U+2028, U+2029. Other control
    characters except tab are dropped (also ESC and C1), and so are those that reorder text. A lone surrogate
    becomes U+FFFD.

    >>> terminal_text("\x1b[31mred\x1b[0m\r\n")
    '[31mred[0m\n'
    """
    return text.replace("\r\n", "\n").translate(_PLAIN) if _NOT_PLAIN.search(text) else text


class PlainPieces:
    """`terminal_text` for a text that comes in pieces."""

    def __init__(self) -> None:
        self._is_after_return = False

    def __call__(self, piece: str) -> str:
        if not piece:
            return ""
        rest = piece[1:] if self._is_after_return and piece[0] == "\n" else piece
        self._is_after_return = piece[-1] == "\r"
        return terminal_text(rest)


def writable(text: str) -> str:
    """Return `text` as standard output can write it: characters that its encoding lacks are replaced."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def whole_text(text: str) -> str:
    """Return `text` with a question mark for each lone surrogate, which no file and no table can hold."""
    return text.encode("utf-8", "replace").decode()


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` as one plain line of at most `limit` characters, with ``…`` where it is cut.

    >>> one_line("not  found:\\n the page", limit=14)
    'not found: th…'
    """
    start = text[: 16 * limit + 64]  # enough for any text: white space collapses
    line = " ".join(terminal_text(start).split())
    if len(line) > limit or len(start) < len(text):
        return line[: max(limit - 1, 0)].rstrip() + "…"
    return line


def short_repr(value: object, limit: int = 80) -> str:
    """Return `value` as Python writes it, on one line: for an error that names what is wrong.

    >>> short_repr("mesage")
    "'mesage'"
    """
    return one_line(repr(value), limit)


def plain(text: str) -> str:
    """Return `text` as `terminal_text` does, shortened to `MAX_PLAIN_BYTES`."""
    return bounded(terminal_text(text), MAX_PLAIN_BYTES)


def bounded(text: str, max_bytes: int) -> str:
    """Return `text`, or its beginning and its end with a note between them if it is too large.

    Without the note, the result takes at most `max_bytes` as JSON-encoded UTF-8.
    """
    if 6 * len(text) <= max_bytes or wire_size(text) <= max_bytes:
        return text
    part = max_bytes // 8  # a character takes up to four bytes
    return f"{text[:part]}\n\n{hidden_note(len(text) - 2 * part)}\n\n{text[-part:]}"


def hidden_note(hidden: int) -> str:
    """Say how many characters are not shown, and where the full text is."""
    return f"… {hidden:,} characters are not shown here; `reply.text` has the full text"


def wire_size(text: str) -> int:
    """The bytes that `text` takes in a message, with its quotes and line ends escaped."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2
