"""Values as JSON text, many of them in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder
from typing import Any


def writer(*, sort_keys: bool = False, allow_nan: bool = True) -> Callable[[Any], str]:
    """A function that writes a value as compact JSON, without escapes for what is not ASCII.

    The value may not contain itself.
    """
    separators = (",", ":")
    written = json.JSONEncoder(
        ensure_ascii=False,
        check_circular=False,
        sort_keys=sort_keys,
        separators=separators,
        allow_nan=allow_nan,
    )
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # not in each Python
        return written.encode
    # A `JSONEncoder` makes one of these for each value, which takes as long as it takes to write a short one.
    escaped, comma, colon = encoder.encode_basestring, *separators
    pieces = make(None, written.default, escaped, None, colon, comma, sort_keys, False, allow_nan)
    return lambda value: "".join(pieces(value, 0))
