"""`make demo`: the address that it prints opens the first notebook."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from ..harness.lab import CHROMIUM_ARGS, chromium_path

PROJECT = Path(__file__).parents[2]


@pytest.mark.browser
def test_the_printed_address_opens_the_first_notebook(tmp_path: Path) -> None:
    """In JupyterLab, on a machine without a screen."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    environment |= {
        "JUPYTER": str(Path(sys.executable).with_name("jupyter")),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
    }
    server = subprocess.Popen(
        ["sh", ".ci/demo", "--ServerApp.port=0"],
        cwd=PROJECT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        address = next(
            (
                found.group()
                for line in server.stdout
                if (found := re.search(r"http://127\.0\.0\.1:\S+", line))
            ),
            "",
        )
        assert "/lab/tree/notebooks/01-first-reply.ipynb?token=" in address
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(CHROMIUM_ARGS))
            page = browser.new_page()
            page.goto(address)
            heading = page.locator(".jp-Notebook h1", has_text="A first reply")
            heading.wait_for(timeout=60_000)
            browser.close()
    finally:
        # Its kernel with it, at once: a server that winds down holds the pipe open for long.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
