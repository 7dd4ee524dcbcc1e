"""Two texts, word by word: the parts of each that the other does not have. The parts are plain text."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TypeAlias

Part: TypeAlias = tuple[str, bool]
"""A part of a text, and whether the other text differs there."""

MAX_WORDS = 4_000
"""Longer texts are compared line by line, which takes less time."""
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
MAX_LINES = 4_000


def differences(first: str, second: str) -> tuple[list[Part], list[Part]]:
    """The parts of both texts in order, equal ones and different ones; together they are the texts.

    >>> first, second = differences("It costs $5.", "It costs $7 a month.")
    >>> second
    [('It costs $', False), ('7 a month', True), ('.', False)]
    """
    if first == second:
        return _joined([(first, False)]), _joined([(second, False)])
    pieces = [_WORDS.findall(text) for text in (first, second)]
    if max(map(len, pieces)) > MAX_WORDS:
        pieces = [_LINES.findall(text) for text in (first, second)]
    if max(map(len, pieces)) > MAX_LINES:
        return [(first, True)], [(second, True)]
    one, other = pieces
    sides: tuple[list[Part], list[Part]] = ([], [])
    for kind, begin, end, other_begin, other_end in SequenceMatcher(None, one, other).get_opcodes():
        differs = kind != "equal"
        sides[0].append(("".join(one[begin:end]), differs))
        sides[1].append(("".join(other[other_begin:other_end]), differs))
    return _joined(sides[0]), _joined(sides[1])


def _joined(parts: list[Part]) -> list[Part]:
    """The parts without empty ones; white space between two differences belongs to them."""
    found: list[Part] = []
    for at, (text, differs) in enumerate(parts):
        is_between = not text.strip() and 0 < at < len(parts) - 1
        if not text:
            continue
        is_marked = differs or is_between
        if found and found[-1][1] == is_marked:
            found[-1] = (found[-1][0] + text, is_marked)
        else:
            found.append((text, is_marked))
    return found
