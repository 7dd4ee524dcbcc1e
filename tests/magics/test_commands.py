"""The line commands of `%halo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..harness.cells import evaluated, html, plain

if TYPE_CHECKING:
    from ..harness.kernels import Kernel

pytestmark = pytest.mark.kernel


def test_where_things_stand(fresh: Kernel) -> None:
    """`%halo` alone: target, agent, session."""
    before = fresh.run("%halo").stdout
    assert "demo agent, http://127.0.0.1:" in before
    assert "not named yet" in before and "no id yet, 0 turns" in before
    fresh.run("%halo ask Hello")
    after = fresh.run("%halo").stdout
    assert "agent    agent_demo" in after and "sess_" in after and "1 turn\n" in after


def test_sessions_can_be_named_listed_and_resumed(fresh: Kernel) -> None:
    """Each conversation remembers its own; an id picks one up again."""
    fresh.run("%%halo -s work\nMy name is Zelda")
    session_id = evaluated(fresh, "_halo.session_id")
    assert "Zelda" not in plain(fresh.run("%halo ask What is my name?"))
    assert "session 'work'" in fresh.run("%halo use work").stdout
    assert "Zelda" in plain(fresh.run("%halo ask What is my name?"))
    listed = fresh.run("%halo sessions").stdout.splitlines()
    assert [line.split()[:2] for line in listed[2:]] == [["*", "work"]]
    assert session_id in listed[2] and listed[2].endswith("2")
    assert "new conversation" in fresh.run("%halo new").stdout
    assert "Zelda" not in plain(fresh.run("%halo ask What is my name?"))
    assert "work-1" in fresh.run("%halo sessions").stdout
    fresh.run(f"%halo resume {session_id} again")
    assert "Zelda" in plain(fresh.run("%halo ask What is my name?"))
    assert "Zelda" not in plain(fresh.run("%%halo --new -s again\nWhat is my name?"))


def test_history_shows_the_turns(shared: Kernel) -> None:
    """Messages and replies, as they were shown."""
    shared.run("%halo new hist\n%halo ask My name is <b>Zelda</b>")
    shared.run("%halo ask Open a ticket")
    result = shared.run("%halo history")
    assert len(result.displays) == 2
    assert "&lt;b&gt;Zelda&lt;/b&gt;" in html(result) and "<b>" not in html(result)
    assert "create_ticket" in html(result)
    status = "demo agent · agent agent_demo · session hist"
    assert all(status in data["text/plain"] for data in result.displays)
    assert "no turns yet" in shared.run("%halo new empty\n%halo history").stdout


def test_export_writes_the_conversation(shared: Kernel, tmp_path: Path) -> None:
    """To Markdown and JSON, by the file's ending."""
    shared.run("%halo new exp\n%halo ask My name is Zelda")
    for name in ("talk.md", "talk.json"):
        assert "Wrote" in shared.run(f"%halo export {tmp_path / name} exp").stdout
    assert "Nice to meet you, Zelda" in (tmp_path / "talk.md").read_text(encoding="utf-8")
    data = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert data["turns"][0]["request"]["message"] == "My name is Zelda"


@pytest.mark.parametrize("line", ["replay {}.jsonl", "open {}.json", "record {}.jsonl", "export {}.md"])
def test_a_name_that_is_too_long_is_one_line(line: str, shared: Kernel) -> None:
    """For each command that takes a file."""
    result = shared.run(f"%halo {line.format('x' * 300)}")
    assert (result.ename, len(result.traceback)) == (
        "UsageError",
        1,
    ) and "File name too long" in result.evalue


def test_help_says_it_all(shared: Kernel) -> None:
    """Every option and every command, from `%halo help` and from `%%halo?`."""
    text = shared.run("%halo help").stdout
    for words in ("--session", "--dry-run", "--image", "resume ID", "demo start|stop", "{{ expression }}"):
        assert words in text
    assert shared.run("print(get_ipython().find_cell_magic('halo').__doc__)").stdout.strip() == text.strip()


def test_the_demo_agent_can_be_stopped_and_started(fresh: Kernel) -> None:
    """Stopped, a turn asks for a key in one line; started, it answers again."""
    assert fresh.run("%halo ask Hello").status == "ok"
    assert "stopped" in fresh.run("%halo demo stop").stdout
    failed = fresh.run("%halo ask Hello")
    assert failed.ename == "ConfigError" and "HALO_API_KEY" in failed.evalue
    assert "none: There is no API key" in (said := fresh.run("%halo").stdout)
    assert "for the demo agent, run %halo demo start." in said and "-m halo_notebook" not in said
    assert "127.0.0.1" in fresh.run("%halo demo start").stdout
    assert fresh.run("%halo ask Hello").status == "ok"
