"""`make demo`: the address that it prints opens the first notebook."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..harness.pages import BROWSER

PROJECT = Path(__file__).parents[2]


@pytest.mark.browser
@pytest.mark.ci
def test_the_printed_address_opens_the_first_notebook(tmp_path: Path) -> None:
    """In JupyterLab, on a machine without a screen."""
    folders = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
    )
    environment = os.environ | {name: str(tmp_path / name) for name in folders}
    environment |= {
        "JUPYTER": str(Path(sys.executable).with_name("jupyter")),
        "DISPLAY": "",
        "WAYLAND_DISPLAY": "",
    }
    with subprocess.Popen(
        ["sh", ".ci/demo", "--ServerApp.port=0"],
        cwd=PROJECT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as server:
        try:
            assert server.stdout is not None
            found = (re.search(r"http://127\.0\.0\.1:\S+", line) for line in server.stdout)
            address = next((match.group() for match in found if match), "")
            assert "/lab/tree/notebooks/01-first-reply.ipynb?token=" in address
            page = BROWSER.browser().new_page()
            page.goto(address)
            page.locator(".jp-Notebook h1", has_text="A first reply").wait_for(timeout=60_000)
            page.context.close()
        finally:
            # Its kernel with it, at once: a server that shuts down slowly holds the pipe open.
            os.killpg(server.pid, signal.SIGKILL)
