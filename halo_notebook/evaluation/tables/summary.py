"""The summary of an evaluation: a row per configuration, as numbers and as a reader sees it.

Every rate, mean score and time comes with a 95 % interval whose unit is the case.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...display.wording import counted
from ..cases.columns import ENDS, OFF_GOAL
from ..file.state import NOT_RUN, SKIPPED
from ..outcomes import COMPLETE, FAILED, INTERRUPTED
from ..statistics.intervals import Interval, mean_score, pass_rate, passes_every_time
from ..statistics.times import P95_CASES, TimeQuantile, TimeQuantiles, time_quantiles
from .by_case import Figures, figures_of
from .rows import TIMES

if TYPE_CHECKING:
    from ..file.state import RunState

ALL = "(all)"
_ENDS = (COMPLETE, FAILED, INTERRUPTED, "not asked")


@dataclass(frozen=True)
class Row:
    """The figures of a configuration, over all cases or a group of them.

    `graded` are the checks whose scores are shown, see `Figures`. `every_time` is empty without repeats.
    """

    config: str
    group: str
    cases: int
    turns: int
    ends: dict[str, int]  # how the turns ended
    user_ends: dict[str, int]  # how users ended their conversations; empty without users
    off_goal: int | None  # conversations that fail a check of the user; None without such a check
    judged_users: int  # conversations about which such a check has a verdict
    rates: dict[str, Interval]
    scores: dict[str, Interval]
    graded: frozenset[str]
    every_time: dict[str, Interval]
    times: dict[str, TimeQuantiles]
    agents: str


@dataclass(frozen=True)
class Summary:
    """The rows; the cases of a configuration are grouped `by` tag or by a column of metadata, or not."""

    rows: list[Row]
    by: str | None
    repeats: int
    of_users: tuple[str, ...]  # the checks of simulated users: counted as off goal

    def overall(self) -> Summary:
        """Without the rows of the groups."""
        return Summary([row for row in self.rows if row.group == ALL], None, self.repeats, self.of_users)

    def caption(self) -> str:
        """What the intervals are, and how repeats count."""
        words = "In brackets: 95 % intervals over cases."
        if self.repeats > 1:
            words += (
                f" Each case counts once: its {self.repeats} repeats are averaged, and not taken for "
                f"independent. “Every time”: the cases that pass {self.repeats} times in a row."
            )
        if self._has_user_checks:
            words += " “Off goal”: conversations whose simulated user fails a check of its own."
        if any(found.n and found.p95.estimate is None for row in self.rows for found in row.times.values()):
            words += f" A p95 needs {P95_CASES} cases."
        return words

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The headings, and the cells as text, of which some have several lines."""
        odd = [name for name in _ENDS[1:] if any(row.ends[name] for row in self.rows)]
        checks = [name for name in self.rows[0].rates if name not in self.of_users] if self.rows else []
        heads = ["config", *([self.by] if self.by else []), "cases", *odd, *checks]
        heads += [OFF_GOAL] if self._has_user_checks else []
        heads += ["ended"] if self._has_users else []
        heads += [*(f"{shown}: p50, p95" for shown in TIMES.values()), "agents"]
        return heads, [self._cells(row, odd, checks) for row in self.rows]

    @property
    def _has_user_checks(self) -> bool:
        return any(row.off_goal is not None for row in self.rows)

    @property
    def _has_users(self) -> bool:
        return any(row.user_ends for row in self.rows)

    def _cells(self, row: Row, odd: Sequence[str], checks: Sequence[str]) -> list[str]:
        cells = [row.config, *([row.group] if self.by else []), f"{row.cases:,}"]
        cells += [f"{row.ends[name]:,}" for name in odd]
        for check in checks:
            rate = row.rates[check]
            # How many cases a figure rests on is said where it is not all of them.
            lines = [str(rate).removesuffix(f", {counted(row.cases, 'case')}")]
            scores = row.scores if check in row.graded else {}
            for label, others in (("score", scores), ("every time", row.every_time)):
                if check in others:
                    found = others[check]
                    of = "" if found.n == rate.n else f", {found.n:,} of {counted(row.cases, 'case')}"
                    lines.append(f"{label} {found.range()}{of}")
            cells.append("\n".join(lines))
        if self._has_user_checks:
            cells.append("–" if row.off_goal is None else f"{row.off_goal:,} of {row.judged_users:,}")
        if self._has_users:
            cells.append("\n".join(f"{count:,} {reason}" for reason, count in row.user_ends.items()) or "–")
        for name in TIMES:
            times = row.times[name]
            lines = [str(times.p50), str(times.p95)]
            lines += [f"{counted(times.unanswered, 'turn')} unanswered"] if times.unanswered else []
            cells.append("\n".join(lines))
        return [*cells, row.agents or "–"]

    def numbers(self) -> list[dict[str, Any]]:
        """The rows as numbers, see `Evaluation.summary`."""
        return [self._numbers(row) for row in self.rows]

    def _numbers(self, row: Row) -> dict[str, Any]:
        numbers: dict[str, Any] = {"cases": row.cases, "turns": row.turns, **row.ends}
        for check, rate in row.rates.items():
            numbers |= _numbers(check, rate) | {f"{check} n": rate.n, f"{check} missing": rate.missing}
            numbers |= _numbers(f"{check} score", row.scores[check])
            numbers |= _numbers(f"{check} every time", row.every_time[check]) if row.every_time else {}
        for name, found in row.times.items():
            numbers |= _numbers(f"{name} p50", found.p50) | _numbers(f"{name} p95", found.p95)
            numbers[f"{name} unanswered"] = found.unanswered
        if self._has_user_checks:
            numbers[OFF_GOAL] = row.off_goal or 0
        if self._has_users:
            numbers[ENDS] = ", ".join(f"{count:,} {reason}" for reason, count in row.user_ends.items())
        return {**numbers, "agents": row.agents}


