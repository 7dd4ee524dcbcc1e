"""A scripted agent that speaks Halo's protocol over real HTTP on this machine.

`python -m halo_notebook.demo` serves it from a terminal.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .server import DEMO_KEY, DemoAgent, DemoRequest, Step, cut_awkwardly, sign_user_token

__all__ = ["DEMO_KEY", "DemoAgent", "DemoRequest", "Step", "cut_awkwardly", "sign_user_token"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".server", __name__), name)
