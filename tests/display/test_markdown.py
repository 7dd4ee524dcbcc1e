"""Untrusted text and JSON become HTML and plain text that do nothing but show."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halo_notebook.display import blocks, formulas, json_tree
from halo_notebook.display import markdown as render
from halo_notebook.display import text as plain_text
from halo_notebook.display.blocks import ReplyRenderer, markdown_to_html, wrap
from halo_notebook.display.json_tree import json_display, json_html, json_text, payload_label
from halo_notebook.display.text import bounded, one_line, plain, terminal_text

from ..harness.hostile import PAYLOADS, TEXTS

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# --- An independent look at what came out -----------------------------------------------------

VOID = {"br", "hr", "img"}
PLAIN_TAGS = {
    *("blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"),
    *("s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul", "a"),
}
LINK = {"href", "rel", "target"}
REPLY_ATTRIBUTES = {
    "a": LINK,
    "ol": {"start"},
    "td": {"style"},
    "th": {"style"},
    "span": {"style", "class"},
    "pre": {"style"},
}
REPLY_STYLES = {
    "td": r"text-align:\s*(left|right|center);?",
    "th": r"text-align:\s*(left|right|center);?",
    "span": r"color:var\(--jp-mirror-editor-(keyword|string|number)-color, inherit\)"
    r"|font-style:italic;opacity:0\.75",
    "pre": r"margin:8px 0 12px;padding:6px 10px;border:1px solid rgba\(128, ?128, ?128, ?0\.5\)"
    r";border-radius:4px"
    r"|white-space:pre-wrap",
}
JSON_ATTRIBUTES = {"div": {"class", "dir", "style"}, "details": {"open"}, "span": {"style"}}
JSON_STYLES = {
    "div": r"font-family:monospace;font-size:13px;line-height:1\.5;margin:8px 0|margin-left:18px"
    r"|white-space:pre-wrap;word-wrap:break-word;overflow-wrap:anywhere",
    "span": r"opacity:0\.65",
}
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Look(HTMLParser):
    """Reads HTML and fails at whatever is not on the lists."""

    def __init__(self, tags: set[str], attributes: dict[str, set[str]], styles: dict[str, str]) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.styles = tags, attributes, styles
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.formulas: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.tags, f"the tag <{tag}>"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), names
        for name, value in attrs:
            assert name in self.attributes.get(tag, set()), f"the attribute {name} on <{tag}>"
            self.look_at(tag, name, value or "")
        if tag == "a":
            # Without an address where the sanitiser cannot read it, such as a broken punycode host.
            assert set(names) | {"href"} == LINK
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def look_at(self, tag: str, name: str, value: str) -> None:
        match name:
            case "href" | "src":
                assert not re.search(r"[\s\"'<>`\\]", value), value
                address = urlsplit(value)
                assert address.scheme in ({"http", "https"} if name == "src" else {"http", "https", "mailto"})
                assert address.scheme == "mailto" or (address.netloc and "@" not in address.netloc)
            case "rel":
                assert value == "noopener noreferrer"
            case "target":
                assert value == "_blank"
            case "class" if tag == "span":
                assert value == "mathjax_process tex2jax_process"
            case "class":
                assert value == "halo-json mathjax_ignore tex2jax_ignore"
            case "style":
                assert re.fullmatch(self.styles[tag], value), value
            case "start":
                assert value.isdigit()
            case "referrerpolicy":
                assert value == "no-referrer"
            case "loading":
                assert value == "lazy"
            case "dir":
                assert value == "ltr"

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "span" and "class" in self.elements[-1][1]:
            self.formulas.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


def looked_at(look: Look, html: str) -> Look:
    assert not FORBIDDEN.search(html), FORBIDDEN.search(html)
    look.feed(html)
    look.close()
    assert look.open == [], "left open"
    return look


def safe_reply(html: str, *, images: bool = False) -> Look:
    """Look at a reply's HTML, and return what was seen."""
    tags, attributes = PLAIN_TAGS, REPLY_ATTRIBUTES
    if images:
        tags = tags | {"img"}
        attributes = {**attributes, "img": {"src", "alt", "referrerpolicy", "loading"}}
    return looked_at(Look(tags, attributes, REPLY_STYLES), html)


