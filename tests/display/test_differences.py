"""Two texts are compared word by word, whatever they hold and however long they are."""

from __future__ import annotations

import random

import pytest

from halo_notebook.display import differences as module
from halo_notebook.display.differences import Part, differences


def marked(parts: list[Part]) -> str:
    return "".join(f"[{text}]" if differs else text for text, differs in parts)


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("a b c", "a b c", ("a b c", "a b c")),
        ("", "", ("", "")),
        ("", "new", ("", "[new]")),
        ("old", "", ("[old]", "")),
        ("It costs $5.", "It costs $7.", ("It costs $[5].", "It costs $[7].")),
        ("a big red car", "a small blue car", ("a [big red] car", "a [small blue] car")),
        ("Größe 🙂 ok", "Größe 🙁 ok", ("Größe [🙂] ok", "Größe [🙁] ok")),
        ("<b>x</b>", "<i>x</i>", ("<[b]>x</[b]>", "<[i]>x</[i]>")),
        ("line\nline", "line\n\nline", ("line[\n]line", "line[\n\n]line")),
        ("\ud800\x00", "\ud800", ("\ud800[\x00]", "\ud800")),
    ],
)
def test_what_differs_is_marked(first: str, second: str, shown: tuple[str, str]) -> None:
    """Words, signs and white space; what is equal in both is not marked."""
    parts = differences(first, second)
    assert (marked(parts[0]), marked(parts[1])) == shown


@pytest.mark.parametrize("vocabulary", [1, 3, 60, 2_000])
@pytest.mark.parametrize("words", [50, 1_900, 5_000])
def test_the_parts_together_are_the_texts(vocabulary: int, words: int) -> None:
    """Also of texts that repeat few words thousands of times, which are slow to compare in full."""
    drawn = random.Random(vocabulary * words)
    texts = [" ".join(f"w{drawn.randrange(vocabulary)}" for _ in range(words)) for _ in range(2)]
    parts = differences(*texts)
    assert ["".join(text for text, _ in side) for side in parts] == texts


def test_a_text_of_very_many_lines_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is marked as a whole."""
    monkeypatch.setattr(module, "MAX_WORDS", 3)
    assert marked(differences("a\nb c\nd", "a\nb x\nd")[1]) == "a\n[b x\n]d"
    monkeypatch.setattr(module, "MAX_LINES", 2)
    assert marked(differences("a\nb c\nd", "a\nb x\nd")[1]) == "[a\nb x\nd]"
