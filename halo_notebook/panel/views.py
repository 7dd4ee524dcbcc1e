"""A conversation's turns as JSON for the page, and as HTML where there is no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, cast

from ..display.blocks import wrap
from ..display.bundles import message_html, shown_message, status_html
from ..display.json_tree import json_html
from ..display.text import bounded
from ..display.timeline import MAX_BLOCKS_BYTES
from ..display.words import caveats, counted, status_words
from ..stream import JSON

if TYPE_CHECKING:
    from ..display.timeline import Timeline, View
    from ..session import Session, Turn

MAX_STATIC_BYTES = 100_000


def head_view(turn: Turn, number: int) -> View:
    """What there is to say of a turn before its reply: who asked what and when."""
    return {
        "key": f"t{number}",
        "number": number,
        "asked": shown_message(turn.message),
        "started_at": turn.reply.started_at.isoformat(timespec="milliseconds"),
    }


def turn_view(turn: Turn, number: int, timeline: Timeline, *, source: str = "") -> View:
    """A turn that has ended, whole.

    Args:
        turn: the turn.
        number: its place in its session, from 1.
        timeline: its reply's.
        source: who answered where that is not Halo, see `status_words`.
    """
    reply = turn.reply
    again = "" if reply.status == "complete" else "twice" if reply.may_have_arrived else "safe"
    return {
        **head_view(turn, number),
        **timeline.whole(),
        "status": "stopped" if reply.status == "streaming" else reply.status,
        "error": reply.error,
        "agent": reply.agent_id,
        "source": source,
        "first_text_s": reply.first_text_s,
        "elapsed_s": reply.elapsed_s,
        "words": list[JSON](caveats(reply)),
        "text": bounded(reply.text, MAX_BLOCKS_BYTES // 2),
        "again": again,
    }


def static_html(session: Session, views: Sequence[tuple[Turn, View]], when: str) -> str:
    """The end of a conversation as safe HTML that needs no script, at most `MAX_STATIC_BYTES` of it.

    Args:
        session: whose turns they are.
        views: the last turns, the newest at the end, each with its `turn_view`.
        when: the time that it shows, in words.
    """
    parts: list[str] = []
    room = MAX_STATIC_BYTES
    for turn, view in reversed(views):
        html = _static_turn(turn, view, session.name)
        room -= len(html)
        if room < 0 and parts:
            break
        parts.insert(0, html)
    left_out = len(session.turns) - len(parts)
    title = [f"Halo session {session.name}", f"as of {when}", counted(len(session.turns), "turn")]
    title += [f"the first {left_out} not shown"] if left_out else []
    return "\n".join([status_html(title), *parts])


def _static_turn(turn: Turn, view: View, session: str) -> str:
    blocks = cast("list[str]", view["blocks"])
    payloads = {f"a{number}": payload for number, payload in enumerate(turn.reply.actions, 1)}
    html: list[str] = []
    shown = 0
    for action in cast("list[View]", view["actions"]):
        after = cast("int", action["after"])
        html += [wrap("".join(blocks[shown:after]))] if after > shown else []
        shown = max(shown, after)
        html.append(json_html(payloads[str(action["id"])], str(action["label"]), max_nodes=200))
    html += [wrap("".join(blocks[shown:]))] if shown < len(blocks) else []
    if sum(map(len, html)) > MAX_STATIC_BYTES:
        text = bounded(turn.reply.text, MAX_STATIC_BYTES // 6)
        html = [wrap(f"<pre>{escape(text)}</pre>")]
    words = status_words(turn.reply, source=str(view["source"]), session=session)
    words += [turn.reply.error] if turn.reply.error else []
    return "\n".join([message_html(turn.message), *html, status_html(words)])
