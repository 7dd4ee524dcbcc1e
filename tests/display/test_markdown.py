"""A reply's Markdown is rendered as such: links, images, tables, code, formulas."""

from __future__ import annotations

import pytest

from halo_notebook.display import formulas, wrap
from halo_notebook.display import markdown as render
from halo_notebook.display.blocks import BlockRenderer, markdown_to_html

from .looks import safe_text

TAGS = {"h1", "em", "strong", "s", "code", "br", "li", "hr", "table", "pre"}


def test_a_document_is_rendered_as_markdown() -> None:
    """Headings, lists, tables, code, quotes and emphasis become their elements."""
    text = (
        "# One\n\nA *b* **c** ~~d~~ `e`  \nnext\n\n- x\n- y\n\n3. z\n\n> q\n\n---\n\n"
        "| a | b | c |\n|---|--:|:-:|\n| 1 | 2 | 3 |\n\n    code\n"
    )
    html = markdown_to_html(text)
    look = safe_text(html)
    tags = {tag for tag, _ in look.elements}
    assert tags >= {"h1", "em", "strong", "s", "code", "br", "li", "hr", "table", "pre"}
    assert '<ol start="3">' in html
    aligned = [attributes["style"] for tag, attributes in look.elements if tag == "td"]
    assert aligned == ["text-align:left", "text-align:right", "text-align:center"]


def test_raw_html_is_shown_as_text() -> None:
    """A reader sees the tags that the agent wrote."""
    assert markdown_to_html("<b>x</b>") == "<p>&lt;b&gt;x&lt;/b&gt;</p>\n"


ADDRESSES = ["http://a.example/x?y=1&z#f", "https://a.example", "mailto:a@b.example", "HTTPS://A.example/"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_web_or_mail_link_is_a_link(address: str) -> None:
    """http, https and mailto are linked, in a new tab and without a referrer."""
    look = safe_text(markdown_to_html(f"[x]({address}) <{address}>"))
    assert [tag for tag, _ in look.elements] == ["p", "a", "a"]


@pytest.mark.parametrize(
    "address",
    ["javascript:x", "JAVASCRIPT:x", "data:text/html,x", "/x", "#x", "//b.example", "ftp://a", "x", "http:x"],
)
def test_any_other_link_stays_text(address: str) -> None:
    """What is not linked can still be read."""
    look = safe_text(markdown_to_html(f"[x]({address})"))
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
    look = safe_text(markdown_to_html(text))
    assert [attributes["href"] for tag, attributes in look.elements if tag == "a"] == [address]
    assert look.text.strip() == text


@pytest.mark.parametrize(
    "text", ["www.a.example", "a@b.example", "a.example", "`http://a.example`", "http://"]
)
def test_text_without_a_scheme_is_not_linked(text: str) -> None:
    """Names that look like an address are not guessed at."""
    assert "<a" not in markdown_to_html(text)


def test_an_address_within_a_link_is_not_linked_again() -> None:
    """A link's own text stays its text."""
    assert markdown_to_html("[http://a.example](http://b.example)").count("<a ") == 1


def test_images_are_links_unless_allowed() -> None:
    """An image's address can carry data out, so nothing is fetched before it is allowed."""
    html = markdown_to_html("![a *cat*](https://a.example/x.png)")
    assert "<img" not in html
    assert ">image: a cat</a>" in html
    assert ">image: https://a.example/x.png</a>" in markdown_to_html("![](https://a.example/x.png)")
    look = safe_text(markdown_to_html("![a *cat*](https://a.example/x.png 't')", images=True), images=True)
    image = {"src": "https://a.example/x.png", "alt": "a cat"}
    assert look.elements[1][1] == {**image, "referrerpolicy": "no-referrer", "loading": "lazy"}
    others = "![x](mailto:a@b.example) ![y](data:image/png;base64,AA)"
    assert "<img" not in markdown_to_html(others, images=True)
    within = safe_text(markdown_to_html("[![x](http://a.example/i)](http://b.example)"))
    assert [tag for tag, _ in within.elements] == ["p", "a"]


def test_tasks_are_shown_without_input_elements() -> None:
    """A task's box is a character."""
    text = safe_text(markdown_to_html("- [ ] a\n- [x] b\n- [y] c")).text
    assert text.split() == ["☐", "a", "☑", "b", "[y]", "c"]


def test_code_is_coloured_when_its_language_is_known() -> None:
    """A finished block of known language has colours; others, long ones and the open one do not."""
    block = "```python\ndef f():  # why\n    return 'x', 1\n```\n"
    look = safe_text(markdown_to_html(block))
    assert "def f():  # why\n    return 'x', 1\n" in look.text
    assert sum(tag == "span" for tag, _ in look.elements) >= 4
    for other in (block.replace("python", "nonsense"), block.replace("return", "#" * 12_000)):
        assert "<span" not in markdown_to_html(other)
    renderer = BlockRenderer()
    renderer.append(block.removesuffix("```\n"))
    assert "return" in renderer.open_html
    assert "<span" not in renderer.open_html


@pytest.mark.parametrize(
    "text",
    [
        *("from $5 to $10", "costs $5", "US$5 and 7$", "$HOME and $PATH", "$5 and US$"),
        *("`$x$`", "\\$x\\$", "$ x $"),
    ],
)
def test_prices_and_variables_stay_text(text: str) -> None:
    """A dollar sign alone makes no formula."""
    assert safe_text(markdown_to_html(text)).formulas == []


@pytest.mark.parametrize(
    "formula",
    [
        *("$x^2$", "\\(a_1 + b\\)", "$$\\frac{1}{2}$$", "\\[\\sum_{i=1}^n i\\]", "$5x$", "$a < b$"),
        *("$\\alpha\\$ \\text{a b}$", "$$\nx\n= y\n- z\n$$"),
        "\\[\n\\begin{cases} a & b \\\\[2pt] c & d \\end{cases}\n\\]",
        "$$\\begin{array}{c|c} a & b \\\\ c & d \\end{array}$$",
    ],
)
def test_ordinary_formulas_are_typeset(formula: str) -> None:
    """A formula stands as it was written, delimiters included, where MathJax may look."""
    assert safe_text(markdown_to_html(f"{formula}\n")).formulas == [formula]
    assert safe_text(markdown_to_html(f"text:\n{formula}\n\nmore")).formulas == [formula]


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


def test_inline_text_of_signs_only_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of brackets in a paragraph are shown as they are, unread."""
    monkeypatch.setattr(render.MARKDOWN.inline, "parse", lambda *_: pytest.fail("it was read"))
    assert markdown_to_html("![" * 4_000) == f"<p>{'![' * 4_000}</p>\n"


def test_too_deep_nesting_is_shown_as_text() -> None:
    """What the Markdown reader would leave out is still shown."""
    assert "needle" in markdown_to_html("> " * 40 + "needle")
    assert "needle" in markdown_to_html("".join("  " * level + "- x\n" for level in range(40)) + "\n\nneedle")


def test_the_wrapper_keeps_prices_from_being_typeset() -> None:
    """The reply stands in one element that MathJax 2 and 3 leave alone."""
    reply = '<div class="halo-reply mathjax_ignore tex2jax_ignore" dir="auto"><p>x</p></div>'
    assert wrap("<p>x</p>") == reply
