"""What a reader of an evaluation must know before believing its figures, a line each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..display.text import one_line
from ..display.wording import counted
from .figures import agents
from .judging import NoVerdict
from .sender import COMPLETE, INTERRUPTED

if TYPE_CHECKING:
    from .state import RunState

BUSY = 0.2  # the share of the agent's times that this process may add to them before a note says so


def headline(state: RunState) -> str:
    """One line: how many conversations, and what became of them."""
    outcomes = Counter(map(state.outcome, state.conversations.values()))
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    return f"{counted(len(state.conversations), 'conversation')}: {shown or 'none'}"


def notes(state: RunState) -> list[str]:
    """See `Evaluation.notes`."""
    found = []
    if state.interrupted:
        found.append("It was stopped before all messages were sent; the same call resumes it.")
    if state.cut_lines:
        found.append(
            f"{counted(len(state.cut_lines), 'line')} of {state.path.name!r}, cut short by a crash, "
            f"{'was' if len(state.cut_lines) == 1 else 'were'} skipped."
        )
    incomplete = [state.first_incomplete(each) for each in state.conversations.values()]
    cut = sum(status == INTERRUPTED or (number > 0 and status != COMPLETE) for status, number in incomplete)
    if cut:
        was, their, counts = ("was", "its", "It counts") if cut == 1 else ("were", "their", "They count")
        found.append(
            f"{counted(cut, 'conversation')} {was} interrupted after {their} message may have been sent. "
            f"{counts} as failed. If sending it twice is safe, rerun with resume='interrupted'."
        )
    for config in state.sources:
        answered = agents(state, (each for each in state.conversations.values() if each.config == config))
        if len(answered) > 1:
            shown = ", ".join(f"{agent} ({count})" for agent, count in answered.most_common(5))
            found.append(f"More than one agent answered as {config!r}: {one_line(shown)}.")
    turns = [turn for each in state.conversations.values() for turn in state.turns(each)]
    ended = [turn for turn in turns if turn.status == COMPLETE]
    for name in state.checks:
        errors = [score.note for turn in ended if isinstance(score := turn.scores.get(name), NoVerdict)]
        if errors:
            found.append(
                f"Check {name!r} failed on {counted(len(errors), 'turn')} (first error: {errors[0]}); these "
                "are left out of its rate."
            )
        unjudged = sum(name not in turn.scores for turn in ended)
        if unjudged:
            found.append(f"Check {name!r} has not judged {counted(unjudged, 'turn')} yet; rescore() does.")
    times = sorted(turn.first_text_s for turn in ended if turn.first_text_s is not None)
    if times and state.lag_s > BUSY * times[len(times) // 2]:
        found.append(
            f"This machine was too busy: data waited {state.lag_s:.2g} s (p90) before it was read, so times "
            "are too long by about that. Lower the concurrency, or judge afterwards with rescore()."
        )
    return found
