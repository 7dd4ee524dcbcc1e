"""The result of an evaluation, as users have it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..concurrency.interrupts import InterruptInbox
from ..errors import InvalidRequest, UsageError
from .cases.case import check_apart
from .comparisons.between_configs import compared_by
from .file.as_cases import fixed_cases, users_words, with_same_words
from .file.stored_turns import read_turns, unjudged
from .file_paths import absolute
from .judging.checks import Checks, checks_to_apply
from .judging.concurrent_checks import Jury
from .sending.plan import count
from .sending.resuming import read_file
from .tables import notes, rows
from .tables.browsing import tell_changed
from .tables.by_case import TAG, figures_of, flaky_cases

if TYPE_CHECKING:
    import pandas as pd

    from ..panel.explorer import ResultExplorer
    from ..panel.label_panel import LabelPanel
    from ..reply import Reply
    from .cases.case import Case
    from .comparisons.between_configs import Comparisons
    from .comparisons.between_results import ResultComparison
    from .file.state import RunState
    from .labels.agreement import Agreement
    from .report.plot import Plot
    from .tables.by_case import Figures


T = TypeVar("T")


class Evaluation:
    """The result of sending many cases to an agent; `evaluate` returns it.

    A cell shows its summary, and so does `print` in a terminal. Replies are read from the file at `path` when
    they are needed; no text is held in memory. A turn that failed, was interrupted or was never sent is a
    row too. It counts as a failure if the agent caused it, and otherwise as missing. Nothing here sends a
    message.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state

    @classmethod
    def open(cls, path: str | Path) -> Evaluation:
        """The evaluation in a file, of its latest run: without its cases, a key or a network.

        Another process may be writing the file; then this is what it holds so far. Its checks are known by
        their verdicts only, so `rescore` has to be given checks. Raises `UsageError`.
        """
        return cls(read_file(path))

    @property
    def path(self) -> Path:
        """The file that holds it."""
        return self._state.path

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before all messages were sent and all replies judged."""
        return self._state.interrupted

    # --- Turn by turn ---

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row per case × configuration × repeat × turn, sent or not, read from the file one by one."""
        return rows.read_rows(self._state)

    @property
    def df(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame.

        A check has three columns: ``<check>``, a nullable boolean; ``<check> score``, from 0 to 1; and
        ``<check> note``. Each name of the cases' metadata is a column, of texts if its values have several
        types. `started_at` is in UTC. A file that wants one type in a column gets lists, dicts and mixed
        values as JSON.
        """
        return rows.rows_frame(self._state)

    def failures(self) -> pd.DataFrame:
        """The rows for which the agent is at fault: it did not complete its reply, or that fails a check.

        A missing turn is not a failure: it was not sent, or something other than the agent ended it.
        """
        return rows.rows_frame(self._state, failed=True)

    def worst(self, count: int = 5) -> pd.DataFrame:
        """The cases to look at first: each with its worst row, and why it failed, indexed as in `df`.

        Cases come in the order of the share of their conversations that failed: `failed` of `runs`. A case
        that never failed is not among them. Missing conversations do not count. Of a case's rows, the worst
        is one that the agent did not complete, then the one that failed the most checks, then the slowest.
        """
        try:
            count = index(count)
        except TypeError:
            raise InvalidRequest(f"count must be a whole number, not {count!r}.") from None
        return rows.worst_rows(self._state, count)

    def conversation(self, row: int) -> list[tuple[str, Reply]]:
        """The message and reply of each completed turn in the conversation of that row of `df`."""
        turns = read_turns(self._state, rows.conversation_of(self._state, row))
        return [(turn.message, turn.reply) for turn in turns]

    def as_cases(self) -> list[Case]:
        """The messages that were sent, as fixed cases: another agent can be given the same words.

        Each conversation with a user becomes a case of its own, with the messages that its user has said; its
        metadata has the case's id as `simulated_case`. Conversations of which nothing was sent are left out.
        Cases without a user are as they were.
        """
        return fixed_cases(self._state)

    def show(self, *rows: int | str | Iterable[int]) -> None:
        """Show the conversations of rows of `df`, or of a case by its id, below headings; several in columns.

        Of a case it shows each configuration and repeat. Raises `InvalidRequest` for what is not there.
        """
        from .report.conversations import show_conversations

        show_conversations(self._state, rows)

    def explore(self, *, height: str = "640px") -> ResultExplorer:
        """A table of the conversations beside the one that is open: filter, search, sort, read, compare.

        `height` is a CSS length. `.selected` of what it returns is a DataFrame of the rows of the selected
        conversations, or of those that the filters find. Where widgets are not available, the overview shows.
        """
        from ..panel.explorer import ResultExplorer  # heavy, and needed only here

        return ResultExplorer(self._state, height=height)

    # --- Labels ---

    def label(
        self, n: int = 30, by: str | Sequence[str] | None = None, *, seed: int = 0, author: str | None = None
    ) -> LabelPanel:
        """Label `n` replies in the notebook, one after the other, without seeing what the checks found.

        `by` is the name of a check, so that each of its verdicts has half of the sample, or a list of names,
        also ``config``, ``tag`` and columns of metadata, which have their shares. The same call draws the
        same sample, and continues where `author` was. Where there are no widgets, use `label_rows`.
        """
        from ..panel.label_panel import LabelPanel
        from .labels.queue import open_queue

        return LabelPanel(open_queue(self._state, n, by, seed=seed, author=author))

    def label_rows(
        self,
        labels: Mapping[int, bool | str | None],
        *,
        notes: Mapping[int, str] | None = None,
        author: str | None = None,
    ) -> None:
        """Say of rows of `df` whether their replies are good, as a person: True, False, or None for unsure.

        `labels` and `notes` are dicts, or columns of a table, whose rows without a value are left out.
        Labels are lines in the file, with `author` (by default the name of the user) and the time. A label
        belongs to this reply: if its message is sent again, it does not count any more. A later label of the
        same author replaces it. Raises before anything is written.
        """
        from .labels.labelling import label_rows

        label_rows(self._state, labels, notes, author)

    @property
    def labels(self) -> pd.DataFrame:
        """The labels that count: a row per reply and author, with the number of the row in `df`."""
        from .labels.labelling import labels_frame

        return labels_frame(self._state)

    def agreement(self, check: str, *, config: str | None = None, author: str | None = None) -> Agreement:
        """How well a check agrees with the labels, and its pass rate corrected for its errors.

        With `config` only the replies of that configuration count, and with `author` only the labels of one
        person. Where there are too few labels, it says so in place of figures.
        """
        from .labels.agreement import agreement

        self._check_name(check)
        return agreement(self._state, check, config and self._known_config(config), author)

    # --- Figures ---

    def summary(self, *, by_tag: bool = False, by: str | None = None) -> pd.DataFrame:
        """A row per configuration: how its turns ended, each check's pass rate with its interval, times.

        The columns are numbers; unchanged, the table shows them as text. Those of a check are its pass rate
        `<check>`, the 95 % limits `<check> low` and `<check> high`, `<check> n` cases with a result,
        `<check> missing` runs without one, and the mean score, `<check> score`, with its limits. With repeats
        there is `<check> every time`: the share of cases that pass as many times in a row as there are
        repeats, with its limits. Times have `<time> p50` and `<time> p95` in seconds with their limits, and
        `<time> unanswered` turns, which count as long ones. A p95 needs 20 cases.

        With `by_tag` a row per configuration and tag; a case with two tags counts in both. With `by`, the
        name of a metadata column, a row per configuration and value. Raises `InvalidRequest` if no case has
        that column.
        """
        from .report.notebook import summary_frame

        return summary_frame(self._state, _grouping(by, by_tag=by_tag))

    def passed(self, check: str, tag: str | None = None) -> dict[str, dict[str, list[bool | None]]]:
        """Configuration → case → passes, one per repeat, of the turns that the check judged.

        A conversation passes when each of its judged turns does, and fails when the agent did not complete
        it. None stands for a missing result: the conversation was not run or was cut short by something other
        than the agent, or the check could not judge it. A list is empty where the check has nothing to say.
        With `tag` only the cases with this tag.
        """
        self._check_name(check)
        return self._by_config(lambda chosen: chosen.passed(check), tag)

    def scores(self, check: str, tag: str | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Configuration → case → scores from 0 to 1, one per repeat, as in `passed`.

        The score of a conversation is the mean of its judged turns, and 0 when the agent did not complete it.
        """
        self._check_name(check)
        return self._by_config(lambda chosen: chosen.scores(check), tag)

    def times(self, name: str, tag: str | None = None) -> dict[str, dict[str, list[float]]]:
        """Configuration → case → seconds, one per turn; an empty list for a case without.

        `name` is ``first_text_s`` or ``elapsed_s``. A turn that the agent did not answer has an `AtLeast`:
        the seconds after which it ended, or the longest that the configuration took for an answer, if that is
        longer. Turns whose result is missing are left out. With `tag` only the cases with this tag.
        """
        if name not in list(rows.TIMES):  # it may be a list, which has no hash
            raise InvalidRequest(f"No time named {name!r}. Times: {', '.join(rows.TIMES)}.")
        return self._by_config(lambda chosen: chosen.times(name), tag)

    def _check_name(self, check: str) -> None:
        if check not in list(self._state.checks):  # it may be a list, which has no hash
            known = ", ".join(self._state.checks) or "none"
            raise InvalidRequest(f"No check named {check!r}. Checks: {known}.")

    def _by_config(self, found: Callable[[Figures], T], tag: str | None) -> dict[str, T]:
        figures = figures_of(self._state).tagged(tag)
        return {config: found(figures.of(config)) for config in figures.configs}

    def compare(self, *configs: str, by_tag: bool = False, by: str | None = None) -> Comparisons:
        """Compare configurations, paired by case: each check's pass rate and mean score, and the times.

        Each of `configs` (by default all) is compared with the first; differences are the others minus the
        first, with an interval, and with a note when there are too few cases. With `by_tag` or `by`, the
        name of a metadata column, each group of cases is compared on its own. All p-values of the result are
        adjusted together, by Holm's method. `.cases` has a row per case, the worst first.

        Raises `InvalidRequest` for an unknown or a single configuration.
        """
        figures = figures_of(self._state)
        names = list(dict.fromkeys(map(self._known_config, configs or figures.configs)))
        return compared_by(figures, names, _grouping(by, by_tag=by_tag), users_words(self._state))

    def compare_with(self, other: Evaluation | str | Path, *, config: str | None = None) -> ResultComparison:
        """Compare this result with another one, or its file: what got better, what got worse, how certainly.

        Cases are paired by what they send, whatever their ids, also with what users said (see `as_cases`),
        and configurations by name (where each result has only one, whatever its name); with `config` only
        that one. Differences are this result minus the other. Raises `UsageError` for a file that is not an
        evaluation, and `InvalidRequest` if no configuration is in both.
        """
        from .comparisons.between_results import compare_results

        return compare_results(_opened(other)._state, self._state, config)

    def flaky(self, check: str | None = None) -> pd.DataFrame:
        """The cases that pass a check only sometimes: a row per check, configuration and case.

        The columns are `check`, `config`, `case`, `message` (the first), `passes`, `runs` and `rows` (of
        `df`); those nearest to half come first. With `check` only that one.
        """
        if check is not None:
            self._check_name(check)
        return flaky_cases(figures_of(self._state), self._state.checks if check is None else [check])

    def notes(self) -> list[str]:
        """What a reader of the summary must know, a line each; usually empty."""
        return notes.notes(self._state)

    def rescore(
        self,
        checks: Checks | None = None,
        *,
        again: bool = False,
        check_concurrency: int = 8,
        check_threads: bool = False,
    ) -> Evaluation:
        """Apply checks (None: its own) to the stored replies; returns itself.

        A turn that the same version of a check has judged is not judged again, except with `again`. New
        verdicts are added to the file; while another process writes it, they are kept in memory only. An
        interrupt ends it; `notes` counts the turns that are left. `check_concurrency` and `check_threads` are
        those of `evaluate`.
        """
        state = self._state
        named = checks_to_apply(checks, state.checks, self.path)
        check_apart(named or (), (each.case for each in state.conversations.values()))
        jury = Jury(state.keep, count("check_concurrency", check_concurrency), in_threads=check_threads)
        # The inbox first: an interrupt must not come between the opening of the file and its `with`.
        with (
            InterruptInbox() as inbox,
            state.rescoring(named, again=again),
            contextlib.suppress(KeyboardInterrupt),
        ):
            jury.judge(unjudged(state), inbox)
        tell_changed(state)
        return self

    # --- Gates for CI ---

    def require(self, check: str, at_least: float, *, sure: bool = False, config: str | None = None) -> None:
        """Raise `RequirementFailed`, in one line, if a check does not pass often enough.

        It fails if the rate is certainly below `at_least`: the upper limit of its 95 % interval is. With
        `sure` it passes only if the rate is certainly not below: the lower limit is not.

        Args:
            check: the name of a check.
            at_least: the share of passes, from 0 to 1.
            sure: whether a doubt fails it, too.
            config: the configuration; None requires it of each.
        """
        from .comparisons.gates import require_rate

        passed = self.passed(check)
        if config is not None:
            passed = {config: passed[self._known_config(config)]}
        require_rate(check, passed, at_least, sure=sure, path=self.path)

    def require_no_worse(
        self,
        baseline: Evaluation | str | Path,
        check: str,
        *,
        margin: float = 0.05,
        config: str | None = None,
    ) -> None:
        """Raise `RequirementFailed`, in one line, if a check may pass less often than in a baseline.

        It passes only if the rate is certainly not lower by more than `margin`: a paired non-inferiority test
        over the cases that send the same messages, see `no_worse`. To exclude 5 points takes 53 cases even if
        all of them pass.

        Args:
            baseline: another result, or its file.
            check: the name of a check, which both have.
            margin: how much lower the rate may be: 0.05 allows 5 points.
            config: the configuration; None requires it of each, so it fails for one that only one side has.
        """
        from .comparisons.between_results import Pairing
        from .comparisons.gates import require_no_worse

        before, now = map(Evaluation, with_same_words(_opened(baseline)._state, self._state))
        pairing = Pairing(before._state, now._state, config)
        sides = pairing.sides(before.passed(check), now.passed(check))
        unpaired = pairing.unpaired if config is None else {}
        require_no_worse(check, sides, margin, path=self.path, unpaired=unpaired)

    def to_junit(self, path: str | Path) -> Path:
        """Write a JUnit XML file, with a test case per conversation; returns its path.

        A conversation fails if the agent did not complete it or a check fails, and is skipped if its result
        is missing. If no conversation has a result, the file has an error. Raises `UsageError` when it cannot
        be written, and at the path of an evaluation, a recording or an exported session.
        """
        from .report.junit import write_junit

        return write_junit(self._state, absolute(path))

    def _known_config(self, name: str) -> str:
        if name not in list(self._state.sources):
            known = ", ".join(self._state.sources)
            raise InvalidRequest(f"No configuration named {name!r}. Configurations: {known}.")
        return name

    # --- To look at and to share ---

    def plot(self) -> Plot:
        """Each check's pass rate and mean score with intervals, and the times, by configuration."""
        from .report.plot import plot

        return plot(self._state)

    def to_html(self, path: str | Path) -> Path:
        """Write everything into one self-contained file, to send to a colleague; returns its path.

        It holds every message and reply, with secrets masked; it has no script and loads nothing.
        Raises `UsageError` when it cannot be written, and at the path of an evaluation, a recording or an
        exported session.
        """
        from .report.html_page import write_page

        return write_page(self._state, absolute(path))

    def __deepcopy__(self, memo: object = None) -> Evaluation:
        return Evaluation(self._state.copied())

    __copy__ = __deepcopy__

    def __reduce__(self) -> tuple[Callable[[str], Evaluation], tuple[str]]:
        """It is opened again from its file."""
        if self._state.removal is not None:
            raise UsageError(
                "An evaluation without a path is not pickled: its file is deleted with it. Give evaluate a "
                "path, or pickle result.df."
            )
        return Evaluation.open, (str(self.path),)

    def __len__(self) -> int:
        return len(self._state.conversations)

    def __repr__(self) -> str:
        return f"Evaluation({notes.headline(self._state)})"

    def __str__(self) -> str:
        from .report.terminal import overview_text

        return overview_text(self._state)

    def _repr_html_(self) -> str:
        from .report.notebook import overview

        return overview(self._state)


def _grouping(by: str | None, *, by_tag: bool) -> str | None:
    if by_tag and by is not None:
        raise InvalidRequest(f"by_tag and by={by!r} are two groupings; give one of them.")
    return TAG if by_tag else by


def _opened(result: Evaluation | str | Path) -> Evaluation:
    return result if isinstance(result, Evaluation) else Evaluation.open(result)
