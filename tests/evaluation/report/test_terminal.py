"""A result in a terminal: `print` shows the table, no wider than it, and nothing that it would act on."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY
from halo_notebook.evaluation import Evaluation
from halo_notebook.evaluation.file.state import RunState
from halo_notebook.evaluation.report.terminal import columns, text_table

from ..agents import messages, ok

if TYPE_CHECKING:
    from halo_notebook import DemoAgent

    from ..conftest import Run

Checks = dict[str, Any]


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
@pytest.mark.parametrize(
    "checks", [{}, {"ok": ok}, {"ok": ok, "日本": contains("zzz"), "third": ok}], ids=len
)
def test_print_shows_outcomes_table_and_notes(
    width: int, checks: Checks, agent: DemoAgent, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is wider than the terminal; every configuration, check and rate is there."""
    agent.faults.append("401")
    client = HaloClient(DEMO_KEY, base_url=agent.url)
    configs = {"chat": client, "voice": {"client": client, "mode": "voice"}}
    result = run(messages(3), checks, configs=configs, concurrency=1)
    monkeypatch.setenv("COLUMNS", str(width))
    shown = str(result)
    assert max(columns(line) for line in shown.splitlines()) <= width
    assert " ".join(shown.split()).startswith("6 conversations: 5 complete, 1 failed ")
    assert repr(result) == "Evaluation(6 conversations: 5 complete, 1 failed)"
    words = " ".join(shown.split())
    assert all(each in words for each in ("chat", "voice", "cases", "Note: 1", *checks))
    assert shown.count("100%") >= 2 * (len(checks) > 0)
    assert "95 %" in " ".join(shown.split())


def test_a_wide_terminal_has_a_line_per_configuration() -> None:
    """Cells begin below their heading, also after wide characters; a cell may have several lines."""
    lines = text_table(["config", "n", "rate"], [["日本", "3", "82%\n10 cases"], ["b", "12", "–"]], 80)
    assert lines == [
        "config  n   rate",
        "日本    3   82%",
        "            10 cases",
        "b       12  –",
    ]


def test_a_narrow_terminal_has_a_paragraph_per_configuration() -> None:
    """What is too long continues below, and a word that is too long is broken."""
    rows = [["a", "one two three four five six"], ["b", "x" * 50]]
    assert text_table(["config", "a rate"], rows, 30) == [
        "config  a",
        "a rate  one two three four",
        "        five six",
        "",
        "config  b",
        "a rate  " + "x" * 22,
        "        " + "x" * 22,
        "        " + "x" * 6,
    ]
    assert text_table(["a"], [], 30) == ["a"]


def test_a_terminal_gets_no_control_characters(run: Run, kept: Path) -> None:
    """From the agent's name, a configuration, a check or an error."""
    run(["one"], path=kept)
    kept.write_text(kept.read_text().replace('"agent_demo"', '"\\u001b[31magent\\u202e\\u0007"'))
    hostile = "\x1b]0;title\x07\n\rname"
    result = run(["one"], {hostile: lambda reply: int("\x1b[2J")}, path=kept)
    shown = str(result)
    assert "agent" in shown and "title" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)


def test_print_works_in_an_encoding_without_all_characters(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a terminal of Windows; what it cannot write is replaced."""
    result = run(messages(3), {"é 日": ok})
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    shown = str(result)
    monkeypatch.undo()
    ascii_only.write(shown)
    assert "100%" in shown and "? ?" in shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "iso-2022-jp"])
def test_tables_turns_and_figures_print_in_any_encoding(
    encoding: str, agent: DemoAgent, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a terminal cannot write is replaced in all that a result shows."""
    client = HaloClient(DEMO_KEY, base_url=agent.url)
    result = run(["Größe ✓ → 日"], {"größe ✓日": ok}, configs={"ä→": client, "b": client})
    result.label_rows({0: True, 1: False})
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    for shown in (
        result.compare(),
        result.compare_with(result),
        result.agreement("größe ✓日"),
        result.summary(),
    ):
        print(shown)  # noqa: T201  # that is what is tested
    print(repr(client.ask("→ ✓")))  # noqa: T201
    result.show(0)
    out.flush()
    text = out.buffer.getvalue().decode(encoding)
    assert "> Gr" in text and "Differences are" in text and "Reply(complete" in text


def test_an_empty_result_prints(tmp_path: Path) -> None:
    """Without a conversation."""
    assert str(Evaluation(RunState(tmp_path / "none", [], {}, {"chat": ""}))).startswith(
        "0 conversations: none"
    )
