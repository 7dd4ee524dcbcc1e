"""An evaluation in a notebook's cell, as HTML that any front end shows.

What an agent wrote is shown as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from ...display.formulas import NO_FORMULAS
from ...display.text import one_line
from ...display.wording import counted
from ..comparisons import TimeComparison
from ..figures import ALL_TAGS, summary_frame
from ..notes import headline, notes
from ..rows import TIMES, worst_rows

if TYPE_CHECKING:
    import pandas as pd

    from ..comparisons import Comparison
    from ..state import RunState

QUIET = "opacity:0.75"
_CELL = "text-align:left;vertical-align:top;padding:4px 10px;white-space:normal"
_NUMBER = "text-align:right;vertical-align:top;padding:4px 10px;white-space:nowrap"
_RATE = "text-align:left;vertical-align:top;padding:4px 10px;white-space:nowrap"


def overview(state: RunState) -> str:
    """What a cell shows: the outcomes, the notes, a row per configuration, the worst cases."""
    tagged = summary_frame(state, by_tag=True)
    summary = tagged.xs(ALL_TAGS, level="tag")
    parts = [
        f"<p><strong>{escape(headline(state))}</strong></p>",
        *(f"<p>⚠ {escape(one_line(note, 500))}</p>" for note in notes(state)),
        _table(*_summary_cells(summary)),
    ]
    if len(tagged) > len(summary):
        table = _table(*_summary_cells(tagged))
        parts.append(f"<details><summary>By tag</summary>{table}</details>")
    parts.append(_worst(state))
    return f'<div class="halo-evaluation {NO_FORMULAS}">' + "\n".join(parts) + "</div>"


def _summary_cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A summary as headings and rows of text, times put together as p50 and p95."""
    checks = list(frame.columns[6:-5])
    odd = [name for name in ("failed", "interrupted", "not asked") if frame[name].any()]
    heads = [*frame.index.names, "cases", *odd, *checks]
    heads += [f"{shown}, p50 · p95" for shown in TIMES.values()] + ["agents"]
    rows = []
    for key, row in zip(frame.index, frame.to_dict("records"), strict=True):
        cells = [str(part) for part in (key if isinstance(key, tuple) else (key,))]
        cells += [f"{row['cases']:,}", *(f"{row[name]:,}" for name in odd)]
        # How many cases a rate rests on is said where it is not all of them.
        all_cases = f", {counted(row['cases'], 'case')}"
        cells += [str(row[check]).removesuffix(all_cases) for check in checks]
        cells += [f"{_seconds(row[f'{name} p50'])} · {_seconds(row[f'{name} p95'])}" for name in TIMES]
        rows.append([*cells, row["agents"] or "–"])
    return heads, rows


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


def comparison_table(comparisons: Mapping[str, Comparison | TimeComparison]) -> str:
    """A row per figure that was compared: the difference, its interval, its note."""
    rows = []
    for name, found in comparisons.items():
        shown = TIMES.get(name, name)
        if isinstance(found, TimeComparison):
            rows += [(f"{shown}, median", found.median), (f"{shown}, p95", found.p95)]
        else:
            rows.append((shown, found))
    cells = [[name, str(found).removesuffix(f" ({found.note})"), found.note] for name, found in rows]
    return f'<div class="halo-evaluation {NO_FORMULAS}">{_table(["", "difference", "note"], cells)}</div>'


_NUMERIC = ("row", "cases", "failed", "interrupted", "not asked", "total")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # Figures stay on one line; texts may break.
    figures = [head in _NUMERIC or head.endswith("p95") for head in heads]
    top = "".join(
        f'<th scope="col" style="{_NUMBER if figure else _CELL}">{escape(one_line(head))}</th>'
        for head, figure in zip(heads, figures, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{_NUMBER if figure else _RATE if "%" in cell[:5] else _CELL}">'
            f"{escape(one_line(cell, 300))}</td>"
            for cell, figure in zip(row, figures, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    # It scrolls where it is wider than the page, so that the keyboard has to reach it.
    return f"<table tabindex='0'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _seconds(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f} s"
