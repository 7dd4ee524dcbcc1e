"""The file of an evaluation, opened: to continue it in a run, or only to look at it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRequest, UsageError, check_installed
from ..cases.case import check_apart
from ..cases.columns import COLUMNS
from ..file.journal import Journal, now
from ..file.lines import line_number, located_lines, unfit_line
from ..file.manifest import Recorded, case_of, conversations, run_line
from ..file.state import RunState
from ..file_paths import absolute, temporary_file
from ..judging.checks import check_names, stored_check

if TYPE_CHECKING:
    from pathlib import Path

    from ...concurrency.interrupts import InterruptInbox
    from ..cases.case import Case
    from ..file.manifest import Target
    from .plan import Plan

_MAX_CONVERSATIONS = 1_000_000  # a file may come from anybody


def open_run(
    plan: Plan, path: str | Path | None, inbox: InterruptInbox, *, resume: bool | str
) -> tuple[RunState, Journal]:
    """The state as the file knows it, and the file to continue in; raises as `evaluate` does.

    A stop of the `inbox` raises KeyboardInterrupt at once, and closes the file: reading may take long.
    """
    if resume not in (True, False, "interrupted"):
        wanted = "True, False or 'interrupted'"
        raise InvalidRequest(f"resume must be {wanted}, not {resume!r}. Nothing was sent.")
    file, remove = temporary_file() if path is None else (absolute(path), None)
    journal = Journal(file)
    try:
        if not resume and file.stat().st_size:
            raise InvalidRequest(
                f"{file.name!r} holds an evaluation. Nothing was sent; resume it (resume=True), or give "
                "another path."
            )
        planned = inbox.run(plan.conversations)
        state = RunState(file, planned, plan.checks, _sources(plan.targets), plan.targets)
        if remove is not None:
            state.removal = weakref.finalize(state, remove)
        inbox.run(state.load)
        if inbox.stopped:
            raise KeyboardInterrupt
        new_lines = state.recorded.new_lines(plan.cases, plan.case_keys)
        for line in (run_line(now(), plan.targets, plan.repeats), *new_lines):
            state.take(line, journal.append(line))
    except BaseException:
        journal.close()
        raise
    return state, journal


def read_file(path: str | Path) -> RunState:
    """The state as the file knows it, of its latest run; also while another process is writing it.

    Raises `UsageError` when it cannot be read, and when it holds no evaluation.
    """
    check_installed("An evaluation", "eval", "pandas", "scipy")
    file = absolute(path)
    if not os.path.isfile(file):  # noqa: PTH113  # Path's raises for a name that is too long
        raise UsageError(f"No evaluation file at {str(file)!r}. Nothing was sent; check the path.")
    recorded = Recorded()
    run_at = 0
    lines: dict[str, dict[str, Any]] = {}
    try:
        for at, line in located_lines(file, kinds=("run", "case", "plan", "checks")):
            recorded.take(line, at)
            if line["kind"] == "run":
                run_at = at
            if line["kind"] == "case":
                lines[line["key"]] = line
    except OSError as error:
        raise UsageError(
            f"The evaluation {str(file)!r} could not be read ({error.strerror}). Nothing was sent; check the "
            "path."
        ) from None
    planned = [lines[key] for key in recorded.plan or () if key in lines]  # the others' lines are damaged
    cases = [case_of(line) for line in planned]
    if not cases or not recorded.targets:
        # A run that has just begun has keys of its targets, and its plan is not written yet.
        is_old = recorded.plan is None and any(not target.key for target in recorded.targets.values())
        what = (
            "was written by an earlier version, and holds no cases. Nothing was sent;"
            if is_old
            else "holds no evaluation so far. Nothing was sent; open it again if a run is starting, or"
        )
        raise UsageError(
            f"{file.name!r} {what} call evaluate with this path and its cases, which sends only what is not "
            "in it."
        )
    if (count := len(cases) * len(recorded.targets) * recorded.repeats) > _MAX_CONVERSATIONS:
        why = f"{recorded.repeats:,} repeats, {len(cases):,} cases and {len(recorded.targets):,} "
        why += f"configurations are {count:,} conversations; at most {_MAX_CONVERSATIONS:,} are read"
        raise unfit_line(file, line_number(file, run_at), why)
    _check_ids(file, cases, [recorded.cases[line["key"]] for line in planned])
    checks = {each["name"]: stored_check(**each) for each in recorded.checks}
    _check_columns(cases, checks, file.name)
    keys = [line["content"] for line in planned]
    all_ = conversations(cases, keys, recorded.targets, recorded.repeats)
    state = RunState(file, all_, checks, _sources(recorded.targets), recorded.targets)
    state.load()
    return state


def _check_ids(file: Path, cases: Sequence[Case], places: Sequence[int]) -> None:
    """Raise `UsageError` where tables would take two cases for one; `places` are the bytes of their lines."""
    first: dict[str, int] = {}
    for case, at in zip(cases, places, strict=True):
        if (other := first.setdefault(case.id, at)) != at:
            low, high = sorted([line_number(file, other), line_number(file, at)])
            raise unfit_line(file, high, f"its id {case.id[:40]!r} is that of the case of line {low}")


def _check_columns(cases: list[Case], checks: Iterable[str], name: str) -> None:
    """Raise `UsageError` where the tables would have two columns of one name."""
    try:
        check_names(checks)
        check_apart(checks, cases)
    except InvalidRequest as error:
        raise UsageError(f"{name!r} cannot be shown: {error}") from None
    for taken in (set(COLUMNS) & case.metadata.keys() for case in cases):
        if taken:
            raise UsageError(
                f"{name!r} cannot be shown: its metadata {min(taken)!r} is a column of the result. Nothing "
                "was sent; rename it."
            )


def _sources(targets: Mapping[str, Target]) -> dict[str, str]:
    return {name: target.shown_source for name, target in targets.items()}
