"""What a magic shows beside a reply: lines, JSON and saved turns, in a notebook or a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.display import publish_display_data

from ..display.text import writable
from .front_end import in_notebook, shows_json_as_tree

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..stream import JSON


def say(text: str) -> None:
    """Print `text`, with a replacement for each character that the terminal or file cannot show."""
    print(writable(text))


def show(shell: InteractiveShell, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Show a MIME bundle as an output, or print its text in a terminal."""
    if in_notebook(shell):
        publish_display_data(data=bundle, metadata=metadata or {})
    else:
        say(bundle["text/plain"])


def show_json(shell: InteractiveShell, value: JSON, label: str) -> None:
    """Show a JSON value as a tree, with its first level open."""
    from ..display.bundles import json_bundle  # heavy, as the next one is

    bundle = json_bundle(value, label, as_json=shows_json_as_tree(shell))
    show(shell, bundle, {"application/json": {"root": label, "expanded": True}})


def show_line(shell: InteractiveShell, text: str) -> None:
    """Show one quiet line."""
    from ..display.bundles import status_bundle

    show(shell, status_bundle([text]))
