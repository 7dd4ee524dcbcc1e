"""A text that grows is rendered block by block, in bounded work, and ends the same however it came."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import StringIO
from itertools import cycle, repeat

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from halo_notebook.display import blocks, formulas
from halo_notebook.display import markdown as render
from halo_notebook.display.blocks import BlockRenderer, markdown_to_html

from ..harness.hostile import TEXTS
from ..harness.looks import safe_text


def streamed(text: str, sizes: Iterator[int]) -> str:
    """The whole of a text that came in pieces, with a frame after each."""
    renderer = BlockRenderer()
    seen: list[blocks.FinishedBlock] = []
    pieces = StringIO(text)
    while piece := pieces.read(next(sizes)):
        renderer.append(piece)
        assert renderer.open_html is not None
        assert renderer.finished[: len(seen)] == seen, "a finished block changed"
        seen = list(renderer.finished)
    renderer.end()
    assert renderer.finished[: len(seen)] == seen, "a finished block changed at the end"
    return "".join(renderer.resolved())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the texts that the Markdown parser has read."""
    lengths: list[int] = []
    parse = render.MARKDOWN.block.parse

    def counted(src: str, *rest: object) -> object:
        lengths.append(len(src))
        return parse(src, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(render.MARKDOWN.block, "parse", counted)
    return lengths


LINES = [
    *("# Title", "- item", "  - nested", "1. one", "2. two", "> quote", "```", "```py", "~~~", "$$", "\\["),
    *("\\]", "x = 1", "---", "===", "***", "", "", "", "", "    code", "[r]: http://a.example", "[r]", ")"),
    *("'title'", "text *em* **b**", "`c`", "$x^2$", "- [ ] task", "+ plus", "<b>", "[r]:", "#", "2", "1."),
    *("a | b", "---|---", "| 1 | 2 |", "```md", "\\begin{align}", "\\end{align}", "a\r", "<br>", "- שלום"),
    *("> [q]: http://q.example", "[r]: http://b.example", "![p](data:image/png;base64,", "中**「字」**$x$字"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(LINES), max_size=14).map("\n".join), st.lists(st.integers(1, 9), min_size=1))
@example("text\n#hash\n\nx", [1])
@example("1. a\n\n2. b\n\nx", [1])
@example("a\n\n$$\n- b\n$$\n", [1])
@example("| a |\n|---|\n| b |\n\nx", [1])
@example("$$\n===\n$$", [1])
def test_any_chunking_gives_the_same_html(text: str, sizes: list[int]) -> None:
    """A reply looks the same at its end, however it was cut on the way, also within a line."""
    assert streamed(text, cycle(sizes)) == markdown_to_html(text)


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        *(("# Title\n", 1), ("# Title", 0), ("---\n", 1), ("```\ncode\n```\n", 1), ("```\ncode\n\n", 0)),
        *(("text\n", 0), ("text\n \n", 1), ("> quote\n\n", 1), ("- item\n\n", 0), ("- item\n\ntext\n", 1)),
        *(("| a |\n|---|\n| b |\n", 0), ("| a |\n|---|\n| b |\n\n", 1), ("$$\n# x\n", 0), ("$$x$$\n\n", 1)),
        *(("    code\n\n", 0), ("Title\n===\n", 1), ("Title\n==", 0), ("a\n\n- b", 1), ("a\n- b", 0)),
        ("", 0),
    ],
)
def test_a_block_is_finished_as_soon_as_nothing_can_change_it(text: str, finished: int) -> None:
    """By its last line, by a blank line, or by the block after it."""
    renderer = BlockRenderer()
    renderer.append(text)
    assert len(renderer.finished) == finished
    assert markdown_to_html("") == ""


def test_the_number_of_formulas_is_bounded() -> None:
    """A flood of formulas is shown as code beyond the bound, the same in pieces and whole."""
    text = "$x$ $y$\n\n" * formulas.MAX_FORMULAS
    html = markdown_to_html(text)
    assert len(safe_text(html).formulas) == formulas.MAX_FORMULAS
    assert streamed(text, repeat(900)) == html


def test_finished_blocks_are_rendered_once(read: list[int]) -> None:
    """The work for a long reply of many frames is near that of rendering it a few times."""
    text = "A paragraph of a usual length, with *some* emphasis in it.\n\n- one\n- two\n\n" * 300
    assert streamed(text, repeat(50))
    assert sum(read) < 10 * len(text)


FLOODS = {
    **{name: text * 5 for name, text in TEXTS.items() if name.endswith("-flood")},
    "one-fence": "```py\n" + "x = 1\n" * 50_000,
    "one-list": "- an item of the list\n" * 8_000,
    "one-table": "|a|b|\n|-|-|\n" + "| some | cells |\n" * 8_000,
    "one-paragraph": "many words " * 20_000,
    "one-word": "w" * 200_000,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_read_in_bounded_pieces(name: str, read: list[int]) -> None:
    """However one block grows, no single reading is long, and all of them are a few times the text."""
    text = FLOODS[name]
    safe_text(markdown_to_html(text))
    assert max(read, default=0) <= blocks.MAX_OPEN_CHARS + 1_000
    assert sum(read) <= 3 * len(text)


def test_a_block_too_long_continues_as_one_of_its_kind() -> None:
    """Code stays code and a table keeps its columns where a long block had to be cut."""
    code = markdown_to_html("```\n" + "**x** = 1\n" * 5_000 + "```\n\nend")
    look = safe_text(code)
    assert {tag for tag, _ in look.elements} == {"pre", "code", "p"}
    assert look.text.count("**x** = 1\n") == 5_000
    table = safe_text(markdown_to_html("|a|b|\n|-|-|\n" + "| c | d |\n" * 1_000 + "\nend"))
    tags = [tag for tag, _ in table.elements]
    assert tags.count("tr") == 1_000 + tags.count("table") > 1_001
    assert table.text.split().count("c") == 1_000


def test_a_huge_reply_is_shown_in_part() -> None:
    """Beginning and end are shown, with a note between, in what a message can carry."""
    text = "first\n\n" + ('A “paragraph” with quotes "" and more. ' * 25 + "\n\n") * 1_600 + "last"
    html = markdown_to_html(text)
    assert len(json.dumps(html, ensure_ascii=False).encode()) <= blocks.MAX_SHOWN_BYTES + 50_000
    assert html.startswith("<p>first</p>")
    assert html.endswith("last</p>\n")
    (hidden,) = re.findall(r"… ([\d,]+) characters are not shown here; <code>reply\.text</code>", html)
    assert int(hidden.replace(",", "")) + blocks.MAX_SHOWN_CHARS < len(text)
    assert streamed(text, repeat(9_999)) == html
    safe_text(html)


LONG_REFERENCE = f"\n\n[r]: http://a.example/{'x' * 1_000}\n"


def test_a_block_that_swells_is_shown_as_text() -> None:
    """Short Markdown that makes very much HTML stays within the bound of a block, and of all of them."""
    for text in ("[](http://a.example) " * 700, "```\n" + "'<&" * 5_000, "[a][r] " * 2_000 + LONG_REFERENCE):
        renderer = BlockRenderer()
        renderer.append(text)
        for html in [*(block.html for block in renderer.finished), renderer.open_html]:
            assert len(html) <= render.MAX_BLOCK_BYTES
            safe_text(html)
    many = markdown_to_html(f"{LONG_REFERENCE}\n" + ("[a][r] " * 300 + "\n\n") * 100)
    assert len(many) < blocks.MAX_SHOWN_BYTES + render.MAX_BLOCK_BYTES
