"""A Halo chat agent in a notebook: `%load_ext halo_notebook`, then `%%halo`.

Importing this package imports nothing heavy; each public name loads its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    AuthenticationError,
    BadRequest,
    ConfigError,
    ConnectionFailed,
    HaloError,
    IdentityError,
    InvalidRequest,
    NotFound,
    RateLimited,
    ReplyError,
    ReplyInterrupted,
    ReplyStopped,
    ReplyTimeout,
    ReplyUnreadable,
    RequirementFailed,
    ServerError,
    StatusError,
    UsageError,
)

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .checks import Score
    from .client.aio import AsyncHaloClient
    from .client.sync import HaloClient
    from .demo.server import DemoAgent
    from .evaluation.cases.case import Case, CaseTurn
    from .evaluation.cases.simulated_users import ScriptedUser, SimulatedUser
    from .evaluation.cases.user_functions import ConversationEnd
    from .evaluation.result import Evaluation
    from .evaluation.run import aevaluate, evaluate
    from .kernel import current_client, current_session
    from .panel.arena_widget import ArenaPanel
    from .panel.widget import ChatPanel
    from .recording.ratings import Rating, Vote
    from .recording.recorder import Recorder
    from .recording.replay import Replay
    from .reply import ActionEvent, Reply
    from .session import Session, Turn
    from .stream import Action, ActionSummary, Event, MalformedRecord, StreamParser, TextDelta

__version__ = "0.1.0"

_NAMES = {
    "checks": "Score",
    "client.aio": "AsyncHaloClient",
    "client.sync": "HaloClient",
    "demo.server": "DemoAgent",
    "evaluation.cases.user_functions": "ConversationEnd",
    "evaluation.cases.case": "Case CaseTurn",
    "evaluation.result": "Evaluation",
    "evaluation.run": "aevaluate evaluate",
    "evaluation.cases.simulated_users": "ScriptedUser SimulatedUser",
    "kernel": "current_client current_session",
    "panel.arena_widget": "ArenaPanel",
    "panel.widget": "ChatPanel",
    "recording.recorder": "Recorder",
    "recording.replay": "Replay",
    "reply": "ActionEvent Reply",
    "recording.ratings": "Rating Vote",
    "session": "Session Turn",
    "stream": "Action ActionSummary Event MalformedRecord StreamParser TextDelta",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "Action",
    "ActionEvent",
    "ActionSummary",
    "ArenaPanel",
    "AsyncHaloClient",
    "AuthenticationError",
    "BadRequest",
    "Case",
    "CaseTurn",
    "ChatPanel",
    "ConfigError",
    "ConnectionFailed",
    "ConversationEnd",
    "DemoAgent",
    "Evaluation",
    "Event",
    "HaloClient",
    "HaloError",
    "IdentityError",
    "InvalidRequest",
    "MalformedRecord",
    "NotFound",
    "RateLimited",
    "Rating",
    "Recorder",
    "Replay",
    "Reply",
    "ReplyError",
    "ReplyInterrupted",
    "ReplyStopped",
    "ReplyTimeout",
    "ReplyUnreadable",
    "RequirementFailed",
    "Score",
    "ScriptedUser",
    "ServerError",
    "Session",
    "SimulatedUser",
    "StatusError",
    "StreamParser",
    "TextDelta",
    "Turn",
    "UsageError",
    "Vote",
    "__version__",
    "aevaluate",
    "current_client",
    "current_session",
    "evaluate",
    "load_ipython_extension",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add `%halo` and `%%halo` to the shell. Loading it again keeps its sessions."""
    from .magics.magic import HaloMagics

    HaloMagics.load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics out of the shell and stop its demo agent."""
    from .magics.magic import HaloMagics

    HaloMagics.unload(shell)
