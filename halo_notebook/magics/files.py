"""The file that a person means: names come from terminals, file managers and other systems."""

from __future__ import annotations

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit


def named_file(name: str) -> Path:
    """The file of that name, or the only one that differs from it in spelling.

    These differences do not count: a ``file:`` URL, quotes around the name, a shell's backslashes, the
    kind of a blank, invisible characters, and whether an accent is a character of its own (as in names from
    macOS).

    Returns:
        an existing file if there is one, otherwise the name as a path.
    """
    spellings = [name]
    if re.match(r"file:/", name, re.IGNORECASE):
        from urllib.request import url2pathname  # with it come http.client and email

        spellings.append(url2pathname(urlsplit(name).path))
    spellings.append(name.strip().strip("'\""))
    if os.sep == "/":
        spellings.append(re.sub(r"\\(.)", r"\1", spellings[-1]))
    for spelling in spellings:
        with suppress(OSError, ValueError, RuntimeError):  # not a path; a user without a home
            found = _similar(Path(spelling).expanduser())
            if found.exists():
                return found
    return Path(name)


def _similar(path: Path) -> Path:
    """The path itself where it exists, otherwise the only one whose parts look like its parts."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        parent, found = found, found / part
        if not found.exists():
            key = _key(part)
            similar = [each for each in parent.iterdir() if _key(each.name) == key]
            if len(similar) != 1:
                return path
            [found] = similar
    return found


def _key(name: str) -> str:
    """The same for all names that look alike."""
    visible = "".join(char for char in name if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFC", " ".join(visible.split()))
