"""Where CommonMark reads differently what models write, it is shown as they meant it."""

from __future__ import annotations

import re
import time

import pytest

from halo_notebook.display import highlight, markdown_to_html
from halo_notebook.display.blocks import BlockRenderer
from halo_notebook.display.text import one_line, terminal_text

from ..harness.looks import safe_text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        *(
            (f"Phone: 1{end}Mail: 2", "Phone: 1<br>\nMail: 2")
            for end in ["\n", "\r", "\r\n", "\x0c", "\x0b", "\x85", "\u2028", "\u2029"]
        ),
        *((f"x{tag}y", "x<br>\ny") for tag in ("<br>", "<BR>", "<br/>", "<br  />", "<Br />\n", "<br> \n ")),
        *((f"x{tag}y", f"x&lt;{tag[1:-1]}&gt;y") for tag in ("<br x>", "<brr>", "</br>", "<hr>", "<b>")),
        ("`<br>` \\<br> &lt;br&gt;", "<code>&lt;br&gt;</code> &lt;br&gt; &lt;br&gt;"),
    ],
)
def test_lines_are_broken_where_they_end(text: str, html: str) -> None:
    """At each line end of any kind and each <br>, and at no other tag."""
    assert markdown_to_html(text) == f"<p>{html}</p>\n"


def test_lines_are_broken_in_items_and_cells_but_not_in_code() -> None:
    """A <br> is the only way to break a line in a table; in code it stays."""
    table = markdown_to_html("| a |\n|---|\n| open<br>then click<br/>done |\n")
    assert "open<br>\nthen click<br>\ndone</td>" in table
    assert ">a<br>\nb</li>" in markdown_to_html("- a\n  b\n")
    assert "<br>" not in markdown_to_html("```\na\nb <br>\n```\n\n    c\n    d\n")


def test_a_line_end_that_is_divided_is_one() -> None:
    """CR LF in two pieces is one line end, and no character runs into the next."""
    renderer = BlockRenderer()
    for piece in ("a\r", "\nb", "\r", "", "\n", "\nc\r", "d"):
        renderer.append(piece)
    assert renderer.text == "a\nb\n\nc\nd" == terminal_text("a\r\nb\r\n\nc\rd")
    assert one_line("page one\fPage two\vx\x85y") == "page one Page two x y"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Sources:\n\n[1]: https://a.example/x\n[2]: https://b.example/y\n", ["a", "b"]),
        ("[1]: https://a.example/x\n\nSee [1].", ["a"]),
        ("See [1] and [b][B].\n\n[1]: https://a.example/x\n[b]: https://b.example 'B'\n", ["a", "b"]),
        (
            "> [1]: https://a.example/x\n\n- [2]: https://b.example (Title)\n\n[3]:\nhttps://c.example",
            ["a", "b", "c"],
        ),
        ("[a]: https://a.example\n[a]: https://b.example\n\n[a]", ["b", "a"]),
        ("Text[^1]\n\n[^1]: https://a.example\n[^2]: https://b.example\n", ["a", "b"]),
        ("[x]: <https://a.example/?q> \"A 'title'\"\n# Title", ["a"]),
    ],
)
def test_a_definition_that_no_link_uses_is_shown(text: str, shown: list[str]) -> None:
    """Each address can be read or followed, once; what is used is not shown again."""
    html = markdown_to_html(text)
    assert [re.findall("//(.)", href)[0] for href in safe_text(html).links] == shown
    renderer = BlockRenderer()
    for char in text:
        renderer.append(char)
        assert renderer.open_html is not None
    renderer.end()
    assert "".join(renderer.resolved()) == html


@pytest.mark.parametrize(
    "text",
    [
        "```markdown\n# T\n```python\nx\n```\nmore\n```\n\nEnd.",
        "~~~md\n~~~sh\nls\n~~~\n~~~\nEnd.",
        "````Markdown\n```\nx\n```\n````\nEnd.",
        "- ```md\n  ```py\n  x\n  ```\n  ```\n\nEnd.",
        "```md\n```a\n```b\n```\n```\n```\nEnd.",
    ],
)
def test_a_fence_of_markdown_holds_fences(text: str) -> None:
    """The text after it is not code, and what is in it is."""
    html = markdown_to_html(text)
    assert html.count("<pre") == 1
    assert html.endswith("<p>End.</p>\n")
    assert safe_text(markdown_to_html("```py\n```sh\n```\nEnd.")).text.endswith("End.\n")


