"""Files that a page sends to the kernel in parts, each in a binary buffer beside its message."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError

MAX_BYTES = 64 * 1024 * 1024
"""Of all files that are on their way to one panel."""


class Uploads:
    """The files on their way, by the id that the page gave each.

    >>> uploads = Uploads()
    >>> uploads.add("a", 0, 2, b"Hello "), uploads.add("a", 1, 2, b"there")
    (None, None)
    >>> uploads.take("a")
    b'Hello there'
    """

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, list[bytes]]] = {}  # with the number of their parts

    def add(self, which: str, part: Any, parts: Any, data: bytes) -> None:
        """Add the next part of a file; part 0 begins it, also again. Raises `UsageError`."""
        if part == 0:
            self._files.pop(which, None)
        expected, kept = self._files.get(which, (parts, []))
        if not isinstance(parts, int) or part != len(kept) or expected != parts or part >= parts:
            raise UsageError(
                "A part of the file was lost on its way. Nothing was changed; add the file again."
            )
        on_their_way = sum(len(each) for _, pieces in self._files.values() for each in pieces)
        if on_their_way + len(data) > MAX_BYTES:
            self._files.clear()  # what is never taken would stay
            raise UsageError(
                f"The page sends more than {MAX_BYTES >> 20} MB. Nothing was changed; send less."
            )
        self._files[which] = parts, [*kept, data]

    def take(self, which: str) -> bytes:
        """A file all of whose parts are here; it is forgotten. Raises `UsageError`."""
        parts, kept = self._files.pop(which, (1, []))
        if len(kept) != parts:
            raise UsageError(
                "A part of the file was lost on its way. Nothing was changed; add the file again."
            )
        return b"".join(kept)
