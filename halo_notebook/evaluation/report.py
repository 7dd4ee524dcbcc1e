"""An evaluation to look at: in a notebook, as a plot, as one file for a colleague.

What it promises:

- What an agent wrote is shown as in a cell: safe HTML, payloads as text.
- The file stands by itself: no script, nothing loaded, readable in light and dark.
- It is drawn here, once, so that a saved notebook, GitHub and a page without a network show it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..display.bundles import message_html, reply_bundle
from ..display.formulas import NO_FORMULAS
from ..display.text import one_line
from ..display.words import counted, status_words
from ..errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ..reply import Reply
    from .intervals import Comparison, TimeComparison
    from .result import Conversation, Evaluation

MAX_POINTS = 5_000
"""A plot draws at most so many times of each kind, evenly chosen."""
_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
"""Told apart by the colour-blind, too (Okabe and Ito's)."""
_TIMES = {"first_text_s": "first text", "elapsed_s": "whole reply"}

_CELL = "text-align:left;vertical-align:top;padding:4px 10px;white-space:normal"
_NUMBER = "text-align:right;vertical-align:top;padding:4px 10px;white-space:nowrap"
_RATE = "text-align:left;vertical-align:top;padding:4px 10px;white-space:nowrap"
_QUIET = "opacity:0.75"


# --- In a notebook ----------------------------------------------------------------------


def overview(evaluation: Evaluation) -> str:
    """What a cell shows: how it went, what to know, a row per configuration, the worst rows."""
    tagged = evaluation.summary(by_tag=True)
    has_tags = len(tagged) > len(evaluation.configs)
    summary = evaluation.summary() if has_tags else tagged.droplevel("tag")
    parts = [
        f"<p><strong>{escape(headline(evaluation))}</strong></p>",
        *(f"<p>⚠ {escape(one_line(note, 500))}</p>" for note in evaluation.notes()),
        _table(*_summary_cells(summary)),
    ]
    if has_tags:
        parts.append(_folded("By tag", _table(*_summary_cells(tagged))))
    parts.append(_worst(evaluation))
    return f'<div class="halo-evaluation {NO_FORMULAS}">' + "\n".join(parts) + "</div>"


def headline(evaluation: Evaluation) -> str:
    """One line: how many conversations, and what became of them."""
    return repr(evaluation).removeprefix("Evaluation(").removesuffix(")")


def _summary_cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A summary as headings and rows of text, times put together as p50 and p95."""
    checks = list(frame.columns[6:-5])
    odd = [name for name in ("failed", "interrupted", "not asked") if frame[name].any()]
    heads = [*frame.index.names, "cases", *odd, *checks]
    heads += [f"{shown}, p50 · p95" for shown in _TIMES.values()] + ["agents"]
    rows = []
    for key, row in zip(frame.index, frame.to_dict("records"), strict=True):
        cells = [str(part) for part in (key if isinstance(key, tuple) else (key,))]
        cells += [f"{row['cases']:,}", *(f"{row[name]:,}" for name in odd)]
        for check in checks:
            shown = str(row[check])
            # How many cases it rests on is said where it is not all of them.
            cells.append(shown.removesuffix(f", {counted(row['cases'], 'case')}"))
        for name in _TIMES:
            cells.append(f"{_seconds(row[f'{name} p50'])} · {_seconds(row[f'{name} p95'])}")
        rows.append([*cells, row["agents"] or "–"])
    return heads, rows


def _worst(evaluation: Evaluation) -> str:
    frame = evaluation.worst()
    if frame.empty:
        return ""
    heads = ["row", "case", *(["config"] if len(evaluation.configs) > 1 else [])]
    heads += ["bad rows", "why", "reply", "total"]
    rows = []
    for number, row in zip(frame.index, frame.to_dict("records"), strict=True):
        config = [row["config"]] if len(evaluation.configs) > 1 else []
        cells = [f"{number}", row["case"], *config, row["bad"], row["why"], row["text"]]
        rows.append([*cells, _seconds(row["elapsed_s"])])
    words = (
        "The cases to look at first, each by its worst row; <code>.show(row)</code> shows the conversation:"
    )
    return f"<p>{words}</p>" + _table(heads, rows)


def comparison_table(comparisons: Mapping[str, Comparison | TimeComparison]) -> str:
    """A row per figure that was compared: the difference, how sure it is, what to read it with."""
    from .intervals import TimeComparison

    rows = []
    for name, found in comparisons.items():
        shown = _TIMES.get(name, name)
        if isinstance(found, TimeComparison):
            rows += [(f"{shown}, median", found.median), (f"{shown}, p95", found.p95)]
        else:
            rows.append((shown, found))
    cells = [[name, str(found).removesuffix(f" ({found.note})"), found.note] for name, found in rows]
    return f'<div class="halo-evaluation {NO_FORMULAS}">{_table(["", "difference", "note"], cells)}</div>'


_NUMERIC = ("row", "cases", "failed", "interrupted", "not asked", "bad rows", "total")


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


def _folded(title: str, html: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def _seconds(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f} s"


# --- As a plot --------------------------------------------------------------------------


class Plot:
    """A picture of an evaluation, which shows in a cell by itself.

    Attributes:
        chart: the Altair chart, to be changed and saved as any other.
    """

    def __init__(self, chart: Any) -> None:
        self.chart = chart

    def svg(self) -> str:
        """The picture as SVG, drawn here."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self.chart.to_dict()))

    def _repr_png_(self) -> bytes:
        # Altair's own output draws in the page, with a script from the network; JupyterLab's has not
        # the version of its language. A picture shows everywhere.
        import vl_convert

        return bytes(vl_convert.vegalite_to_png(self.chart.to_dict(), scale=2))

    def __repr__(self) -> str:
        return "Plot(pass rates with intervals, times)"


def plot(evaluation: Evaluation) -> Plot:
    """Each check's pass rate with its interval, and how the times are spread, by configuration."""
    import altair as alt
    import pandas as pd

    names = evaluation.configs
    colour = alt.Color("config:N", sort=names, legend=None).scale(domain=names, range=_COLOURS)
    who = alt.Y("config:N", sort=names, title=None).axis(labelLimit=160, ticks=False, domain=False)
    summary = evaluation.summary()
    rates = pd.DataFrame(
        [
            {"config": config, "check": check, "rate": rate.estimate, "low": rate.low, "high": rate.high}
            for check in evaluation.checks
            for config, rate in zip(summary.index, summary[check], strict=True)
            if rate.estimate is not None
        ],
        columns=["config", "check", "rate", "low", "high"],
    )
    times = pd.DataFrame(
        [
            {"config": config, "time": shown, "seconds": value}
            for name, shown in _TIMES.items()
            for config, by_case in evaluation.times(name).items()
            for value in _spread([each for values in by_case.values() for each in values])
        ],
        columns=["config", "time", "seconds"],
    )
    parts = []
    if not rates.empty:
        share = alt.X("rate:Q", title="pass rate, with 95 % interval").scale(domain=[0, 1]).axis(format="%")
        base = alt.Chart(rates).encode(y=who, color=colour)
        both = alt.layer(
            base.mark_rule(strokeWidth=3, opacity=0.5).encode(x=alt.X("low:Q"), x2="high:Q"),
            base.mark_point(filled=True, size=90, opacity=1).encode(x=share),
        ).properties(width=280, height=alt.Step(26))
        parts.append(both.facet(row=_title_row("check", evaluation.checks)))
    if not times.empty:
        # A box for the middle half and the median; each time a tick, so that few are not made to seem many.
        base = alt.Chart(times).encode(
            y=who, x=alt.X("seconds:Q", title="seconds").scale(zero=True), color=colour
        )
        both = alt.layer(
            base.mark_boxplot(extent=0, size=14, opacity=0.5, median={"color": "black"}, outliers=False),
            base.mark_tick(size=20, thickness=1, opacity=0.5),
        ).properties(width=280, height=alt.Step(26))
        parts.append(both.facet(row=_title_row("time", list(_TIMES.values()))))
    if not parts:
        raise UsageError("There is nothing to plot: no turn has come to its end yet. Nothing was changed.")
    chart = alt.hconcat(*parts, spacing=40).resolve_scale(color="shared")
    chart = chart.configure(background="white", padding=12, font="sans-serif")
    return Plot(chart.configure_view(stroke=None).configure_facet(spacing=14))


def _title_row(name: str, values: Sequence[str]) -> Any:
    import altair as alt

    return alt.Row(f"{name}:N", sort=list(values), title=None).header(
        labelAngle=0, labelAlign="left", labelAnchor="start", labelOrient="top", labelFontWeight="bold"
    )


def _spread(values: list[float]) -> list[float]:
    """At most `MAX_POINTS` of the values, evenly chosen over their range, so that a plot stays light."""
    if len(values) <= MAX_POINTS:
        return values
    ordered = sorted(values)
    return [ordered[round(at * (len(ordered) - 1) / (MAX_POINTS - 1))] for at in range(MAX_POINTS)]


# --- As a file --------------------------------------------------------------------------

_PAGE_CSS = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; }
pre { overflow-x: auto; }
img { max-width: 100%; border-radius: 4px; }
details.conversation { border: 1px solid #8886; border-radius: 4px; margin: 0.5rem 0; padding: 0.5rem 1rem; }
details.conversation > summary { cursor: pointer; }
.bad { font-weight: bold; }
"""
_NO_SCRIPT = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(evaluation: Evaluation, path: Path) -> Path:
    """Write the page of an evaluation to `path`, all or nothing; returns it."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        try:
            with unfinished.open("w", encoding="utf-8", errors="replace") as file:
                _write(evaluation, file)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} could not be written ({error.strerror}). The evaluation is kept; choose "
            "another path."
        ) from None
    return path


