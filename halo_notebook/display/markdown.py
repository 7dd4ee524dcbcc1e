r"""One block of untrusted Markdown → safe HTML.

Anyone who can write into what an agent reads can write into a reply, and a front end runs the scripts in the
HTML of a cell that was just run. What is guaranteed for any input:

- Only the tags, attributes, classes, styles and URL schemes listed in `CLEANER_SETTINGS` come out.
  Markdown is parsed with raw HTML off, and the result still goes through a sanitiser. The author
  of the text cannot choose a class or a style.
- A link goes to http, https or mailto; otherwise its source is shown as text. A remote image is
  a link unless images are allowed: its address can carry data out.
- No control character and no character that reorders text comes out, escaped in the source or not.
- The HTML of one block is bounded, and the work is almost linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block.reference import reference as _reference_rule
from markdown_it.rules_block.table import table as _table_rule
from markdown_it.rules_core import StateCore
from markdown_it.rules_core.text_join import text_join
from markdown_it.token import Token

from .formulas import MAX_FORMULAS, is_ordinary_tex, line_of, math_block, math_inline
from .highlight import highlighted
from .text import bounded, terminal_text, wire_size

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.utils import EnvType, OptionsDict

MAX_BLOCK_BYTES = 400_000

CLEANER_SETTINGS: Final[dict[str, Any]] = {
    "tags": {
        "a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
        "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
    },
    "attributes": {
        "a": {"href"}, "ol": {"start"}, "pre": {"style"}, "span": {"style"}, "td": {"style"}, "th": {"style"},
    },
    "allowed_classes": {"span": {"mathjax_process", "tex2jax_process"}},
    "filter_style_properties": {
        "border", "border-radius", "color", "font-style", "margin", "opacity", "padding", "text-align",
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

# No user or password before the host: 'https://bank.example@evil.example' misleads.
_SAFE_URL = re.compile(r"(?:https?://[^/?#@\\\s][^/?#@\\\s]*(?:[/?#]|$)|mailto:[^\s?])", re.IGNORECASE)
_BARE_URL = re.compile(r"\bhttps?://[^\s<>\"'`|\\^{}]{1,2000}", re.IGNORECASE)
_TASK = re.compile(r"\[([ xX])\][ \t]+(?=\S)")
_SPECIAL = re.compile(r"[\[\]!<>&*_`~$\\|]")
_DELIMITER_ROW = re.compile(r"[\s:|-]*-[\s:|-]*")

MAX_TABLE_COLUMNS = 100
MAX_TABLE_CELLS = 10_000
_MAX_NESTING = 20


class _Markdown(MarkdownIt):
    """CommonMark with tables, strikethrough and formulas, and without raw HTML."""

    def __init__(self) -> None:
        super().__init__(
            "commonmark", {"html": False, "maxNesting": _MAX_NESTING}, renderer_cls=_HtmlRenderer
        )
        self.enable(["table", "strikethrough"])
        self.disable(["html_block", "html_inline"])
        self.block.ruler.at("reference", _one_line_reference)
        self.block.ruler.at("table", _bounded_table, {"alt": ["paragraph", "reference"]})
        self.block.ruler.before(
            "fence", "math_block", math_block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
        )
        self.inline.ruler.before("escape", "math_inline", math_inline)

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        return _SAFE_URL.match(url) is not None

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the library's name
        return super().normalizeLink(url).replace("'", "%27")

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802 - the library's name
        # Unchanged: decoded, a punycode host could look like another one.
        return link


class _HtmlRenderer(RendererHTML):
    """Writes tokens as HTML; `env` says whether the block is finished, and counts formulas."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        language = token.info.split(maxsplit=1)[0].lower() if token.info.strip() else ""
        code = highlighted(token.content, language) if env.get("finished") else escape(token.content)
        return f"{_PRE}<code>{code}</code></pre>\n"

    code_block = fence

    def math_inline(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, env: EnvType) -> str:
        return _formula_html(tokens[idx], env) or f"<code>{escape(_formula_source(tokens[idx]))}</code>"

    def math_block(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, env: EnvType) -> str:
        if formula := _formula_html(tokens[idx], env):
            return f"<p>{formula}</p>\n"
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
    # The parser fills up a short row with empty cells, so two characters can cost a hundred.
    if start_line + 2 > end_line or not _DELIMITER_ROW.fullmatch(line_of(state, start_line + 1)):
        return False
    columns = line_of(state, start_line).strip("| \t").count("|") + 1
    end = next((line for line in range(start_line + 2, end_line) if not line_of(state, line)), end_line)
    if columns > MAX_TABLE_COLUMNS or (end - start_line) * columns > MAX_TABLE_CELLS:
        return False
    return _table_rule(state, start_line, end_line, silent)


_REFERENCE = re.compile(r"\[(?:[^\[\]\\]|\\.){1,999}\]:(?:[ \t]*|[ \t]+\S+[ \t]*([\"'(].*)?)$")
MAX_REFERENCES = 300


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
_PRE: Final = f'<pre style="{_FRAME}">'
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
    def is_open_fence(self) -> bool:
        """Whether this is a fence whose closing line has not arrived yet."""
        content = self.tokens[0].content.removesuffix("\n")
        lines = content.count("\n") + bool(content or self.tokens[0].content)
        return self.kind == "fence" and lines + 1 >= len(self.source.removesuffix("\n").split("\n"))


