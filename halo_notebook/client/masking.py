"""The rule for secrets that an agent repeats, kept where received bytes enter: before recorder and parser.

Where the key or a user token stands in what is received, `MASK` takes its place, except for its first
characters, which are the same in all keys. It is found

- in text, in a record and in an answer in one piece, in its keys and values, written as it is or with
  JSON's or Markdown's escapes,
- with blanks and invisible characters between its own, however many,
- divided over chunks, or by records; where the reply ends within it, the part that came.

It is not found in another encoding (base64, HTML entities), with visible characters between its own, or in
part; and a secret of fewer than `SHORTEST` characters is not looked for: it would spoil every reply.

The work is linear in what is received. Only what may still become a secret is held back, from its first
characters on.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from codecs import utf_8_decode
from functools import lru_cache
from typing import TYPE_CHECKING

from ..display.text import one_line
from .secrets import BLANK, Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..stream import JSON

MASK = "•••"
SHORTEST = 8
_SHOWN = 8
_END_CHARS = 64
_MAX_HELD = 16 * 1024
_MAX_TEXT_CHARS = 64 * 1024

_BLANKS = re.compile(f"[{BLANK}]+")
_ESCAPE = r"\\(?:u(?P<code>[0-9a-fA-F]{4})|(?P<open>(?:u[0-9a-fA-F]{0,3})?\Z)|(?P<char>.))"
_RECORD = re.compile("\x1e__ACTIONS?__")
_TAGS = ("\x1e__ACTION__", "\x1e__ACTIONS__")


class _Written:
    """How a text is read: as Markdown, in which backslashes are invisible, or as JSON with its escapes."""

    def __init__(self, *, escapes: bool) -> None:
        blank = BLANK if escapes else BLANK + r"\\"
        self.escapes = escapes
        self.blanks = re.compile(f"[{blank}]+")
        self.units = re.compile(f"[{blank}]+|{_ESCAPE}", re.DOTALL) if escapes else self.blanks
        self._ascii_blanks = dict.fromkeys(code for code in range(128) if self.blanks.match(chr(code)))

    def bare(self, text: str) -> str:
        """`text` with its escapes decoded, and without invisible characters."""
        if self.escapes and "\\" in text:
            text = _ESCAPES.sub(_meant, text)
        return text.translate(self._ascii_blanks) if text.isascii() else self.blanks.sub("", text)


_ESCAPES = re.compile(_ESCAPE, re.DOTALL)
_PLAIN, _JSON = _Written(escapes=False), _Written(escapes=True)


def _meant(escape: re.Match[str]) -> str:
    r"""The character of an escape; empty for one that shows nothing, such as ``\n``."""
    if escape["code"]:
        char = chr(int(escape["code"], 16))
        return "" if "\ud800" <= char <= "\udfff" or _BLANKS.match(char) else char
    char = escape["char"] or ""
    return "" if char in "bfnrt" or _BLANKS.match(char) else char


class _Bare:
    """A text without invisible characters, and the place of each of its characters in the text."""

    def __init__(self, text: str, written: _Written) -> None:
        self.open = len(text)  # where an escape begins that the text's end cuts
        self._parts: list[str] = []
        self._starts: list[int] = []  # of each part in the bare form
        self._spans: list[tuple[int, int, bool]] = []  # of each part in the text, and whether it is an escape
        self._size = at = 0
        for unit in written.units.finditer(text):
            self._add(text[at : unit.start()], at, unit.start())
            at = unit.end()
            if written.escapes and unit["open"] is not None:
                self.open = unit.start()
            elif written.escapes and (unit["code"] or unit["char"]):
                self._add(_meant(unit), *unit.span(), escape=True)
        self._add(text[at:], at, len(text))
        self.text = "".join(self._parts)

    def _add(self, part: str, start: int, end: int, *, escape: bool = False) -> None:
        if part:
            self._parts.append(part)
            self._starts.append(self._size)
            self._spans.append((start, end, escape))
            self._size += len(part)

    def span(self, number: int) -> tuple[int, int]:
        """The start and the end of the n-th character in the text; past the last one, the open place."""
        if number >= self._size:
            return self.open, self.open
        part = bisect_right(self._starts, number) - 1
        start, end, escape = self._spans[part]
        at = start + number - self._starts[part]
        return (start, end) if escape else (at, at + 1)


class _Sought:
    """What is looked for: the secrets without what shows nothing, the longest first."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        bare = {_PLAIN.bare(secret.reveal()) for secret in secrets}
        self.secrets = sorted((each for each in bare if len(each) >= SHORTEST), key=len, reverse=True)
        self.starts = [_start(secret) for secret in self.secrets]
        self.ends = tuple(start[:length] for start in self.starts for length in range(1, len(start)))


