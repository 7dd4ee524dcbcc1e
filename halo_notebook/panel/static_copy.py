"""The output beside a widget that shows the same without widgets: on GitHub, in nbconvert."""

from __future__ import annotations

import uuid


def static_class() -> str:
    """A name for the copy, which a page with the widget hides."""
    return f"halo-{uuid.uuid4().hex}-static"


def static_copy(name: str, html: str) -> str:
    """The copy's HTML. Where the output before it has no widget, it hides that output."""
    # That output would show what a front end says about a widget that it does not have.
    style = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{name}):not(:has(.halo-panel)){{display:none}}"
    return f'<div class="halo-static {name}"><style>{style}</style>{html}</div>'
