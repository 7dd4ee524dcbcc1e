"""Conversations of an evaluation as JSON for a page: one to read, or the configurations of a case to compare.

`conversation_view` is what `ConversationView` in static/conversation.js shows, in whichever widget. An answer
holds as many turns as fit in a message; the page asks for the rest. An agent's text is safe HTML made by
`display`, or text that the page shows as such.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..display.bundles import shown_message
from ..display.differences import Part, differences
from ..display.json_tree import json_text
from ..display.text import bounded, one_line, terminal_text
from ..evaluation.browsing import VERDICTS, total_s, verdict_word
from ..evaluation.columns import END
from ..evaluation.rows import group_name
from ..reply import Reply, reply_from
from ..session import Turn
from ..stream import JSON
from .state import frames_of
from .views import turn_view

if TYPE_CHECKING:
    from ..evaluation.by_case import Run
    from ..evaluation.state import RunState, TurnState
    from .views import View

MAX_BYTES = 600_000
"""An answer holds no further turn beyond this."""
MAX_CONFIGS = 8
"""Of more configurations than these the others are not compared."""
MAX_COMPARED_BYTES = 100_000
"""Of a longer reply, the beginning and the end are compared."""


def conversation_view(state: RunState, run: Run, first: int = 0, *, blind: bool = False) -> View:
    """A conversation from its turn `first` (from 0) on.

    With `blind` there is nothing that tells its configuration, its agent, what checks found, or how long it
    took.

    Returns:
        `turns`: a view of each turn, see `turn_of`; `next`: the number of the first turn that did not fit, or
        None; `count`: of all turns. From turn 0 on, there are also `case`, `tags` and `metadata`, and, unless
        it is blind, `config`, `repeat`, `status`, `total_s` and `verdicts`.
    """
    conversation, case = run.conversation, run.conversation.case
    with state.opened() as file:
        lines = state.lines(conversation, file)
    turns, following = _fitting(
        [lambda at=at: turn_of(state, run, at, lines[at], blind=blind) for at in range(first, len(lines))]
    )
    view: View = {
        "turns": turns,
        "next": None if following is None else first + following,
        "count": len(lines),
    }
    if first == 0:
        reason = state.end_reason(conversation)
        metadata: dict[str, JSON] = {**case.metadata, **({END: reason} if reason else {})}
        view |= {
            "case": one_line(case.id),
            "tags": [one_line(tag) for tag in case.tags],
            "metadata": [
                [one_line(name, 100), one_line(group_name(value))] for name, value in metadata.items()
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


def turn_of(
    state: RunState, run: Run, number: int, line: dict[str, Any] | None, *, blind: bool = False
) -> View:
    """A turn to read: `message`, `status`, `expect` as text, `verdicts`, and as `view` what a panel shows.

    A turn that was not sent, or has not ended, has no `view`.
    """
    turn, messages = run.turns[number], state.case_turns(run.conversation)
    message = messages[number].message if number < len(messages) else ""  # its user has not said it yet
    shown: View | None = None
    if line is not None:
        source = state.sources.get(run.conversation.config, "")
        told = Turn({"message": message}, reply_from(line["reply"]), source=source)
        shown = {**turn_view(told, number + 1, frames_of(told)), "again": ""}
        if blind:
            shown |= {"agent": None, "source": "", "started_at": "", "first_text_s": None, "elapsed_s": None}
    expected = state.expected(run.conversation, number)
    return {
        "message": shown_message(message),
        "status": turn.status,
        "view": shown,
        "expect": "" if expected is None else one_line(group_name(expected), 500),
        "verdicts": [] if blind else _verdicts(state, turn),
    }


def _verdicts(state: RunState, turn: TurnState) -> list[JSON]:
    return [
        {
            "check": one_line(name, 100),
            "verdict": VERDICTS[passed],
            "score": score.value if score.value != passed else None,
            "note": one_line(score.note, 500),
        }
        for name in state.checks
        if (score := turn.scores.get(name)) is not None
        for passed in [turn.passes(name)]
    ]


def comparison_view(state: RunState, runs: Sequence[Run], first: int = 0) -> View:
    """One run per configuration of one case, from their turn `first` (from 0) on.

    Returns:
        `configs`: their names. `figures`: rows of the table above the turns. `turns`: each has a `message`
        and `sides`, one per configuration, see `turn_of`; the `parts` of a side are its reply as text, each
        with whether it differs from the first configuration's. `next`: as in `conversation_view`. `note`:
        what is left out.
    """
    left_out = len(runs) - MAX_CONFIGS
    runs = runs[:MAX_CONFIGS]
    with state.opened() as file:
        lines = [state.lines(run.conversation, file) for run in runs]
    count = max(len(run.turns) for run in runs)

    def turn(at: int) -> View:
        of_turn = [of_run[at] if at < len(of_run) else None for of_run in lines]
        sides = [
            turn_of(state, run, at, line) if at < len(run.turns) else dict(_NO_TURN)
            for run, line in zip(runs, of_turn, strict=True)
        ]
        texts = [_text(line) for line in of_turn]
        for side, parts in zip(sides, _compared(texts), strict=True):
            side["parts"] = [list[JSON](part) for part in parts]
        return {"message": _messages(runs, sides), "sides": list[JSON](sides)}

    turns, following = _fitting([lambda at=at: turn(at) for at in range(first, count)])
    return {
        "configs": [one_line(run.conversation.config) for run in runs],
        "figures": _figures(state, runs),
        "turns": turns,
        "next": None if following is None else first + following,
        "count": count,
        "note": f"{left_out:,} more configurations are not shown." if left_out > 0 else "",
    }


# Where a user has ended the conversation with this configuration earlier.
_NO_TURN: View = {"message": "", "status": "", "view": None, "expect": "", "verdicts": []}


def _messages(runs: Sequence[Run], sides: Sequence[View]) -> JSON:
    """The message that all got, or what users have said to each configuration."""
    if len({str(side["message"]) for side in sides}) == 1:
        return sides[0]["message"]
    said = zip(runs, sides, strict=True)
    return "\n".join(f"{one_line(run.conversation.config, 100)}: {side['message']}" for run, side in said)


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


def _text(line: dict[str, Any] | None) -> str:
    """A reply as text, with its actions as JSON."""
    if line is None:
        return ""
    reply: Reply = reply_from(line["reply"])
    parts = [terminal_text(reply.text).strip(), *(json_text(payload) for payload in reply.actions)]
    return bounded("\n\n".join(filter(None, [*parts, reply.error])), MAX_COMPARED_BYTES)


def _fitting(makers: Sequence[Any]) -> tuple[list[JSON], int | None]:
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
