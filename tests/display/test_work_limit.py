"""Whatever a text holds, rendering it takes a bounded number of steps, and no text is lost."""

from __future__ import annotations

import re
from collections import Counter
from itertools import cycle, repeat
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it.parser_inline import ParserInline
from markdown_it.token import Token

from halo_notebook.display import blocks
from halo_notebook.display.blocks import BlockRenderer, markdown_to_html
from halo_notebook.display.links import DataCut
from halo_notebook.display.work_limit import MAX_REPLY_STEPS

from ..harness.looks import safe_text
from .test_blocks import LINES, streamed

CHARS = 100_000
FLOODS = {
    "dense paragraphs": "A paragraph with *some* emphasis and `code`.\n\n- one\n- two\n\n",
    "emphasis": "*a_b* ",
    "sparse emphasis": "*word word* ",
    "brackets": "abc [",
    "brackets and an end": f"{'abc [' * 2_999}]\n\n",
    "links": "[*a*](http://b.example/\u00e9) ",
    "addresses": "http://b.example/\u00e9 ",
    "definitions": "[a]: http://b.example\n\n",
    "items": "- a\n",
    "numbered items": "1. a\n",
    "items in items": "- - - - - - a\n",
    "items in quotes": "> - a\n",
    "quotes in items": "- > - > a\n",
    "lines": "a\n",
    "headings": "a\n-\n",
    "rules": "---\n",
    "cells": "|a|b|\n|-|-|\n",
    "half a table": "a|b|c\n-|-\n",
    "entities": "&amp; ",
    "formulas": "\\begin{a}\n",
    "escaped formulas": "\\begin{a}" * 400 + "\\\\end{a}" * 600,
    "images": "![a](data:image/svg+xml,<svg ",
    "right to left": "- \u05e9 a\n",
}


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many tokens the parser has made, and how often it looked for the end of one."""
    seen: Counter[str] = Counter()
    made, skip = Token.__post_init__, ParserInline.skipToken

    def counted_token(token: Token) -> None:
        seen["tokens"] += 1
        made(token)

    def counted_skip(parser: ParserInline, state: Any) -> None:
        seen["skipped"] += 1
        skip(parser, state)

    monkeypatch.setattr(Token, "__post_init__", counted_token)
    monkeypatch.setattr(ParserInline, "skipToken", counted_skip)
    return seen


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_takes_a_bounded_number_of_steps(name: str, count: Counter[str]) -> None:
    """A long text makes few tokens, and all of its words are there."""
    text = (FLOODS[name] * (CHARS // len(FLOODS[name]) + 1))[:CHARS]
    look = safe_text(markdown_to_html(text))
    assert count["tokens"] < 4 * MAX_REPLY_STEPS / 12
    assert count["skipped"] < MAX_REPLY_STEPS
    if name not in {"images", "cells"}:
        words = re.sub(r"[^a-z]", "", re.sub("http[^ ]*|amp;", "", text))
        shown = re.sub(r"[^a-z]", "", re.sub("http[^ ]*|amp;", "", look.text))
        assert len(shown) >= len(words) * 0.99


def test_the_rest_of_a_long_dense_text_is_shown_as_its_source() -> None:
    """Each item is there, in order: first as a list, then as it was written."""
    text = "".join(f"- **item** {number}\n" for number in range(12_000))
    html = markdown_to_html(text)
    assert re.findall(r"\d+", safe_text(html).text) == [str(number) for number in range(12_000)]
    assert html.startswith("<ul>\n<li><strong>item</strong> 0</li>")
    assert html.endswith("- **item** 11999\n</pre>\n")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("# Title\n# Title\n\n# Title", [1], 129)
@example("a\n\n\nb", [2, 1], 40)
@example("- a\n \n\t\n# b\n\n\nc", [1], 70)
@given(
    st.lists(st.sampled_from(LINES), max_size=14).map("\n".join),
    st.lists(st.integers(1, 9), min_size=1),
    st.integers(1, 1_500),
)
def test_the_source_begins_at_the_same_place(text: str, sizes: list[int], steps: int) -> None:
    """However a text is divided into pieces, the same blocks are shown as source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "MAX_REPLY_STEPS", steps)
        assert streamed(text, cycle(sizes)) == markdown_to_html(text)


@pytest.mark.parametrize(
    ("piece", "times"),
    [("[a][r] ", 5_000), ("[a][r] ", 400), ("- [a][r] [\n", 2_000), ("*a_b* [a][r] ", 3_000)],
)
def test_a_definition_stays_where_its_link_is_shown_as_source(piece: str, times: int) -> None:
    """Its address can be read: the link that names it is text."""
    text = f"{piece * times}\n\n[r]: https://r.example/{'x' * 1_000}\n"
    for html in (markdown_to_html(text), streamed(text, repeat(4_000))):
        assert "https://r.example/x" in html


@pytest.mark.parametrize(
    ("piece", "times"), [("data:", 3_000), ("data:a ", 3_000), ("data:image/png;base64,", 1), ("dat", 9)]
)
def test_data_is_shortened_the_same_in_pieces(piece: str, times: int) -> None:
    """A data: URL is cut after the same character wherever a piece ends."""
    text = f"{piece * times}{'A' * 9_000}) data:b"
    whole = DataCut()(text)
    for size in (1, 3, 1_000):
        cut = DataCut()
        assert "".join(cut(text[at : at + size]) for at in range(0, len(text), size)) == whole


def test_links_that_are_defined_late_are_resolved_up_to_a_bound(count: Counter[str]) -> None:
    """Blocks are rendered again only if a label of theirs was defined later."""
    renderer = BlockRenderer()
    renderer.append("[a][r]\n\n" + "Text *without* links.\n\n" * 500 + "[r]: https://r.example\n")
    renderer.end()
    before = count["tokens"]
    assert "".join(renderer.resolved()).count('href="https://r.example"') == 1
    assert count["tokens"] - before < 20


def test_the_note_on_what_is_hidden_stays() -> None:
    """Links that are defined in the hidden part do not take the place of the note."""
    text = ("[a][r] " + "word " * 400 + "\n\n") * 200 + "[r]: https://r.example\n"
    html = markdown_to_html(text)
    assert html.count("characters are not shown here") == 1
    assert 'href="https://r.example"' in html
