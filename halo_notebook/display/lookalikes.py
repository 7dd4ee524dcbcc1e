"""Texts that are equal by Unicode's rules, and texts that only look equal."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_SAME_LOOK: Final = str.maketrans(
    {
        # The Cyrillic and Greek letters that are most often confused with Latin ones.
        **dict(zip("асеіјорԛѕԝхуһԁАВСЕНІЈКМОРЅТХУ", "aceijopqswxyhdABCEHIJKMOPSTXY", strict=True)),
        **dict(zip("οαυνΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oauvABEZHIKMNOPTYX", strict=True)),
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        "−": "-",
        "·": "•",
    }
)
_MAX_CHARS = 100_000
_BLANKS = re.compile(r"\s+")


def canonical(text: str, *, ignore_case: bool = False) -> str:
    """The text in the form that all canonically equal texts share (NFC).

    >>> canonical("cafe\\u0301") == "café"
    True
    """
    if ignore_case:
        text = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", text)


def difference(text: str, wanted: str) -> str:
    """How the part of `text` that looks like `wanted` differs from it; empty if no part looks like it.

    >>> difference("It is 1\\u202f000.", "1 000")
    'it has U+202F NARROW NO-BREAK SPACE in place of U+0020 SPACE'
    """
    looks: list[str] = []
    places: list[int] = []
    for at, character in enumerate(text[:_MAX_CHARS]):
        shown = _look(character)
        if shown == " " and looks[-1:] == [" "]:
            continue
        looks += shown
        places += [at] * len(shown)
    start = "".join(looks).find(look := _BLANKS.sub(" ", "".join(map(_look, wanted))))
    if start < 0 or not look:
        return ""
    end = start + len(look)
    found = text[places[start] : places[end] if end < len(places) else len(text)]
    more, less = _named(found, wanted), _named(wanted, found)
    if more and less:
        return f"it has {more} in place of {less}"
    if more or less:
        return f"it has {more} in it" if more else f"it has no {less}"
    return "" if found.lower() == wanted.lower() else "it has other blanks"


@lru_cache(maxsize=4096)
def _look(character: str) -> str:
    """What a reader sees of a character: no format character, any blank as a space, one case."""
    kind = unicodedata.category(character)
    if kind == "Cf" or "\ufe00" <= character <= "\ufe0f":
        return ""
    if kind == "Pd":
        return "-"
    if kind[0] == "Z" or character in "\t\n\r":
        return " "
    plain = unicodedata.normalize("NFKC", character.translate(_SAME_LOOK)).translate(_SAME_LOOK)
    return unicodedata.normalize("NFC", plain.casefold())


def _named(text: str, other: str) -> str:
    """The characters of `text` that `other` lacks, with their names."""
    extra = [each for each in dict.fromkeys(text) if each.lower() not in other.lower()]
    names = (f"U+{ord(each):04X} {unicodedata.name(each, 'a control character')}" for each in extra[:3])
    return ", ".join(names)
