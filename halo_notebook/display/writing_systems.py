"""What differs between scripts: which are written without blanks, and which punctuation ends an address."""

from __future__ import annotations

from unicodedata import category, east_asian_width

# Hangul's conjoining letters; Thai, Lao and Tibetan; Myanmar; Khmer.
_WITHOUT_BLANKS = ((0x1100, 0x11FF), (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF))
_EMOJI = range(0x1F000, 0x20000)
# Dots within names, and the joiners that some scripts need within words.
_WITHIN_ADDRESSES = "·‧・･\u200c\u200d"


def joins_words(char: str) -> bool:
    """Whether `char` belongs to a script that is written without blanks, or that adds particles to words."""
    if char < "\u0e00":
        return False
    code = ord(char)
    if any(first <= code <= last for first, last in _WITHOUT_BLANKS):
        return True
    return east_asian_width(char) in "WFH" and code not in _EMOJI


def is_punctuation(char: str) -> bool:
    """Whether `char`, which is not ASCII, ends an address: a stop, a comma, a bracket, a quote or a dash."""
    if char < "\x80" or char in _WITHIN_ADDRESSES:
        return False
    return category(char) in {"Po", "Ps", "Pe", "Pi", "Pf", "Cf"} or char in "—―～｜〜"
