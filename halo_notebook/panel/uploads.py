"""Files that a page sends to the kernel in parts, each in a binary buffer beside its message."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError

MAX_BYTES = 64 * 1024 * 1024
"""Of all files that are on their way to one panel; the oldest ones make room."""
_LOST = "A part of the file was lost on its way. Nothing was changed; add the file again."


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
        begun = self._files.pop(which, (parts, []))
        expected, kept = (parts, []) if part == 0 else begun
        if not isinstance(parts, int) or part != len(kept) or expected != parts or part >= parts:
            raise UsageError(_LOST)
        self._files[which] = parts, [*kept, data]
        while sum(len(each) for _, pieces in self._files.values() for each in pieces) > MAX_BYTES:
            oldest = next(iter(self._files))  # it may have been given up
            del self._files[oldest]
            if oldest == which:
                raise UsageError(f"The file has more than {MAX_BYTES >> 20} MB. Nothing was changed.")

    def take(self, which: str) -> bytes:
        """A file all of whose parts are here; it is forgotten. Raises `UsageError`."""
        parts, kept = self._files.pop(which, (1, []))
        if len(kept) != parts:
            raise UsageError(_LOST)
        return b"".join(kept)