@lru_cache(maxsize=8)
def _sought(secrets: tuple[Secret, ...]) -> _Sought:
    # One reply after the other is searched for the same ones.
    return _Sought(secrets)


def _start(secret: str) -> str:
    """Its first characters up to the first that is masked."""
    return secret[: _shown(secret) + 1]


def _may_contain(text: str, start: str) -> bool:
    """Whether each character of a secret's start stands in `text`, which has no escapes."""
    # The last ones are in fewer texts. `all` takes three times as long.
    for char in reversed(start):  # noqa: SIM110
        if char not in text:
            return False
    return True


class _Text:
    """Masks a text that comes in pieces. A record between two pieces does not divide it."""

    def __init__(self, sought: _Sought, written: _Written = _PLAIN) -> None:
        self._written = written
        self._secrets, self._starts, self._ends = sought.secrets, sought.starts, sought.ends
        self._before = ""  # the end of the bare text that was given, if a secret may begin in it
        self._held = ""

    def feed(self, text: str) -> str:
        """Add `text`, and return what can no longer become part of a secret, masked."""
        escapes = self._written.escapes and "\\" in text
        if not self._held and not (escapes and "\\" in text[-5:]):
            # Nearly every text ends here. Where none can be in it, its end tells whether one begins.
            is_in = self._before or escapes or any(_may_contain(text, start) for start in self._starts)
            bare = "" if is_in else self._written.bare(text[-_END_CHARS:])
            if len(bare) < _SHOWN:
                bare = self._before + self._written.bare(text)
            if not any(start in bare for start in self._starts):
                self._remember(bare, None)
                return text
        return self._masked(self._held + text)

    def cut(self) -> str:
        """Return what is held back, when no text follows. A secret that is cut off there is masked, too."""
        held, self._held = self._held, ""
        if not held:
            return ""
        bare = self._before + self._written.bare(held)
        begun = self._begun(bare)
        self._remember(bare, begun)
        if begun is None or len(bare) - begun[0] <= _public(begun[1]):
            return held
        return MASK

    def _masked(self, raw: str) -> str:
        read, before = _Bare(raw, self._written), len(self._before)
        bare = self._before + read.text
        out: list[str] = []
        at = 0
        for start, end in sorted(self._found(bare)):
            if end > before:
                first, last = read.span(max(start - before, 0))[0], read.span(end - 1 - before)[1]
                if first >= at:
                    out += [raw[at:first], MASK]
                at = max(at, last)
        begun = self._begun(bare)
        held = len(bare) if begun is None else max(begun[0] + _shown(begun[1]), before)
        hold = max(read.span(held - before)[0], at)
        out.append(raw[at:hold])
        self._held = raw[hold:]
        self._remember(bare[:held], begun)
        if begun is not None and len(self._held) > _MAX_HELD + 8 * len(
            begun[1]
        ):  # what shows nothing, without end
            out.append(self.cut())
        return "".join(out)

    def _remember(self, bare: str, begun: tuple[int, str] | None) -> None:
        """Keep the end of the bare text that was given, if a secret has `begun` in it or may begin there."""
        shown_at = max(len(bare) - _SHOWN, 0)
        if begun is not None:
            self._before = bare[min(begun[0], shown_at) :]
        else:
            self._before = bare[shown_at:] if bare.endswith(self._ends) else ""

    def _found(self, bare: str) -> Iterator[tuple[int, int]]:
        for secret in self._secrets:
            at = bare.find(secret)
            while at >= 0:
                yield at + _shown(secret), at + len(secret)
                at = bare.find(secret, at + 1)

    def _begun(self, bare: str) -> tuple[int, str] | None:
        """The first secret that may continue after the end of `bare`: where it begins, and which it is."""
        begun = [
            (at, secret)
            for secret in self._secrets
            if (at := _begins(bare, secret, max(len(bare) - len(secret) + 1, 0))) is not None
        ]
        return min(begun, default=None)


def _begins(bare: str, secret: str, at: int) -> int | None:
    """The first place, from `at` on, where the rest of `bare` is the beginning of `secret`."""
    start = _start(secret)
    while (at := bare.find(start, at)) >= 0:
        if secret.startswith(bare[at:]):
            return at
        at += 1
    return None