ALIGN = "\\begin{align}\na &= b \\\\\nc_1 &= d_1\n\\end{align}"


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        *(
            (ALIGN.replace("align", name), True)
            for name in ("align", "align*", "equation", "gather*", "cases")
        ),
        ("\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}", True),
        *((ALIGN.replace("align", name), False) for name in ("tabular", "itemize", "foo")),
        ("\\begin{align}\n\\href{https://a.example}{x}\n\\end{align}", False),
    ],
)
def test_an_environment_needs_no_dollars(text: str, *, formula: bool) -> None:
    """It is typeset, or shown whole as code, alone and within a line."""
    for whole in (text, f"Text:\n{text}\n\nmore", f"so {text.replace(chr(10), ' ')} holds"):
        look = safe_text(markdown_to_html(whole))
        assert len(look.formulas) == formula
        assert re.sub(r"\s", "", text) in re.sub(r"\s", "", look.text)


@pytest.mark.parametrize(
    "address",
    ["data:image/png;base64,", "DATA:image/SVG+xml;base64,", "data:image/jpeg;charset=x;base64,", "data:,"],
)
@pytest.mark.parametrize("size", [10, 200_000])
def test_a_picture_as_a_data_address_is_named(address: str, size: int) -> None:
    """Its base64 is never shown, not even while it arrives; the text after it is."""
    text = f"![chart]({address}{'Ab1+' * (size // 4)}) after"
    for images in (False, True):
        html = markdown_to_html(text, images=images)
        assert html == "<p>image: chart after</p>\n"
    renderer = BlockRenderer()
    for at in range(0, len(text), 10_007):
        renderer.append(text[at : at + 10_007])
        assert len("".join(block.html for block in renderer.finished) + renderer.open_html) < 200
    renderer.end()
    assert "".join(renderer.resolved()) == html


def test_other_data_addresses_are_shown_in_short() -> None:
    """Links and definitions with them are text; nothing is loaded, and no link leads there."""
    svg = "<svg xmlns='x'>\n<path d='M(1 2)'/></svg>"
    html = markdown_to_html(
        f"![a](data:image/svg+xml;utf8,{svg}) and ![b](data:image/png;base64,{'A' * 9_000}"
    )
    assert html.startswith("<p>image: a and ![b](data:image/png;base64,AAA") and len(html) < 200
    assert 'href="https://a.example/x"' in markdown_to_html("The data: https://a.example/x")
    long = "data:application/pdf;base64," + "A" * 50_000
    texts = (f"[file]({long}) x", f"[f][r] ![p][r] x\n\n[r]: {long}\n", f"[r]: {long}\n\nx", f"<{long}> x")
    for text in (*texts, f'<img src="{long}"> x'):
        look = safe_text(markdown_to_html(text))
        assert "x" in look.text and len(look.text) < 200
        assert not {"a", "img"} & {tag for tag, _ in look.elements}


SLOW = {
    "java": '"' + "a b " * 2470,
    "java blanks": " \n" * 4_900,
    "ini": "a:" * 4_900,
    "diff": "- " * 4_900,
    "ipython": "a." * 4_900,
    "r": "'" + "a b " * 2400,
}


@pytest.mark.parametrize("name", SLOW)
def test_highlighting_has_a_budget(name: str) -> None:
    """Many blocks that a lexer reads slowly cost a reply less than a second; past it code is plain."""
    text = f"```{name.split(maxsplit=1)[0]}\n{SLOW[name]}\n```\n\n" * 30
    since = time.thread_time()
    safe_text(markdown_to_html(text))
    assert time.thread_time() - since < 1.5
    code = "```python\nreturn 1\n```\n\n"
    spans = markdown_to_html(code * 10 + ("```python\n" + "x = 1\n" * 1_500 + "```\n\n") * 30).count("<span")
    assert 20 <= spans < 2 * highlight.MAX_REPLY_CHARS
