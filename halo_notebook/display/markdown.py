r"""One block of untrusted Markdown → safe HTML.

Anyone who can write into what an agent reads can write into a reply, and a front end runs the scripts in the
HTML of a cell that was just run. What is guaranteed for any input:

- Only the tags, attributes, classes, styles and URL schemes listed in `CLEANER_SETTINGS` come out.
  Markdown is parsed with raw HTML off, and the result still goes through a sanitiser. The author
  of the text cannot choose a class or a style.
- A link goes to http, https or mailto; otherwise its source is shown as text. A remote image is
  a link unless images are allowed: its address can carry data out.
- No control character and no character that reorders text comes out, escaped in the source or not.
- The HTML of one block is bounded, and so is the work for it: see `work`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias
from unicodedata import bidirectional

import nh3
from markdown_it import MarkdownIt
from markdown_it.parser_block import ParserBlock
from markdown_it.parser_inline import ParserInline
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.fence import fence as _fence_rule
from markdown_it.rules_block.reference import reference as _reference_rule
from markdown_it.rules_block.table import table as _table_rule
from markdown_it.rules_core import StateCore
from markdown_it.rules_core.text_join import text_join
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Scanned
from markdown_it.token import Token

from . import work_limit
from .formulas import MAX_FORMULAS, is_ordinary_tex, line_of, math_block, math_inline
from .growing_markdown import last_with_text, open_code, open_emphasis, open_link
from .links import is_data, is_safe, linked, short_data, text_with_links, without_svg
from .text import bounded, terminal_text, wire_size
from .work_limit import TooMuchWorkError, Work
from .writing_systems import joins_words

if TYPE_CHECKING:
    from markdown_it.utils import EnvType, OptionsDict

MAX_BLOCK_BYTES = 400_000
References: TypeAlias = dict[str, Any]

CLEANER_SETTINGS: Final[dict[str, Any]] = {
    "tags": {
        "a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
        "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
    },
    "attributes": {
        **{tag: {"dir"} for tag in ("blockquote", "code", "li", "p", "table")},
        **{tag: {"dir"} for tag in ("h1", "h2", "h3", "h4", "h5", "h6")},
        "a": {"href"}, "ol": {"dir", "start", "style"}, "pre": {"dir", "style"}, "span": {"style"},
        "td": {"dir", "style"}, "th": {"dir", "style"}, "ul": {"dir", "style"},
    },
    "allowed_classes": {"span": {"mathjax_process", "tex2jax_process"}},
    "filter_style_properties": {
        "border", "border-radius", "color", "font-style", "margin", "opacity", "overflow-x", "padding",
        "text-align",
    },
    "generic_attribute_prefixes": set(),
    "set_tag_attribute_values": {"a": {"target": "_blank"}},
    "url_schemes": {"http", "https", "mailto"},
    "url_relative": "deny",
    "link_rel": "noopener noreferrer",
}  # fmt: skip
CLEANER = nh3.Cleaner(**CLEANER_SETTINGS)
_IMAGES = {
    "tags": CLEANER_SETTINGS["tags"] | {"img"},
    "attributes": CLEANER_SETTINGS["attributes"] | {"img": {"src", "alt"}},
    "set_tag_attribute_values": CLEANER_SETTINGS["set_tag_attribute_values"]
    | {"img": {"referrerpolicy": "no-referrer", "loading": "lazy"}},
}
_CLEANER_WITH_IMAGES = nh3.Cleaner(**(CLEANER_SETTINGS | _IMAGES))

_TASK = re.compile(r"\[([ xX])\][ \t]+(?=\S)")
_MARK = re.compile(f"[{re.escape(''.join(work_limit.MARKS))}]")
_NORMAL_URL = re.compile(
    r"https?://(?:[a-z0-9-]{1,63}\.){0,3}[a-z0-9-]{1,63}(?::[0-9]{1,5})?(?:[/?#][\w/.,;:@=&?#+~-]*)?",
    re.ASCII,
)
_DELIMITER_ROW = re.compile(r"[\s:|-]+")

MAX_TABLE_COLUMNS = 100
_MAX_NESTING = 20


class _Markdown(MarkdownIt):
    """CommonMark with tables, strikethrough and formulas, and without raw HTML.

    A line end within a paragraph is a line break, as in most chats.
    """

    def __init__(self) -> None:
        super().__init__(renderer_cls=_HtmlRenderer)
        self.block = _Blocks()
        self.inline = _Inline()
        self.inline.terminator_re = _MARK  # by default also characters that have no rule here
        self.configure("commonmark", {"html": False, "breaks": True, "maxNesting": _MAX_NESTING})
        self.enable(["table", "strikethrough"])
        self.disable(["html_block", "html_inline"])
        self.block.ruler.at("fence", _fence, {"alt": ["paragraph", "reference", "blockquote", "list"]})
        self.block.ruler.at("reference", _definitions)
        self.block.ruler.at("table", _bounded_table, {"alt": ["paragraph", "reference"]})
        self.block.ruler.before(
            "fence", "math_block", math_block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
        )
        self.inline.ruler.before("escape", "math_inline", math_inline)
        self.inline.ruler.before("backticks", "open_code", open_code)
        self.inline.ruler.after("image", "open_link", open_link)
        self.inline.ruler.before("autolink", "line_break", _line_break)
        self.inline.ruler2.after("emphasis", "open_emphasis", open_emphasis)

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        return is_safe(url) or is_data(url)

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the library's name
        return url if _NORMAL_URL.fullmatch(url) else super().normalizeLink(url).replace("'", "%27")

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802 - the library's name
        # Unchanged: decoded, a punycode host could look like another one.
        return link


class _Blocks(ParserBlock):
    def parse(self, src: str, md: MarkdownIt, env: EnvType, outTokens: list[Token]) -> list[Token]:  # noqa: N803
        state = _BlockState(src, md, env, outTokens)
        self.tokenize(state, state.line, state.lineMax)
        return state.tokens


class _BlockState(StateBlock):
    def push(self, ttype: str, tag: str, nesting: Literal[-1, 0, 1]) -> Token:
        self.env["work"].add(work_limit.TOKEN if self.level else work_limit.BLOCK)
        return super().push(ttype, tag, nesting)


class _Inline(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        env["work"].add(sum(map(work_limit.MARKS.__getitem__, _MARK.findall(src))))
        state = _InlineState(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens

    def skipToken(self, state: StateInline) -> None:  # noqa: N802 - the library's name
        # The end of a link's label is found by skipping all tokens up to it, again for each bracket.
        state.env["work"].add(work_limit.SKIPPED)
        super().skipToken(state)


class _InlineState(StateInline):
    def push(self, ttype: str, tag: str, nesting: Literal[-1, 0, 1]) -> Token:
        self.env["work"].add(work_limit.TOKEN)
        return super().push(ttype, tag, nesting)

    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:  # noqa: N802, N803 - the library's names
        # CommonMark tells the two ends of emphasis apart by the blanks and punctuation beside them. Beside a
        # script without blanks, both ends are possible: **「重要」**です.
        scanned = super().scanDelims(start, canSplitWord)
        before = self.src[start - 1] if start else " "
        end = start + scanned.length
        after = self.src[end] if end < self.posMax else " "
        if self.src[start] == "_" or not (joins_words(before) or joins_words(after)):
            return scanned
        return Scanned(
            scanned.can_open or not after.isspace(), scanned.can_close or not before.isspace(), scanned.length
        )


_LINE_BREAK = re.compile(r"<br\s*/?>[ \t]*\n?[ \t]*", re.IGNORECASE)


def _line_break(state: StateInline, silent: bool) -> bool:
    """Parse <br>, the only way to break a line in a table."""
    found = _LINE_BREAK.match(state.src, state.pos, state.posMax)
    if found:
        if not silent:
            state.push("hardbreak", "br", 0)
        state.pos = found.end()
    return found is not None


class _HtmlRenderer(RendererHTML):
    """Writes tokens as HTML; `env` has the highlighter if the block is finished, and counts formulas."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        if "highlighter" in env:
            code = env["highlighter"].html(token.content, _language(token))
        elif token.content.strip():
            code = escape(token.content)
        else:
            return ""  # nothing of it has arrived
        return f"{_PRE}<code>{code}</code></pre>\n"

    code_block = fence

    def definitions(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """The link definitions that no link refers to: their text would be lost."""
        shown = [
            self.renderInline(list(text_with_links(short_data(source), MARKDOWN)), options, env)
            for label, source in tokens[idx].meta["definitions"]
            if not env["references"].is_used(label)
        ]
        lines = "<br>\n".join(shown)
        return f'<p dir="auto">{lines}</p>\n' if shown else ""

    def math_inline(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, env: EnvType) -> str:
        source = escape(_formula_source(tokens[idx]))
        return _formula_html(tokens[idx], env) or f'<code dir="ltr">{source}</code>'

    def math_block(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, env: EnvType) -> str:
        if formula := _formula_html(tokens[idx], env):
            return f'<p dir="ltr">{formula}</p>\n'
        return f"{_PRE}<code>{escape(_formula_source(tokens[idx]))}</code></pre>\n"


def _formula_source(token: Token) -> str:
    return f"{token.markup}{token.content}{token.info}"


def _formula_html(token: Token, env: EnvType) -> str:
    # The wrapper's class keeps the page from typesetting prices; this one allows it again.
    env["formulas"] = env.get("formulas", 0) + 1
    if env["formulas"] > MAX_FORMULAS or not is_ordinary_tex(token.content):
        return ""
    source = escape(_formula_source(token), quote=False)
    return f'<span class="mathjax_process tex2jax_process">{source}</span>'


def _bounded_table(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    # This rule is the first that is tried at each line, of a paragraph twice.
    state.env["line"] = max(start_line, state.env.get("line", 0))
    state.env["work"].add(work_limit.LINE)
    if start_line + 2 > end_line or not _DELIMITER_ROW.fullmatch(line_of(state, start_line + 1)):
        return False
    # The parser fills up a short row with empty cells, so two characters can cost a hundred.
    columns = line_of(state, start_line).strip("| \t").count("|") + 1
    return columns <= MAX_TABLE_COLUMNS and _table_rule(state, start_line, end_line, silent)


def _language(token: Token) -> str:
    """The first word after the marks of a fence."""
    return token.info.split(maxsplit=1)[0].lower() if token.info.strip() else ""


def _fence(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Parse a fence. A fence of Markdown may contain others: models write Markdown files like that."""
    if not _fence_rule(state, start_line, end_line, silent):
        return False
    token = state.tokens[-1] if state.tokens else None
    if silent or token is None or _language(token) not in {"markdown", "md"}:
        return True
    depth, line = 1, start_line
    mark = re.compile(rf"{re.escape(token.markup)}{token.markup[0]}*[ \t]*([^`\s])?")
    while depth and (line := line + 1) < end_line:
        if line_of(state, line) and state.sCount[line] < state.blkIndent:
            break
        if not state.is_code_block(line) and (found := mark.match(line_of(state, line))):
            depth += 1 if found[1] else -1 if found.end() == len(line_of(state, line)) else 0
    state.line = min(line + (not depth), end_line)
    token.content = state.getLines(start_line + 1, line, state.sCount[start_line], True)
    token.map = [start_line, state.line]
    return True


_REFERENCE = re.compile(r"\[(?:[^\[\]\\]|\\.){1,999}\]:(?:[ \t]*|[ \t]+\S+[ \t]*([\"'(].*)?)$")
MAX_REFERENCES = 300


class Links:
    """The known link definitions.

    `asked` are the labels that the links of a block have looked up, `before` those of other blocks.
    """

    def __init__(self, references: References, before: Set[str]) -> None:
        self._references = references
        self._before = before
        self.asked: set[str] = set()

    def get(self, label: str, default: Any = None) -> Any:
        """Look up a label, as the parser does."""
        self.asked.add(label)
        return self._references.get(label, default)

    def is_used(self, label: str) -> bool:
        """Whether a link has looked up `label`, so that its definition need not be shown."""
        return label in self.asked or label in self._before


def _definitions(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    # If `silent`, the parser only asks whether this ends another block, which it cannot.
    found: list[tuple[str, str]] = []
    line = start_line
    while line < end_line and not silent and (definition := _definition(state, line, end_line)):
        lines = range(line, state.line)
        found.append((definition, "\n".join(line_of(state, each) for each in lines)))
        line = state.line
    if found:
        token = state.push("definitions", "", 0)
        token.map = [start_line, line]
        token.meta["definitions"] = found
    return bool(found)


def _definition(state: StateBlock, line: int, end_line: int) -> str:
    """Read a definition and return its label, or "[]" if the label has another address already."""
    references = state.env["references"]
    repeated = state.env.setdefault("duplicate_refs", [])
    known = len(references)
    if state.sCount[line] < state.blkIndent or not _one_line_reference(state, line, end_line, False):
        return ""
    if len(references) > known:
        return str(next(reversed(references)))
    label = str(repeated[-1]["label"])
    return label if references[label]["href"] == repeated[-1]["href"] else "[]"


def _one_line_reference(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    # With labels and titles over several lines, many definitions would read the rest many times.
    definition = _REFERENCE.match(line_of(state, start_line))
    if not definition or len(state.env["references"]) >= MAX_REFERENCES:
        return False
    title = (definition[1] or "").rstrip()
    if title and (len(title) < 2 or title[-1] != {"(": ")"}.get(title[0], title[0])):
        return False
    return _reference_rule(state, start_line, end_line, silent)


_FRAME: Final = "margin:8px 0 12px;padding:6px 10px;border:1px solid rgba(128,128,128,0.5);border-radius:4px"
_PRE: Final = f'<pre dir="ltr" style="{_FRAME};overflow-x:auto">'
MARKDOWN = _Markdown()
_ALT_TEXT = _HtmlRenderer()


@dataclass(slots=True)
class Block:
    """A top-level block: its tokens, its first line, and where it begins in the text and its source."""

    tokens: list[Token]
    first_line: int
    begin: int
    source: str

    @property
    def kind(self) -> str:
        """The type of its first token."""
        return self.tokens[0].type

    @property
    def defined(self) -> Iterator[str]:
        """The labels of the link definitions in it."""
        return (label for token in self.tokens for label, _ in token.meta.get("definitions", ()))

    @property
    def is_open_fence(self) -> bool:
        """Whether this is a fence whose closing line has not arrived yet."""
        content = self.tokens[0].content.removesuffix("\n")
        lines = content.count("\n") + bool(content or self.tokens[0].content)
        return self.kind == "fence" and lines + 1 >= len(self.source.removesuffix("\n").split("\n"))


BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
"""At the beginning of a text they belong to no block."""
SOURCE: Final = "source"
"""The kind of a block that is shown as its source."""


def as_source(text: str) -> Block:
    """A block that shows `text` as it is, after its first blank lines."""
    source = BLANK_LINES.sub("", text, count=1)
    return Block([Token(SOURCE, "", 0)], 0, len(text) - len(source), source)


class Parsed(NamedTuple):
    """A text, its top-level blocks, and all known link definitions with those in it."""

    source: str
    blocks: list[Block]
    references: References


def read_blocks(text: str, references: References, max_steps: float = work_limit.MAX_PARSED_STEPS) -> Parsed:
    """Parse `text` into its top-level blocks; if that takes more than `max_steps`, only its first lines."""
    tokens: list[Token] = []
    env: dict[str, Any] = {"references": dict(references), "work": Work(max_steps)}
    line_starts = [0, *(found.end() for found in re.finditer("\n", text)), len(text)]
    try:
        MARKDOWN.block.parse(text, MARKDOWN, env, tokens)
    except TooMuchWorkError:
        line = max([env["line"], *(token.map[0] for token in tokens if token.map)])
        return read_blocks(text[: line_starts[line]], references, math.inf)
    blocks: list[Block] = []
    start = 0
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:
            first, end = tokens[start].map or [0, 0]
            begin = line_starts[first]
            blocks.append(Block(tokens[start : index + 1], first, begin, text[begin : line_starts[end]]))
            start = index + 1
    return Parsed(text, blocks, env["references"])


def block_html(block: Block, env: dict[str, Any], *, images: bool, is_growing: bool = False) -> str | None:
    """The safe HTML of one block; None if the block is to be shown as its source.

    That is so if it is nested too deeply, or if the HTML or the work would be too much. If the block
    `is_growing`, opening marks whose end has not arrived are left out.
    """
    if block.kind == SOURCE:
        return None
    try:
        lines = block.source.count("\n")
        env["work"].add(work_limit.BLOCK + work_limit.TOKEN * len(block.tokens) + work_limit.LINE * lines)
        if any(token.level >= _MAX_NESTING - 1 for token in block.tokens):
            return None  # the parser leaves out what is nested deeper
        html = _html(block.tokens, env, images=images, is_growing=is_growing)
        env["work"].add(work_limit.ENTITY * html.count("&"))
    except TooMuchWorkError:
        return None
    cleaner = _CLEANER_WITH_IMAGES if images else CLEANER
    # Again, since an entity such as &#x202e; has become a character.
    html = terminal_text(cleaner.clean(html))
    return html if 6 * len(html) <= MAX_BLOCK_BYTES or wire_size(html) <= MAX_BLOCK_BYTES else None


def _html(tokens: list[Token], env: dict[str, Any], *, images: bool, is_growing: bool) -> str:
    last = last_with_text(tokens) if is_growing else -1
    for index, token in enumerate(tokens):
        if token.type == "inline":
            env["growing"] = index == last
            _read_inline(token, tokens, index, env, images=images)
    # Blocks before the first letter that runs to the left all run to the right, and need not say so.
    env["has_rtl"] = env["has_rtl"] or any(
        _RIGHT_TO_LEFT.search(child.content) for token in tokens for child in token.children or ()
    )
    _set_directions(tokens, has_rtl=env["has_rtl"])
    return str(MARKDOWN.renderer.render(tokens, MARKDOWN.options, env))


def _read_inline(token: Token, tokens: list[Token], index: int, env: dict[str, Any], *, images: bool) -> None:
    if (
        index >= 2
        and tokens[index - 1].type == "paragraph_open"
        and tokens[index - 2].type == "list_item_open"
        and (task := _TASK.match(token.content))
    ):
        token.content = ("☐ " if task[1] == " " else "☑ ") + token.content[task.end() :]
    token.children = []
    MARKDOWN.inline.parse(without_svg(token.content), MARKDOWN, env, token.children)
    text_join(StateCore("", MARKDOWN, env, [token]))
    env["work"].add(work_limit.ADDRESS * token.content.count("://"))
    token.children = list(linked(token.children, MARKDOWN, _alt, images=images, is_growing=env["growing"]))


def _alt(image: Token) -> str:
    return _ALT_TEXT.renderInlineAsText(image.children, MARKDOWN.options, {})


_BY_FIRST_LETTER = {"p", "li", "td", "th", "blockquote", *(f"h{level}" for level in range(1, 7))}
_BESIDE_MARKS = {"ul", "ol"}
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]"
)


def _set_directions(tokens: list[Token], *, has_rtl: bool) -> None:
    """Let each paragraph, item and cell run in the direction of its first letter, and code left to right.

    Without a letter that runs to the left (`has_rtl`), all run as the element around them. HTML's dir=auto
    ignores text in elements that have a direction of their own, so what holds such elements gets the
    direction of its first text here.
    """
    around: list[Token] = []
    for token in tokens:
        if token.nesting == 1:
            around.append(token)
            if has_rtl and token.tag in _BY_FIRST_LETTER:
                token.attrs["dir"] = "auto"
            if token.tag in {"td", "th"} and "style" not in token.attrs:
                # JupyterLab would align the cells of HTML output to the right.
                token.attrs["style"] = "text-align:left"
        elif token.nesting == -1:
            around.pop()
        elif has_rtl and token.children:
            for child in token.children:
                if child.type == "code_inline":
                    child.attrs["dir"] = "ltr"
            direction = _direction(token.children)
            for holder in around if direction else ():
                known = holder.meta.setdefault("dir", direction)
                if holder.tag in _BESIDE_MARKS and known != direction:
                    holder.attrs["style"] = "padding:0 2.5em"  # room for marks on both sides
                if known == direction == "rtl":
                    _set_right_to_left(holder)


def _set_right_to_left(holder: Token) -> None:
    if holder.tag in {"ul", "ol", "li", "blockquote", "table"}:
        holder.attrs["dir"] = "rtl"
    elif holder.attrs.get("style") == "text-align:left":
        holder.attrs["style"] = "text-align:right"


def _direction(children: list[Token]) -> str:
    """The direction of the first letter outside of code; empty without one."""
    for child in children:
        for char in child.content if child.type == "text" else "":
            match bidirectional(char):
                case "L":
                    return "ltr"
                case "R" | "AL":
                    return "rtl"
    return ""


def verbatim(source: str) -> str:
    """Text as HTML that shows its source."""
    shown = bounded(source, MAX_BLOCK_BYTES // 6)  # a quote takes six characters as HTML
    return f'<pre dir="auto" style="white-space:pre-wrap">{escape(shown)}</pre>\n'
