"""An agent's untrusted text as safe HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blocks import markdown_to_html, wrap

__all__ = ["markdown_to_html", "wrap"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import blocks  # heavy

    return getattr(blocks, name)
