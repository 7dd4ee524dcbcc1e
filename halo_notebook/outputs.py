"""What goes into a cell: text, actions and status lines as MIME bundles.

Each bundle holds `text/html` that is safe in every front end, with `text/plain` beside it for
terminals; an action adds `application/json`, which JupyterLab shows as its own tree. Styles
are inline, few and plain, and colours are the page's own: so a notebook reads well in light
and dark, and when it is reopened untrusted or shown where style elements are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .render import (
    json_display,
    json_html,
    json_text,
    markdown_to_html,
    one_line,
    payload_label,
    plain,
    terminal_text,
    wrap,
)

if TYPE_CHECKING:
    from .stream import JSON

_QUIET = "font-size: 0.9em; opacity: 0.75"
_BADGE = "border: 1px solid; border-radius: 3px; padding: 0 0.35em; font-weight: 600"
_LOUD = frozenset({"demo agent", "stopped", "failed"})
"""What a status line says of a reply that the reader must not miss."""


def status_html(words: Sequence[str]) -> str:
    """A quiet line; what must not be missed in it is framed."""
    shown = " · ".join(
        f'<span style="{_BADGE}">{word}</span>' if word in _LOUD else escape(one_line(word, 200))
        for word in words
    )
    return f'<div class="halo-status mathjax_ignore tex2jax_ignore" style="{_QUIET}">{shown}</div>'


def status_bundle(words: Sequence[str]) -> dict[str, Any]:
    """A status line as an output."""
    return {"text/html": status_html(words), "text/plain": terminal_text(" · ".join(words))}


def json_bundle(payload: JSON, label: str) -> dict[str, Any]:
    """A payload as a tree: the front end's own, nested HTML, or indented text."""
    return {
        "application/json": json_display(payload),
        "text/html": json_html(payload, label),
        "text/plain": f"{terminal_text(label)}\n{json_text(payload)}",
    }


def reply_bundle(text: str, actions: Sequence[JSON], words: Sequence[str]) -> dict[str, Any]:
    """A whole reply as one output: its text, each action as a tree, its status line."""
    labels = [payload_label(payload, number) for number, payload in enumerate(actions, 1)]
    shown = labels[:_MAX_TREES]
    html = [wrap(markdown_to_html(text))] if text else []
    html += [json_html(payload, label) for payload, label in zip(actions, shown, strict=False)]
    lines = [plain(text)] if text else []
    lines += [f"[{label}]\n{json_text(payload)}" for payload, label in zip(actions, shown, strict=False)]
    if len(labels) > len(shown):
        rest = [f"{len(labels) - len(shown):,} more actions are in .actions"]
        html.append(status_html(rest))
        lines += rest
    return {
        "text/html": "\n".join([*html, status_html(words)]),
        "text/plain": "\n".join([*lines, f"[{terminal_text(' · '.join(words))}]"]),
    }


_MAX_TREES = 50


def turn_bundle(message: str, reply: dict[str, Any]) -> dict[str, Any]:
    """A turn as one output: the message as it was typed, then the bundle of its reply."""
    asked = f'<div style="white-space: pre-wrap; font-weight: 600">{escape(plain(message))}</div>'
    return {
        "text/html": f"{status_html(['you'])}\n{wrap(asked)}\n{reply['text/html']}",
        "text/plain": f"> {plain(message)}\n\n{reply['text/plain']}",
    }