def _numbers(name: str, found: Interval | TimeQuantile) -> dict[str, float]:
    limits = (math.nan if limit is None else limit for limit in (found.low, found.high))
    return dict(zip((name, f"{name} low", f"{name} high"), (float(found), *limits), strict=True))


def summary_of(state: RunState, by: str | None = None) -> Summary:
    """A row per configuration, with `by` also one per group of its cases. Raises `InvalidRequest`."""
    figures = figures_of(state)
    groups = {ALL: figures, **figures.grouped(by)}
    rows = [
        _row(figures.of(config), config, name, state.sources[config])
        for config in state.sources
        for name, figures in groups.items()
    ]
    return Summary(rows, by, figures.repeats, figures.of_users)


def _row(figures: Figures, config: str, group: str, source: str) -> Row:
    turns = [turn for run in figures.runs for turn in run.turns]
    counts = Counter(turn.status for turn in turns)
    ends = {status: counts[status] for status in _ENDS}
    ends["not asked"] = counts[SKIPPED] + counts[NOT_RUN]
    passed = {check: figures.passed(check) for check in figures.checks}
    scores = {check: figures.scores(check) for check in figures.checks}
    rates = {check: pass_rate(of_check) for check, of_check in passed.items()}
    names = ", ".join(sorted({turn.agent_id for turn in turns if turn.agent_id}))
    of_users = [[run.passed.get(check) for check in figures.of_users] for run in figures.runs]
    return Row(
        config,
        group,
        len({run.conversation.case.id for run in figures.runs}),
        len(turns),
        ends,
        dict(Counter(run.ended for run in figures.runs if run.ended).most_common()),
        sum(False in passes for passes in of_users) if figures.of_users else None,
        sum(bool({True, False} & {*passes}) for passes in of_users),
        rates,
        # Scores that are only passes have the interval of the rate, to which their repeats add more.
        {
            check: rates[check] if scores[check] == passed[check] else mean_score(scores[check])
            for check in rates
        },
        figures.graded,
        {
            check: passes_every_time(of_check, figures.repeats)
            for check, of_check in passed.items()
            if figures.repeats > 1
        },
        {name: time_quantiles(figures.times(name)) for name in TIMES},
        f"{names} ({source})" if names and source else names,
    )
