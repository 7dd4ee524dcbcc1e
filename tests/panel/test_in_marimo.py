"""In marimo, which runs Python without IPython, the client and the panel work as in a kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    from halo_notebook import ChatPanel, HaloClient
    from halo_notebook.demo import DEMO_KEY, DemoAgent

    agent = DemoAgent(first_byte_s=0, chunk_s=0).start()
    client = HaloClient(DEMO_KEY, base_url=agent.url)
    return ChatPanel, agent, client, mo


@app.cell
def _(client):
    first = client.ask("My name is Ada")
    first
    return (first,)


@app.cell
def _(ChatPanel, client, mo):
    panel = ChatPanel("support", client=client)
    called = []
    panel.on_action(lambda event: called.append(event.payload["type"]))
    panel.on_reply(lambda reply: called.append(reply.status))
    mo.ui.anywidget(panel)
    return called, panel


@app.cell
async def _(panel):
    second = await panel.ask("My name is Grace")
    return (second,)


@app.cell
def _(panel, second):
    third = panel.ask("What is my name?").result()
    assert second.status == "complete"
    return (third,)


@app.cell
async def _(panel, third):
    fourth = await panel.ask("Open a ticket")
    assert third.status == "complete"
    return (fourth,)


@app.cell
async def _(agent, called, first, fourth, panel, second, third):
    import asyncio
    import json
    from pathlib import Path

    for _ in range(500):  # the last callback comes after the reply
        if called.count("complete") == 3:
            break
        await asyncio.sleep(0.01)
    seen = {
        "texts": [reply.text for reply in (first, second, third)],
        "actions": [action["type"] for action in fourth.actions],
        "called": called,
        "status": panel.status,
        "sent": len(agent.requests),
    }
    Path("seen.json").write_text(json.dumps(seen), encoding="utf-8")
    return


if __name__ == "__main__":
    app.run()
"""


@pytest.mark.parametrize("command", [pytest.param("marimo export html", marks=pytest.mark.ci), "python"])
def test_a_client_and_a_panel_answer(command: str, tmp_path: Path) -> None:
    """In marimo's own kernel, which makes a page of the outputs, and where the app runs as a script."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    program, *words = command.split()
    path = str(Path(sys.executable).with_name(program))
    output = ["--output", "page.html", "--no-include-code"] if words else []
    # marimo writes its settings and logs there.
    home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"), str(tmp_path))
    # A failed cell is also an exit status.
    done = subprocess.run(
        [path, *words, "app.py", *output],
        cwd=tmp_path, env=os.environ | home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    ada, grace, name = seen["texts"]
    assert ada.startswith("Nice to meet you, Ada.") and grace.startswith("Nice to meet you, Grace.")
    assert name.startswith("Your name is Grace.")  # the panel's session goes on; the client's is another
    assert seen["actions"] == ["create_ticket"]
    assert seen["called"] == ["complete", "complete", "create_ticket", "complete"]
    assert (seen["status"], seen["sent"]) == ("complete", 4)
    if words:
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "Nice to meet you, Ada." in page and "marimo-anywidget" in page
