"""How much work the Markdown of a reply may cause, so that Stop never waits long for dense or hostile text.

The work is counted in steps of about a microsecond. They depend on the text only, so the same text is always
shown in the same way. What would take too many steps is shown as its source.
"""

from __future__ import annotations

from typing import Final

MAX_REPLY_STEPS: Final = 250_000
"""The steps for all blocks of a reply. The text after them is shown as its source."""
MAX_BLOCK_STEPS: Final = 100_000
"""The steps for one block. A block that takes more is shown as its source."""
MAX_RESOLVED_STEPS: Final = 60_000
"""The steps for rendering blocks again whose links were defined later. Further links stay text."""
MAX_PARSED_STEPS: Final = 40_000
"""The steps for finding blocks in a piece of text. With more, the piece is cut."""

BLOCK: Final = 80
TOKEN: Final = 12
LINE: Final = 12
ADDRESS: Final = 40
SKIPPED: Final = 1
ENTITY: Final = 2
MARKS: Final = {"[": 60, "!": 10, "<": 15, "\\": 15, "$": 12, **dict.fromkeys("\n]&*_`~", 6)}
"""The characters at which the parser tries its rules. Some rules read a label, an address or a formula."""


class TooMuchWorkError(Exception):
    """Parsing takes more steps than allowed."""


class Work:
    """Counts steps up to a limit.

    >>> work = Work(10)
    >>> work.add(8)
    >>> work.done
    8
    """

    __slots__ = ("_limit", "done")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.done = 0

    def add(self, steps: int) -> None:
        """Count `steps`.

        Raises:
            TooMuchWorkError: if there are now more than allowed.
        """
        self.done += steps
        if self.done > self._limit:
            raise TooMuchWorkError
