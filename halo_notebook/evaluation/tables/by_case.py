"""The figures of an evaluation by case: passes, scores and times of each configuration.

A run (one conversation) that was cut short by something other than the agent has no result: it is missing.
One that the agent did not complete fails, and its score is 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ...checks import NoVerdict
from ...errors import InvalidRequest
from ..outcomes import AGENT, COMPLETE
from ..statistics.times import AtLeast
from .rows import TIMES, cell, group_name

if TYPE_CHECKING:
    import pandas as pd

    from ..cases.case import Case, Conversation
    from ..file.state import RunState, TurnState
    from ..judging.checks import Judge

T = TypeVar("T")
ByCase: TypeAlias = dict[str, list[T]]
TAG = "tag"


@dataclass(frozen=True, slots=True)
class Run:
    """What one conversation says.

    `passed` and `scores` have the checks that have something to say about it; None for a missing result.
    """

    conversation: Conversation
    rows: range  # of `df`
    turns: tuple[TurnState, ...]
    passed: dict[str, bool | None]
    scores: dict[str, float | None]
    longest: Mapping[str, float]  # times of complete turns of its configuration
    ended: str  # see `RunState.end_reason`

    def times(self, name: str) -> list[float]:
        """The times of its turns, see `Figures.times`, except those that say nothing about the agent."""
        found = []
        for turn in self.turns:
            value = getattr(turn, name)
            if turn.status == COMPLETE or (
                turn.cause == AGENT and name == "first_text_s" and value is not None
            ):
                found += [] if value is None else [value]
            elif turn.cause == AGENT:
                # An error that comes at once must not make an agent look fast either.
                found.append(AtLeast(max(turn.elapsed_s or 0.0, self.longest[name])))
        return found


@dataclass(frozen=True)
class Figures:
    """The runs of an evaluation, or of a group of its cases, as they are at this moment.

    Attributes:
        runs: in the order of the rows.
        configs: the names of the configurations.
        checks: the names of the checks; those in `graded` have scores other than 1 for a pass and 0 for a
            fail.
        of_users: the names of those that judge the simulated user.
        repeats: how often a case is run in a configuration.
    """

    runs: tuple[Run, ...]
    configs: tuple[str, ...]
    checks: tuple[str, ...]
    graded: frozenset[str]
    of_users: tuple[str, ...]
    repeats: int

    def grouped(self, by: str | None) -> dict[str, Figures]:
        """The cases of each tag, or with each value of a metadata column, in their order.

        A case with several tags is in several groups. Raises `InvalidRequest` for anything but the name of a
        column that a case has.
        """
        if by is None:
            return {}
        if not isinstance(by, str):
            raise InvalidRequest(f"by must be the name of one column of metadata, not {by!r}.")
        groups: dict[str, list[Run]] = {}
        for run in self.runs:
            for name in groups_of(run.conversation.case, by):
                groups.setdefault(name, []).append(run)
        if not groups and by != TAG:
            known = dict.fromkeys(name for run in self.runs for name in run.conversation.case.metadata)
            raise InvalidRequest(f"No case has the metadata {by!r}. Metadata: {', '.join(known) or 'none'}.")
        return {name: self._with(runs) for name, runs in groups.items()}

    def tagged(self, tag: str | None) -> Figures:
        """Those of the cases with that tag, of all for None."""
        return self._with(run for run in self.runs if tag is None or tag in run.conversation.case.tags)

    def of(self, config: str) -> Figures:
        """Those of a configuration. Raises `InvalidRequest` if there is none of that name."""
        if config not in self.configs:
            known = ", ".join(self.configs)
            raise InvalidRequest(f"No configuration named {config!r}. Configurations: {known}.")
        return self._with(run for run in self.runs if run.conversation.config == config)

    def _with(self, runs: Iterable[Run]) -> Figures:
        return replace(self, runs=tuple(runs))

    def passed(self, check: str) -> ByCase[bool | None]:
        """Case → passes, one per run; an empty list where the check has nothing to say."""
        return self._by_case((run, [run.passed[check]] if check in run.passed else []) for run in self.runs)

    def scores(self, check: str) -> ByCase[float | None]:
        """Case → scores, one per run; an empty list where the check has nothing to say."""
        return self._by_case((run, [run.scores[check]] if check in run.scores else []) for run in self.runs)

    def times(self, name: str) -> ByCase[float]:
        """Case → seconds, one per turn; `AtLeast` for a turn that was not answered."""
        return self._by_case((run, run.times(name)) for run in self.runs)

    def rows(self) -> ByCase[int]:
        """Case → the numbers of its rows."""
        return self._by_case((run, list(run.rows)) for run in self.runs)

    def _by_case(self, found: Iterable[tuple[Run, list[T]]]) -> ByCase[T]:
        result: ByCase[T] = {}
        for run, values in found:
            result.setdefault(run.conversation.case.id, []).extend(values)
        return result


def figures_of(state: RunState) -> Figures:
    """The figures of an evaluation."""
    turns_of = {key: tuple(state.turns(each)) for key, each in state.conversations.items()}
    longest = {config: dict.fromkeys(TIMES, 0.0) for config in state.sources}
    graded: set[str] = set()
    for key, turns in turns_of.items():
        conversation = state.conversations[key]
        of_config = longest[conversation.config]
        for turn in turns:
            if turn.status == COMPLETE:
                for name in TIMES:
                    of_config[name] = max(of_config[name], getattr(turn, name) or 0.0)
            for name, score in turn.scores.items():
                is_own = score.value is not None and score.value != score.passed
                if is_own and not isinstance(score, NoVerdict):
                    graded.add(name)
    silent = _silent(state.conversations, turns_of)
    runs, row = [], 0
    for key, turns in turns_of.items():
        conversation = state.conversations[key]
        passed: dict[str, bool | None] = {}
        scores: dict[str, float | None] = {}
        missing = state.missing(conversation)
        for name, judge in state.checks.items():
            if not judge.judges(conversation.case):
                continue
            quiet: Set[int] = silent.get((name, conversation.case.id), frozenset())
            passes, values = _verdicts(judge, turns, quiet, missing=missing)
            if passes:
                passed[name] = False if False in passes else None if None in passes else True
            if values:
                known = [value for value in values if value is not None]
                scores[name] = sum(known) / len(known) if len(known) == len(values) else None
        rows, row = range(row, row + len(turns)), row + len(turns)
        of_config = longest[conversation.config]
        runs.append(Run(conversation, rows, turns, passed, scores, of_config, state.end_reason(conversation)))
    repeats = max((each.repeat for each in state.conversations.values()), default=1)
    return Figures(
        tuple(runs),
        tuple(state.sources),
        tuple(state.checks),
        frozenset(graded),
        tuple(name for name, judge in state.checks.items() if judge.of_user),
        repeats,
    )


def _silent(
    conversations: Mapping[str, Conversation], turns_of: Mapping[str, Sequence[TurnState]]
) -> dict[tuple[str, str], set[int]]:
    """By check and case, the turns about which it had nothing to say in any run.

    This tells what an incomplete run would have given, so only the cases with one are looked at.
    """
    incomplete = {
        conversations[key].case.id
        for key, turns in turns_of.items()
        if any(turn.status != COMPLETE for turn in turns)
    }
    silent: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    spoke: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for key, turns in turns_of.items():
        case = conversations[key].case.id
        for at, turn in enumerate(turns if case in incomplete else ()):
            for name, score in turn.scores.items():
                is_silent = score.passed is None and not isinstance(score, NoVerdict)
                (silent if is_silent else spoke)[name, case].add(at)
    return {key: turns - spoke[key] for key, turns in silent.items()}


def _verdicts(
    judge: Judge, turns: Sequence[TurnState], silent: Set[int], *, missing: bool
) -> tuple[list[bool | None], list[float | None]]:
    """What a check found about each turn of a run; None where it could not judge, or the run is missing.

    A turn that the agent did not complete fails, and so do those that could not be sent after it, unless the
    check has nothing to say about that turn of the case.
    """
    if missing:
        judged = {len(turns) - 1} if judge.of_conversation else set(range(len(turns)))
        return ([], []) if judged <= silent else ([None], [None])
    passes: list[bool | None] = []
    scores: list[float | None] = []
    end = next((at for at, turn in enumerate(turns) if turn.status != COMPLETE), len(turns) - 1)
    for at in [end] if judge.of_conversation else range(len(turns)):
        turn = turns[at]
        score = turn.scores.get(judge.name)
        if turn.status != COMPLETE:
            if at not in silent and not judge.of_user:
                passes.append(False)
                scores.append(0.0)
        elif score is None or isinstance(score, NoVerdict):
            passes.append(None)
            scores.append(None)
        else:
            passes += [] if score.passed is None else [score.passed]
            scores += [] if score.value is None else [score.value]
    return passes, scores


def flaky_cases(figures: Figures, checks: Iterable[str]) -> pd.DataFrame:
    """See `Evaluation.flaky`."""
    from .dataframes import table_of

    columns = ["check", "config", "case", "message", "passes", "runs", "rows"]
    found: list[tuple[float, dict[str, Any]]] = []
    for check in checks:
        for config in figures.configs:
            chosen = figures.of(config)
            rows = chosen.rows()
            messages = {run.conversation.case.id: run.conversation.case.opening for run in chosen.runs}
            for case, passed in chosen.passed(check).items():
                passes, runs = passed.count(True), len(passed) - passed.count(None)
                if 0 < passes < runs:
                    values = [check, config, case, messages[case], passes, runs, cell(rows[case])]
                    found.append((abs(passes / runs - 0.5), dict(zip(columns, values, strict=True))))
    found.sort(key=lambda ranked: ranked[0])
    return table_of([row for _, row in found], columns, dict.fromkeys(("passes", "runs"), "int64"))


def groups_of(case: Case, by: str) -> list[str]:
    """The groups to which a case belongs: its tags, or its value of a metadata column."""
    if by == TAG:
        return list(case.tags)
    value = case.metadata.get(by)
    if value is None:
        return []
    return [group_name(value)]
