"""A reply's Markdown is rendered as such: links, images, tables, code, formulas."""

from __future__ import annotations

import pytest

from halo_notebook.display import formulas, markdown_to_html, wrap
from halo_notebook.display.blocks import BlockRenderer

from ..harness.looks import Look, safe_text


def seen(text: str, *, images: bool = False) -> Look:
    return safe_text(markdown_to_html(text, images=images), images=images)


def test_a_document_is_rendered_as_markdown() -> None:
    """Headings, lists, tables, code, quotes and emphasis become their elements; raw HTML is text."""
    text = (
        "# One\n\nA *b* **c** ~~d~~ `e`  \nnext\n\n- x\n- y\n\n3. z\n\n> q\n\n---\n\n"
        "| a | b | c |\n|---|--:|:-:|\n| 1 | 2 | 3 |\n\n    code\n"
    )
    look = seen(text)
    tags = {tag for tag, _ in look.elements}
    assert tags >= {"h1", "em", "strong", "s", "code", "br", "li", "hr", "table", "pre"}
    assert ("ol", {"start": "3"}) in look.elements
    aligned = [attributes["style"] for tag, attributes in look.elements if tag == "td"]
    assert aligned == ["text-align:left", "text-align:right", "text-align:center"]
    style = "overflow-wrap:break-word"
    wrapper = f'<div class="halo-reply mathjax_ignore tex2jax_ignore" dir="auto" style="{style}">'
    assert wrap(markdown_to_html("<b>x</b>")) == f"{wrapper}<p>&lt;b&gt;x&lt;/b&gt;</p>\n</div>"
    assert seen("- [ ] a\n- [x] b\n- [y] c").text.split() == ["☐", "a", "☑", "b", "[y]", "c"]


WEB = ("http://a.example/x?y=1&z#f", "https://a.example", "mailto:a@b.example", "HTTPS://A.example/")
OTHER = (
    *(
        "javascript:x",
        "JAVASCRIPT:x",
        "data:text/html,x",
        "/x",
        "#x",
        "//b.example",
        "ftp://a",
        "x",
        "http:x",
    ),
)
NO_ADDRESS = ("www.a.example", "a@b.example", "a.example", "`http://a.example`", "http://")
LINKS = [
    *((f"[x]({address}) <{address}>", [address, address], f"x {address}") for address in WEB),
    *((f"[x]({address})", [], f"[x]({address})") for address in OTHER),
    *((text, [], text.strip("`")) for text in NO_ADDRESS),
    ("see https://a.example/b_c_d.", ["https://a.example/b_c_d"], "see https://a.example/b_c_d."),
    ("(http://a.example/x)", ["http://a.example/x"], "(http://a.example/x)"),
    ("http://a.example/x_(y)!", ["http://a.example/x_(y)"], "http://a.example/x_(y)!"),
    ("a http://a.example/?x=1&y=2, b", ["http://a.example/?x=1&y=2"], "a http://a.example/?x=1&y=2, b"),
    ("[http://a.example](http://b.example)", ["http://b.example"], "http://a.example"),
]


@pytest.mark.parametrize(("text", "addresses", "shown"), LINKS)
def test_only_web_and_mail_addresses_are_linked(text: str, addresses: list[str], shown: str) -> None:
    """http, https and mailto; a bare one without the sentence around it; what is not linked stays text."""
    look = seen(text)
    assert [address.lower() for address in look.links] == [address.lower() for address in addresses]
    assert look.text.strip() == shown


