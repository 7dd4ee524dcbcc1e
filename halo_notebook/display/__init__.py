"""An agent's untrusted text as safe HTML."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blocks import markdown_to_html, wrap

__all__ = ["markdown_to_html", "wrap"]

_MODULES = {"markdown_to_html": "blocks", "wrap": "blocks"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