def _write(evaluation: Evaluation, file: TextIO) -> None:
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    file.write(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_NO_SCRIPT}">'
        '<meta name="viewport" content="width=device-width"><title>Evaluation</title>'
        f"<style>{_PAGE_CSS}</style></head><body><main>\n<h1>Evaluation</h1>\n{overview(evaluation)}\n"
        f'<p style="{_QUIET}">Written {escape(when)}</p>\n'
    )
    if any(values for by_case in evaluation.times("elapsed_s").values() for values in by_case.values()):
        picture = base64.b64encode(plot(evaluation).svg().encode()).decode("ascii")
        alt = "Pass rates with intervals, and times, by configuration: the figures of the table above"
        file.write(f'<img alt="{alt}" src="data:image/svg+xml;base64,{picture}">\n')
    file.write("<h2>Conversations</h2>\n")
    rows = evaluation.rows()
    for conversation, turns in evaluation.conversations():
        held = [next(rows) for _ in conversation.case.turns]
        file.write(_conversation(evaluation, conversation, turns, held))
    file.write("</main></body></html>\n")


def _conversation(
    evaluation: Evaluation,
    conversation: Conversation,
    turns: Sequence[tuple[str, Reply]],
    rows: Sequence[dict[str, Any]],
) -> str:
    """A conversation that folds; its line says whether it is worth opening."""
    whys = [evaluation.why(row) for row in rows]
    # What ended it says more than what failed on the way.
    ended = [why for why, row in zip(whys, rows, strict=True) if why and row["status"] != "complete"]
    why = next(filter(None, [*ended, *whys]), "")
    about = [conversation.case.id, conversation.config, f"repeat {conversation.repeat}"]
    judged = any(row[name] is not None for row in rows for name in evaluation.checks)
    verdict = f'<span class="bad">✗ {escape(one_line(why, 200))}</span>' if why else "✓" if judged else "–"
    line = f"{escape(one_line(' · '.join(about)))} {verdict}"
    parts = []
    for (message, reply), row in zip(turns, rows, strict=False):
        parts.append(
            message_html(message)
            + str(reply_bundle(reply.text, reply.actions, status_words(reply))["text/html"])
        )
        verdicts = [
            f"{_SIGNS[row[name]]} {name}" + (f" ({note})" if (note := row[f"{name} note"]) else "")
            for name in evaluation.checks
        ]
        if verdicts:
            parts.append(f'<p style="{_QUIET}">{escape(one_line(" · ".join(verdicts), 500))}</p>')
    if not parts:
        parts.append(f"<p>{escape(counted(len(rows), 'message'))}, not asked.</p>")
    inner = "\n".join(parts)
    return f'<details class="conversation"><summary>{line}</summary>\n{inner}\n</details>\n'


_SIGNS = {True: "✓", False: "✗", None: "–"}
