"""Markdown text that grows → safe HTML, block by block.

What is returned stays small enough to be shown: the Jupyter server drops a message above about
3 MB. A longer text is shown in part, with a note in between. Finished blocks are rendered once;
a frame reads only what follows them, at most `MAX_OPEN_CHARS`.

Nothing here displays, reads a clock or does I/O. When to paint is another module's matter.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from .formulas import NO_FORMULAS
from .markdown import Block, References, block_html, read_blocks, verbatim
from .text import hidden_note, plain, terminal_text, wire_size

MAX_HTML_BYTES = 1_500_000
"""The most that `ReplyRenderer.html` returns, as JSON-encoded UTF-8 in a message."""
MAX_OPEN_CHARS = 16_384
"""A block beyond this is cut, at a line where there is one, and goes on as a new block."""
MAX_RESOLVED_CHARS = 262_144
"""Up to this length `finish` renders anew when links were defined after their use."""
_MATH_START = re.compile(r"^[ \t>*+\-0-9.)]*(?:\$\$|\\\[)", re.MULTILINE)


def _is_too_dense(text: str) -> bool:
    """Whether `text` has far more lines than anything that people read."""
    lines = text.count("\n")
    return lines > 1_000 and lines * 6 > len(text)


def _line_starts(text: str) -> list[int]:
    """Where each line of `text` starts, and at the end the text's length."""
    starts = [0]
    while (end := text.find("\n", starts[-1])) >= 0:
        starts.append(end + 1)
    if starts[-1] < len(text):
        starts.append(len(text))
    return starts


def _source_of(block: Block, text: str, starts: list[int]) -> str:
    return text[starts[block.first_line] : starts[min(block.end_line, len(starts) - 1)]]


def _finishable(text: str, starts: list[int], blocks: list[Block]) -> int:
    """How many of the blocks nothing that may follow can change.

    A block is finished when another one starts after it, on a line that is whole: half a line,
    '#' or '2', may still go on the paragraph or the list before. Without a blank line between,
    what came last may yet be the start of a formula or of a link definition, so there the
    blocks have to be of kinds that begin or end by one line.
    """
    complete_lines = text.count("\n")
    for index in range(len(blocks) - 1, 0, -1):
        block, before = blocks[index], blocks[index - 1]
        line = block.first_line
        if line >= complete_lines:
            continue
        if not text[starts[line - 1] : starts[line]].strip():
            return index
        by_one_line = (
            block.kind
            in {"heading_open", "hr", "fence", "bullet_list_open", "ordered_list_open", "blockquote_open"}
            or before.kind in {"heading_open", "hr"}
            or (before.kind == "fence" and not before.is_open_fence)
        )
        if by_one_line and not _MATH_START.search(text, 0, starts[line]):
            return index
    return 0


def _continuation(blocks: list[Block], text: str, starts: list[int]) -> str:
    """The lines with which the rest of a block that was cut is read as more of the same."""
    last = blocks[-1] if blocks else None
    lines = 1 if last and last.is_open_fence else 2 if last and last.kind == "table_open" else 0
    if last is None or not lines:
        return ""
    opening = text[starts[last.first_line] : starts[last.first_line + lines]]
    return opening if len(opening) < 1_000 else ""