def safe_json(html: str) -> Look:
    """Look at a JSON tree's HTML, and return what was seen."""
    return looked_at(
        Look({"div", "details", "summary", "span", "strong"}, JSON_ATTRIBUTES, JSON_STYLES), html
    )


def streamed(text: str, sizes: Iterator[int], **how: bool) -> str:
    """Finish a text that came in pieces, with a frame after each."""
    renderer = ReplyRenderer(**how)
    at = 0
    seen: list[str] = []
    while at < len(text):
        size = next(sizes)
        renderer.append(text[at : at + size])
        at += size
        assert renderer.html() == "".join(renderer.finished_blocks) + renderer.open_block
        assert renderer.finished_blocks[: len(seen)] == seen, "a finished block changed"
        seen = list(renderer.finished_blocks)
    return renderer.finish()


def every(size: int) -> Iterator[int]:
    while True:
        yield size


# --- Markdown ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("images", [False, True])
def test_hostile_text_is_only_shown(name: str, images: bool) -> None:
    """Whatever a reply holds, only listed tags, attributes, addresses and styles come out."""
    safe_reply(markdown_to_html(TEXTS[name], images=images), images=images)


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if len(text) < 2_000])
def test_hostile_text_is_only_shown_while_it_arrives(name: str) -> None:
    """Each frame of a hostile reply is as safe as the whole."""
    renderer = ReplyRenderer()
    for at in range(0, len(TEXTS[name]), 7):
        renderer.append(TEXTS[name][at : at + 7])
        safe_reply(renderer.html())
    assert renderer.finish() == markdown_to_html(TEXTS[name])


@quick
@given(st.text(alphabet=st.one_of(st.sampled_from("<>&\"'`[]()!*_~#-=|:\\/$ \n\t\x1e{}"), st.characters())))
def test_no_text_yields_a_tag_that_is_not_listed(text: str) -> None:
    """Any text at all gives listed tags and attributes only, with images and without."""
    safe_reply(markdown_to_html(text))
    safe_reply(markdown_to_html(text, images=True), images=True)


LINES = [
    *(
        "# Title",
        "- item",
        "  - nested",
        "1. one",
        "2. two",
        "> quote",
        "```",
        "```py",
        "~~~",
        "$$",
        "\\[",
        "\\]",
    ),
    *(
        "x = 1",
        "a | b",
        "---|---",
        "| 1 | 2 |",
        "",
        "",
        "",
        "===",
        "---",
        "***",
        "    code",
        "[r]: http://a.example",
    ),
    *(
        "[r]",
        "'title'",
        "text *em* **b**",
        "`c`",
        "$x^2$",
        "- [ ] task",
        "+ plus",
        "<b>",
        "[r]:",
        "#",
        "2",
        "1.",
        ")",
    ),
]


@quick
@given(st.lists(st.sampled_from(LINES), max_size=14).map("\n".join), st.lists(st.integers(1, 9), min_size=1))
def test_any_chunking_gives_the_same_html(text: str, sizes: list[int]) -> None:
    """A reply looks the same at its end, however it was cut on the way."""

    def cycle() -> Iterator[int]:
        while True:
            yield from sizes

    assert streamed(text, cycle()) == markdown_to_html(text)


