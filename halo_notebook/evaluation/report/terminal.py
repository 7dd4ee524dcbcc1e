"""An evaluation as plain text, for `print` and a terminal of any width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING
from unicodedata import category, east_asian_width

from ...display.text import one_line, writable
from ..tables.notes import headline, notes
from ..tables.summary import summary_of

if TYPE_CHECKING:
    from ..file.state import RunState

_GAP = 2
_NARROWEST = 8  # columns of a text, however narrow the terminal is
_NO_WIDTH = ("Mn", "Me", "Cf")  # categories of characters that take no column


def overview_text(state: RunState) -> str:
    """The outcomes, a row per configuration, the notes; as wide as the terminal, or 80 columns."""
    width = shutil.get_terminal_size().columns
    summary = summary_of(state)
    table = text_table(*summary.table(), width)
    lines = [*_wrapped(headline(state), width), "", *table, "", *_wrapped(summary.caption(), width)]
    for note in notes(state):
        lines += _wrapped(f"Note: {one_line(note, 500)}", width)
    return writable("\n".join(lines))


def text_table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table; where it would be wider than `width`, a paragraph for each row.

    A cell may have several lines. What is left of a line that is too long continues in the next one.
    """
    table = [[[one_line(line, 300) for line in cell.split("\n")] for cell in row] for row in (heads, *rows)]
    widths = [max(columns(line) for cell in column for line in cell) for column in zip(*table, strict=True)]
    if sum(widths) + _GAP * (len(widths) - 1) <= width:
        return [_line(line, widths) for row in table for line in zip_longest(*row, fillvalue="")]
    labels = min(max(columns(line) for head in table[0] for line in head), width // 2 - _GAP)
    found: list[str] = []
    for row in table[1:]:
        found += [""] if found else []
        for head, cell in zip(table[0], row, strict=True):
            label = [part for line in head for part in _wrapped(line, labels)]
            lines = [part for line in cell for part in _wrapped(line, width - labels - _GAP)]
            found += [_line(line, [labels]) for line in zip_longest(label, lines, fillvalue="")]
    return found


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(2 if east_asian_width(char) in "WF" else category(char) not in _NO_WIDTH for char in text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (width - columns(cell)) for cell, width in zip(cells, widths, strict=False)]
    return (" " * _GAP).join([*padded, *cells[len(padded) :]]).rstrip()


def _wrapped(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most `width` columns, broken between words where that is possible."""
    width = max(width, _NARROWEST)
    line = ""
    for word in text.split():
        if line and columns(line) + 1 + columns(word) > width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
        while columns(line) > width:
            at = next(at for at in range(len(line) + 1) if columns(line[: at + 1]) > width)
            yield line[:at]
            line = line[at:]
    yield line
