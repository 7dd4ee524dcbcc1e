"""A server that shows notebooks, on a loopback port, with its own folders for everything.

The promise: nothing of the user's Jupyter configuration is read or written.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

START_TIMEOUT_S = 90


class Server:
    """The part that is the same for JupyterLab, Notebook 7 and Voila.

    Attributes:
        root: the folder whose files it serves.
        url: its address, without a slash at the end.
        token: what each request needs.
    """

    url: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.token = secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True)
        self._home = Path(self._folder.name)
        self.root = self._home / "root"
        self.root.mkdir()
        self._log_path = self._home / "log"
        write_json(
            self._home / "data/kernels/python3/kernel.json",
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "metadata": {"debugger": False},
            },
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self._log_path.read_text(errors="replace")

    def request(self, method: str, path: str) -> Any:
        """Call the server's REST interface; return the answer's JSON, or None."""
        headers = {"Authorization": f"token {self.token}"}
        response = httpx.request(method, f"{self.url}/{path}", headers=headers, timeout=30, trust_env=False)
        response.raise_for_status()
        return response.json() if response.content else None

    def stop(self) -> None:
        """Stop the server and its kernels. May be called twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._folder.cleanup()

    def _start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HALO_")}
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **inherited,
                    "IPYTHONDIR": str(self._home / "ipython"),
                    "JUPYTER_CONFIG_DIR": str(self._home / "config"),
                    "JUPYTER_DATA_DIR": str(self._home / "data"),
                    "JUPYTER_RUNTIME_DIR": str(self._home / "runtime"),
                    # The kernelspec in our data folder takes precedence over the environment's.
                    "JUPYTER_PREFER_ENV_PATH": "0",
                    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                    **(environment or {}),
                },
                cwd=self.root,
                # Its own process group: Ctrl-C in the terminal is meant for the tests.
                start_new_session=True,
            )
        try:
            self._wait_for_answer(self._process)
        except BaseException:
            self.stop()
            raise

    def _address(self, process: subprocess.Popen[bytes]) -> str | None:
        """Where the server listens, once it has said so."""
        raise NotImplementedError

    def _first_request(self) -> str:
        """A path that answers when the server is up."""
        raise NotImplementedError

    def _wait_for_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            if address := self._address(process):
                self.url = address
                with contextlib.suppress(httpx.TransportError):
                    self.request("GET", self._first_request())
                    return
            # The server does not announce that it is ready.
            time.sleep(0.05)
        pytest.fail(
            f"The {self.name} server did not answer within {START_TIMEOUT_S} s (it ended with "
            f"{process.poll()}). Its log:\n{self.log[-3000:]}",
            pytrace=False,
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