def test_a_document_is_rendered_as_markdown() -> None:
    """Headings, lists, tables, code, quotes and emphasis become their elements."""
    text = (
        "# One\n\nA *b* **c** ~~d~~ `e`  \nnext\n\n- x\n- y\n\n3. z\n\n> q\n\n---\n\n"
        "| a | b | c |\n|---|--:|:-:|\n| 1 | 2 | 3 |\n\n    code\n"
    )
    html = markdown_to_html(text)
    look = safe_reply(html)
    assert {tag for tag, _ in look.elements} >= {
        "h1",
        "em",
        "strong",
        "s",
        "code",
        "br",
        "li",
        "hr",
        "table",
        "pre",
    }
    assert '<ol start="3">' in html
    aligned = [attributes["style"] for tag, attributes in look.elements if tag == "td"]
    assert aligned == ["text-align:left", "text-align:right", "text-align:center"]


def test_raw_html_is_shown_as_text() -> None:
    """A reader sees the tags that the agent wrote."""
    assert markdown_to_html("<b>x</b>") == "<p>&lt;b&gt;x&lt;/b&gt;</p>\n"


@pytest.mark.parametrize(
    "address", ["http://a.example/x?y=1&z#f", "https://a.example", "mailto:a@b.example", "HTTPS://A.example/"]
)
def test_a_web_or_mail_link_is_a_link(address: str) -> None:
    """http, https and mailto are linked, in a new tab and without a referrer."""
    look = safe_reply(markdown_to_html(f"[x]({address}) <{address}>"))
    assert [tag for tag, _ in look.elements] == ["p", "a", "a"]


@pytest.mark.parametrize(
    "address",
    ["javascript:x", "JAVASCRIPT:x", "data:text/html,x", "/x", "#x", "//b.example", "ftp://a", "x", "http:x"],
)
def test_any_other_link_stays_text(address: str) -> None:
    """What is not linked is still there to be read."""
    look = safe_reply(markdown_to_html(f"[x]({address})"))
    assert [tag for tag, _ in look.elements] == ["p"]
    assert look.text.strip() == f"[x]({address})"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("see https://a.example/b_c_d.", "https://a.example/b_c_d"),
        ("(http://a.example/x)", "http://a.example/x"),
        ("http://a.example/x_(y)!", "http://a.example/x_(y)"),
        ("a http://a.example/?x=1&y=2, b", "http://a.example/?x=1&y=2"),
    ],
)
def test_a_bare_address_is_linked_without_the_sentence_around_it(text: str, address: str) -> None:
    """An address in running text is a link, without the stop or bracket after it."""
    look = safe_reply(markdown_to_html(text))
    assert [attributes["href"] for tag, attributes in look.elements if tag == "a"] == [address]
    assert look.text.strip() == text


@pytest.mark.parametrize(
    "text", ["www.a.example", "a@b.example", "a.example", "`http://a.example`", "http://"]
)
def test_nothing_is_linked_that_does_not_say_so(text: str) -> None:
    """Names that look like an address are not guessed at."""
    assert "<a" not in markdown_to_html(text)


def test_an_address_within_a_link_is_not_linked_again() -> None:
    """A link's own text stays its text."""
    assert markdown_to_html("[http://a.example](http://b.example)").count("<a ") == 1


def test_images_are_links_unless_allowed() -> None:
    """An image's address can carry data out, so that nothing is fetched before it is allowed."""
    html = markdown_to_html("![a *cat*](https://a.example/x.png)")
    assert "<img" not in html
    assert ">image: a cat</a>" in html
    assert ">image: https://a.example/x.png</a>" in markdown_to_html("![](https://a.example/x.png)")
    look = safe_reply(markdown_to_html("![a *cat*](https://a.example/x.png 't')", images=True), images=True)
    assert look.elements[1][1] == {
        "src": "https://a.example/x.png",
        "alt": "a cat",
        "referrerpolicy": "no-referrer",
        "loading": "lazy",
    }
    assert "<img" not in markdown_to_html(
        "![x](mailto:a@b.example) ![y](data:image/png;base64,AA)", images=True
    )
    within = safe_reply(markdown_to_html("[![x](http://a.example/i)](http://b.example)"))
    assert [tag for tag, _ in within.elements] == ["p", "a"]


