"""Untrusted text and JSON become HTML and plain text that do nothing but show."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halo_notebook.display.blocks import BlockRenderer, markdown_to_html
from halo_notebook.display.json_tree import Limits, json_display, json_html, json_text, payload_label
from halo_notebook.display.markdown import CLEANER_SETTINGS
from halo_notebook.display.text import one_line, plain, terminal_text

from ..harness.hostile import PAYLOADS, TEXTS
from ..harness.looks import FORBIDDEN, safe_json, safe_text

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_only_shown(name: str) -> None:
    """Only listed tags, attributes, addresses and styles come out, in each frame, and plain text is plain.

    Nor does a formula load, define, link, style or paint outside its place.
    """
    text = TEXTS[name]
    whole = markdown_to_html(text)
    look = safe_text(whole)
    safe_text(markdown_to_html(text, images=True), images=True)

    if len(text) < 2_000:
        renderer = BlockRenderer()
        for at in range(0, len(text), 7):
            renderer.append(text[at : at + 7])
            safe_text("".join(block.html for block in renderer.finished) + renderer.open_html)
        renderer.end()
        assert "".join(renderer.resolved()) == whole

    for formula in look.formulas if name.startswith("tex-") and name != "tex-many" else ():
        # Harmless here are only pieces without any command or with those for text.
        assert set(re.findall(r"\\[A-Za-z]+", formula.replace("\\\\", ""))) <= {"\\text"}, formula
        assert formula[0] == "$" == formula[-1] or formula[:2] in {"\\(", "\\["}

    start = text[:5_000]
    assert not FORBIDDEN.search(terminal_text(start))
    assert "".join(map(terminal_text, start)) == terminal_text(start)
    assert not FORBIDDEN.search(plain(start))


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
@given(st.text(alphabet=st.one_of(st.sampled_from("<>&\"'`[]()!*_~#-=|:\\/$ \n\t\x1e{}"), st.characters())))
def test_no_text_yields_a_tag_that_is_not_listed(text: str) -> None:
    """Any text at all gives listed tags and attributes only, with images and without."""
    safe_text(markdown_to_html(text))
    safe_text(markdown_to_html(text, images=True), images=True)


@quick
@given(st.text(alphabet=st.characters(codec=None)), st.text())
def test_terminal_text_holds_no_control_characters(first: str, second: str) -> None:
    """Any text is made plain, and two pieces give what both together give."""
    assert not FORBIDDEN.search(terminal_text(first))
    assert terminal_text(first) + terminal_text(second) == terminal_text(first + second)
    assert "\n" not in one_line(first)
    assert len(one_line(first, 20)) <= 20


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@quick
@given(json_values, st.text())
def test_any_json_gives_a_balanced_tree(payload: JSON, label: str) -> None:
    """The tree of any JSON is whole, safe and within its bounds."""
    safe_json(json_html(payload, label))
    safe_json(json_html(payload, label, Limits(nodes=3, depth=2, string=2)))
    assert not FORBIDDEN.search(json_text(payload))
    json.dumps(json_display(payload), allow_nan=False).encode()
    assert len(json.dumps(json_display(payload, max_bytes=100), ensure_ascii=False).encode()) <= 100


def test_what_replaces_nh3_in_a_browser_is_as_strict() -> None:
    """On the JupyterLite site hostile text, as HTML or as Markdown, is only shown too."""
    source = Path(__file__).parents[2] / "notebooks/lite/nh3/nh3.py"
    replacement = runpy.run_path(str(source))["Cleaner"](**CLEANER_SETTINGS)
    for text in TEXTS.values():
        for html in (terminal_text(text), markdown_to_html(text)):
            clean = terminal_text(replacement.clean(html))
            safe_text(clean.replace(": ", ":").replace("; ", ";"))


def test_reordering_characters_are_dropped_however_they_are_written() -> None:
    """Neither a character nor an entity can make text or code read otherwise than it is."""
    assert markdown_to_html("a\u202eb &#x202e;&#8294;c `\u2066d`") == "<p>ab c <code>d</code></p>\n"
