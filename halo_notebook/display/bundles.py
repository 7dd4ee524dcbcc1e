"""What goes into a cell: text, actions and status lines as MIME bundles.

Each bundle has `text/html` that is safe in every front end, and `text/plain` for terminals; an action adds
`application/json` for a front end that shows it as its own tree, such as JupyterLab. Styles are inline and
plain, and colours are those of the page: a notebook reads well in light and dark themes, and when it is
reopened untrusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .blocks import wrap
from .formulas import NO_FORMULAS
from .json_tree import json_display, json_html, json_text, payload_label
from .text import bounded, one_line, plain, terminal_text, writable
from .timeline import ShownAction, Timeline, sections

if TYPE_CHECKING:
    from ..reply import Reply
    from ..stream import JSON

MAX_TREES = 50
"""More actions in a row than this are shown as one tree."""
MAX_TREES_BYTES = 500_000
"""Beyond this a reply's further actions are counted, so that the whole fits a message."""

_LINE = "font-size:0.9em;margin:8px 0"
_QUIET = "opacity:0.75"
_BADGE = "border:1px solid;border-radius:3px;padding:0 5px;font-weight:bold"
_BADGES = {
    # White on these has enough contrast, and they stand out from a light and a dark page.
    "stopped": f"{_BADGE};color:#ffffff;background-color:#8a5a00;border-color:#8a5a00",
    "failed": f"{_BADGE};color:#ffffff;background-color:#b3261e;border-color:#b3261e",
}
"""Words of a status line that the reader must not miss."""
_SOURCES = ("demo agent", "replay of ")
"""What it begins with if someone other than Halo answered. An id or a name from a server cannot begin like
this, because each has a word of ours before it."""


def status_html(words: Sequence[str]) -> str:
    """A faint line; words that must not be missed are framed."""
    shown = " · ".join(f'<span style="{_word_style(word)}">{escape(one_line(word))}</span>' for word in words)
    return f'<div class="halo-status {NO_FORMULAS}" style="{_LINE}">{shown}</div>'


def _word_style(word: str) -> str:
    return _BADGES.get(word, _BADGE if word.startswith(_SOURCES) else _QUIET)


def status_bundle(words: Sequence[str]) -> dict[str, Any]:
    """A status line as an output."""
    return {"text/html": status_html(words), "text/plain": status_text(words)}


def status_text(words: Sequence[str]) -> str:
    """A status line for a terminal."""
    return f"[{' · '.join(one_line(word) for word in words)}]"


def json_bundle(payload: JSON, label: str, *, as_json: bool = True) -> dict[str, Any]:
    """A payload as nested HTML, as text, and `as_json` for a front end that has a tree of its own."""
    return {
        **({"application/json": json_display(payload)} if as_json else {}),
        "text/html": json_html(payload, label),
        "text/plain": action_text(payload, label),
    }


def action_text(payload: JSON, label: str) -> str:
    """A payload for a terminal: its label, then indented JSON."""
    return f"[{one_line(label)}]\n{json_text(payload)}"


def reply_bundle(reply: Reply, words: Sequence[str]) -> dict[str, Any]:
    """A whole reply as one output: its text, each action as a tree where it arrived, its status line."""
    return timeline_bundle(Timeline(reply), words)


def timeline_bundle(timeline: Timeline, words: Sequence[str]) -> dict[str, Any]:
    """As `reply_bundle`, for a reply that has ended, with the timeline that has followed it."""
    timeline.end()
    html: list[str] = []
    lines: list[str] = []
    trees_bytes = shown = begin = 0
    for section in sections(timeline.resolved(), timeline.text.length):
        if section.blocks:
            html.append(wrap("".join(block.html for block in section.blocks)))
            lines.append(plain(timeline.text.text[begin : section.end]).strip("\n"))
            begin = section.end
        for payload, label in labelled_payloads(section.actions, most=MAX_TREES):
            tree, tree_text = json_html(payload, label), action_text(payload, label)
            trees_bytes += len(tree) + len(tree_text)
            if not shown or trees_bytes <= MAX_TREES_BYTES:
                html.append(tree)
                lines.append(tree_text)
                shown += len(section.actions) if len(section.actions) > MAX_TREES else 1
    if rest := len(timeline.reply.actions) - shown:
        note = f"{rest:,} more actions are in the reply's .actions"
        html.append(status_html([note]))
        lines.append(note)
    return {
        "text/html": "\n".join([*html, status_html(words)]),
        "text/plain": writable("\n\n".join([*lines, status_text(words)])),
    }


def labelled_payloads(actions: Sequence[ShownAction], *, most: int) -> list[tuple[JSON, str]]:
    """The payload of each action with its label; more than `most` become one list."""
    if len(actions) > most:
        payloads: JSON = [action.payload for action in actions]
        return [(payloads, f"actions {actions[0].number}–{actions[-1].number}")]
    return [(action.payload, payload_label(action.payload, action.number)) for action in actions]


def message_html(message: str) -> str:
    """A user's message as plain text that stands out."""
    style = (
        "white-space:pre-wrap;font-weight:bold;margin:16px 0 8px;padding-left:10px;"
        "border-left:3px solid rgba(128,128,128,0.5)"
    )
    asked = escape(shown_message(message))
    return f'<div class="halo-message {NO_FORMULAS}" dir="auto" style="{style}">{asked}</div>'


def shown_message(message: str) -> str:
    """A user's message, shortened to what is shown."""
    return bounded(terminal_text(message), 50_000)


def turn_bundle(message: str, reply: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as one output: the message as plain text, above the bundle of its reply."""
    return {
        "text/html": f"{message_html(message)}\n{reply['text/html']}",
        "text/plain": writable(f"> {shown_message(message)}\n\n{reply['text/plain']}"),
    }