def test_tasks_are_shown_without_input_elements() -> None:
    """A task's box is a character."""
    assert safe_reply(markdown_to_html("- [ ] a\n- [x] b\n- [y] c")).text.split() == [
        *("☐", "a", "☑", "b", "[y]", "c"),
    ]


def test_reordering_characters_are_dropped_however_they_are_written() -> None:
    """Neither a character nor an entity can make text or code read otherwise than it is."""
    assert markdown_to_html("a\u202eb &#x202e;&#8294;c `\u2066d`") == "<p>ab c <code>d</code></p>\n"


def test_code_is_coloured_when_its_language_is_known() -> None:
    """A finished block of known language has colours; others, long ones and the open one do not."""
    block = "```python\ndef f():  # why\n    return 'x', 1\n```\n"
    look = safe_reply(markdown_to_html(block))
    assert "def f():  # why\n    return 'x', 1\n" in look.text
    assert sum(tag == "span" for tag, _ in look.elements) >= 4
    for other in (block.replace("python", "nonsense"), block.replace("return", "#" * 12_000)):
        assert "<span" not in markdown_to_html(other)
    renderer = ReplyRenderer()
    renderer.append(block)
    assert "<span" not in renderer.open_block


@pytest.mark.parametrize(
    "text",
    [
        "from $5 to $10",
        "costs $5",
        "US$5 and 7$",
        "$HOME and $PATH",
        "$5 and US$",
        "`$x$`",
        "\\$x\\$",
        "$ x $",
    ],
)
def test_prices_and_variables_stay_text(text: str) -> None:
    """A dollar sign alone makes no formula."""
    assert safe_reply(markdown_to_html(text)).formulas == []


@pytest.mark.parametrize(
    "formula",
    [
        *(
            "$x^2$",
            "\\(a_1 + b\\)",
            "$$\\frac{1}{2}$$",
            "\\[\\sum_{i=1}^n i\\]",
            "$5x$",
            "$\\alpha\\$ \\text{a b}$",
        ),
        *("$$\nx\n= y\n- z\n$$", "\\[\n\\begin{cases} a & b \\\\[2pt] c & d \\end{cases}\n\\]", "$a < b$"),
        "$$\\begin{array}{c|c} a & b \\\\ c & d \\end{array}$$",
    ],
)
def test_ordinary_formulas_are_typeset(formula: str) -> None:
    """A formula stands as it was written, delimiters included, where MathJax may look."""
    assert safe_reply(markdown_to_html(f"{formula}\n")).formulas == [formula]
    assert safe_reply(markdown_to_html(f"text:\n{formula}\n\nmore")).formulas == [formula]


@pytest.mark.parametrize("name", [name for name in TEXTS if name.startswith("tex-")])
def test_hostile_formulas_are_shown_as_code(name: str) -> None:
    """No formula loads, defines, links, styles or paints outside its place."""
    for formula in safe_reply(markdown_to_html(TEXTS[name])).formulas:
        if name == "tex-many":
            continue
        # Harmless here are only pieces without any command or with those for text.
        assert set(re.findall(r"\\[A-Za-z]+", formula.replace("\\\\", ""))) <= {"\\text"}, formula
        assert formula[0] == "$" == formula[-1] or formula[:2] in {"\\(", "\\["}


@pytest.mark.parametrize(
    "tex",
    [
        *(
            "\\hrefx",
            "x}",
            "{x",
            "x\\",
            "a $ b",
            "\\(x\\)",
            "50%",
            "#1",
            "\\\\[9999em]x",
            "\\\\ [-2em]x",
            "\\begin{x}",
        ),
        *(
            "\\begin {html}",
            "\\begin x",
            "\\begin{array}{@{x}}",
            "\\begin{array}[c]{p{9em}}",
            "\\end",
            "",
            "\\\\*[-1em]",
        ),
        *("\\unicode{65}", "\\Huge x", "\\hskip 3em", "x" * 5_001, "\\begin{array}\\href", "\\[x"),
        *("\\begin{alignat}{999999999} x", "{" * 60 + "}" * 60, "\\sqrt" * 501),
    ],
)
def test_a_formula_out_of_the_ordinary_is_refused(tex: str) -> None:
    """What is not known to be harmless is not typeset."""
    assert not formulas.is_ordinary_tex(tex)


