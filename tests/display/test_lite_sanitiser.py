"""nh3 is not available in a browser: its replacement on the JupyterLite site must be as strict."""

from __future__ import annotations

import importlib.util
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from halo_notebook.display import markdown as render
from halo_notebook.display import markdown_to_html

from ..harness.hostile import TEXTS

ROOT = Path(__file__).parents[2]


class Parts(HTMLParser):
    """The parts of an HTML text, without what may differ: spaces in styles and the order of attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[object] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "style" in values:
            values["style"] = values["style"].replace(" ", "")
        self.parts.append((tag, values))

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(("text", data))


@pytest.fixture
def replacement() -> Any:
    """The site's module nh3."""
    spec = importlib.util.spec_from_file_location("halo_lite_nh3", ROOT / "notebooks/lite/nh3/nh3.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_replacement_leaves_nothing_that_nh3_removes(replacement: Any) -> None:
    """nh3 finds nothing more to remove from a hostile text, as HTML or as Markdown."""
    cleaner = replacement.Cleaner(**render.CLEANER_SETTINGS)
    wrong = []
    for name, text in TEXTS.items():
        raw = text.encode("utf-8", "replace").decode()  # nh3 itself refuses lone surrogates
        for html in (raw, markdown_to_html(text)):
            clean = cleaner.clean(html)
            if Parts(render.CLEANER.clean(clean)).parts != Parts(clean).parts:
                wrong.append(name)
    assert wrong == []
