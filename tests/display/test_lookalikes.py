"""Texts that Unicode calls equivalent are equal; if two only look the same, the difference is named."""

from __future__ import annotations

import pytest

from halo_notebook.display.lookalikes import canonical, difference


@pytest.mark.parametrize(
    ("text", "same"),
    [("cafe\u0301", "café"), ("\u212bngstrom", "Ångstrom"), ("\u1100\u1161\u11a8", "각"), ("\u2126", "Ω")],
    ids=ascii,
)
def test_canonically_equal_texts_have_one_form(text: str, same: str) -> None:
    """Composed or not, and in either case."""
    assert canonical(text) == canonical(same)
    assert canonical(text.upper(), ignore_case=True) == canonical(same, ignore_case=True)


def test_a_letter_is_not_its_base_letter() -> None:
    """The e of a decomposed é is not found."""
    assert canonical("cafe") not in canonical("cafe\u0301")


@pytest.mark.parametrize(
    ("wanted", "text", "words"),
    [
        ("1 000 €", "1\u202f000 €", "U+202F NARROW NO-BREAK SPACE"),
        ("1 000", "1\u00a0000", "U+00A0 NO-BREAK SPACE in place of U+0020 SPACE"),
        ("hello world", "hello\u3000world", "U+3000 IDEOGRAPHIC SPACE"),
        ("password", "pass\u200bword", "U+200B ZERO WIDTH SPACE in it"),
        ("pass\u200bword", "password", "no U+200B ZERO WIDTH SPACE"),
        ("soft", "so\u00adft", "U+00AD SOFT HYPHEN"),
        ("admin", "\u0430dmin", "U+0430 CYRILLIC SMALL LETTER A in place of U+0061 LATIN SMALL LETTER A"),
        ("Total", "T\u03bftal", "U+03BF GREEK SMALL LETTER OMICRON"),
        ("don't", "don’t", "U+2019 RIGHT SINGLE QUOTATION MARK in place of U+0027 APOSTROPHE"),
        ("a-b", "a–b", "U+2013 EN DASH in place of U+002D HYPHEN-MINUS"),
        ("123", "１２３", "U+FF11 FULLWIDTH DIGIT ONE"),
        ("file", "\ufb01le", "U+FB01 LATIN SMALL LIGATURE FI in place of"),
        ("a b", "a\nb", "U+000A a control character in place of U+0020 SPACE"),
        ("a  b", "a b", "other blanks"),
    ],
    ids=ascii,
)
def test_the_characters_are_named(wanted: str, text: str, words: str) -> None:
    """Blanks of other kinds, characters without width, letters of other scripts; also in a longer text."""
    assert words in difference(text, wanted)
    assert words in difference(f"It says: {text}!", wanted)


@pytest.mark.parametrize(("wanted", "text"), [("Ada", "Grace"), ("cafe", "café"), ("x", ""), ("ö", "o")])
def test_other_texts_are_just_different(wanted: str, text: str) -> None:
    """Nothing is said where nothing looks the same."""
    assert difference(text, wanted) == ""
