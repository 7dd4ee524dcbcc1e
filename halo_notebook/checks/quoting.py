"""What an agent and its users wrote, in the prompt of a language model: data, and never an instruction.

It is JSON on one line, without a line break or an angle bracket, between two lines that it cannot contain. No
quoting is safe with every model.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..stream import JSON

MAX_CHARACTERS = 200_000
"""How long a conversation a model sees, as JSON."""

_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n[ \t]*```\Z", re.DOTALL | re.IGNORECASE)
# What JSON leaves as it is, and may be read as the end of a line or as a model's mark.
_ESCAPED = str.maketrans({each: f"\\u{ord(each):04x}" for each in "<>\x7f\x85\u2028\u2029"})


def quoted(data: JSON) -> str:
    """The data as JSON on one line."""
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode().translate(_ESCAPED)


def fence_of(data: str) -> str:
    """The line before and after the data: the same for the same data, so that answers can be cached."""
    # No text can contain its own digest.
    return f"=== {hashlib.sha256(data.encode()).hexdigest()[:24]} ==="


def read_answer(answer: str) -> Any:
    """The JSON that an answer consists of, also in a code block. Raises `ValueError` or `RecursionError`.

    A line break in a string is accepted, since models write some.
    """
    text = answer.strip()
    fenced = _FENCED.match(text)
    return json.loads(fenced[1] if fenced else text, object_pairs_hook=_unique, strict=False)


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found
