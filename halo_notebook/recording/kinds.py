"""What a file of this package holds, by how it begins; such a file is not replaced by one of another kind."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from ..errors import UsageError

EVALUATION, RECORDING, SESSION = "an evaluation", "a recording", "an exported session"
_MAX_BEGINNING_BYTES = 1_000_000
_MARKS = {
    EVALUATION: re.compile(rb'\{[ \t]*"kind"[ \t]*:[ \t]*"run"'),
    RECORDING: re.compile(rb'\{\s*"halo_recording"'),
    SESSION: re.compile(rb'\{\s*"halo_session"'),
}


def kind_of(path: Path) -> str:
    """One of the kinds, or empty: for anything else, and where there is no file. Raises `OSError`."""
    if not path.is_file():  # reading a device may never end
        return ""
    with path.open("rb") as file:
        data = file.read(_MAX_BEGINNING_BYTES).removeprefix(codecs.BOM_UTF8)
    beginning = data.lstrip()
    for kind, mark in _MARKS.items():
        if mark.match(beginning):
            return kind
    # Another program may have written it in another order.
    first, whole = _object(beginning.partition(b"\n")[0]), _object(beginning)
    if first.get("kind") == "run":
        return EVALUATION
    if "halo_recording" in first:
        return RECORDING
    return SESSION if "halo_session" in whole else ""


def _object(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def check_replaceable(path: Path, *, by: str = "") -> None:
    """Raise `UsageError` where a file of another kind than `by` would be lost. Raises `OSError`, too."""
    if (kind := kind_of(path)) not in ("", by):
        raise UsageError(f"{str(path)!r} holds {kind}. It was not changed; choose another path.")
