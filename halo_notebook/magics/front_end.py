"""What the front end of a cell can show, guessed by the kernel.

A front end does not say what it supports. The kernel only knows the message that asked for the cell, and what
else was imported or set in its own process.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.displaypub import CapturingDisplayPublisher

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def in_kernel(shell: InteractiveShell) -> bool:
    """Whether a kernel runs the cell; otherwise IPython runs it in a terminal."""
    return getattr(shell, "kernel", None) is not None


def in_notebook(shell: InteractiveShell) -> bool:
    """Whether a front end shows rich outputs; a terminal and a console only show text.

    The consoles (qtconsole, jupyter console, Spyder) send their requests with jupyter_client and answer
    `input`. JupyterLab, VS Code and the like have message ids of their own. A tool that runs a notebook
    without a person, such as nbclient, does not answer `input`.
    """
    if not in_kernel(shell):
        return False
    request = _request(shell)
    header = request.get("header", {})
    by_jupyter_client = str(header.get("msg_id")).startswith(f"{header.get('session')}_")
    return not (by_jupyter_client and request.get("content", {}).get("allow_stdin"))


def takes_updates(shell: InteractiveShell) -> bool:
    """Whether an output can be updated. One that is captured or goes to an `ipywidgets.Output` cannot."""
    if isinstance(shell.display_pub, CapturingDisplayPublisher):
        return False
    widgets = getattr(sys.modules.get("ipywidgets.widgets.widget"), "_instances", {})
    message = _request(shell).get("header", {}).get("msg_id", "")  # an idle output widget has an empty one
    return not message or all(getattr(each, "msg_id", "") != message for each in list(widgets.values()))


def shows_json_as_tree(shell: InteractiveShell) -> bool:
    """Whether the front end has a tree of its own for JSON; VS Code would show its source."""
    cell = _request(shell).get("metadata", {}).get("cellId")
    if cell is None:  # an older VS Code, or no notebook
        return "__vsc_ipynb_file__" not in shell.user_ns and "VSCODE_PID" not in os.environ
    return not str(cell).startswith("vscode")


def _request(shell: InteractiveShell) -> dict[str, Any]:
    """The message that the kernel is working on, such as the request to run a cell."""
    kernel = getattr(shell, "kernel", None)  # JupyterLite's shell cannot say it
    get_parent = getattr(shell, "get_parent", None) or getattr(kernel, "get_parent", None)
    return (get_parent() if get_parent else None) or {}
