"""Terminal IPython: text streamed as plain text, errors in one line, interrupts."""

from __future__ import annotations

import os
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
