"""Conversations of an evaluation as JSON for a page: one to read, or the configurations of a case to compare.

`conversation_view` is what `ConversationView` in static/shared/conversation.js shows, in whichever widget.
An answer holds as many turns as fit in a message; the page asks for the rest. An agent's text is safe HTML
made by `display`, or text that the page shows as such.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..checks import NoVerdict
from ..display.bundles import shown_message
from ..display.differences import Part, differences
from ..display.json_tree import json_text
from ..display.text import bounded, one_line, terminal_text
from ..display.wording import counted
from ..evaluation.cases.columns import columns_of
from ..evaluation.tables.browsing import VERDICTS, total_s, verdict_word
from ..evaluation.tables.rows import conversation_rows, group_name
from ..reply import reply_from
from ..session import Turn
from ..stream import JSON
from .state import frames_of
from .views import turn_view

if TYPE_CHECKING:
    from ..evaluation.file.state import RunState
    from ..evaluation.tables.by_case import Run
    from .views import View

MAX_BYTES = 600_000
"""An answer holds no further turn beyond this."""
MAX_CONFIGS = 8
"""Of more configurations than these the others are not compared."""
MAX_COMPARED_BYTES = 100_000
"""Of a longer reply, the beginning and the end are compared."""


def conversation_view(
    state: RunState, run: Run, first: int = 0, *, blind: bool = False, until: int | None = None
) -> View:
    """A conversation from its turn `first` (from 0) on, and up to the turn before `until`.

    With `blind` there is nothing that tells its configuration, its agent, what checks found, or how long it
    took.

    Returns:
        `turns`: each a `message`, its `status`, `expect` as text, `verdicts`, and as `view` what a panel
        shows of it, None for a turn that has not ended. `next`: the number of the first turn that did not
        fit, or None. `count`: of all turns. From turn 0 on, there are also `case`, `tags`, `metadata` and
        `end` (why a conversation with a user ended), and, unless it is blind, `config`, `repeat`, `status`,
        `total_s` and `verdicts`.
    """
    conversation, case = run.conversation, run.conversation.case
    turns = _Turns(state, run, blind=blind)
    count = turns.count if until is None else min(until, turns.count)
    views, following = _fitting([partial(turns.view, at) for at in range(first, count)])
    next_ = None if following is None else first + following
    view: View = {"turns": views, "next": next_, "count": count}
    if first == 0:
        view |= {
            "case": one_line(case.id),
            "end": one_line(state.end_reason(conversation)),
            "tags": [one_line(tag) for tag in case.tags],
            "metadata": [
                [one_line(name, 100), one_line(group_name(value))] for name, value in case.metadata.items()
            ],
        }
        if not blind:
            view |= {
                "config": one_line(conversation.config),
                "repeat": conversation.repeat,
                "status": state.outcome(conversation),
                "total_s": total_s(run),
                "verdicts": [
                    {"check": one_line(name, 100), "verdict": verdict_word(run, name)}
                    for name in state.checks
                    if name in run.passed
                ],
            }
    return view


# Where a user has ended the conversation with this configuration earlier.
_NO_TURN: View = {"message": "", "status": "", "view": None, "expect": "", "verdicts": []}


class _Turns:
    """The turns of a conversation, read from the file."""

    def __init__(self, state: RunState, run: Run, *, blind: bool = False) -> None:
        self._state, self._run, self._blind = state, run, blind
        with state.opened() as file:
            self._lines = state.lines(run.conversation, file)
        self._rows = conversation_rows(state, run.conversation, self._lines)
        self.count = len(self._rows)

    def view(self, number: int) -> View:
        if number >= self.count:
            return {**_NO_TURN}
        row, line = self._rows[number], self._lines[number]
        message, expect = row["message"] or "", row["expect"]
        shown: View | None = None
        if line is not None:
            source = self._state.sources.get(self._run.conversation.config, "")
            turn = Turn({"message": message}, reply_from(line["reply"]), source=source)
            shown = {**turn_view(turn, number + 1, frames_of(turn)), "again": ""}
            if self._blind:
                shown |= {"agent": None, "source": "", "started_at": ""}
                shown |= {"first_text_s": None, "elapsed_s": None}
                items: Any = shown["items"]
                shown["items"] = [_without_time(item) for item in items]
        return {
            "message": shown_message(message),
            "status": row["status"],
            "view": shown,
            "expect": "" if expect is None else one_line(group_name(expect), 500),
            "verdicts": [] if self._blind else [*self._verdicts(number)],
        }

    def _verdicts(self, number: int) -> Iterator[JSON]:
        row, scores = self._rows[number], self._run.turns[number].scores
        for name in self._state.checks:
            passed, score, note = (row[column] for column in columns_of(name))
            if passed is not None or isinstance(scores.get(name), NoVerdict):  # else it has nothing to say
                yield _verdict(name, passed, note, score=None if score == passed else score)
        if row["label"] is not None or row["label note"]:
            yield _verdict("label", row["label"], row["label note"])

    def text(self, number: int) -> str:
        """A reply as text, with its actions as JSON."""
        line = self._lines[number] if number < self.count else None
        if line is None:
            return ""
        reply = reply_from(line["reply"])
        parts = [terminal_text(reply.text).strip(), *(json_text(payload) for payload in reply.actions)]
        return bounded("\n\n".join(filter(None, [*parts, reply.error])), MAX_COMPARED_BYTES)


def _without_time(item: Any) -> JSON:
    """A block of a reply, or an action without the time at which it came."""
    return {"action": {**item["action"], "at_s": None}} if "action" in item else item


def _verdict(check: str, passed: bool | None, note: str, *, score: float | None = None) -> JSON:
    return {
        "check": one_line(check, 100),
        "verdict": VERDICTS[passed],
        "score": score,
        "note": one_line(note or "", 500),
    }


def comparison_view(state: RunState, runs: Sequence[Run], first: int = 0) -> View:
    """One run per configuration of one case, from their turn `first` (from 0) on.

    Returns:
        `configs`: their names. `figures`: rows of the table above the turns. `turns`: each has `sides`, one
        per configuration, as the turns of `conversation_view`, and a `message`, or None where the sides have
        different ones. The `parts` of a side are its reply as text, each with whether it differs from the
        first configuration's. `next`: as in `conversation_view`. `note`: what is left out.
    """
    left_out = len(runs) - MAX_CONFIGS
    runs = runs[:MAX_CONFIGS]
    of_runs = [_Turns(state, run) for run in runs]
    count = max(turns.count for turns in of_runs)

    def turn(at: int) -> View:
        sides = [turns.view(at) for turns in of_runs]
        for side, parts in zip(sides, _compared([turns.text(at) for turns in of_runs]), strict=True):
            side["parts"] = [list[JSON](part) for part in parts]
        messages = [side["message"] for side in sides]
        same = all(message == messages[0] for message in messages)
        return {"message": messages[0] if same else None, "sides": list[JSON](sides)}

    turns, following = _fitting([partial(turn, at) for at in range(first, count)])
    return {
        "configs": [one_line(run.conversation.config) for run in runs],
        "figures": _figures(state, runs),
        "turns": turns,
        "next": None if following is None else first + following,
        "count": count,
        "note": f"{counted(left_out, 'more configuration')} not shown." if left_out > 0 else "",
    }


def _figures(state: RunState, runs: Sequence[Run]) -> list[JSON]:
    rows: list[tuple[str, str, list[JSON]]] = [
        ("Status", "status", [state.outcome(run.conversation) for run in runs]),
        *((name, "verdict", list[JSON](verdict_word(run, name) for run in runs)) for name in state.checks),
        ("Total", "seconds", [total_s(run) for run in runs]),
    ]
    return [
        {
            "name": one_line(name, 100),
            "kind": kind,
            "values": values,
            # Two times are never the same.
            "differs": [kind != "seconds" and value != values[0] for value in values],
        }
        for name, kind, values in rows
    ]


def _compared(texts: list[str]) -> list[list[Part]]:
    """Each text in parts. Of two, the first is marked, too; of more, each is compared with the first."""
    compared = [differences(texts[0], text) for text in texts[1:]]
    whole: list[Part] = [(texts[0], False)] if texts[0] else []
    first = compared[0][0] if len(compared) == 1 else whole
    return [first, *(other for _, other in compared)]


def _fitting(makers: Sequence[Callable[[], View]]) -> tuple[list[JSON], int | None]:
    """As many views as fit in a message, at least one, and the place of the next one, or None."""
    views: list[JSON] = []
    room = MAX_BYTES
    for at, make in enumerate(makers):
        view = make()
        room -= len(json.dumps(view, ensure_ascii=False).encode("utf-8", "replace"))
        if room < 0 and views:
            return views, at
        views.append(view)
    return views, None
