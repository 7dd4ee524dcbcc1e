"""Replies side by side: bounded, safe, and what is added while they arrive."""

from __future__ import annotations

import json

import pytest

from halo_notebook.display.columns import MAX_COLUMNS_BYTES, Column, columns_html
from halo_notebook.reply import Reply
from halo_notebook.stream import Action, TextDelta


def column(*events: object, name: str = "a", max_bytes: int = MAX_COLUMNS_BYTES) -> Column:
    reply = Reply()
    for event in events:
        reply.add(event, 0.1)  # type: ignore[arg-type]
    return Column(name, reply, images=False, max_bytes=max_bytes)


def test_a_column_grows_with_its_reply() -> None:
    """Before any text it says what is awaited; then text and actions stand in the order of their arrival."""
    shown = column()
    assert "connecting …" in shown.frame()
    shown.reply.add(TextDelta("One.\n\n"), 0.1)
    shown.reply.add(Action({"type": "go"}), 0.2)
    shown.reply.add(TextDelta("Two **bo"), 0.3)
    frame = shown.frame()
    assert frame.index("One.") < frame.index("action 1: go") < frame.index("Two")
    assert "connecting" not in frame and "**" not in frame
    shown.reply.status, shown.reply.error = "failed", "The <i>connection</i> failed."
    bundle = shown.finished(["failed"])
    assert "&lt;i&gt;connection" in bundle["text/html"]
    assert bundle["text/plain"].splitlines()[0] == "[a]"
    assert bundle["text/plain"].endswith("[failed]\nThe <i>connection</i> failed.")


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>", '"><script>x</script>', "a\nb\x1b[31m", "\u202eevil", "$x$", "n" * 5000],
)
def test_a_hostile_name_is_text(name: str) -> None:
    """It is escaped, on one line, short, and not a formula."""
    shown = column(TextDelta("Hi"), name=name)
    for html in (shown.frame(), shown.finished([])["text/html"]):
        assert "<img" not in html and "<script" not in html and "\x1b" not in html and "\u202e" not in html
        assert "mathjax_ignore" in html.split("</div>")[0]
        assert len(html) < 2_000
    assert "\x1b" not in shown.finished([])["text/plain"]


@pytest.mark.parametrize(
    "events",
    [
        [TextDelta("word & <b> " * 40_000)],
        [Action({"n": ["x" * 500] * 500}) for _ in range(60)],
        [TextDelta("é" * 200_000), Action({"a": "ü" * 100_000})],
    ],
    ids=["text", "actions", "both"],
)
def test_a_column_is_bounded(events: list[object]) -> None:
    """However much arrives, a frame and the end fit; text that was cut says so."""
    shown = column(*events, max_bytes=100_000)
    assert len(json.dumps(shown.frame()).encode()) < 250_000
    bundle = shown.finished(["total 1 s"])
    assert len(bundle["text/html"].encode()) < 110_000 and "total 1 s" in bundle["text/html"]
    assert len(bundle["text/plain"].encode()) < 60_000
    assert "not shown here" in bundle["text/html"] or "60 actions" in bundle["text/html"]


def test_the_row_holds_all_columns() -> None:
    """One flexible row, whose columns wrap where the page is narrow."""
    html = columns_html([column(TextDelta(text)).frame() for text in ("One", "Two", "Three")])
    assert html.startswith('<div class="halo-columns" style="display:flex;flex-wrap:wrap')
    assert html.count('<div class="halo-column"') == 3
