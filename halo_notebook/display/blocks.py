"""Markdown text that grows → safe HTML, block by block.

A block is finished when no further text can change it: it is rendered once and stays as it is. The text
after the finished blocks is the open block; a frame parses only that, at most `MAX_OPEN_CHARS`. Of a text
that is too long to be shown, the blocks contain the beginning, a note, and the end.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from html import escape
from typing import Any

from .formulas import NO_FORMULAS
from .growing_markdown import shown_length
from .highlight import Highlighter
from .links import DataCut
from .markdown import (
    BLANK_LINES,
    Block,
    Links,
    Parsed,
    References,
    as_source,
    block_html,
    read_blocks,
    verbatim,
)
from .text import PlainPieces, hidden_note, wire_size
from .work_limit import MAX_BLOCK_STEPS, MAX_REPLY_STEPS, MAX_RESOLVED_STEPS, Work

MAX_SHOWN_CHARS = 262_144
"""Of a longer text only the beginning and the end are rendered: no page could show more."""
MAX_SHOWN_BYTES = 800_000
"""The same for the HTML, as JSON-encoded UTF-8: the Jupyter server drops a message above about 3 MB."""
MAX_END_CHARS = 2_000
MAX_OPEN_CHARS = 16_384
"""A block beyond this is cut, at a line where there is one, and continues as a new block."""
_FORMULA_START = re.compile(r"^[ \t>*+\-0-9.)]*(?:\$\$|\\\[|\\begin)", re.MULTILINE)
_ENDED_BY_A_BLANK_LINE = {"paragraph_open", "table_open", "blockquote_open", "math_block", "definitions"}
_ENDED_BY_THEIR_LINE = {"heading_open", "hr"}
_BEGUN_BY_THEIR_LINE = {
    *("heading_open", "hr", "fence", "bullet_list_open", "ordered_list_open", "blockquote_open"),
}


@dataclass(frozen=True, slots=True)
class FinishedBlock:
    """A block of text that will not change: safe HTML, and where it begins in `BlockRenderer.text`."""

    html: str
    begin: int


@dataclass(frozen=True, slots=True)
class _Late:
    """The `number`th block, if it may have to be rendered again at the end."""

    number: int
    block: Block
    env: dict[str, Any]
    labels: set[str]  # of links without a definition so far, and of definitions without a link
    hidden: set[str]  # of definitions that links before it use


def _ends_with_its_line(block: Block) -> bool:
    return block.kind in _ENDED_BY_THEIR_LINE or (block.kind == "fence" and not block.is_open_fence)


def _is_after_blank_line(text: str, at: int) -> bool:
    return at > 0 and not text[text.rfind("\n", 0, at - 1) + 1 : at].strip(" \t\n")


def _finished_count(text: str, blocks: list[Block]) -> int:
    """How many of the blocks no further text can change.

    A block is finished when a blank line or its own last line ends it, or when the next block starts on a
    complete line: half a line, '#' or '2', may still continue the block before. Without a blank line between
    them, the blocks have to be of kinds that begin or end with one line: the text before may be the start of
    a formula or of a link definition.
    """
    formula = found.start() if (found := _FORMULA_START.search(text)) else len(text)
    if blocks and text.endswith("\n"):
        last = blocks[-1]
        by_one_line = _ends_with_its_line(last) and last.begin + len(last.source) == len(text)
        if _is_after_blank_line(text, len(text)):
            if last.kind in _ENDED_BY_A_BLANK_LINE or _ends_with_its_line(last):
                return len(blocks)
        elif by_one_line and formula == len(text):
            return len(blocks)
    for index in range(len(blocks) - 1, 0, -1):
        block, before = blocks[index], blocks[index - 1]
        is_complete = text.find("\n", block.begin) >= 0
        if _is_after_blank_line(text, block.begin) and (is_complete or before.kind in _ENDED_BY_A_BLANK_LINE):
            return index
        by_one_line = _ends_with_its_line(before) or (is_complete and block.kind in _BEGUN_BY_THEIR_LINE)
        if by_one_line and formula >= block.begin:
            return index
    return 0


def _continuation(block: Block) -> str:
    """The lines to put before the rest of a block that was cut, so that it continues as the same kind."""
    lines = 1 if block.is_open_fence else 2 if block.kind == "table_open" else 0
    opening = "".join(f"{line}\n" for line in block.source.split("\n")[:lines])
    return opening if len(opening) < 1_000 else ""


class BlockRenderer:
    """Markdown text that grows → finished blocks of safe HTML, and the open one.

    The blocks do not depend on how the text is divided into pieces, as long as no block had to be cut. For
    one thread at a time. Unless `images`, a remote image becomes a link. `before` has read the same text, so
    all link definitions are known from the start, and so is which of them are used.

    >>> text = BlockRenderer()
    >>> text.append("# Hello\\nHello *wor")
    >>> [block.html for block in text.finished], text.open_html
    (['<h1>Hello</h1>\\n'], '<p>Hello wor</p>\\n')
    >>> text.append("ld*")
    >>> text.end()
    >>> text.finished[1].html, text.open_html
    ('<p>Hello <em>world</em></p>\\n', '')
    """

    def __init__(self, *, images: bool = False) -> None:
        self.length = 0
        """How many characters have been received, without those that are never shown."""
        self._images = images
        self._references: References = {}
        self._asked: set[str] = set()  # the labels that links name
        self._late: list[_Late] = []
        self._plain = PlainPieces()
        self._cut = DataCut()
        self._pieces: list[str] = []  # the whole text, without control characters
        self._unread: list[str] = []  # the pieces since the last `_read`
        self._tail = ""  # the text after the finished blocks
        self._taken = 0  # how many characters are before it
        self._prefix = ""  # the opening line of a fence that was cut
        self._steps_left = MAX_REPLY_STEPS
        # How many formulas the finished blocks have, and whether a letter that runs to the left.
        self._state: dict[str, Any] = {"formulas": 0, "has_rtl": False}
        self._highlighter = Highlighter()
        self._finished: list[FinishedBlock] = []
        self._size = 0  # of their HTML in a message
        self._full_at: int | None = None  # from there only the end of the text is shown
        self._open: Parsed | None = None  # not yet rendered
        self._open_html: str | None = ""

    def append(self, text: str) -> None:
        """Add the next piece of the text; nothing is rendered yet."""
        text = self._cut(self._plain(text))
        if text:
            self._pieces.append(text)
            self._unread.append(text)
            self.length += len(text)

    @property
    def text(self) -> str:
        """The text so far, without the characters that are never shown."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def finished(self) -> list[FinishedBlock]:
        """The blocks that will not change; the list only grows."""
        self._read()
        return self._finished

    @property
    def open_begin(self) -> int:
        """Where the open block begins in the text; the length of the text if nothing is open."""
        self._read()
        if self._full_at is not None:
            return self._full_at
        return self.length - len(BLANK_LINES.sub("", self._tail, count=1))

    @property
    def open_html(self) -> str:
        """The HTML of the open block as it is now."""
        self._read()
        if self._open_html is None:
            self._open_html = self._render_open() if self._full_at is None else self._render_end()
        return self._open_html

    def end(self) -> None:
        """Finish the open block. No text may follow."""
        self._read()
        while self._tail.strip() and self._full_at is None:
            parsed = self._open or self._parse(self._tail)
            self._open = None
            self._tail = self._tail[self._finish(parsed, len(parsed.blocks)) :]
        if self._full_at is not None:
            self._finished.append(FinishedBlock(self._render_end(), self._full_at))
        self._tail, self._open_html, self._full_at = "", "", None

    def resolved(self) -> list[str]:
        """The HTML of the finished blocks after the end.

        Links are in it that were defined after their use, and no definition that was used later.
        """
        htmls = [block.html for block in self._finished]
        work = Work(MAX_RESOLVED_STEPS)
        used = set(self._asked)
        for late in self._late:
            is_unused = not late.hidden <= used
            if is_unused or any(label in self._references and label in used for label in late.labels):
                env = late.env | {"references": Links(self._references, used), "work": work}
                if is_unused:
                    env["work"] = Work(MAX_BLOCK_STEPS)  # its address must not be lost
                if (html := block_html(late.block, env, images=self._images)) is None:
                    used -= late.labels  # its links stay text, so the definitions after it have to be shown
                else:
                    htmls[late.number] = html
        return htmls

    def _read(self) -> None:
        """Parse the new text, and finish the blocks that can be finished."""
        if not self._unread:
            return
        text = self._tail + "".join(self._unread)
        self._unread.clear()
        self._open = self._open_html = None
        at = 0
        while at < len(text) and self._full_at is None:
            must = len(text) - at > MAX_OPEN_CHARS
            window = text[at : at + MAX_OPEN_CHARS]
            if must:
                half = MAX_OPEN_CHARS // 2
                end = window.rfind("\n", half) + 1 or window.rfind(" ", half) + 1 or MAX_OPEN_CHARS
                window = window[:end]
            taken = self._finish_blocks(window, must=must)
            if not taken:
                break
            at += taken
        self._tail = text[at:] if self._full_at is None else ""

    def _finish_blocks(self, text: str, *, must: bool) -> int:
        """Finish blocks at the start of `text`, and return how many characters they took.

        If it `must` be, at least one block is taken, cut if necessary: more text is known.
        """
        parsed = self._parse(text)
        blocks = parsed.blocks
        is_cut = len(parsed.source) < len(self._prefix) + len(text)
        count = _finished_count(parsed.source, blocks)
        if not (count or must or is_cut):
            self._open = parsed
            return 0
        prefix = ""
        if is_cut or not count:
            if blocks and (is_cut or len(blocks) == 1) and count < len(blocks):
                prefix = _continuation(blocks[-1])
            count = len(blocks) if is_cut else max(1, len(blocks) - 1)
        taken = self._finish(parsed, count)
        self._prefix = prefix if taken == len(parsed.source) - len(self._prefix) else ""
        return taken

    def _parse(self, text: str) -> Parsed:
        if self._steps_left <= 0:
            return Parsed(text, [as_source(text)] if text.strip() else [], self._references)
        return read_blocks(self._prefix + text, self._references)

    def _finish(self, parsed: Parsed, count: int) -> int:
        """Render the first `count` blocks for the last time, and return how many characters they took.

        It ends early if there has been too much work.
        """
        blocks = parsed.blocks
        end_line = blocks[count].first_line if count < len(blocks) else math.inf
        for label, reference in parsed.references.items():
            if label not in self._references and reference["map"][1] <= end_line:
                self._references[label] = reference
        for number, block in enumerate(blocks[:count], 1):
            self._add(self._final_html(block), self._taken + max(block.begin - len(self._prefix), 0))
            if self._steps_left <= 0 or self._full_at is not None:
                count = number
                break
        end = blocks[count].begin if count < len(blocks) else len(parsed.source)
        taken = end - len(self._prefix)
        self._taken += taken
        return taken

    def _final_html(self, block: Block) -> str:
        before = self._state | {"highlighter": self._highlighter}
        links = Links(self._references, self._asked)
        work = Work(min(MAX_BLOCK_STEPS, self._steps_left))
        env = before | {"references": links, "work": work}
        html = block_html(block, env, images=self._images)
        self._steps_left -= work.done
        if html is None:
            return verbatim(block.source)
        self._state = {name: env[name] for name in self._state}
        self._asked |= links.asked
        hidden = self._asked.intersection(block.defined)
        late = (links.asked - self._references.keys()).union(block.defined) - hidden
        if late or hidden:
            self._late.append(_Late(len(self._finished), block, before, late, hidden))
        return html

    def _add(self, html: str, begin: int) -> None:
        self._size += wire_size(html)
        if self._full_at is None and (begin >= MAX_SHOWN_CHARS or self._size > MAX_SHOWN_BYTES):
            self._full_at = begin
        if self._full_at is None:
            self._finished.append(FinishedBlock(html, begin))
        elif self._late and self._late[-1].number == len(self._finished):
            self._late.pop()  # of this block

    def _render_open(self) -> str:
        # Only once: rendering changes the tokens.
        parsed, self._open = self._open or self._parse(self._tail), None
        shown = shown_length(self._tail, parsed.blocks[-1].tokens if parsed.blocks else ())
        if shown < len(self._tail):
            parsed = self._parse(self._tail[:shown])
        env = self._state | {
            "references": Links(parsed.references, self._asked),
            "work": Work(min(MAX_BLOCK_STEPS, self._steps_left)),
        }
        html = ""
        for block in parsed.blocks:
            is_last = block is parsed.blocks[-1]
            shown_html = block_html(block, env, images=self._images, is_growing=is_last)
            html += verbatim(block.source) if shown_html is None else shown_html
        return html

    def _render_end(self) -> str:
        """The end of a text that is too long, after a note on what is left out."""
        end = self.text[max(self._full_at or 0, self.length - MAX_END_CHARS) :]
        hidden = self.length - len(end) - (self._full_at or 0)
        words = escape(hidden_note(hidden)).replace("`reply.text`", "<code>reply.text</code>")
        return (f"<p><em>{words}</em></p>\n" if hidden else "") + markdown_to_html(end)


def markdown_to_html(text: str, *, images: bool = False) -> str:
    r"""Return the safe HTML of a whole text; if it is too long, of its beginning and its end.

    >>> markdown_to_html("from $5 to $10, <b>not</b> [here](javascript:alert)")
    '<p>from $5 to $10, &lt;b&gt;not&lt;/b&gt; [here](javascript:alert)</p>\n'
    """
    renderer = BlockRenderer(images=images)
    renderer.append(text)
    renderer.end()
    return "".join(renderer.resolved())


def wrap(html: str, style: str = "") -> str:
    """Return a reply's `html` in the element that every front end shows it in.

    Its classes keep MathJax from taking prices for formulas: the first is for version 3 and
    later (JupyterLab), the second for version 2 (nbconvert's export).
    """
    # A long word or code in a line would be wider than a narrow column, for instance in VS Code.
    style = "overflow-wrap:break-word" + (f";{style}" if style else "")
    return f'<div class="halo-reply {NO_FORMULAS}" dir="auto" style="{style}">{html}</div>'
