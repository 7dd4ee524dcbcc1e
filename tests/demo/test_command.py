"""The command `python -m halo_notebook.demo` serves the agent and says how to use it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.demo.__main__ import main


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C cannot be sent to one process elsewhere")
def test_command_serves_until_ctrl_c() -> None:
    """It prints where it listens and what to set, and ends cleanly."""
    command = [sys.executable, "-W", "error", "-m", "halo_notebook.demo", "--port", "0"]
    with subprocess.Popen(
        [*command, "--first-byte-s", "0", "--chunk-s", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not (lines and lines[-1].startswith("Ctrl-C")):
                lines.append(process.stdout.readline())
                assert lines[-1], process.communicate()
            said = "".join(lines)
            url = re.search(r"HALO_BASE_URL=(\S+)", said)
            assert url is not None
            assert f"HALO_API_KEY={DEMO_KEY}" in said
            headers = {"Authorization": f"Bearer {DEMO_KEY}"}
            body = {"message": "/fault stall"}
            with (
                httpx.Client(trust_env=False, headers=headers, timeout=30) as http,
                http.stream("POST", f"{url[1]}/chat/stream", json=body) as response,
            ):
                next(response.iter_raw())
                process.send_signal(signal.SIGINT)
                _, complaints = process.communicate(timeout=30)
            assert (process.returncode, complaints) == (0, "")
        finally:
            process.kill()


def test_port_that_cannot_be_used_is_reported(agent: DemoAgent, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what to do: the exit code is 1 if the port is in use, and 2 if there is no such port."""
    port = httpx.URL(agent.url).port or 0
    with pytest.raises(OSError, match="in use"):
        DemoAgent(port=port).start()
    assert main(["--port", str(port)]) == 1
    assert capsys.readouterr() == ("", f"Port {port} is in use: choose another with --port N, or --port 0.\n")
    agent.stop()
    with DemoAgent(port=port) as other:
        assert other.url == agent.url
    with pytest.raises(SystemExit, match="2"):
        main(["--port", "65536"])
    assert "from 0 to 65535" in capsys.readouterr().err
