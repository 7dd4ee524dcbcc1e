"""Replies side by side, as one output: a column for each, with its name, text, actions and status line.

Where the page is narrow, or drops styles, they stand one below the other. All of it is published
again with each frame, so its size is limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .blocks import wrap
from .bundles import MAX_TREES, labelled_payloads, status_html, status_text, timeline_bundle
from .formulas import NO_FORMULAS
from .json_tree import json_html
from .markdown import verbatim
from .text import bounded, one_line, terminal_text, writable
from .timeline import ShownAction, Timeline, sections
from .wording import counted

if TYPE_CHECKING:
    from ..reply import Reply

MAX_COLUMNS_BYTES = 2_000_000
"""All columns together: the Jupyter server drops a message above about 3 MB."""
_ROW = "display:flex;flex-wrap:wrap;column-gap:28px"
_COLUMN = (
    "flex:1 1 260px;min-width:0;max-width:100%;box-sizing:border-box;margin:8px 0;padding-top:6px;"
    "border-top:2px solid rgba(128,128,128,0.5);overflow-x:auto"
)
_NAME = "font-weight:bold;margin-bottom:6px;overflow-wrap:anywhere"


class Column:
    """One reply in its column.

    Args:
        name: its heading: untrusted text.
        images: see `Timeline`.
        max_bytes: a column that would be larger shows plain text, shortened.
    """

    def __init__(self, name: str, reply: Reply, *, images: bool, max_bytes: int) -> None:
        self.name, self.reply = name, reply
        self._max_bytes = max_bytes
        self._timeline = Timeline(reply, images=images)
        self._trees: dict[tuple[int, int], str] = {}
        self._bundle: dict[str, Any] | None = None

    def frame(self) -> str:
        """The column as HTML, up to what has been received."""
        timeline = self._timeline
        timeline.read()
        parts: list[str] = []
        for section in sections(timeline.items, timeline.text.open_begin):
            if section.blocks:
                parts.append(wrap("".join(block.html for block in section.blocks)))
            parts += [self._tree(section.actions)] if section.actions else []
        if timeline.text.open_html:
            parts.append(wrap(timeline.text.open_html))
        return self._html(parts or [status_html([f"{self.reply.state or 'ended'} …"])])

    def finished(self, words: Sequence[str]) -> dict[str, Any]:
        """The whole column as a bundle, with its status line and, below it, its error; made once."""
        if self._bundle is None:
            bundle = timeline_bundle(self._timeline, words)
            error = [self.reply.error] if self.reply.error else []
            text = [status_text([self.name]), bundle["text/plain"], *map(terminal_text, error)]
            plain = bounded("\n".join(text), self._max_bytes // 4)
            html = self._html([bundle["text/html"], *(status_html([line]) for line in error)], words)
            self._bundle = {"text/html": html, "text/plain": writable(plain)}
        return self._bundle

    def _tree(self, actions: list[ShownAction]) -> str:
        key = actions[0].number, actions[-1].number
        if key not in self._trees:
            labelled = labelled_payloads(actions, most=MAX_TREES)
            self._trees[key] = "".join(json_html(payload, label) for payload, label in labelled)
        return self._trees[key]

    def _html(self, parts: list[str], words: Sequence[str] = ()) -> str:
        html = "\n".join(parts)
        if len(html.encode("utf-8", "replace")) > self._max_bytes:
            text = verbatim(bounded(terminal_text(self.reply.text), self._max_bytes // 8))
            note = f"Shortened. The reply has {counted(len(self.reply.actions), 'action')}."
            html = wrap(text) + status_html([*words, note])
        return column_html(self.name, html)


def column_html(name: str, html: str) -> str:
    """A column with its heading, which is untrusted text."""
    heading = f'<div class="{NO_FORMULAS}" dir="auto" style="{_NAME}">{escape(one_line(name, 100))}</div>'
    return f'<div class="halo-column" style="{_COLUMN}">{heading}{html}</div>'


def columns_html(columns: Sequence[str]) -> str:
    """The HTML of columns in one row, or in several where the page is narrow."""
    return f'<div class="halo-columns" style="{_ROW}">{"".join(columns)}</div>'