References: TypeAlias = dict[str, Any]


def read_blocks(text: str, references: References) -> list[Block]:
    """Parse `text` into its top-level blocks, and add the link definitions in it to `references`."""
    tokens: list[Token] = []
    MARKDOWN.block.parse(text, MARKDOWN, {"references": references}, tokens)
    line_starts = [0, *(found.end() for found in re.finditer("\n", text)), len(text)]
    blocks: list[Block] = []
    start = 0
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:
            first, end = tokens[start].map or [0, 0]
            begin = line_starts[first]
            blocks.append(Block(tokens[start : index + 1], first, begin, text[begin : line_starts[end]]))
            start = index + 1
    return blocks


def block_html(block: Block, env: dict[str, Any], *, images: bool) -> str:
    """The safe HTML of one block; its source as plain text if the HTML would be too large."""
    if any(token.level >= _MAX_NESTING - 1 for token in block.tokens):
        return verbatim(block.source)  # the parser leaves out what is nested deeper
    for index, token in enumerate(block.tokens):
        if token.type == "inline":
            _read_inline(token, block.tokens, index, env, images=images)
        elif token.tag in {"td", "th"} and token.nesting == 1 and "style" not in token.attrs:
            # JupyterLab would align the cells of HTML output to the right.
            token.attrs["style"] = "text-align:left"
    html = MARKDOWN.renderer.render(block.tokens, MARKDOWN.options, env)
    cleaner = _CLEANER_WITH_IMAGES if images else CLEANER
    # Again, since an entity such as &#x202e; has become a character.
    html = terminal_text(cleaner.clean(html))
    if 6 * len(html) > MAX_BLOCK_BYTES and wire_size(html) > MAX_BLOCK_BYTES:
        return verbatim(block.source)
    return html


def _read_inline(token: Token, tokens: list[Token], index: int, env: dict[str, Any], *, images: bool) -> None:
    if (
        index >= 2
        and tokens[index - 1].type == "paragraph_open"
        and tokens[index - 2].type == "list_item_open"
        and (task := _TASK.match(token.content))
    ):
        token.content = ("☐ " if task[1] == " " else "☑ ") + token.content[task.end() :]
    if len(token.content) > 2_000 and len(_SPECIAL.findall(token.content)) * 4 > len(token.content):
        # This is not prose, and parsing 32 KB of '![' takes most of a second.
        token.children = [Token("text", "", 0, content=token.content)]
    else:
        token.children = []
        MARKDOWN.inline.parse(token.content, MARKDOWN, env, token.children)
        text_join(StateCore("", MARKDOWN, env, [token]))
    token.children = list(_linked(token.children, images=images))


def _linked(children: list[Token], *, images: bool) -> Iterator[Token]:
    """Yield the tokens with bare URLs as links, and with images as links unless they are allowed."""
    inside_link = False
    for child in children:
        match child.type:
            case "link_open":
                inside_link = True
                child.attrs = {"href": child.attrs["href"]}  # a title can lie about the address
                yield child
            case "link_close":
                inside_link = False
                yield child
            case "image":
                yield from _image(child, inside_link=inside_link, images=images)
            case "text" if not inside_link and "://" in child.content:
                yield from _text_with_links(child.content)
            case _:
                yield child


def _image(token: Token, *, inside_link: bool, images: bool) -> Iterator[Token]:
    source = str(token.attrs["src"])
    alt = _ALT_TEXT.renderInlineAsText(token.children, MARKDOWN.options, {})
    if images and source.lower().startswith("http"):
        token.attrs = {"src": source, "alt": alt}
        token.children = [Token("text", "", 0, content=alt)]
        yield token
        return
    text = Token("text", "", 0, content=f"image: {alt.strip() or source}")
    yield from [text] if inside_link else _link(source, text)


def _link(url: str, text: Token) -> list[Token]:
    return [Token("link_open", "a", 1, attrs={"href": url}), text, Token("link_close", "a", -1)]


def _text_with_links(text: str) -> Iterator[Token]:
    at = 0
    for found in _BARE_URL.finditer(text):
        url = found.group().rstrip(".,:;!?*_~")
        while url.count(url[-1]) > url.count({")": "(", "]": "["}.get(url[-1], url[-1])):
            url = url[:-1].rstrip(".,:;!?*_~")
        address = MARKDOWN.normalizeLink(url)
        if not MARKDOWN.validateLink(address):
            continue
        yield Token("text", "", 0, content=text[at : found.start()])
        yield from _link(address, Token("text", "", 0, content=url))
        at = found.start() + len(url)
    yield Token("text", "", 0, content=text[at:])


def verbatim(source: str) -> str:
    """Text as HTML that shows its source."""
    shown = bounded(source, MAX_BLOCK_BYTES // 6)  # a quote takes six characters as HTML
    return f'<pre style="white-space:pre-wrap">{escape(shown)}</pre>\n'