def test_the_number_of_formulas_is_bounded() -> None:
    """A flood of formulas is shown as code beyond the bound, the same in pieces and whole."""
    text = "$x$ $y$\n\n" * formulas.MAX_FORMULAS
    html = markdown_to_html(text)
    assert len(safe_reply(html).formulas) == formulas.MAX_FORMULAS
    assert streamed(text, every(900)) == html


def test_a_late_definition_resolves_at_the_end() -> None:
    """A link used before its definition is text while it arrives and a link at the end."""
    text = "See [the docs][d].\n\nMore.\n\n[d]: https://a.example/docs\n"
    renderer = ReplyRenderer()
    for char in text:
        renderer.append(char)
        renderer.html()
    assert "<a " not in renderer.html()
    assert 'href="https://a.example/docs"' in renderer.finish()
    assert renderer.finish() == markdown_to_html(text)


def test_a_reply_goes_on_after_finish() -> None:
    """Finishing changes nothing, so that text may still come."""
    renderer = ReplyRenderer()
    renderer.append("one\n\ntwo *th")
    assert "two *th" in renderer.finish()
    renderer.append("ree*")
    assert renderer.finish() == "<p>one</p>\n<p>two <em>three</em></p>\n"
    assert renderer.finished_blocks == []
    renderer.append("\n\nfour\n\nfive")
    assert renderer.finished_blocks == ["<p>one</p>\n", "<p>two <em>three</em></p>\n"] or renderer.html()


def test_nothing_gives_nothing() -> None:
    """An empty reply has no HTML."""
    assert ReplyRenderer().html() == ReplyRenderer().finish() == markdown_to_html("") == ""


