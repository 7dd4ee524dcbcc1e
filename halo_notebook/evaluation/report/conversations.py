"""Conversations in a notebook's cell or a terminal: one below its heading, or several in columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import chain
from typing import TYPE_CHECKING, Any

from ...display.bundles import reply_bundle, turn_bundle
from ...display.formulas import NO_FORMULAS
from ...display.text import one_line, writable
from ...display.wording import counted, status_words
from ...errors import InvalidRequest
from ...reply import reply_from
from ..cases.columns import END
from ..tables.rows import conversation_of, conversation_rows
from .notebook import QUIET

if TYPE_CHECKING:
    from ..cases.case import Conversation
    from ..file.state import RunState

    Bundle = Mapping[str, Any]

MAX_COLUMNS = 12
MAX_OUTPUT_CHARS = 1_500_000
"""Columns beyond this are shown below each other: a message may have about 3 MB."""
SIGNS = {True: "✓", False: "✗", None: "–"}


def conversations_of(state: RunState, chosen: Iterable[Any]) -> list[Conversation]:
    """The conversations of rows of `df`, by number, and of cases, by id; each once, in the order given.

    Raises `InvalidRequest` for what is neither.
    """
    found: dict[str, Conversation] = {}
    for one in chosen:
        of_this = _of_case(state, one) if isinstance(one, str) else [conversation_of(state, one)]
        found |= {each.key: each for each in of_this}
    return list(found.values())


def _of_case(state: RunState, case: str) -> list[Conversation]:
    found = [each for each in state.conversations.values() if each.case.id == case]
    if not found:
        ids = dict.fromkeys(each.case.id for each in state.conversations.values())
        close = difflib.get_close_matches(case, [*ids][:10_000], n=1)
        hint = f"; did you mean {one_line(close[0], 60)!r}?" if close else "."
        raise InvalidRequest(f"No case has the id {case[:60]!r}{hint} Give an id, or rows of df by number.")
    return found


def show_conversations(state: RunState, chosen: Sequence[Any]) -> None:
    """See `Evaluation.show`."""
    from IPython.display import publish_display_data

    rows = [row for each in chosen for row in ([each] if isinstance(each, str) else _each(each))]
    if not rows:
        raise InvalidRequest("Give rows of df by number, such as show(0, 2), or the id of a case.")
    conversations = conversations_of(state, rows)
    left_out = len(conversations) - MAX_COLUMNS
    with state.opened() as file:
        columns = [list(_parts(state, each, file)) for each in conversations[:MAX_COLUMNS]]
    for bundle in _beside(columns):
        publish_display_data(data=dict(bundle))
    if left_out > 0:
        note = f"{counted(left_out, 'more conversation')} not shown."
        publish_display_data(data={"text/html": f'<p style="{QUIET}">{note}</p>', "text/plain": note})


def _each(rows: Any) -> list[Any]:
    """Rows by number: one, or any collection of them."""
    if isinstance(rows, Iterable) and not isinstance(rows, Mapping | bytes):
        return list(rows)
    return [rows]


def _parts(state: RunState, conversation: Conversation, file: Any) -> Iterator[Bundle]:
    """The heading of a conversation, then its turns."""
    lines = state.lines(conversation, file)
    rows = conversation_rows(state, conversation, lines)
    yield _heading(state, conversation, rows)
    for row, line in zip(rows, lines, strict=True):
        if line is None:
            status = {"text/html": f"<p>{escape(row['status'])}</p>", "text/plain": str(row["status"])}
            yield turn_bundle(row["message"] or "", status)
            continue
        reply = reply_from(line["reply"])
        bundle = turn_bundle(row["message"], reply_bundle(reply, status_words(reply)))
        if verdicts := verdict_line(state, row):
            bundle["text/html"] += f'\n<p style="{QUIET}">{escape(verdicts)}</p>'
            bundle["text/plain"] += f"\n{writable(verdicts)}"
        yield bundle


def _heading(state: RunState, conversation: Conversation, rows: Sequence[Mapping[str, Any]]) -> Bundle:
    case = one_line(conversation.case.id)
    about = [one_line(conversation.config), f"repeat {conversation.repeat}", state.outcome(conversation)]
    about += [one_line(rows[-1][END])] if rows[-1].get(END) else []
    about += [one_line(f"{SIGNS[passed]} {name}") for name, passed in _whole(state, rows).items()]
    line = " · ".join(about)
    return {
        "text/html": f'<h4 class="{NO_FORMULAS}" dir="auto" style="margin:8px 0 0">{escape(case)}</h4>'
        f'<p class="{NO_FORMULAS}" style="{QUIET};margin:0">{escape(line)}</p>',
        "text/plain": writable(f"{case}\n{line}"),
    }


def _whole(state: RunState, rows: Sequence[Mapping[str, Any]]) -> dict[str, bool | None]:
    """What each check found about a conversation: it fails if a turn fails."""
    found: dict[str, bool | None] = {}
    for name in state.checks:
        verdicts = [row[name] for row in rows if row[name] is not None]
        found[name] = all(verdicts) if verdicts else None
    return found


def verdict_line(state: RunState, row: Mapping[str, Any]) -> str:
    """What the checks found about a turn, and what people say, in one line; empty without both."""
    labels = ["label"] if row["label"] is not None or row["label note"] else []
    verdicts = [
        f"{SIGNS[row[name]]} {name}" + (f" ({note})" if (note := row[f"{name} note"]) else "")
        for name in (*state.checks, *labels)
    ]
    return one_line(" · ".join(verdicts), 500)


def _beside(columns: Sequence[Sequence[Bundle]]) -> Iterator[Bundle]:
    """Conversations in columns of one output; a single one, and those that are too long, output by output."""
    parts = list(chain.from_iterable(columns))
    if len(columns) == 1 or sum(len(part["text/html"]) for part in parts) > MAX_OUTPUT_CHARS:
        yield from parts
        return
    html = (
        '<div style="flex:1 1 260px;min-width:0">'
        + "\n".join(part["text/html"] for part in column)
        + "</div>"
        for column in columns
    )
    yield {
        "text/html": f'<div style="display:flex;flex-wrap:wrap;gap:0 24px">{"".join(html)}</div>',
        "text/plain": "\n\n".join(part["text/plain"] for part in parts),
    }
