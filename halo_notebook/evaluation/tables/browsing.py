"""The conversations of a result as a reader browses them: filtered, searched and sorted.

- A text search reads the replies from the file; so does the first request after a change, those with labels.
  None is kept; everything else is answered from memory.
- A conversation fits a filter if it has one of the chosen values. It has to fit all filters.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..file.label_lines import FAIL, PASS, UNSURE, passes
from .by_case import Figures, Run, figures_of
from .rows import group_name

if TYPE_CHECKING:
    from ..file.state import RunState

MAX_FILTERS = 40
"""Further names of metadata are not offered as filters and columns: a file may come from anybody."""
MAX_VALUES = 200
"""Of a filter with more values the most frequent are offered."""
MAX_CHARS = 200
"""Longer names and values are not offered."""
PASSED, FAILED, NO_RESULT, NOT_JUDGED = "passed", "failed", "no result", "not judged"
VERDICTS = {True: PASSED, False: FAILED, None: NO_RESULT}
NOT_LABELLED = "not labelled"
_LABELS = {False: FAIL, None: UNSURE, True: PASS}
CASE, CONFIG, REPEAT, STATUS, TAG, ENDED = "case", "config", "repeat", "status", "tag", "ended"
MESSAGE, TIME, LABEL = "message", "time", "label"
CHECK, METADATA = "check:", "metadata:"
"""A filter or a column of a check, or of metadata, is this and its name."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader wants to see, and in which order.

    Attributes:
        text: words, each of which is in the case's id, a message, a reply, an action, an error or the note of
            a check or a label; in any case of letters.
        filters: the chosen values by filter, see `ConversationList.filters`; an empty set chooses all.
        sort: the column to sort by; empty for the order of the result.
    """

    text: str = ""
    filters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sort: str = ""
    descending: bool = False

    @property
    def words(self) -> list[str]:
        return self.text.casefold().split()


@dataclass(frozen=True, slots=True)
class Filter:
    """Something to filter by, with each of its values and how many conversations have it."""

    id: str
    name: str
    values: tuple[tuple[str, int], ...]
    left_out: int = 0


class ConversationList:
    """The conversations of a result, numbered from 0 in its order.

    For one thread at a time. Verdicts and labels are those of the moment, also after `rescore`.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._changes = -1
        self._figures: Figures
        self._labels: dict[str, list[str]] = {}  # of each conversation with labels, by its key
        self._filters: tuple[Filter, ...] = ()
        self._searched: tuple[int, list[str], frozenset[int]] | None = None  # the last search

    @property
    def runs(self) -> tuple[Run, ...]:
        """What is known of each conversation."""
        changes = self._state.changes
        if self._changes != changes:
            figures = figures_of(self._state)
            self._figures, self._labels = figures, _labels(self._state, figures.runs)
            self._filters = tuple(self._filters_of(figures.runs))
            self._changes = changes  # the last: another thread may read it
        return self._figures.runs

    def filters(self, chosen: Mapping[str, frozenset[str]] | None = None) -> tuple[Filter, ...]:
        """Status, configuration, tag, each check, label, and metadata, where they tell cases apart.

        Values that are `chosen` are among them, so that they can be taken back when no conversation has them
        any more, such as after `rescore`.
        """
        found = {each.id: each for each in (self._filters if self.runs else ())}
        for filter_id, values in (chosen or {}).items():
            known = found.get(filter_id) or Filter(filter_id, _filter_name(filter_id), ())
            if gone := sorted(values - dict(known.values).keys()):
                found[filter_id] = replace(known, values=(*known.values, *((value, 0) for value in gone)))
        return tuple(found.values())

    def values(self, number: int, filter_id: str) -> list[str]:
        """The values that a conversation has of a filter."""
        return self._values(self.runs[number], filter_id)

    def found(self, query: Query, is_stopped: Callable[[], bool] = lambda: False) -> list[int]:
        """The numbers of the conversations that fit, in order. A search that `is_stopped` finds fewer."""
        runs = self.runs
        chosen = {name: values for name, values in query.filters.items() if values}
        numbers = [
            number
            for number, run in enumerate(runs)
            if all(not values.isdisjoint(self._values(run, name)) for name, values in chosen.items())
        ]
        if query.words:
            numbers = self._search(query.words, numbers, is_stopped)
        if query.sort:
            ranks = {number: self._rank(number, query.sort) for number in numbers}
            # Python's sort keeps the order of equal ones, also in reverse. What has no value comes last.
            ranked = sorted(filter(ranks.get, numbers), key=ranks.__getitem__, reverse=query.descending)
            numbers = ranked + [number for number in numbers if not ranks[number]]
        return numbers

    def _rank(self, number: int, column: str) -> tuple[Any, ...]:
        run = self.runs[number]
        match column:
            case "case":
                return _natural(run.conversation.case.id)
            case "repeat":
                return (run.conversation.repeat,)
            case "message":
                return (run.conversation.case.opening.casefold(),)
            case "time":
                total = total_s(run)
                return () if total is None else (total,)
        if column == LABEL:  # the worst first
            return tuple(map([*_LABELS.values()].index, self._labels.get(run.conversation.key, ())))
        if column.startswith(CHECK):
            # The worst first.
            verdict = run.passed.get(column.removeprefix(CHECK), True)
            return ((False, None, True).index(verdict), column.removeprefix(CHECK) not in run.passed)
        return tuple(map(_natural, self._values(run, column)))

    def _filters_of(self, runs: Sequence[Run]) -> Iterator[Filter]:
        names = dict.fromkeys(name for run in runs for name in run.conversation.case.metadata)
        metadata = [name for name in names if len(name) <= MAX_CHARS]
        ids = [STATUS, CONFIG, TAG]
        ids += [ENDED] if any(run.ended for run in runs) else []
        ids += [CHECK + name for name in self._state.checks]
        ids += [LABEL] if self._labels else []
        ids += [METADATA + name for name in metadata[: max(MAX_FILTERS - len(ids), 0)]]
        for filter_id in ids:
            counts = Counter(value for run in runs for value in self._values(run, filter_id))
            if filter_id in (STATUS, LABEL) or filter_id.startswith(CHECK) or len(counts) > 1:
                offered = [each for each in counts.most_common() if len(each[0]) <= MAX_CHARS][:MAX_VALUES]
                offered.sort(key=lambda each: _natural(each[0]))
                name = _filter_name(filter_id)
                yield Filter(filter_id, name, tuple(offered), len(counts) - len(offered))

    def _values(self, run: Run, filter_id: str) -> list[str]:
        case = run.conversation.case
        if filter_id.startswith(CHECK):
            name = filter_id.removeprefix(CHECK)
            return [verdict_word(run, name)]
        if filter_id.startswith(METADATA):
            value = case.metadata.get(filter_id.removeprefix(METADATA))
            return [] if value is None else [group_name(value)]
        match filter_id:
            case "status":
                return [self._state.outcome(run.conversation)]
            case "config":
                return [run.conversation.config]
            case "tag":
                return list(case.tags)
            case "ended":
                return [run.ended or "–"]
            case "label":
                return self._labels.get(run.conversation.key, [NOT_LABELLED])
        return []

    def _search(self, words: list[str], numbers: list[int], is_stopped: Callable[[], bool]) -> list[int]:
        """Those of `numbers` in which each word is."""
        known: frozenset[int] | None = None
        if self._searched is not None and self._searched[0] == self._changes:
            _, before, found = self._searched
            if before == words:
                return [number for number in numbers if number in found]
            # While a word is typed, each search narrows the one before.
            known = found if all(any(old in new for new in words) for old in before) else None
        hits = set[int]()
        with self._state.opened() as file:
            for number in range(len(self.runs)) if known is None else sorted(known):
                if is_stopped():
                    return [each for each in numbers if each in hits]
                run = self.runs[number]
                missing = [word for word in words if word not in run.conversation.case.id.casefold()]
                if missing:
                    lines = self._state.lines(run.conversation, file)
                    messages = [turn.message for turn in self._state.case_turns(run.conversation)]
                    text = "\n".join(self._texts(run, messages, lines)).casefold()
                    missing = [word for word in missing if word not in text]
                if not missing:
                    hits.add(number)
        self._searched = self._changes, words, frozenset(hits)
        return [number for number in numbers if number in hits]

    def _texts(self, run: Run, messages: list[str], lines: list[dict[str, Any] | None]) -> Iterator[str]:
        """What a search looks at, beside the case's id."""
        yield from messages
        for number, (turn, line) in enumerate(zip(run.turns, lines, strict=True)):
            if line is not None:
                reply = line["reply"]
                yield reply["text"]
                yield reply.get("error") or ""
                if reply["actions"]:
                    yield json.dumps(reply["actions"], ensure_ascii=False)
                labels = self._state.labels.of(run.conversation.key, number, reply)
                yield from (label.note for label in labels)
            yield from (score.note for score in turn.scores.values())


