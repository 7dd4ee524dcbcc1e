"""`%halo open` and `%halo keep`: a conversation from a file, and a conversation as a case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from halo_notebook.evaluation import read_cases

from ..harness.cells import LOAD_FAST, evaluated, html, plain, refused, sent

if TYPE_CHECKING:
    from ..harness.kernels import Kernel

pytestmark = pytest.mark.kernel


def test_an_exported_session_is_opened_and_continued(fresh: Kernel, tmp_path: Path) -> None:
    """In another kernel: its turns are shown, and the next message says that it starts a new conversation."""
    path = tmp_path / "my talk.json"
    fresh.run("%halo ask My name is <b>Ada</b>\n%halo ask Open a ticket\n" + f"%halo export '{path}'")
    old_id = evaluated(fresh, "_halo.session_id")
    fresh.restart()
    fresh.run(f"{LOAD_FAST}\n%halo ask Hello")
    opened = fresh.run(f"%halo open '{path}'")
    assert opened.stdout == (
        "Opened 'my talk.json' as session 'my talk' (2 turns). Its next message starts a new conversation "
        "for the agent, which gets 4 earlier messages as its history. %halo history shows the turns.\n"
    )
    assert "the next message starts a new conversation" in fresh.run("%halo").stdout
    history = fresh.run("%halo history")
    assert len(history.displays) == 2 and "create_ticket" in html(history) and "<b>" not in html(history)
    assert "session_id" not in fresh.run("%%halo --dry-run\nAnd now?").displays[0]["application/json"]["body"]
    cell = fresh.run("%%halo\nAnd now?")
    assert "this message starts a new conversation for the agent, which gets 4 earlier messages" in plain(
        cell
    )
    body = sent(fresh)
    assert (
        "session_id" not in body
        and [item["role"] for item in body["conversation_history"]]
        == [
            "user",
            "assistant",
        ]
        * 2
    )
    second = fresh.run("%%halo\nAnd then?")
    assert "starts a new conversation" not in plain(second)
    assert sent(fresh)["session_id"] not in (None, old_id) and "conversation_history" not in sent(fresh)
    assert fresh.run("print(len(magics.sessions.current.turns))").stdout == "4\n"


def test_a_name_that_is_taken_is_kept(fresh: Kernel, tmp_path: Path) -> None:
    """The session that had it is kept as NAME-1, which one line says."""
    path = tmp_path / "talk.json"
    fresh.run(f"%halo ask Hello\n%halo export {path}")
    opened = fresh.run(f"%halo open {path} default")
    assert "kept as 'default-1'" in opened.stdout
    assert "default-1" in fresh.run("%halo sessions").stdout
    for cell, words in (
        (f"%halo open {tmp_path / 'absent.json'}", "could not be read"),
        (f"%halo open {__file__}", "is not an exported session (it is not JSON)"),
        ("%halo open", "Usage: %halo open FILE [NAME]"),
        ("%halo keep", "Usage: %halo keep FILE [NAME]"),
        ("%halo keep cases.jsonl nobody", "No session named 'nobody'"),
    ):
        refused(fresh, cell, words)


def test_a_missing_package_is_named(fresh: Kernel, tmp_path: Path) -> None:
    """With the command that installs it; nothing is written."""
    fresh.run("%halo ask Hello\nimport sys\nsys.modules['filelock'] = None")
    words = "needs the package filelock. Nothing was written; run python -m pip install 'halo-notebook[eval]'"
    refused(fresh, f"%halo keep {tmp_path / 'cases.jsonl'}", words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%halo keep my cases.jsonl", "run %halo keep 'my cases.jsonl'."),
        ("%halo keep my new cases.jsonl default", "run %halo keep 'my new cases.jsonl'."),
        ("%halo export Ada's talk.MD", "No closing quotation"),
        ('%halo export "Ada\'s" talk.md', 'run %halo export "Ada\'s talk.md".'),
        ("%halo open my talk.json", "run %halo open 'my talk.json'."),
        ("%halo record my talk.jsonl", "run %halo record 'my talk.jsonl'."),
        ("%halo replay my talk.jsonl --fast", "run %halo replay 'my talk.jsonl'."),
        ("%halo record my talk", "A path or a name with spaces needs quotes. Usage: %halo record FILE"),
        ("%halo replay my talk", "A path or a name with spaces needs quotes. Usage: %halo replay FILE"),
        ("%halo use docs (2)", "A path or a name with spaces needs quotes. Usage: %halo use NAME"),
        ("%%halo -i my cat.png\nLook", "no option 'cat.png'"),
        ("%%halo -s docs (2)\nLook", "A path or a name with spaces needs quotes"),
    ],
)
def test_a_path_with_spaces_needs_quotes(shared: Kernel, cell: str, words: str, tmp_path: Path) -> None:
    """The line says so, with the command to run where the path is clear; nothing is written."""
    shared.run(f"%cd {tmp_path}")
    before = evaluated(shared, "list(magics.sessions)")
    refused(shared, cell, words)
    assert not list(tmp_path.iterdir()) and evaluated(shared, "list(magics.sessions)") == before


def test_a_name_may_look_like_a_file(shared: Kernel, tmp_path: Path) -> None:
    """A session of that name, or a file that is the first word, is what is meant."""
    shared.run(f"%cd {tmp_path}\n%halo use talk.json\n%halo ask Hello\n%halo export talk.json")
    assert "Wrote again.md" in shared.run("%halo export again.md talk.json").stdout
    assert "Kept in 'kept.jsonl'" in shared.run("%halo keep kept.jsonl talk.json").stdout
    (tmp_path / "talk").write_bytes((tmp_path / "talk.json").read_bytes())
    assert "as session 'new.json'" in shared.run("%halo open talk new.json").stdout


def test_a_conversation_is_kept_once(fresh: Kernel, tmp_path: Path) -> None:
    """With its request fields; a session by its name; a file of something else stays as it is."""
    path = tmp_path / "cases.jsonl"
    fresh.run("plan = 'team'\n%halo use memory")
    fresh.run("%%halo -c plan\nMy name is Ada")
    fresh.run("%halo ask What is my name?\n%halo use default\n%halo ask Hello")
    assert "Kept in 'cases.jsonl' as 'what-is-my-name-" in fresh.run(f"%halo keep {path} memory").stdout
    assert "(2 cases)" in fresh.run(f"path = {str(path)!r}\n%halo keep {{{{ path }}}}").stdout
    assert "has this case already" in fresh.run(f"%halo keep {path} memory").stdout
    memory, hello = read_cases(path)
    assert memory.turns[0].fields == {"context": {"plan": {"label": "plan", "value": "team"}}}
    assert [turn.message for turn in hello.turns] == ["Hello"]
    (tmp_path / "notes.jsonl").write_text("Mine\n")
    refused(fresh, f"%halo keep {tmp_path / 'notes.jsonl'}", "is not a file of cases")
    assert (tmp_path / "notes.jsonl").read_text() == "Mine\n"
    fresh.run("%halo resume sess_1_known later\n%halo ask Hello again")
    assert "the messages before are not known here" in fresh.run(f"%halo keep {path}").stdout
    assert json.loads(path.read_text().splitlines()[2])["metadata"] == {"resumed": True}
