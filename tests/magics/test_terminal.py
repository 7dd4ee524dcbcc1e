"""Terminal IPython: text streamed as plain text, errors in one line, interrupts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

PROMPT = r"In \[\d+\]: "


@pytest.fixture
def terminal() -> Iterator[pexpect.spawn[str]]:
    """IPython in a terminal, with a demo agent of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HALO_")}
    environment |= {"TERM": "dumb", "PROMPT_TOOLKIT_NO_CPR": "1"}
    arguments = ["--simple-prompt", "--no-banner", "--colors=NoColor", "--HistoryManager.enabled=False"]
    command = ["-m", "IPython", *arguments]
    child = pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8", echo=False, timeout=30)
    child.setwinsize(50, 500)
    try:
        child.expect(PROMPT)
        child.sendline("%load_ext halo_notebook")
        child.expect(PROMPT)
        yield child
    finally:
        child.close(force=True)


def test_a_reply_streams_as_plain_text(terminal: pexpect.spawn[str]) -> None:
    """The first words are there before the end, then actions and the status line; an error is one line.

    Ctrl-C keeps the text received so far, and the next message continues the conversation.
    """
    terminal.sendline("%halo ask How do I set up event tracking?")
    terminal.expect("so the demo agent answers")
    terminal.expect("Happy to help!")
    assert terminal.expect([r"2 actions\]", r"\[action 2: navigate\]\r\n\{"]) == 1, "as it arrives"
    terminal.expect("Shall I show you how")
    terminal.expect(r"\[demo agent · agent agent_demo · session default · first text [^\r]*2 actions\]")
    terminal.expect(PROMPT)
    assert "\x1b" not in (terminal.before or "")

    terminal.sendline("%halo ask /error 401")
    terminal.expect("AuthenticationError: Halo refused the key")
    terminal.expect(PROMPT)
    assert "Traceback" not in (terminal.before or "")

    terminal.sendline("%halo ask /fault stall")
    terminal.expect("This reply stalls")
    terminal.sendintr()
    terminal.expect("ReplyStopped: Stopped after")
    terminal.expect(PROMPT, timeout=5)
    terminal.sendline("%halo ask My name is Zelda")
    terminal.expect("Nice to meet you, Zelda")
    terminal.sendline("%halo history")
    terminal.expect("> My name is Zelda")


def test_configurations_are_printed_one_after_the_other(terminal: pexpect.spawn[str]) -> None:
    """Each below its name, the first while it arrives; Ctrl-C shows what all have received."""
    terminal.sendline("pair = {'a\\x1b[31m': {}, 'b': {'agent_id': 'x'}}")
    terminal.expect(PROMPT)
    run = "get_ipython().run_cell_magic('halo', '--configs pair', {!r})"
    terminal.sendline(run.format("How do I set up event tracking?"))
    terminal.expect(r"\[a\[31m\]\r\nHappy to help!")
    terminal.expect(r"session default/a\[31m [^\r]*2 actions\]\r\n\[b\]\r\nHappy to help!")
    terminal.expect(r"session default/b [^\r]*2 actions\]\r\n")
    terminal.expect(PROMPT)
    terminal.sendline(run.format("/fault stall"))
    terminal.expect("This reply stalls")
    terminal.sendintr()
    terminal.expect(r"stopped [^\r]*\]\r\n\[b\]\r\n.*stopped [^\r]*\]\r\n")
    terminal.expect("ReplyStopped: Stopped")


def test_a_replay_by_steps_waits_for_enter(terminal: pexpect.spawn[str]) -> None:
    """Each paragraph and action comes when it is asked for; Ctrl-C ends it as any reply."""
    recording = Path(__file__).parents[2] / "notebooks" / "recordings" / "support.jsonl"
    terminal.sendline(f"%halo replay '{recording}' --step")
    terminal.expect("'support.jsonl' \\(4 exchanges\\) answers from now on, step by step")
    terminal.expect(PROMPT)
    terminal.sendline("%halo ask How do I set up event tracking?")
    terminal.expect("four steps:\r\n\r\nEnter: the next step ")
    terminal.sendline("")
    terminal.expect("Open the tracking settings[^\0]*action 1: highlight[^\0]*Enter: the next step ")
    terminal.sendintr()
    terminal.expect("replay of support.jsonl .*stopped")
    terminal.expect("ReplyStopped: Stopped after")
    terminal.expect(PROMPT)


EVERYTHING = """
from halo_notebook import DemoAgent, TextDelta, Action
shell = get_ipython()
shell.run_line_magic("load_ext", "halo_notebook")
magics = shell.magics_manager.registry["HaloMagics"]
steps = ["☑ 🎉 → ", Action({"type": "öffnen ✓"}), "schließen\\n"]
agent = DemoAgent(first_byte_s=0, reply=lambda request: [
    TextDelta(step) if isinstance(step, str) else step for step in steps])
magics.connection.demo = agent.start()
for line in ["", "help", "use größe→", "ask Hello ✓", "history", "sessions", "status", "new größe→",
             "export größe→.md", "demo ✓", "nope ✓", "replay ✓.jsonl", "ask {{ '✓' + 1 }}"]:
    shell.run_cell("%halo " + line)
shell.run_cell("_halo")
agent.faults.append("500")
shell.run_cell("%halo ask Hello")
print("END")
"""


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "cp437"},
        {"PYTHONIOENCODING": "iso-2022-jp"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=lambda env: " ".join(env.values()),
)
def test_what_cannot_be_written_is_replaced(env: dict[str, str], tmp_path: Path) -> None:
    """In a terminal or a file of any encoding the reply, the commands and the errors are complete."""
    script = tmp_path / "everything.py"
    script.write_text(EVERYTHING, encoding="utf-8")
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("HALO_", "LC_", "PYTHON"))
    }
    command = [
        sys.executable,
        "-m",
        "IPython",
        "--colors=NoColor",
        "--HistoryManager.enabled=False",
        str(script),
    ]
    ran = subprocess.run(command, env=clean | env, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    shown = ran.stdout.decode("latin-1")
    assert "Traceback" not in shown and "UnicodeEncodeError" not in shown + ran.stderr.decode("latin-1")
    assert shown.splitlines()[-1] == "END"
    assert "line commands:" in shown and "no command" in shown and "ServerError" in shown
    assert shown.count("1 action]") == 3  # as it arrived, in the history, and as a value
