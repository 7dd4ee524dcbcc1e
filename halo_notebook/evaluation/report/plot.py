"""An evaluation as a plot: a picture, drawn here, so that a page without a network shows it too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..statistics.times import AtLeast
from ..tables.by_case import figures_of
from ..tables.rows import TIMES
from ..tables.summary import summary_of

if TYPE_CHECKING:
    from ..file.state import RunState
    from ..statistics.intervals import Interval
    from ..tables.by_case import Run
    from ..tables.summary import Row

MAX_POINTS = 4_000  # a plot draws at most this many times, evenly chosen; Altair refuses more than 5,000 rows
# Colour-blind readers can tell them apart (Okabe and Ito's).
_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]


class Plot:
    """A picture of an evaluation; a cell shows it. Its `chart` is Altair's, and can be changed."""

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


def plot(state: RunState) -> Plot:
    """Each check's pass rate and mean score with intervals, and how the times are spread."""
    import altair as alt
    import pandas as pd

    names = list(state.sources)
    colour = alt.Color("config:N", sort=names, legend=None).scale(domain=names, range=_COLOURS)
    who = alt.Y("config:N", sort=names, title=None).axis(labelLimit=160, ticks=False, domain=False)
    rates = pd.DataFrame(
        [
            {"config": row.config, "check": check, "rate": rate.estimate, "low": rate.low, "high": rate.high}
            for row in summary_of(state).rows
            for check, rate in _shares(row).items()
            if rate.estimate is not None
        ],
        columns=["config", "check", "rate", "low", "high"],
    )
    most = max(MAX_POINTS // (len(TIMES) * len(names)), 20)
    runs = figures_of(state).runs
    times = pd.DataFrame(
        [
            {"config": config, "time": shown, "seconds": value}
            for name, shown in TIMES.items()
            for config, values in _times(runs, name, names).items()
            for value in _spread(values, most)
        ],
        columns=["config", "time", "seconds"],
    )
    unanswered = any(isinstance(each, AtLeast) for run in runs for name in TIMES for each in run.times(name))

    def rows(frame: pd.DataFrame, name: str, values: Iterable[str], *layers: Any) -> Any:
        row = alt.Row(f"{name}:N", sort=list(values), title=None).header(
            labelAngle=0, labelAlign="left", labelAnchor="start", labelOrient="top", labelFontWeight="bold"
        )
        both = alt.layer(*layers, data=frame).encode(y=who, color=colour)
        return both.properties(width=280, height=alt.Step(26)).facet(row=row)

    parts = []
    shares = list(dict.fromkeys(rates["check"]))
    if not rates.empty:
        title = f"pass rate{' or mean score' if len(shares) > len(state.checks) else ''}, with 95 % interval"
        share = alt.X("rate:Q", title=title).scale(domain=[0, 1]).axis(format="%")
        limits = alt.Chart().mark_rule(strokeWidth=3, opacity=0.5).encode(x=alt.X("low:Q"), x2="high:Q")
        point = alt.Chart().mark_point(filled=True, size=90, opacity=1).encode(x=share)
        parts.append(rows(rates, "check", shares, limits, point))
    if not times.empty:
        # A box for the middle half and the median, and a tick for each time, so that few do not seem many.
        title = "seconds (without an answer: the longest time)" if unanswered else "seconds"
        seconds = alt.Chart().encode(x=alt.X("seconds:Q", title=title).scale(zero=True))
        box = seconds.mark_boxplot(extent=0, size=14, opacity=0.5, median={"color": "black"}, outliers=False)
        tick = seconds.mark_tick(size=20, thickness=1, opacity=0.5)
        parts.append(rows(times, "time", TIMES.values(), box, tick))
    if not parts:
        raise UsageError("There is nothing to plot: no turn is complete yet. Nothing was changed.")
    chart = alt.hconcat(*parts, spacing=40).resolve_scale(color="shared")
    chart = chart.configure(background="white", padding=12, font="sans-serif")
    return Plot(chart.configure_view(stroke=None).configure_facet(spacing=14))


def _shares(row: Row) -> dict[str, Interval]:
    """The rates, each with the mean score after it where there is one."""
    shares = {}
    for check, rate in row.rates.items():
        shares[check] = rate
        if check in row.graded:
            shares[f"{check} score"] = row.scores[check]
    return shares


def _times(runs: Iterable[Run], name: str, configs: Iterable[str]) -> dict[str, list[float]]:
    """Configuration → its times; a turn without an answer is as long as any, or an error would look fast."""
    found: dict[str, list[float]] = {config: [] for config in configs}
    for run in runs:
        found[run.conversation.config] += run.times(name)
    longest = max((each for values in found.values() for each in values), default=0.0)
    return {
        config: [longest if isinstance(each, AtLeast) else each for each in values]
        for config, values in found.items()
    }


def _spread(values: list[float], most: int) -> list[float]:
    """At most so many of the values, evenly chosen over their range, so that a plot stays light."""
    step = max(1.0, (len(values) - 1) / (most - 1))
    ordered = sorted(values)
    return [ordered[round(at * step)] for at in range(min(len(values), most))]
