"""Which agent answers in a kernel: the same for cells and programs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .harness.kernels import Kernel


@pytest.mark.kernel
def test_the_current_client_works_without_a_key(kernel: Kernel) -> None:
    """Pasted into a notebook, also before the extension is loaded: the demo agent answers."""
    cell = kernel.run(
        "from halo_notebook import current_client, current_session\n"
        "client = current_client()\n"
        "print(client.ask('My name is Ada').status, client.source)"
    )
    assert (cell.status, cell.stdout) == ("ok", "complete demo agent\n")
    kernel.run("%load_ext halo_notebook")
    assert kernel.run("%halo ask Hello").status == "ok"
    cell = kernel.run("print(client.base_url == current_client().base_url, len(current_session().turns))")
    assert cell.stdout == "True 1\n"


def test_outside_ipython_the_settings_must_name_an_agent() -> None:
    """Nothing is started there that was not asked for."""
    script = "from halo_notebook import current_client; current_client()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={}, check=False)
    assert "ConfigError" in done.stderr
