"""No frame of a growing reply shows anything that the finished reply does not."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from halo_notebook.display.blocks import BlockRenderer, markdown_to_html

from ..harness.looks import safe_text

ENDS = {
    "list, not a heading": "Items:\n- one\n- two\n",
    "heading": "Title\n===\n\nText\n---\n",
    "rule": "a\n\n---\n\n***\n\n- b\n\n* c",
    "dash in a quote": "> Items:\n> - one\n> - two\n",
    "hash tag": "#hashtag and\n\n# Title",
    "number": "1.5 million\n\n1. one\n2. two\n\nIn\n1986",
    "fence": "```python\nx = `1`\n```\n\n~~~\ny\n~~~\n\n- ```\n  z\n  ```",
    "inline code": "```x``` is `y` and ``z` ``",
    "table": "| a | b |\n|---|:-:|\n| 1 | **2** |\n",
    "table without outer pipes": "Costs:\n\na | b\n---|:-:\n1 | **2**\n",
    "pipes in prose": "Run `a | b` or a | b\nor a || b. Then | more\n\n- x | y",
    "table in a list": "- | a | b |\n  |---|---|\n  | 1 | 2 |",
    "emphasis": "Hello **world** and *you*, ~~not~~ _me_ ***both***",
    "emphasis in Chinese": "这是**重要**的*（注）*",
    "link": "See [the *docs*](https://example.com/a_(b) 'title') and [x](<https://example.com>)",
    "image": "Look: ![a chart](https://example.com/x.png) here",
    "bare address": "Go to https://example.com/a/b now, or <https://example.com/c>.",
    "line break": "a<br>b<br />c\\\nd",
    "entity": "a &amp; b &#38; c",
    "definition": "Sources:\n\n[1]: https://example.com/x\n[2]: https://example.com/y",
    "task": "- [ ] a\n- [x] b",
    "data": "![c](data:image/png;base64,AAAABBBB) after",
}


def frames(text: str) -> list[str]:
    """The whole HTML after each character."""
    renderer = BlockRenderer()
    seen = []
    for char in text:
        renderer.append(char)
        seen.append("".join(block.html for block in renderer.finished) + renderer.open_html)
    return seen


def is_part(letters: str, whole: str) -> bool:
    """Whether `letters` stand in `whole` in this order."""
    rest = iter(whole)
    return all(letter in rest for letter in letters)


@pytest.mark.parametrize("name", ENDS)
def test_a_frame_shows_only_what_the_end_has(name: str) -> None:
    """No element, address or character that is gone at the end, and no element without text."""
    text = ENDS[name]
    end = safe_text(markdown_to_html(text))
    for frame in frames(text):
        look = safe_text(frame)
        assert not re.search(
            r"<(p|li|h\d|pre|blockquote|td|code)\b[^>]*>\s*</\1>", frame.split("<tbody>")[0]
        ), frame
        # Text is a paragraph before it is a heading.
        missing = [each for each in look.elements if each not in end.elements and each[0] != "p"]
        assert not missing, (frame, missing)
        assert is_part(look.text.replace("\n", ""), end.text.replace("\n", "")), frame


@pytest.mark.parametrize(
    ("pieces", "gone"),
    [
        (["Items:\n-", " one\n- two\n"], "<h2"),
        (["Items:\n=", "> x\n"], "<h1"),
        (["A\n--", "x"], "<h2"),
        (["3.", "14 is"], "<ol"),
        (["```py", "\nx"], "<pre"),
    ],
)
def test_half_a_mark_is_not_taken_for_a_whole_one(pieces: list[str], gone: str) -> None:
    """Text that ends within a line may still go on."""
    renderer = BlockRenderer()
    for piece in pieces:
        renderer.append(piece)
        assert gone not in renderer.open_html or gone in markdown_to_html("".join(pieces))


@pytest.mark.parametrize("text", ["**", "- ", "Items:\n-", "`a", "[x](https://a.exam", "| a |", "42.", "a\\"])
def test_all_is_shown_when_the_text_has_ended(text: str) -> None:
    """What a frame leaves out is not lost."""
    renderer = BlockRenderer()
    renderer.append(text)
    assert renderer.open_html is not None
    renderer.end()
    assert "".join(renderer.resolved()) == markdown_to_html(text)


@pytest.mark.parametrize(
    "text", ["```py\nx = 1\n```\n", "- one", "> quote", "| a |\n|---|\n", "<b>x", "\n\n \nText", "    code"]
)
def test_the_first_frame_has_text(text: str) -> None:
    """Nothing is shown before there is something to read."""
    shown = [frame for frame in frames(text) if frame]
    assert safe_text(shown[0]).text.strip()
    assert all(len(a) <= len(b) + 200 for a, b in pairwise(shown))


@pytest.mark.parametrize("mark", ["[ ", "![ ", "[x ", "[ ]", "& ", "< ", "<br ", "> - ", "*_~"])
def test_many_marks_are_read_once(mark: str) -> None:
    """A line of marks before a word is not tried in each combination, which would take forever."""
    for text in (f"{mark * 60}a", f"word {mark * 60}a", f"{mark * 60}\n"):
        renderer = BlockRenderer()
        renderer.append(text)
        assert isinstance(renderer.open_html, str)
        renderer.end()
        assert safe_text("".join(renderer.resolved())).text.count("a") >= text.count("a")


def test_prose_with_a_pipe_is_not_held_back_for_long() -> None:
    """A line that is longer than the head of a table, or has code before its pipe, is shown at once."""
    for text in ("Pipe `ls` | sort", "Many words " * 12 + "| more", "a | " + "many words " * 30):
        renderer = BlockRenderer()
        renderer.append(text)
        assert safe_text(renderer.open_html).text.split() == text.replace("`", "").split()