def tell_changed(state: RunState) -> None:
    """Tell those who show the conversations that verdicts or labels have changed."""
    for call in [*state.when_changed]:
        call()


def _filter_name(filter_id: str) -> str:
    names = {STATUS: "Status", CONFIG: "Configuration", TAG: "Tag", ENDED: "Ended", LABEL: "Label"}
    return names.get(filter_id) or filter_id.removeprefix(CHECK).removeprefix(METADATA)


def _labels(state: RunState, runs: Sequence[Run]) -> dict[str, list[str]]:
    """The labels of each conversation that has some, each word once, the worst first.

    Empty if the file cannot be read: only its replies tell which labels count.
    """
    found: dict[str, list[str]] = {}
    try:
        with state.opened() as file:
            for run in runs:
                key = run.conversation.key
                if any(state.labels.has(key, turn) for turn in range(len(run.turns))):
                    lines = enumerate(state.lines(run.conversation, file))
                    labels = [state.labels.of(key, turn, line and line["reply"]) for turn, line in lines]
                    words = {_LABELS[passes(of_turn)] for of_turn in labels if of_turn}
                    found |= {key: [word for word in _LABELS.values() if word in words]} if words else {}
    except UsageError:
        return {}
    return found


def verdict_word(run: Run, check: str) -> str:
    """What a check found about a conversation, in a word."""
    return VERDICTS[run.passed[check]] if check in run.passed else NOT_JUDGED


def total_s(run: Run) -> float | None:
    """How long the replies of a conversation took together, in seconds; None where none has ended."""
    times = [turn.elapsed_s for turn in run.turns if turn.elapsed_s is not None]
    return sum(times) if times else None


def _natural(text: str) -> tuple[bool, float, str]:
    """A key that sorts numbers by their value, before texts."""
    try:
        return (
            (False, float(text), text) if len(text) < 40 and text.isascii() else (True, 0.0, text.casefold())
        )
    except ValueError:
        return (True, 0.0, text.casefold())
