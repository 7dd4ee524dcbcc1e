"""How well a check agrees with people: their labels beside its verdicts, row by row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import TYPE_CHECKING, TypeVar

from ...display.text import one_line, writable
from ...display.wording import counted
from ...errors import InvalidRequest
from ..file.label_lines import passes
from ..statistics.intervals import Interval, effective_number, wilson
from ..statistics.judge_errors import Figures, Share, measured
from .labelling import Row, labelled_rows, rows_of, verdict_of

if TYPE_CHECKING:
    from ..file.label_lines import Stratum
    from ..file.state import RunState
    from ..judging.checks import Judge

T = TypeVar("T", bound=Interval)

# Of the rows with each verdict, so many have to be labelled, or all if there are fewer.
MIN_LABELS = 5
_METHOD = "Jeffreys, by verdict, clustered by case"


class Kappa(Interval):
    """Cohen's kappa with its 95 % limits: 1 for perfect agreement, 0 for that of chance.

    >>> str(Kappa(0.62, 0.4, 0.78, 50, ""))
    '0.62 [0.40–0.78], 50 cases'
    """

    def range(self) -> str:
        """The estimate and its limits, without the cases."""
        if self.estimate is None or self.low is None or self.high is None:
            return "no result"
        return _range(self.estimate, self.low, self.high)


@dataclass(frozen=True)
class Agreement:
    """How well a check agrees with the labels of people, each figure with its 95 % interval.

    The figures are about all replies that the check has judged, of which the labelled ones are a sample. A
    figure without an estimate has too few labels; `notes` says how many there should be.

    Attributes:
        check: its name.
        kappa: Cohen's kappa, the agreement beyond chance.
        sensitivity: the share of the good replies that it passes.
        specificity: the share of the bad replies that it fails.
        pass_rates: configuration → the share of the replies that it passes.
        corrected: configuration → the share of good replies: the pass rate corrected for these errors. Its
            interval includes the uncertainty of the labels and that of the pass rate.
        counts: how many labelled replies have each pair (passed by the check, passed by the people).
        notes: what a reader must know, a line each.
    """

    check: str
    kappa: Kappa
    sensitivity: Interval
    specificity: Interval
    pass_rates: dict[str, Interval]
    corrected: dict[str, Interval]
    counts: dict[tuple[bool, bool], int]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [self._title(), *(f"{name:{self._width()}}  {figure}" for name, figure, _ in self._rows())]
        return writable("\n".join([*lines, *self.notes]))

    def _repr_html_(self) -> str:
        from ..report.notebook import comparison_table

        heads = ("figure", "estimate", "what it is")
        return comparison_table(heads, self._rows(), (self._title(), *self.notes))

    def _title(self) -> str:
        agreed, all_ = self.counts[True, True] + self.counts[False, False], sum(self.counts.values())
        missed, strict = self.counts[True, False], self.counts[False, True]
        words = f"{self.check!r} and the labels agree on {agreed:,} of {_replies(all_)}"
        return f"{words}. It passes {missed:,} that people fail, and fails {strict:,} that people pass."

    def _width(self) -> int:
        return max(len(name) for name, _, _ in self._rows())

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = [
            ("Cohen's kappa", self.kappa.range(), "agreement beyond chance; 1 is perfect"),
            ("sensitivity", self.sensitivity.range(), "of the good replies, how many it passes"),
            ("specificity", self.specificity.range(), "of the bad replies, how many it fails"),
        ]
        for config, rate in self.pass_rates.items():
            of = f", {config}" if len(self.pass_rates) > 1 else ""
            rows.append((f"pass rate{of}", rate.range(), f"of {counted(rate.n, 'case')}, as it says"))
            rows.append((f"corrected{of}", self.corrected[config].range(), "how many replies are good"))
        return rows


@dataclass(frozen=True, slots=True)
class _Judged:
    """A row with a verdict; with a label, which None is not, and how many rows it stands for."""

    row: Row
    passed: bool
    label: bool | None = None
    weight: float = 0.0


def agreement(state: RunState, check: str, config: str | None, author: str | None) -> Agreement:
    """See `Evaluation.agreement`."""
    known = list(labelled_rows(state))
    authors = dict.fromkeys(label.author for _, found in known for label in found)
    if author is not None and author not in list(authors):
        names = one_line(", ".join(authors), 300) or "none"
        raise InvalidRequest(f"No label is by {author!r}. Authors: {names}.")
    labels: dict[int, bool] = {}
    unsure = unjudged = 0
    for row, found in known:
        chosen = [label for label in found if author in (None, label.author)]
        label = passes(chosen)
        if label is not None:
            labels[row.number] = label
        if chosen and config in (None, row.conversation.config):
            if verdict_of(row, check) is None:
                unjudged += 1
            elif label is None:
                unsure += 1
    judged = [
        _Judged(row, passed, labels.get(row.number))
        for row in rows_of(state)
        if (passed := verdict_of(row, check)) is not None
    ]
    weights = _weights(state.labels.samples, judged)
    items = [
        replace(item, weight=weights.get(item.row.number, 0.0))
        for item in judged
        if config is None or item.row.conversation.config == config
    ]
    rows = [row for row in rows_of(state) if state.labels.has(row.conversation.key, row.turn)]
    left_out = [*_left_out(unsure), *_unjudged(state.checks[check], unjudged)]
    return _agreement(check, items, [*left_out, *_sent_again(len(rows) - len(known))])


def _weights(samples: Iterable[Sequence[Stratum]], judged: Sequence[_Judged]) -> dict[int, float]:
    """How many rows each labelled row stands for, up to a factor.

    In a sample, each labelled row of a stratum stands for as many: the verdicts of then are those that count,
    also where another version of the check has judged since. What is labelled otherwise counts as drawn by
    chance from the rows with its verdict. The samples have the weights of their numbers of labels.
    """
    labelled = {(item.row.conversation.key, item.row.turn): item for item in judged if item.label is not None}
    parts: list[list[tuple[int, list[int]]]] = []  # of each sample, the strata: their size, what is labelled
    sampled: set[int] = set()
    for sample in samples:
        strata = []
        for stratum in sample:
            drawn = [labelled[place].row.number for place in stratum.drawn if place in labelled]
            strata.append((stratum.size, drawn))
            sampled.update(drawn)
        parts.append(strata)
    by_verdict = [[item for item in judged if item.passed is verdict] for verdict in (True, False)]
    parts.append(
        [
            (
                len(items),
                [
                    item.row.number
                    for item in items
                    if item.label is not None and item.row.number not in sampled
                ],
            )
            for items in by_verdict
        ]
    )
    weights: defaultdict[int, float] = defaultdict(float)
    for strata in parts:
        known = [(size, rows) for size, rows in strata if rows]
        total = sum(size for size, _ in known)
        count = sum(len(rows) for _, rows in known)
        for size, rows in known:
            for at in rows:
                weights[at] += count * size / total / len(rows)
    return dict(weights)


def _agreement(check: str, items: Sequence[_Judged], left_out: Sequence[str]) -> Agreement:
    import numpy as np

    labelled = [item for item in items if item.label is not None]
    pairs = Counter((item.passed, item.label) for item in labelled)
    counts = {(passed, label): pairs[passed, label] for passed in (True, False) for label in (True, False)}
    by_config: dict[str, list[_Judged]] = {}
    for item in items:
        by_config.setdefault(item.row.conversation.config, []).append(item)
    rates = {config: _share(of_config, "passed") for config, of_config in by_config.items()}
    pass_rates = {config: _rate(rates[config], of_config) for config, of_config in by_config.items()}
    too_few = list(_too_few(check, items))
    notes = [*too_few, *left_out]
    cases = len({item.row.conversation.case.id for item in labelled})
    nothing = Interval(None, None, None, cases, "none")
    no_kappa = Kappa(None, None, None, cases, "none")
    if too_few:
        nowhere = dict.fromkeys(rates, nothing)
        return Agreement(check, no_kappa, nothing, nothing, pass_rates, nowhere, counts, tuple(notes))
    shares = [
        _share([item for item in labelled if item.passed is verdict], "label") for verdict in (True, False)
    ]
    of_all = np.array([len(of_config) / len(items) for of_config in by_config.values()])
    found, low, high = measured(shares[0], shares[1], list(rates.values()), of_all)

    kappa, sensitivity, specificity = (
        [float(getattr(each, name)) for each in (found, low, high)]
        for name in ("kappa", "sensitivity", "specificity")
    )
    why_not = _uncorrected(check, found, low, high)
    corrected = {
        config: nothing
        if why_not
        else _interval([float(each.corrected[at]) for each in (found, low, high)], cases)
        for at, config in enumerate(rates)
    }
    notes += why_not
    return Agreement(
        check,
        _interval(kappa, cases, Kappa),
        _interval(sensitivity, cases),
        _interval(specificity, cases),
        pass_rates,
        corrected,
        counts,
        tuple(notes),
    )


def _interval(figures: Sequence[float], cases: int, kind: type[T] = Interval) -> T:  # type: ignore[assignment]
    """The estimate and its limits; without an estimate, no result."""
    estimate, low, high = figures
    return (
        kind(None, None, None, cases, "none")
        if isnan(estimate)
        else kind(estimate, low, high, cases, _METHOD)
    )


def _share(items: Sequence[_Judged], name: str) -> Share:
    """The share of the rows that pass, with their number as if they were independent."""
    import numpy as np

    if not items:  # of a verdict that no row has
        return Share(np.array(0.5), np.array(0.0))
    weights = [item.weight if name == "label" else 1.0 for item in items]
    cases = [item.row.conversation.case.id for item in items]
    rate, n = effective_number([getattr(item, name) for item in items], weights, cases)
    return Share(np.array(rate), np.array(n))


def _rate(share: Share, items: Sequence[_Judged]) -> Interval:
    low, high = wilson(share.rate, share.n)
    cases = len({item.row.conversation.case.id for item in items})
    return Interval(float(share.rate), float(low), float(high), cases, "Wilson, clustered by case")


def _too_few(check: str, items: Sequence[_Judged]) -> Iterator[str]:
    """Why nothing can be said."""
    if not items:
        yield f"{check!r} has not judged any reply."
    for verdict, word in ((True, "passes"), (False, "fails")):
        rows = [item for item in items if item.passed is verdict]
        labelled = sum(item.label is not None for item in rows)
        wanted = min(MIN_LABELS, len(rows))
        if labelled < wanted:
            yield (
                f"Too few labels: {labelled:,} of the {_replies(len(rows))} that {check!r} "
                f"{word} {'is' if labelled == 1 else 'are'} labelled as good or bad; at least {wanted} are "
                f"needed. result.label(by={check!r}) shows which."
            )


def _left_out(unsure: int) -> Iterator[str]:
    if unsure:
        yield (
            f"{unsure:,} labelled {'reply is' if unsure == 1 else 'replies are'} left out, since people are "
            "unsure or disagree. The errors may be larger on such replies."
        )


def _unjudged(check: Judge, count: int) -> Iterator[str]:
    if count:
        replies, are, them = ("reply", "is", "it") if count == 1 else ("replies", "are", "them")
        words = f"{count:,} labelled {replies} {are} left out: {check.name!r} has no verdict on {them}"
        if check.of_conversation:
            words += f", since it judges at the end. result.label(by={check.name!r}) shows the last replies"
        yield f"{words}."


def _sent_again(count: int) -> Iterator[str]:
    if count:
        earlier = "an earlier reply" if count == 1 else f"{count:,} earlier replies"
        yield f"The labels of {earlier} are left out, since the message was sent again."


def _uncorrected(check: str, found: Figures, low: Figures, high: Figures) -> list[str]:
    """Why the rate cannot be corrected, if it cannot."""
    for name, kind in (("sensitivity", "good"), ("specificity", "bad")):
        if isnan(getattr(found, name)):
            return [f"No labelled reply is {kind}: too few labels for the {name} and for a corrected rate."]
    limits = _range(*(float(each.informedness) for each in (found, low, high)))
    if high.informedness < 0:
        words = f"{check!r} cannot be corrected: sensitivity + specificity - 1 is {limits}, so it says the "
        words += (
            "opposite of the labels more often than chance would. Perhaps a pass means something else to it."
        )
        return [words]
    if low.informedness <= 0:
        words = f"{check!r} cannot be corrected: sensitivity + specificity - 1 is {limits}, and at 0 a check "
        words += "says no more about a reply than chance. Label more replies, or improve the check."
        return [words]
    return []


def _range(estimate: float, low: float, high: float) -> str:
    """A figure from -1 to 1 and its limits."""
    shown = [f"{round(each, 2) + 0.0:.2f}" for each in (estimate, low, high)]  # 0.00 and not -0.00
    return f"{shown[0]} [{shown[1]}{'–' if shown[1][0] != '-' else ' to '}{shown[2]}]"


def _replies(count: int) -> str:
    return f"{count:,} {'reply' if count == 1 else 'replies'}"