def test_images_are_links_unless_allowed() -> None:
    """An image's address can carry data out, so nothing is fetched before it is allowed."""
    html = markdown_to_html("![a *cat*](https://a.example/x.png)")
    assert "<img" not in html
    assert ">image: a cat</a>" in html
    assert ">image: https://a.example/x.png</a>" in markdown_to_html("![](https://a.example/x.png)")
    image = {"src": "https://a.example/x.png", "alt": "a cat"}
    shown = seen("![a *cat*](https://a.example/x.png 't')", images=True).elements[1][1]
    assert shown == {**image, "referrerpolicy": "no-referrer", "loading": "lazy"}
    others = "![x](mailto:a@b.example) ![y](data:image/png;base64,AA)"
    assert "<img" not in markdown_to_html(others, images=True)
    within = seen("[![x](http://a.example/i)](http://b.example)").elements
    assert [tag for tag, _ in within] == ["p", "a"]


def test_code_is_coloured_when_its_language_is_known() -> None:
    """A finished block of known language has colours; others, long ones and the open one do not."""
    block = "```python\ndef f():  # why\n    return 'x', 1\n```\n"
    look = seen(block)
    assert "def f():  # why\n    return 'x', 1\n" in look.text
    assert sum(tag == "span" for tag, _ in look.elements) >= 4
    for other in (block.replace("python", "nonsense"), block.replace("return", "#" * 12_000)):
        assert "<span" not in markdown_to_html(other)
    renderer = BlockRenderer()
    renderer.append(block.removesuffix("```\n"))
    assert "return" in renderer.open_html
    assert "<span" not in renderer.open_html


@pytest.mark.parametrize(
    ("text", "is_formula"),
    [
        *((text, False) for text in ("from $5 to $10", "costs $5", "US$5 and 7$", "$HOME and $PATH")),
        *((text, False) for text in ("$5 and US$", "`$x$`", "\\$x\\$", "$ x $")),
        *((text, True) for text in ("$x^2$", "\\(a_1 + b\\)", "$$\\frac{1}{2}$$", "\\[\\sum_{i=1}^n i\\]")),
        *((text, True) for text in ("$5x$", "$a < b$", "$\\alpha\\$ \\text{a b}$", "$$\nx\n= y\n- z\n$$")),
        ("\\[\n\\begin{cases} a & b \\\\[2pt] c & d \\end{cases}\n\\]", True),
        ("$$\\begin{array}{c|c} a & b \\\\ c & d \\end{array}$$", True),
    ],
)
def test_formulas_are_typeset_and_prices_are_not(text: str, *, is_formula: bool) -> None:
    """A formula stands as it was written, delimiters included, where MathJax 2 and 3 may look."""
    assert seen(f"{text}\n").formulas == [text] * is_formula
    assert seen(f"text:\n{text}\n\nmore").formulas == [text] * is_formula


@pytest.mark.parametrize(
    "tex",
    [
        *("\\hrefx", "x}", "{x", "x\\", "a $ b", "\\(x\\)", "50%", "#1", "\\\\[9999em]x", "\\\\ [-2em]x"),
        *("\\begin{x}", "\\begin {html}", "\\begin x", "\\begin{array}{@{x}}", "\\end", "", "\\\\*[-1em]"),
        *("\\begin{array}[c]{p{9em}}", "\\unicode{65}", "\\Huge x", "\\hskip 3em", "x" * 5_001, "\\[x"),
        *("\\begin{array}\\href", "\\begin{alignat}{999999999} x", "{" * 60 + "}" * 60, "\\sqrt" * 501),
    ],
)
def test_a_formula_out_of_the_ordinary_is_refused(tex: str) -> None:
    """What is not known to be harmless is not typeset."""
    assert not formulas.is_ordinary_tex(tex)


def test_what_no_one_writes_is_shown_as_text() -> None:
    """Nesting that the Markdown reader would leave out, and thousands of brackets, are not parsed."""
    assert "needle" in markdown_to_html("> " * 40 + "needle")
    assert "needle" in markdown_to_html("".join("  " * level + "- x\n" for level in range(40)) + "\n\nneedle")
    for text in ("![" * 4_000, "*a_" * 5_000, "[a](b " * 2_000):
        look = seen(text)
        assert [tag for tag, _ in look.elements] == ["pre"]
        assert look.text.strip() == text.strip()
