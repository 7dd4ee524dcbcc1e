"""Two evaluations side by side: which configurations and cases of a result belong to which of another one.

Cases belong together when they send the same messages with the same fields, whatever their ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from ...display.text import one_line, writable
from ...display.wording import counted
from ...errors import InvalidRequest
from ..file.as_cases import users_words, with_same_words
from ..tables.by_case import figures_of
from ..tables.rows import cell
from .between_configs import Comparisons, Side, compared, side_of

if TYPE_CHECKING:
    import pandas as pd

    from ..cases.case import Case
    from ..file.state import RunState

T = TypeVar("T")
OTHER, THIS = "the other result", "this result"
_SHOWN = 20  # cases in a text or a page


@dataclass(frozen=True, repr=False)
class ResultComparison:
    """How a result differs from another one; shows what got worse, what got better, and how certain it is.

    Attributes:
        differences: of each check and time: this result minus the other, with intervals.
        cases: a row per check, configuration and case that both have a result for: its rates in both, the
            difference, and the numbers of its rows; worst first.
        notes: what a reader has to know before believing it, a line each.
    """

    differences: Comparisons
    cases: pd.DataFrame
    notes: list[str]

    @property
    def worse(self) -> pd.DataFrame:
        """The rows of `cases` with a lower rate than in the other result, worst first."""
        return self.cases[self.cases["difference"] < 0]

    @property
    def better(self) -> pd.DataFrame:
        """The rows of `cases` with a higher rate than in the other result, best first."""
        better = self.cases[self.cases["difference"] > 0]
        return better.sort_values("difference", ascending=False, kind="stable")

    def __repr__(self) -> str:
        parts = [repr(self.differences)]
        for title, heads, rows in self._lists():
            widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
            parts.append(title)
            for row in [heads, *rows] if rows else []:
                cells = (f"{text:{width}}" for text, width in zip(row, widths, strict=True))
                parts.append(f"  {'  '.join(cells)}".rstrip())
        return writable("\n".join([*parts, *(f"Note: {note}" for note in self.notes)]))

    def _repr_html_(self) -> str:
        from ..report.notebook import result_comparison

        table, captions = self.differences.table(), self.differences.captions()
        return result_comparison(table, captions, self._lists(), self.notes)

    def _lists(self) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """What got worse and what got better: a title, heads, and the first rows."""
        heads = ["check", *(["config"] if self.cases["config"].nunique() > 1 else []), "case", "message"]
        pairs = len(self.cases)
        of = (
            counted(pairs, "case")
            if self.cases["check"].nunique() < 2
            else f"{pairs:,} pairs of case and check"
        )
        for word, frame in (("Worse", self.worse), ("Better", self.better)):
            more = f", of which the first {_SHOWN} are shown" if len(frame) > _SHOWN else ""
            rows = [
                [
                    *(one_line(str(row[name]), 60) for name in heads),
                    f"{row['other']:.0%} → {row['this']:.0%}",
                    str(row["rows this"][0]),
                ]
                for row in frame.head(_SHOWN).to_dict("records")
            ]
            title = f"{word}: {len(frame):,} of {of}{more}"
            yield title, [*heads, "other → this", "row"], rows


def compare_results(other: RunState, this: RunState, config: str | None) -> ResultComparison:
    """See `Evaluation.compare_with`."""
    other, this = with_same_words(other, this)
    pairing = Pairing(other, this, config)
    figures_other, figures_this = figures_of(other), figures_of(this)
    said_other, said_this = users_words(other), users_words(this)
    groups = {
        name: [
            _renamed_side(side_of(figures_other, old, said_other), OTHER, pairing.before),
            _renamed_side(side_of(figures_this, name, said_this), THIS, pairing.now),
        ]
        for old, name in pairing.configs
    }
    [first, *more] = groups.values()
    if more:
        together = [_together([(name, sides[at]) for name, sides in groups.items()]) for at in (0, 1)]
        differences = compared(together, groups, "config")
    else:
        differences = compared(first)
    return ResultComparison(differences, _changed_cases(groups), list(_notes(other, this, pairing)))


def _renamed_side(side: Side, name: str, names: Mapping[str, str]) -> Side:
    made: dict[str, Any] = {
        part: {key: renamed(each, names) for key, each in getattr(side, part).items()} for part in _BY_NAME
    }
    return Side(name, **made, **{part: renamed(getattr(side, part), names) for part in _BY_CASE})


_BY_NAME, _BY_CASE = ("passed", "scores", "times"), ("rows", "messages", "said")


def _together(sides: Sequence[tuple[str, Side]]) -> Side:
    """The sides of all configurations as one, with the configuration in the name of each case."""
    made: dict[str, Any] = {part: {} for part in (*_BY_NAME, *_BY_CASE)}
    for config, side in sides:
        for part in _BY_NAME:
            for name, by_case in getattr(side, part).items():
                of_all = made[part].setdefault(name, {})
                of_all |= {f"{case} · {config}": each for case, each in by_case.items()}
        for part in _BY_CASE:
            made[part] |= {f"{case} · {config}": each for case, each in getattr(side, part).items()}
    return Side(sides[0][1].name, **made)


def _changed_cases(groups: Mapping[str, Sequence[Side]]) -> pd.DataFrame:
    """See `ResultComparison.cases`."""
    from ..tables.dataframes import table_of

    rows: list[dict[str, Any]] = []
    for config, (other, this) in groups.items():
        for check in this.passed:
            for case, passes in this.passed[check].items():
                before = [each for each in other.passed.get(check, {}).get(case, ()) if each is not None]
                now = [each for each in passes if each is not None]
                if before and now:
                    rates = {"other": fmean(before), "this": fmean(now)}
                    row: dict[str, Any] = {
                        "check": check,
                        "config": config,
                        "case": case,
                        "message": this.messages[case],
                    }
                    row_numbers = {
                        "rows other": cell([*other.rows[case]]),
                        "rows this": cell([*this.rows[case]]),
                    }
                    rows.append(row | rates | {"difference": rates["this"] - rates["other"]} | row_numbers)
    columns = ["check", "config", "case", "message", "other", "this", "difference", "rows other", "rows this"]
    types = dict.fromkeys(("other", "this", "difference"), "float64")
    return table_of(sorted(rows, key=lambda row: row["difference"]), columns, types)


def _notes(other: RunState, this: RunState, pairing: Pairing) -> Iterator[str]:
    for name, check in this.checks.items():
        known = other.checks.get(name)
        if known is None:
            yield f"Check {name!r} is only in this result; rescore() the other one with it."
        elif known.version != check.version:
            yield (
                f"Check {name!r} has changed between the results, which may be why its verdicts differ; "
                "rescore() the other one with it."
            )
    for name in other.checks:
        if name not in this.checks:
            yield f"Check {name!r} is only in the other result."
    if pairing.changed:
        expect = "expects" if pairing.changed == 1 else "expect"
        yield f"{counted(pairing.changed, 'case')} with the same messages {expect} something else."
    for config in this.sources:
        if config not in (name for _, name in pairing.configs):
            yield f"Configuration {config!r} is not compared."


class Pairing:
    """The configurations and cases of a result and of its baseline that belong together.

    Attributes:
        configs: pairs of names, of the baseline and of the result.
        unpaired: other configurations → the side that has them, in words.
        before, now: a case's id → its name on both sides, which is its id in the result.
        changed: how many pairs have other expectations.
    """

    def __init__(self, before: RunState, now: RunState, config: str | None) -> None:
        self.configs = _paired_configs(list(before.sources), list(now.sources), config)
        only_before = before.sources.keys() - {name for name, _ in self.configs}
        only_now = now.sources.keys() - {name for _, name in self.configs}
        self.unpaired = {
            **dict.fromkeys(sorted(only_before), "the baseline"),
            **dict.fromkeys(sorted(only_now), THIS),
        }
        cases_before, cases_now = _by_content(before), _by_content(now)
        self.now = {case.id: case.id for case in cases_now.values()}
        self.before = {
            case.id: cases_now[key].id if key in cases_now else _free(case.id, self.now)
            for key, case in cases_before.items()
        }
        both = [(case, cases_now[key]) for key, case in cases_before.items() if key in cases_now]
        self.changed = sum(case.expectations != other.expectations for case, other in both)

    def sides(
        self, before: Mapping[str, Mapping[str, T]], now: Mapping[str, Mapping[str, T]]
    ) -> dict[str, tuple[dict[str, T], dict[str, T]]]:
        """Configuration → what is known by case on both sides, with the same names for the same cases."""
        return {
            name: (renamed(before[old], self.before), renamed(now[name], self.now))
            for old, name in self.configs
        }


def renamed(by_case: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """What is known by case, with other names of the cases."""
    return {names[case]: value for case, value in by_case.items()}


def _paired_configs(before: list[str], now: list[str], config: str | None) -> list[tuple[str, str]]:
    """Those of one name; where each side has only one, whatever its name. Raises `InvalidRequest`."""
    wanted = now if config is None else [name for name in now if name == config]
    common = [(name, name) for name in wanted if name in before]
    if common:
        return common
    if len(wanted) == len(before) == 1:
        return [(before[0], wanted[0])]
    raise InvalidRequest(
        f"No configuration {f'named {config!r} ' if config is not None else ''}is in both results "
        f"({', '.join(before)}; {', '.join(now)}). Nothing was compared; give configurations the same name."
    )


def _by_content(state: RunState) -> dict[tuple[str, int], Case]:
    """The cases by what they send; of equal ones, the n-th belongs to the n-th."""
    cases = {each.case.id: each.case for each in state.conversations.values()}
    copies: Counter[str] = Counter()
    made = {}
    for case in cases.values():
        key = case.content_key
        copies[key] += 1
        made[key, copies[key]] = case
    return made


def _free(name: str, taken: Iterable[str]) -> str:
    """A name for a case that only the baseline has."""
    while name in taken:
        name += " (before)"
    return name
