"""An evaluation in a notebook's cell, as HTML that any front end shows.

What an agent wrote is shown as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from ...display.formulas import NO_FORMULAS
from ...display.text import one_line
from ..cases.columns import OFF_GOAL
from ..tables.by_case import TAG
from ..tables.notes import headline, notes
from ..tables.rows import worst_rows
from ..tables.summary import summary_of

if TYPE_CHECKING:
    import pandas as pd

    from ..file.state import RunState
    from ..tables.summary import Summary

QUIET = "opacity:0.75"
_CELL = "text-align:left;vertical-align:top;padding:4px 10px;white-space:normal"
_NUMBER = "text-align:right;vertical-align:top;padding:4px 10px;white-space:nowrap"


def overview(state: RunState) -> str:
    """What a cell shows: the outcomes, the notes, a row per configuration, the worst cases."""
    tagged = summary_of(state, TAG)
    parts = [
        f"<p><strong>{escape(headline(state))}</strong></p>",
        *(f"<p>⚠ {escape(one_line(note, 500))}</p>" for note in notes(state)),
        _summary(tagged.overall()),
    ]
    if len(tagged.rows) > len(tagged.overall().rows):
        table = _table(*tagged.table())
        parts.append(f'<details style="margin:1em 0"><summary>By tag</summary>{table}</details>')
    parts.append(_worst(state))
    return _whole(*parts)


def summary_frame(state: RunState, by: str | None) -> pd.DataFrame:
    """See `Evaluation.summary`. Raises `InvalidRequest`."""
    import pandas as pd

    from ..tables.dataframes import Readable

    summary = summary_of(state, by)
    index = pd.MultiIndex.from_tuples([(row.config, row.group) for row in summary.rows], names=["config", by])
    heads, rows = summary.table()
    lines = [[cell.replace("\n", "; ") for cell in row] for row in rows]
    text = pd.DataFrame(lines, columns=heads).to_string(index=False) + "\n" + summary.caption()
    index = index if by else index.droplevel(1)
    return Readable.of(summary.numbers(), index, _whole(_summary(summary)), text)


def _whole(*parts: str) -> str:
    return f'<div class="halo-evaluation {NO_FORMULAS}">' + "\n".join(parts) + "</div>"


def _summary(summary: Summary) -> str:
    return _table(*summary.table()) + f'<p style="{QUIET}">{escape(summary.caption())}</p>'


def _worst(state: RunState) -> str:
    frame = worst_rows(state, 5)
    if frame.empty:
        return ""
    if len(state.sources) == 1:
        frame = frame.drop(columns="config")
    frame["failed"] = [
        f"{failed} of {runs}" for failed, runs in zip(frame["failed"], frame["runs"], strict=True)
    ]
    frame["expect"] = ["" if each is None else str(each) for each in frame["expect"]]
    frame["elapsed_s"] = frame["elapsed_s"].map(_seconds)
    shown = frame.drop(columns=["repeat", "turn", "runs"]).rename(
        columns={"text": "reply", "elapsed_s": "total"}
    )
    rows = [[one_line(str(cell), 120) for cell in row] for row in shown.reset_index().to_numpy()]
    words = (
        "The cases to look at first, by the share of conversations that failed, each with its worst row; "
        "<code>.show(row)</code> shows the conversation:"
    )
    return f"<p>{words}</p>" + _table(["row", *shown.columns], rows)


def comparison_table(heads: Sequence[str], rows: Iterable[Sequence[str]], captions: Iterable[str]) -> str:
    """A row per figure that was compared, and what the figures are."""
    return _whole(_table(heads, rows), *(f'<p style="{QUIET}">{escape(line)}</p>' for line in captions))


def result_comparison(
    differences: tuple[Sequence[str], Iterable[Sequence[str]]],
    captions: Iterable[str],
    lists: Iterable[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    notes: Iterable[str],
) -> str:
    """How two results differ: the figures, and what got worse and better, each with a title."""
    parts = [f"<p>⚠ {escape(one_line(note, 500))}</p>" for note in notes]
    parts.append(_table(*differences))
    parts += [f'<p style="{QUIET}">{escape(line)}</p>' for line in captions]
    for title, heads, rows in lists:
        parts.append(f"<p>{escape(title)}</p>")
        parts += [_table(heads, rows)] if rows else []
    return _whole(*parts)


_NUMERIC = ("row", "cases", "failed", "interrupted", "not asked", "total")
# Texts that a narrow page would make a word wide, and short ones.
_OF_TEXTS = {
    **dict.fromkeys(("case", "why", "message", "reply", "note"), ";min-width:10em"),
    **dict.fromkeys(("ended", OFF_GOAL), ";white-space:nowrap"),
}
# An estimate with its limits and its name, and a p-value; as HTML.
_FIGURE = re.compile(r"(?:(?:score|every time) )?\S+(?: s| points)? \[[^\]]*\]|\bp (?:=|&lt;) [\d.]+")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    styles = [_NUMBER if head in _NUMERIC else _CELL + _OF_TEXTS.get(head, "") for head in heads]
    top = "".join(
        f'<th scope="col" style="{style}">{escape(one_line(head))}</th>'
        for head, style in zip(heads, styles, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{style}">{_lines(cell)}</td>' for cell, style in zip(row, styles, strict=True))
        + "</tr>"
        for row in rows
    )
    # It scrolls where it is wider than the page, so that the keyboard has to reach it.
    return f"<table tabindex='0'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _lines(cell: str) -> str:
    """The lines of a cell; they break between words where a table is too wide, but not within a figure."""
    shown = "<br>".join(escape(one_line(line, 300)) for line in cell.split("\n"))
    return _FIGURE.sub(r'<span style="white-space:nowrap">\g<0></span>', shown)


def _seconds(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f} s"
