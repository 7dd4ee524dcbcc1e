"""What a reader of an evaluation must know before believing its figures, a line each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from ...checks import NoVerdict
from ...display.text import one_line
from ...display.wording import counted
from ..file.lines import line_at
from ..file.state import USER
from ..outcomes import AGENT, COMPLETE, LIMIT, NETWORK, REFUSED, STOPPED

if TYPE_CHECKING:
    from ...checks import Score
    from ..cases.case import Conversation
    from ..file.state import RunState, TurnState

# What this process may add to the agent's times before a note says so: a share of them, and a time.
BUSY, BUSY_S = 0.2, 0.01
_NO_END = "no end"  # what is known of a conversation that another process had begun
# Why conversations are incomplete: what happened to them, and what to do first.
_CAUSES = {
    AGENT: ("got an error or no whole reply from the agent", ""),
    REFUSED: ("failed because Halo refused the request", "Fix what the error names"),
    LIMIT: ("ended at the rate limit", "Set a lower rate_limit"),
    NETWORK: ("did not get through", "Fix what the error names"),
    USER: ("ended because the simulated user failed", "Fix the user"),
    STOPPED: ("broke off when the run ended", ""),
    _NO_END: ("began and did not end in the file: the run was stopped or killed, or is still going on", ""),
    "": ("did not start", ""),
}


def headline(state: RunState) -> str:
    """One line: how many conversations, and what became of them."""
    outcomes = Counter(map(state.outcome, state.conversations.values()))
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    return f"{counted(len(state.conversations), 'conversation')}: {shown or 'none'}"


def notes(state: RunState) -> list[str]:
    """See `Evaluation.notes`."""
    turns = [turn for each in state.conversations.values() for turn in state.turns(each)]
    ended = [turn for turn in turns if turn.status == COMPLETE]
    found = [*_stop(state), *_file(state), *_incomplete(state), *_agents(state), *_days(turns)]
    found += _checks(state)
    times = sorted(turn.first_text_s for turn in ended if turn.first_text_s is not None)
    if times and state.lag_s > max(BUSY * times[len(times) // 2], BUSY_S):
        found.append(
            f"This machine was too busy: data waited {state.lag_s:.2g} s (p90) before it was read, so times "
            "are too long by about that. Lower the concurrency, or judge afterwards with rescore()."
        )
    return found


def _stop(state: RunState) -> Iterator[str]:
    """What a stop has prevented; nothing if it came when everything was done."""
    unsent = {STOPPED, _NO_END, ""} & _by_cause(state).keys()
    unjudged = any(score is None for name in state.checks for _, score in _judged(state, name))
    if state.interrupted and (unsent or unjudged):
        what = "all messages were sent" if unsent else "all replies were judged"
        yield f"It was stopped before {what}; the same call{_with_path(state)} resumes it."


def _with_path(state: RunState, then: str = "") -> str:
    """What to add to the same call, so that it sends nothing again: the path, if it had none."""
    if state.removal is None:
        return f" with {then}" if then else ""
    return f" with path={str(state.kept_path())!r}{f' and {then}' if then else ''}"


def _file(state: RunState) -> Iterator[str]:
    """What is in the file and not in the figures, or the other way round."""
    if state.cut_lines:
        yield (
            f"{counted(len(state.cut_lines), 'line')} of {state.path.name!r}, cut short by a crash, "
            f"{'was' if len(state.cut_lines) == 1 else 'were'} skipped."
        )
    for target, count in state.others.items():
        who = ", ".join(filter(None, [target.shown_source, target.url]))
        replies, are, they = ("reply", "is", "it is") if count == 1 else ("replies", "are", "they are")
        yield (
            f"{count:,} {replies} in {state.path.name!r} {are} from another agent, user or configuration "
            f"({one_line(who, 100)}); {they} not used."
        )
    if state.connections is not None:
        yield (
            "This process had too many open files, so the run used "
            f"{counted(state.connections, 'connection')} at most from then on. Raise its limit (ulimit -n), "
            "or lower the concurrency."
        )
    if state.unwritten:
        yield f"New verdicts are kept in memory only: {state.unwritten}."


def _incomplete(state: RunState) -> Iterator[str]:
    """A note for each cause: how many conversations, the first error, whether they count, what to do."""
    by_cause = _by_cause(state)
    for cause, (what, todo) in _CAUSES.items():
        if conversations := by_cause.get(cause):
            first = "" if cause in (STOPPED, _NO_END, "") else _first_error(state, conversations)
            one = len(conversations) == 1
            counts = f"{'It counts' if one else 'They count'} as {'failed' if cause == AGENT else 'missing'}"
            counts += "" if cause == AGENT else f", and the figures leave {'it' if one else 'them'} out"
            again = sum(map(state.resumes, conversations))
            todos = [todo] if todo else []
            todos += [f"Run the same call again{_with_path(state)}"] if again else []
            if arrived := len(conversations) - again:
                todos.append(
                    f"{arrived:,} may have reached the agent: if sending twice is safe, rerun"
                    + _with_path(state, "resume='interrupted'")
                )
            happened = f"{counted(len(conversations), 'conversation')} {what}{first}"
            yield f"{happened}. {counts}. {'. '.join(todos)}."


def _by_cause(state: RunState) -> dict[str, list[Conversation]]:
    """The conversations that are incomplete, by their causes."""
    by_cause: defaultdict[str, list[Conversation]] = defaultdict(list)
    for conversation in state.conversations.values():
        status, number = state.first_incomplete(conversation)
        if status != COMPLETE:
            turn = state.turns(conversation)[number]
            cause = turn.cause
            if turn.at is None and cause != USER and (cause or number):  # it had begun, and has no end
                cause = STOPPED if state.interrupted else _NO_END
            by_cause[cause].append(conversation)
    return by_cause


def _first_error(state: RunState, conversations: Sequence[Conversation]) -> str:
    for conversation in conversations:
        _, number = state.first_incomplete(conversation)
        if (end := state.end(conversation)) is not None and end.failed:
            return f" ({one_line(end.note)})"
        if (at := state.turns(conversation)[number].at) is not None:
            with state.opened() as file:
                error = line_at(file, at)["reply"]["error"]
            return f" ({one_line(error.partition('. ')[0].rstrip('.'))})" if error else ""
    return ""


def _agents(state: RunState) -> Iterator[str]:
    """Configurations as which several agents answered; with days, if that changed from day to day."""
    for config in state.sources:
        days: defaultdict[str, list[date]] = defaultdict(list)
        for conversation in state.conversations.values():
            for turn in state.turns(conversation) if conversation.config == config else ():
                if turn.agent_id and turn.started_at:
                    days[turn.agent_id].append(_day(turn.started_at))
        if len(days) > 1:
            changed = len({day for of_agent in days.values() for day in of_agent}) > 1
            shown = [
                f"{agent} ({len(of_agent):,}{f', {_span(of_agent)}' if changed else ''})"
                for agent, of_agent in sorted(days.items(), key=lambda item: -len(item[1]))[:5]
            ]
            yield f"More than one agent answered as {config!r}: {one_line(', '.join(shown))}."


def _days(turns: Iterable[TurnState]) -> Iterator[str]:
    """Replies that are not from today."""
    days = [_day(turn.started_at) for turn in turns if turn.started_at]
    if old := [day for day in days if day != date.today()]:  # noqa: DTZ011  # local, as the others
        are = "is" if len(old) == 1 else "are"
        yield f"{len(old):,} of {len(days):,} replies {are} from {_span(old)}."


def _span(days: Iterable[date]) -> str:
    known = sorted(days)
    return " to ".join(dict.fromkeys(map(str, (known[0], known[-1]))))


def _day(moment: datetime) -> date:
    """The local date."""
    return moment.astimezone().date()


def _judged(state: RunState, check: str) -> Iterator[tuple[Conversation, Score | None]]:
    """What a check found about each complete turn that it has to judge; None where it has not judged yet."""
    judge = state.checks[check]
    for conversation in filter(lambda each: judge.judges(each.case), state.conversations.values()):
        turns, unanswered = state.turns(conversation), state.unanswered(conversation)
        for at in [len(turns) - 1] if judge.of_conversation else range(len(turns)):
            if turns[at].status == COMPLETE and at != unanswered:
                yield conversation, turns[at].scores.get(check)


def _checks(state: RunState) -> Iterator[str]:
    """Checks that did not judge all turns that they should have judged."""
    for name in state.checks:
        failed = unjudged = 0
        first, cases, judged = "", set(), set()
        for conversation, score in _judged(state, name):
            cases.add(conversation.case.id)
            unjudged += score is None
            if isinstance(score, NoVerdict):
                failed, first = failed + 1, first or score.note
            elif score is not None and score.passed is not None:
                judged.add(conversation.case.id)
        if failed:
            yield (
                f"Check {name!r} could not judge {counted(failed, 'turn')} (first error: {first}); rescore() "
                f"tries again. It has a verdict for {len(judged):,} of {counted(len(cases), 'case')}."
            )
        if unjudged:
            yield f"Check {name!r} has not judged {counted(unjudged, 'turn')} yet; rescore() does."
