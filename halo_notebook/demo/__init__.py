"""A scripted agent that speaks Halo's protocol over real HTTP on this machine.

`python -m halo_notebook.demo` serves it from a terminal.
"""

from .protocol import DEMO_KEY, DemoRequest, Step, sign_user_token
from .server import DemoAgent

__all__ = ["DEMO_KEY", "DemoAgent", "DemoRequest", "Step", "sign_user_token"]
