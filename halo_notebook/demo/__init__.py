"""A scripted agent that speaks Halo's protocol over real HTTP on this machine.

`python -m halo_notebook.demo` serves it from a terminal.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .protocol import DEMO_KEY, DemoRequest, Step, sign_user_token
    from .server import DemoAgent, cut_awkwardly

__all__ = ["DEMO_KEY", "DemoAgent", "DemoRequest", "Step", "cut_awkwardly", "sign_user_token"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".server" if name in ("DemoAgent", "cut_awkwardly") else ".protocol"
    return getattr(importlib.import_module(module, __name__), name)
