"""JSON is shown as far as it can be, what is left out is noted, and plain text is plain."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halo_notebook.display.json_tree import (
    MAX_JSON_HTML_BYTES,
    Limits,
    json_display,
    json_html,
    json_text,
    payload_label,
)
from halo_notebook.display.text import MAX_PLAIN_BYTES, bounded, one_line, plain, terminal_text

from ..harness.hostile import PAYLOADS
from ..harness.looks import safe_json

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

# As values that are shown whole: longer keys are cut.
small_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=50), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(small_json_values)
def test_json_text_of_a_small_payload_is_its_json(payload: JSON) -> None:
    """What is within the bounds can be read back."""
    text = json_text(payload, Limits(nodes=10**6, string=10**6))
    assert json.loads(text, strict=False) == json.loads(json.dumps(payload))


def test_the_top_of_a_tree_is_open() -> None:
    """One level shows at once, the rest opens on a click."""
    html = json_html({"a": {"b": 1}}, "action 1: x")
    opened = [attributes for tag, attributes in safe_json(html).elements if tag == "details"]
    assert opened == [{"open": None}, {}]
    assert "action 1: x" in html


@pytest.mark.parametrize("show", [json_html, json_text])
def test_what_is_left_out_of_a_tree_is_noted(show: Callable[..., str]) -> None:
    """Too many values, too deep ones and long strings are cut where they are, with a count."""
    assert "… 1,234 more" in show(list(range(3_234)), limits=Limits(nodes=2_000))
    assert "too deep to show" in show([[[["x"]]]], limits=Limits(depth=2))
    assert "… 40 more characters" in show("x" * 50, limits=Limits(string=10))
    # However much the values cost as HTML.
    assert len(show(["\"'<&" * 500] * 2_000)) <= MAX_JSON_HTML_BYTES
    # A first branch that takes all must not hide what stands beside it.
    assert "beside" in show({"first": list(range(5_000)), "beside": 1}, limits=Limits(nodes=100))


HARMLESS: JSON = {"type": "go", "boxes": [1, 2.5, {"x": None, "y": True}], "empty": {}, "text": "a\n\tü"}


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (HARMLESS, HARMLESS),
        ([2**53 - 1, 2**53, -(2**53), True], [2**53 - 1, str(2**53), str(-(2**53)), True]),
        ([10**5_000], ["… a number of more than 3,000 digits"]),
        ([float("inf"), float("nan")], ["inf", "nan"]),
        ({"a\x00": "\u202e\n", "a": 1, "__proto__": 2}, {"a\\u0000": "\\u202e\n", "a": 1, '"__proto__"': 2}),
        ({"b": 1, "a": 2}, {"b": 1, "a": 2}),
    ],
)
def test_json_for_a_front_end_can_be_read_as_it_is(payload: JSON, shown: JSON) -> None:
    """In its order and not changed; large numbers with all digits, hidden characters as escapes."""
    assert json.dumps(json_display(payload)) == json.dumps(shown)
    assert json_display(payload) is not HARMLESS
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
    assert json_display([[{"x": "y"}] * 3] * 3, max_bytes=20) == "… too large to show: more than 20 bytes"


@pytest.mark.parametrize("name", ["deep-list", "deep-object"])
def test_deep_json_needs_no_deep_stack(name: str) -> None:
    """A payload nested as deep as the stream allows can be shown from near the end of the stack."""

    def deep(levels: int) -> str:
        payload = PAYLOADS[name]
        if levels:
            return deep(levels - 1)
        return json_html(payload) + json_text(payload) + str(len(str(json_display(payload))))

    assert "too deep to show" in deep(sys.getrecursionlimit() - len(inspect.stack(0)) - 160)


@pytest.mark.parametrize(
    ("payload", "label"),
    [
        ({"type": "highlight"}, "action 7: highlight"),
        ({"name": "n"}, "action 7: n"),
        ({"type": 1, "name": "n"}, "action 7: n"),
        ({"type": " ", "name": None}, "action 7"),
        ({"type": "a\n\x1b[0mb\u202e"}, "action 7: a [0mb"),
        *(([], "action 7"), ("x", "action 7"), (None, "action 7")),
    ],
)
def test_an_action_is_labelled_by_its_type_or_name(payload: JSON, label: str) -> None:
    """A label is one short line, whatever the payload is."""
    assert payload_label(payload, 7) == label


def test_plain_text_keeps_what_is_harmless() -> None:
    """Newlines, tabs, accents, emoji and right-to-left letters stay; a line is short, and a cut is marked."""
    text = "a\tb\nü 👩‍👧 שלום"
    assert terminal_text(text) == text
    assert terminal_text("a\r\nb\u2028c\ud800") == "a\nb\nc\ufffd"
    assert one_line(" a \n\t b\x00 ") == "a b"
    assert one_line("x" * 300) == "x" * 199 + "…"
    assert one_line("") == ""
    assert one_line(" " * 100_000 + "x", 10) == "…"


def test_long_plain_text_is_shown_in_part() -> None:
    """Beginning and end are kept within the bound, and the note counts what is not shown."""
    text = "a" + "ü\n" * 1_000_000 + "z"
    shown = plain(text)
    assert len(json.dumps(shown, ensure_ascii=False).encode()) <= MAX_PLAIN_BYTES + 200
    note = r"(a.*)\n\n… ([\d,]+) characters are not shown here; `reply\.text` has the full text\n\n(.*z)"
    found = re.fullmatch(note, shown, re.DOTALL)
    assert found
    assert len(found[1]) + int(found[2].replace(",", "")) + len(found[3]) == len(text)
    assert plain("short") == bounded("short", 10) == "short"