def _shown(secret: str) -> int:
    """How many of its first characters are shown: ``ab_live_`` and the like say what was masked."""
    return min(_SHOWN, len(secret) // 4) if not secret.startswith("ab_live_") else _SHOWN


def _public(secret: str) -> int:
    """How many of its first characters may stay at the end of a text: all keys or all JWTs share them."""
    header, dot, _ = secret.partition(".")
    return len(header) + 1 if dot and secret.startswith("eyJ") else _SHOWN


class _Record:
    """Masks JSON that comes in pieces: what it means, and what it would mean as a text."""

    def __init__(self, sought: _Sought) -> None:
        self._read, self._plain = _Text(sought, _JSON), _Text(sought)

    def feed(self, text: str) -> str:
        return self._plain.feed(self._read.feed(text))

    def cut(self) -> str:
        return self._plain.feed(self._read.cut()) + self._plain.cut()


class Mask:
    """Masks one answer, a stream or `in_one_piece`. Bytes that are not UTF-8 pass unchanged."""

    def __init__(self, secrets: Iterable[Secret], *, in_one_piece: bool = False) -> None:
        self._sought = _sought(tuple(secrets))
        self._text = _Text(self._sought)
        self._in_one_piece = in_one_piece
        self._record = _Record(self._sought) if in_one_piece else None
        self._tag = ""  # what may become a record's
        self._undecoded = b""  # the start of a character

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The answer's headers, masked."""
        # Nearly always nothing is masked, which is found out faster of all of them together.
        together = _PLAIN.bare("".join(headers.values()))
        if not any(start in together for start in self._sought.starts):
            return dict(headers)
        return {name: _masked_text(value, self._sought) for name, value in headers.items()}

    def feed(self, data: bytes) -> bytes:
        """Add `data`, and return what can no longer become part of a secret, masked."""
        if not data:
            return b""
        data = self._undecoded + data
        text, end = utf_8_decode(data, "surrogateescape", False)
        self._undecoded = data[end:]
        left = self._fed(text)
        return data[:end] if left is text else left.encode("utf-8", "surrogateescape")

    def close(self) -> bytes:
        """The rest, at the answer's end."""
        undecoded, self._undecoded = self._undecoded, b""
        rest = self._fed(undecoded.decode("utf-8", "surrogateescape")) if undecoded else ""
        tag, self._tag = self._tag, ""
        rest += (self._record or self._text).cut() + tag
        return rest.encode("utf-8", "surrogateescape")

    def _fed(self, text: str) -> str:
        text, self._tag = self._tag + text, ""
        if self._record is None and "\x1e" not in text:
            return self._text.feed(text)
        out: list[str] = []
        at = 0
        while at < len(text):
            if self._record is not None:
                end = -1 if self._in_one_piece else text.find("\x1e", at)
                out.append(self._record.feed(text[at : end if end >= 0 else None]))
                if end < 0:
                    break
                out += [self._record.cut(), "\x1e"]
                self._record, at = None, end + 1
            elif tag := _RECORD.search(text, at):
                out += [self._text.feed(text[at : tag.start()]), self._text.cut(), tag.group()]
                at = tag.end()
                record = text[at : text.find("\x1e", at) + 1]
                if (
                    record
                    and "\\" not in record
                    and not any(_may_contain(record, start) for start in self._sought.starts)
                ):
                    out.append(record)
                    at += len(record)
                else:
                    self._record = _Record(self._sought)
            else:
                end = text.rfind("\x1e", max(at, len(text) - len(_TAGS[1])))
                end = end if end >= 0 and any(tag.startswith(text[end:]) for tag in _TAGS) else len(text)
                out.append(self._text.feed(text[at:end]))
                self._tag = text[end:]
                break
        return "".join(out)


def masked(text: str, secrets: Iterable[Secret]) -> str:
    """A text in one piece, masked."""
    return _masked_text(text, _sought(tuple(secrets)))


def _masked_text(text: str, sought: _Sought) -> str:
    if not any(_may_contain(text, start) for start in sought.starts):
        return text
    text_mask = _Text(sought)
    return text_mask.feed(text) + text_mask.cut()


def shown(text: str, limit: int, secrets: Iterable[Secret]) -> str:
    """The text of a server or a transport, masked, in one line."""
    return one_line(masked(text[:_MAX_TEXT_CHARS], secrets), limit)


def masked_json(value: JSON, secrets: Iterable[Secret]) -> JSON:
    """JSON with its strings and keys masked."""
    match value:
        case str():
            return masked(value, secrets)
        case list():
            return [masked_json(each, secrets) for each in value]
        case dict():
            return {masked(key, secrets): masked_json(each, secrets) for key, each in value.items()}
    return value