class ReplyRenderer:
    """Markdown text that grows → safe HTML, whole at any time.

    Top-level blocks that nothing to come can change are rendered once. What follows them, the
    open block, is rendered anew when asked for. Any chunking of a text gives the same
    `finish()` as long as no block had to be cut. For one thread at a time.

    Args:
        images: whether remote images are shown; else each becomes a link with its text.

    >>> reply = ReplyRenderer()
    >>> reply.append("Hello *wor")
    >>> reply.html()
    '<p>Hello *wor</p>\\n'
    >>> reply.append("ld*")
    >>> reply.finish()
    '<p>Hello <em>world</em></p>\\n'
    """

    def __init__(self, *, images: bool = False) -> None:
        self._images = images
        self._pieces: list[str] = []  # the whole text; each piece is clean already
        self._length = 0
        self._unread: list[str] = []  # pieces that came since the last look
        self._tail = ""  # the text after the last finished block
        self._taken = 0  # how many characters stand before it
        self._position = 0  # of what is being finished, in the whole text
        self._spans: list[tuple[int, int]] = []  # where each finished block stands there
        self._cuts: list[int] = []
        self._prefix = ""  # the opening line of a fence that was cut
        self._references: References = {}
        self._formulas = 0
        self._finished: list[str] = []
        self._sizes: list[int] = []  # of the finished blocks, as they are sent
        self._sources: list[int] = []  # the same in characters of the text
        self._size = 0
        self._open_references: References = {}
        self._open: tuple[str, list[Block], References] | None = None  # read, and not yet rendered
        self._open_html: str | None = ""

    def append(self, text: str) -> None:
        """Take the next piece of the text; cheap, nothing is rendered yet."""
        text = terminal_text(text)
        if text:
            self._pieces.append(text)
            self._unread.append(text)
            self._length += len(text)

    @property
    def length(self) -> int:
        """How many characters have come, without those that are never shown."""
        return self._length

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where each of `finished_blocks` begins and ends, by the count of `length`."""
        self._read()
        return self._spans

    def cut(self, *, must: bool = False) -> bool:
        """Finish what is open, so that the next character begins a new block; return whether it did.

        It does not where that would tear something apart: within a line, a fence, a table or a
        formula.

        Args:
            must: do so all the same, as at the end of the text.
        """
        self._read()
        if self._tail.strip():
            source, blocks, references = self._open or self._blocks_of(self._tail)
            if not must and (
                not source.endswith("\n")
                or not blocks
                or blocks[-1].is_open_fence
                or blocks[-1].kind == "table_open"
                or source.count("$$") % 2
                or source.count("\\[") != source.count("\\]")
            ):
                return False
            self._position = self._taken
            self._finish(blocks, source, _line_starts(source), references, len(source) + 1)
        self._taken += len(self._tail)
        self._tail = self._prefix = self._open_html = ""
        self._open = None
        self._open_references = {}
        self._cuts.append(self._length)
        return True

    def resolved(self) -> ReplyRenderer:
        """What `finished_blocks` should be after the last `cut`: with the links whose definition came late.

        The same renderer, or another with the same text cut at the same places.
        """
        if not self._references or self._length > MAX_RESOLVED_CHARS:
            return self
        return self._anew(self._references)

    @property
    def finished_blocks(self) -> list[str]:
        """The HTML of the blocks that will not change again; only ever grows."""
        self._read()
        return self._finished

    @property
    def open_block(self) -> str:
        """The HTML of what follows the finished blocks, as it stands now."""
        self._read()
        if self._open_html is None:
            self._open_html = self._render_open(finished=False)
        return self._open_html

    def html(self) -> str:
        """Return the safe HTML of all text so far; in part when above `MAX_HTML_BYTES`."""
        return self._assembled(self.open_block)

    def finish(self) -> str:
        """Return the whole, rendered as final.

        Links whose definition came late are resolved when the text is at most
        `MAX_RESOLVED_CHARS`. Changes nothing: `finished_blocks` stay, and text may still come.
        """
        self._read()
        last = self._render_open(finished=True)
        references = self._open_references | self._references
        if references and self._finished and self._length <= MAX_RESOLVED_CHARS:
            return self._rendered_anew(references)
        return self._assembled(last)

    def _rendered_anew(self, references: References) -> str:
        """Render the text with these link definitions known from the start."""
        again = self._anew(references)
        return again._assembled(again._render_open(finished=True))

    def _anew(self, references: References) -> ReplyRenderer:
        again = ReplyRenderer(images=self._images)
        again._references = dict(references)
        text = "".join(self._pieces)
        at = 0
        for cut in self._cuts:
            again.append(text[at:cut])
            again.cut(must=True)
            at = cut
        again.append(text[at:])
        again._read()
        return again

    def _read(self) -> None:
        """Read what came since the last look, and finish the blocks that can be finished."""
        if not self._unread:
            return
        self._tail += "".join(self._unread)
        self._unread.clear()
        self._open_html = None
        self._open = None
        at = 0
        while len(self._tail) - at > MAX_OPEN_CHARS:
            window = self._tail[at : at + MAX_OPEN_CHARS]
            half = MAX_OPEN_CHARS // 2
            end = window.rfind("\n", half) + 1 or window.rfind(" ", half) + 1 or MAX_OPEN_CHARS
            self._position = self._taken + at
            at += self._finish_blocks(window[:end], must=True)
        self._position = self._taken + at
        at += self._finish_blocks(self._tail[at:], must=False)
        self._tail = self._tail[at:]
        self._taken += at

    def _finish_blocks(self, text: str, *, must: bool) -> int:
        """Finish blocks at the start of `text`; return how many characters they took.

        Args:
            text: what follows the finished blocks, or the start of it.
            must: more text follows and is known, so that at least something has to go.
        """
        if _is_too_dense(text):
            cut = text.rfind("\n") + 1
            self._add(verbatim(text[:cut]), cut, (0, cut))
            self._prefix = ""
            if must:
                return cut
            self._position += cut
            return cut + self._finish_blocks(text[cut:], must=False)
        source, blocks, references = self._blocks_of(text)
        starts = _line_starts(source)
        count = _finishable(source, starts, blocks)
        if not count:
            if not must:
                self._open = source, blocks, references
                return 0
            if len(blocks) < 2:
                self._finish(blocks, source, starts, references, len(starts))
                self._prefix = _continuation(blocks, source, starts)
                return len(text)
            count = len(blocks) - 1
        end_line = blocks[count].first_line
        self._finish(blocks[:count], source, starts, references, end_line)
        taken = starts[end_line] - len(self._prefix)
        self._prefix = ""
        return taken

    def _blocks_of(self, text: str) -> tuple[str, list[Block], References]:
        source = self._prefix + text
        references = dict(self._references)
        return source, read_blocks(source, references), references

    def _finish(
        self, blocks: list[Block], source: str, starts: list[int], references: References, end_line: int
    ) -> None:
        for label, reference in references.items():
            if label not in self._references and reference["map"][1] <= end_line:
                self._references[label] = reference
        env: dict[str, Any] = {"references": self._references, "finished": True, "formulas": self._formulas}
        for block in blocks:
            part = _source_of(block, source, starts)
            begin = starts[block.first_line] - len(self._prefix)
            span = (max(begin, 0), begin + len(part))
            self._add(block_html(block, part, env, images=self._images), len(part), span)
        self._formulas = env["formulas"]

    def _add(self, html: str, source_chars: int, span: tuple[int, int]) -> None:
        """Take in a finished block, which stands at `span` from `_position` on."""
        self._spans.append((self._position + span[0], self._position + span[1]))
        size = wire_size(html)
        self._finished.append(html)
        self._sizes.append(size)
        self._sources.append(source_chars)
        self._size += size

    def _render_open(self, *, finished: bool) -> str:
        # Once only: tokens are changed when they are rendered.
        source, blocks, references = self._open or self._blocks_of(self._tail)
        self._open = None
        self._open_references = {
            label: references[label] for label in references if label not in self._references
        }
        starts = _line_starts(source)
        env: dict[str, Any] = {"references": references, "finished": finished, "formulas": self._formulas}
        return "".join(
            block_html(block, _source_of(block, source, starts), env, images=self._images) for block in blocks
        )

    def _assembled(self, last: str) -> str:
        """Join the finished blocks and the `last`; the beginning and the end if that is too much."""
        last_size = wire_size(last)
        if self._size + last_size <= MAX_HTML_BYTES:
            return "".join(self._finished) + last
        part = MAX_HTML_BYTES // 2 - 10_000
        head = 0
        size = 0
        while head < len(self._sizes) and size + self._sizes[head] <= part:
            size += self._sizes[head]
            head += 1
        tail = len(self._sizes)
        size = last_size
        while tail > head and size + self._sizes[tail - 1] <= part:
            tail -= 1
            size += self._sizes[tail]
        hidden = sum(self._sources[head:tail])
        words = escape(hidden_note(hidden)).replace("`_halo.text`", "<code>_halo.text</code>")
        note = f"<p><em>{words}</em></p>\n"
        return "".join(self._finished[:head]) + note + "".join(self._finished[tail:]) + last


def markdown_to_html(text: str, *, images: bool = False) -> str:
    r"""Return the safe HTML of a whole text, as `ReplyRenderer.finish` would.

    >>> markdown_to_html("from $5 to $10, <b>not</b> [here](javascript:alert)")
    '<p>from $5 to $10, &lt;b&gt;not&lt;/b&gt; [here](javascript:alert)</p>\n'
    """
    renderer = ReplyRenderer(images=images)
    renderer.append(text)
    return renderer.finish()


MAX_RENDERED_CHARS = 300_000
MAX_TAIL_CHARS = 2_000


class ShownText:
    """As much of a text that grows as a page can show: the beginning rendered, and of the rest the end.

    Beyond `MAX_RENDERED_CHARS` only the last `MAX_TAIL_CHARS` are kept: no page could show more,
    and an interrupt must not wait for it to be rendered.

    Args:
        images: whether remote images are shown; else they are links.
    """

    def __init__(self, *, images: bool = False) -> None:
        self.renderer = ReplyRenderer(images=images)
        self.length = 0
        """How many characters have come, shown or not."""
        self._tail = ""

    def append(self, text: str) -> None:
        """Take the next piece of the text."""
        room = max(0, MAX_RENDERED_CHARS - self.length)
        self.renderer.append(text[:room])
        if len(text) > room:
            self._tail = (self._tail + text[room:])[-MAX_TAIL_CHARS:]
        self.length += len(text)

    def end_html(self) -> str:
        """What stands below the part that is rendered: a note, and the end of the text; mostly nothing."""
        if not self._tail:
            return ""
        note = self._note()
        return (f"<p><em>{escape(note)}</em></p>\n" if note else "") + markdown_to_html(self._tail)

    def shown(self, text: str) -> str:
        """The plain text of `text`, the whole as it came, cut at the same places."""
        if self._tail:
            text = f"{text[:MAX_RENDERED_CHARS]}\n{self._note()}\n{self._tail}"
        return plain(text)

    def _note(self) -> str:
        left_out = self.length - MAX_RENDERED_CHARS - len(self._tail)
        return f"… {left_out:,} characters are not shown here; _halo.text holds the whole" if left_out else ""


def wrap(html: str) -> str:
    """Return a reply's `html` in the element that every front end shows it in.

    Its classes keep MathJax from taking prices for formulas: the first is for version 3 and
    later (JupyterLab), the second for version 2 (nbconvert's export).
    """
    return f'<div class="halo-reply {NO_FORMULAS}" dir="auto">{html}</div>'
