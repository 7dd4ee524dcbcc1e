"""A message from the kernel to the pages that show a widget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anywidget


def send_to_page(widget: anywidget.AnyWidget, content: Mapping[str, Any]) -> None:
    """Send a message to the widget's pages; on any thread."""
    widget.send(dict(content))
    # ipykernel 7 takes the page's next messages to the subshell that it notes here, the one that
    # this was sent from. After a reload that one is gone, and they would be dropped. Without the
    # note they go to the subshell that the page itself names, also while a cell computes.
    getattr(widget.comm, "__dict__", {}).pop("_reply_subshell_id", None)