def test_finished_blocks_are_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work for a long reply of many frames is near that of rendering it a few times."""
    read: list[int] = []
    parse = render.MARKDOWN.block.parse

    def counted(src: str, *rest: object) -> object:
        read.append(len(src))
        return parse(src, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(render.MARKDOWN.block, "parse", counted)
    text = "A paragraph of a usual length, with *some* emphasis in it.\n\n- one\n- two\n\n" * 300
    assert streamed(text, every(50))
    assert sum(read) < 10 * len(text)


FLOODS: dict[str, Callable[[], str]] = {
    **{name: lambda name=name: TEXTS[name] * 5 for name in TEXTS if name.endswith("-flood")},  # type: ignore[misc]
    "one-fence": lambda: "```py\n" + "x = 1\n" * 50_000,
    "one-list": lambda: "- an item of the list\n" * 8_000,
    "one-table": lambda: "|a|b|\n|-|-|\n" + "| some | cells |\n" * 8_000,
    "one-paragraph": lambda: "many words " * 20_000,
    "one-word": lambda: "w" * 200_000,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_read_in_bounded_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However one block grows, no single reading is long, and all of them are a few times the text."""
    read: list[int] = []
    parse = render.MARKDOWN.block.parse

    def counted(src: str, *rest: object) -> object:
        read.append(len(src))
        return parse(src, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(render.MARKDOWN.block, "parse", counted)
    text = FLOODS[name]()
    safe_reply(markdown_to_html(text))
    assert max(read, default=0) <= blocks.MAX_OPEN_CHARS + 1_000
    assert sum(read) <= 3 * len(text)


def test_inline_text_of_signs_only_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of brackets in a paragraph are shown as they are, unread."""
    monkeypatch.setattr(render.MARKDOWN.inline, "parse", lambda *_: pytest.fail("it was read"))
    assert markdown_to_html("![" * 4_000) == f"<p>{'![' * 4_000}</p>\n"


def test_a_block_too_long_goes_on_as_one_of_its_kind() -> None:
    """Code stays code and a table keeps its columns where a long block had to be cut."""
    code = markdown_to_html("```\n" + "**x** = 1\n" * 5_000 + "```\n\nend")
    look = safe_reply(code)
    assert {tag for tag, _ in look.elements} == {"pre", "code", "p"}
    assert look.text.count("**x** = 1\n") == 5_000
    table = safe_reply(markdown_to_html("|a|b|\n|-|-|\n" + "| c | d |\n" * 5_000 + "\nend"))
    assert sum(tag == "tr" for tag, _ in table.elements) == 5_000 + sum(
        tag == "table" for tag, _ in table.elements
    )
    assert table.text.split().count("c") == 5_000


def test_too_deep_nesting_is_shown_as_text() -> None:
    """What the Markdown reader would leave out is still shown."""
    assert "needle" in markdown_to_html("> " * 40 + "needle")
    assert "needle" in markdown_to_html("".join("  " * level + "- x\n" for level in range(40)) + "\n\nneedle")


def test_a_huge_reply_is_shown_in_part() -> None:
    """Beginning and end are shown, with a note between, in what a message can carry."""
    text = "first\n\n" + ('A “paragraph” with quotes "" and more. ' * 25 + "\n\n") * 1_600 + "last"
    renderer = ReplyRenderer()
    renderer.append(text)
    for html in (renderer.html(), renderer.finish()):
        assert len(json.dumps(html, ensure_ascii=False).encode()) <= blocks.MAX_HTML_BYTES + 2
        assert html.startswith("<p>first</p>")
        assert html.endswith("<p>last</p>\n")
        assert re.search(
            r"… [\d,]+ characters not shown here; <code>_halo\.text</code> holds the whole", html
        )
        safe_reply(html)


LONG_REFERENCE = f"\n\n[r]: http://a.example/{'x' * 1_000}\n"


def test_a_block_that_swells_is_shown_as_text() -> None:
    """Short Markdown that makes very much HTML stays within the bound of a block."""
    for text in ("[](http://a.example) " * 700, "```\n" + "'<&" * 5_000, "[a][r] " * 2_000 + LONG_REFERENCE):
        renderer = ReplyRenderer()
        renderer.append(text)
        for html in [*renderer.finished_blocks, renderer.open_block]:
            assert len(html) <= render.MAX_BLOCK_BYTES
            safe_reply(html)


def test_the_wrapper_keeps_prices_from_being_typeset() -> None:
    """The reply stands in one element that MathJax 2 and 3 leave alone."""
    assert wrap("<p>x</p>") == (
        '<div class="halo-reply mathjax_ignore tex2jax_ignore" dir="auto"><p>x</p></div>'
    )


# --- Plain text -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_plain_in_a_terminal(name: str) -> None:
    """No escape sequence, control or reordering character reaches a terminal, in pieces neither."""
    text = TEXTS[name][:5_000]
    assert not FORBIDDEN.search(terminal_text(text))
    assert "".join(map(terminal_text, text)) == terminal_text(text)
    assert not FORBIDDEN.search(plain(text))


@quick
@given(st.text(alphabet=st.characters(codec=None)), st.text())
def test_terminal_text_holds_no_control_characters(first: str, second: str) -> None:
    """Any text is made plain, and two pieces give what both together give."""
    assert not FORBIDDEN.search(terminal_text(first))
    assert terminal_text(first) + terminal_text(second) == terminal_text(first + second)
    assert "\n" not in one_line(first)
    assert len(one_line(first, 20)) <= 20


def test_terminal_text_keeps_what_is_harmless() -> None:
    """Newlines, tabs, accents, emoji and right-to-left letters stay."""
    text = "a\tb\nü 👩‍👧 שלום"
    assert terminal_text(text) == text
    assert terminal_text("a\r\nb\u2028c\ud800") == "a\nb\nc\ufffd"


def test_one_line_is_short_and_on_one_line() -> None:
    """White space is collapsed and a cut is marked."""
    assert one_line(" a \n\t b\x00 ") == "a b"
    assert one_line("x" * 300) == "x" * 199 + "…"
    assert one_line("") == ""
    assert one_line(" " * 100_000 + "x", 10) == "…"


def test_long_plain_text_is_shown_in_part() -> None:
    """Beginning and end are kept within the bound, and the note counts what is not shown."""
    text = "a" + "ü\n" * 1_000_000 + "z"
    shown = plain(text)
    assert len(json.dumps(shown, ensure_ascii=False).encode()) <= plain_text.MAX_PLAIN_BYTES + 200
    assert shown[0] + shown[-1] == "az"
    hidden = re.search(r"… ([\d,]+) characters not shown here; `_halo\.text` holds the whole", shown)
    assert hidden
    assert int(hidden[1].replace(",", "")) + len(shown) - len(hidden.group()) - 4 == len(text)
    assert plain("short") == bounded("short", 10) == "short"


# --- JSON -------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
# As values that are shown whole: longer keys are cut.
small_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=50), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("name", PAYLOADS)
def test_hostile_payloads_are_only_shown(name: str) -> None:
    """Whatever an action holds, in keys, values or label, only a plain tree comes out."""
    payload = PAYLOADS[name]
    look = safe_json(json_html(payload, payload_label(payload, 1)))
    assert len(look.elements) < 20_000
    text = json_text(payload)
    assert not FORBIDDEN.search(text)
    assert len(text) < 600_000
    shown = json.dumps(json_display(payload), ensure_ascii=False, allow_nan=False)
    assert len(shown.encode()) <= 500_000
    assert not FORBIDDEN.search(shown)
    assert len(payload_label(payload, 1)) <= 80


@quick
@given(json_values, st.text())
def test_any_json_gives_a_balanced_tree(payload: JSON, label: str) -> None:
    """The tree of any JSON is whole, safe and within its bounds."""
    safe_json(json_html(payload, label))
    safe_json(json_html(payload, label, max_nodes=3, max_depth=2, max_string=2))
    assert not FORBIDDEN.search(json_text(payload))
    json.dumps(json_display(payload), allow_nan=False).encode()
    assert len(json.dumps(json_display(payload, max_bytes=100), ensure_ascii=False).encode()) <= 100


@quick
@given(small_json_values)
def test_json_text_of_a_small_payload_is_its_json(payload: JSON) -> None:
    """What is within the bounds can be read back."""
    assert json.loads(json_text(payload, max_nodes=10**6, max_string=10**6), strict=False) == json.loads(
        json.dumps(payload)
    )


def test_the_top_of_a_tree_is_open() -> None:
    """One level shows at once, the rest opens on a click."""
    html = json_html({"a": {"b": 1}}, "action 1: x")
    opened = [attributes for tag, attributes in safe_json(html).elements if tag == "details"]
    assert opened == [{"open": None}, {}]
    assert "action 1: x" in html


@pytest.mark.parametrize("show", [json_html, json_text])
def test_what_is_left_out_of_a_tree_is_said(show: Callable[..., str]) -> None:
    """Too many values, too deep ones and long strings are cut where they are, with a count."""
    assert "… 1,234 more" in show(list(range(3_234)), max_nodes=2_000)
    assert "too deep to show" in show([[[["x"]]]], max_depth=2)
    assert "… 40 more characters" in show("x" * 50, max_string=10)
    # A first branch that takes all must not hide what stands beside it.
    assert "beside" in show({"first": list(range(5_000)), "beside": 1}, max_nodes=100)


def test_a_tree_of_long_strings_is_bounded() -> None:
    """The tree stays small enough to be sent, whatever its values cost as HTML."""
    assert len(json_html(["\"'<&" * 500] * 2_000)) < 2 * json_tree.MAX_JSON_HTML_BYTES


def test_json_for_a_front_end_is_the_payload_when_that_is_harmless() -> None:
    """An ordinary payload is shown as it is, and not changed."""
    payload: JSON = {
        "type": "highlight",
        "boxes": [1, 2.5, {"x": None, "y": True}],
        "empty": {},
        "text": "a\n\tü",
    }
    assert json_display(payload) == payload
    assert json_display(payload) is not payload
    assert json.dumps(json_display({"b": 1, "a": 2})) == '{"b": 1, "a": 2}'


def test_integers_that_a_browser_would_round_become_strings() -> None:
    """A large id is shown with all its digits."""
    assert json_display([2**53 - 1, 2**53, -(2**53), True]) == [2**53 - 1, str(2**53), str(-(2**53)), True]
    assert json_display(10**5_000) == "… a number of more than 3,000 digits"


def test_numbers_that_json_cannot_say_become_strings() -> None:
    """An infinity that a caller made is no error."""
    assert json_display([float("inf"), float("nan")]) == ["inf", "nan"]


def test_hidden_characters_are_shown_as_escapes() -> None:
    """Data is seen as it is: nothing is dropped from it, and no two keys fall together."""
    assert json_display({"a\x00": "\u202e\n", "a": 1, "__proto__": 2}) == {
        "a\\u0000": "\\u202e\n",
        "a": 1,
        '"__proto__"': 2,
    }
    assert "\\u202e" in json_html("\u202e")
    assert "\\u001b" in json_text("\x1b")


@pytest.mark.parametrize("name", ["wide-list", "wide-object", "long-string", "long-control"])
def test_json_too_large_to_send_is_cut_with_a_note(name: str) -> None:
    """A payload above the bound keeps its shape, and says what is missing."""
    shown = json_display(PAYLOADS[name], max_bytes=20_000)
    assert type(shown) is type(PAYLOADS[name])
    text = json.dumps(shown, ensure_ascii=False)
    assert 1_000 < len(text.encode()) <= 20_000
    assert re.search(r"… [\d,]+ more", text)


def test_json_that_cannot_be_cut_is_a_note() -> None:
    """With no room at all there is still a word."""
    assert json_display([[{"x": "y"}] * 3] * 3, max_bytes=20) == "… too large to show: more than 20 bytes"


@pytest.mark.parametrize("name", ["deep-list", "deep-object"])
def test_deep_json_needs_no_deep_stack(name: str) -> None:
    """A payload nested as deep as the stream allows can be shown from near the end of the stack."""

    def show() -> str:
        return (
            json_html(PAYLOADS[name])
            + json_text(PAYLOADS[name])
            + str(len(str(json_display(PAYLOADS[name]))))
        )

    def deep(levels: int) -> str:
        return show() if levels == 0 else deep(levels - 1)

    used = 0
    frame = sys._getframe()
    while frame.f_back:
        frame, used = frame.f_back, used + 1
    assert "too deep to show" in deep(sys.getrecursionlimit() - used - 160)


@pytest.mark.parametrize(
    ("payload", "label"),
    [
        ({"type": "highlight"}, "action 7: highlight"),
        ({"name": "n"}, "action 7: n"),
        ({"type": 1, "name": "n"}, "action 7: n"),
        ({"type": " ", "name": None}, "action 7"),
        ({"type": "a\n\x1b[0mb\u202e"}, "action 7: a [0mb"),
        ([], "action 7"),
        ("x", "action 7"),
        (None, "action 7"),
    ],
)
def test_an_action_is_labelled_by_its_type_or_name(payload: JSON, label: str) -> None:
    """A label is one short line, whatever the payload is."""
    assert payload_label(payload, 7) == label


def test_chunks_that_cut_a_line_do_not_change_the_blocks() -> None:
    """Half a line may still belong to the block before it."""
    for text in ("text\n#hash\n\nx", "1. a\n\n2. b\n\nx", "a\n\n$$\n- b\n$$\n", "| a |\n|---|\n| b |\n\nx"):
        whole = markdown_to_html(text)
        assert streamed(text, every(1)) == whole
