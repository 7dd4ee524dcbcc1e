"""`%%halo` in a real kernel: what is shown of a reply, kept of it and saved with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbclient
import nbformat
import pytest

from halo_notebook.demo import DEMO_KEY

from ..harness.cells import LOAD, SEED, evaluated, plain, sent
from ..harness.faults import FAULTS, Fault

if TYPE_CHECKING:
    from ..harness.kernels import Kernel

pytestmark = pytest.mark.kernel


def test_a_first_reply_without_a_key(kernel: Kernel) -> None:
    """The demo agent answers and says so once, and the reply is on the screen and in the kernel."""
    assert kernel.run(LOAD).status == "ok"
    first = kernel.run(f"%%halo\n{SEED}")
    assert first.status == "ok"
    notice, text, *actions, rest, status = first.displays
    assert "No HALO_API_KEY is set, so the demo agent answers" in notice["text/plain"]
    assert "<strong>Open the tracking settings.</strong>" in text["text/html"]
    assert [action["application/json"]["type"] for action in actions] == ["highlight", "navigate"]
    assert "I have opened <strong>Settings" in rest["text/html"]
    for words in ("demo agent", "agent_demo", "session default", "first text", "total", "2 actions"):
        assert words in status["text/plain"]
    metadata = first.outputs[-1]["metadata"]["halo"]
    assert metadata["session_id"].startswith("sess_")
    assert (metadata["agent_id"], metadata["status"]) == ("agent_demo", "complete")
    assert metadata["source"] == "demo agent"
    assert evaluated(kernel, "[_halo.status, _halo.session_id]") == ["complete", metadata["session_id"]]

    second = kernel.run("%%halo\nMy name is Zelda")
    assert "No HALO_API_KEY" not in plain(second)
    assert "Zelda" in plain(kernel.run("%halo ask What is my name?"))


def test_the_whole_reply_may_be_asked_for_at_once(shared: Kernel) -> None:
    """--no-stream uses the other endpoint."""
    result = shared.run("%%halo --no-stream\nMy name is Zelda")
    assert result.status == "ok"
    assert "Nice to meet you, Zelda" in plain(result)
    assert evaluated(shared, "magics.connection.demo.requests[-1].path") == "/api/sdk/chat"
    assert evaluated(shared, "_halo.raw['session_id'] == _halo.session_id") is True


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_in_a_cell(fault: Fault, shared: Kernel) -> None:
    """Each fault is one clear line in a cell that fails; text and session are kept."""
    shared.run("%halo new\n%halo ask Hello")
    session_id = evaluated(shared, "_halo.session_id")
    before = evaluated(shared, "len(magics.connection.demo.requests)")
    shared.run(f"magics.connection.demo.faults.extend([{fault.name!r}] * 3)")
    result = shared.run("%%halo --timeout 1\nHello")
    shared.run("magics.connection.demo.faults.clear()")
    if fault.error is None:
        assert result.status == "ok", result.traceback
        assert "total" in plain(result)
    else:
        assert (result.status, result.ename) == ("error", fault.error.__name__)
        assert result.traceback == [f"{result.ename}: {result.evalue}"]
        assert all(words in result.evalue for words in fault.words), result.evalue
        assert "failed" in plain(result)
    if fault.name == "empty":
        assert "(no text)" in plain(result)
    assert fault.text in plain(result)
    assert evaluated(shared, "len(magics.connection.demo.requests)") == before + fault.sent
    assert shared.run("%halo ask Hello").status == "ok"
    assert sent(shared)["session_id"] == session_id, "the session goes on after it"


def test_a_saved_notebook_says_which_conversation_it_shows() -> None:
    """Executed as by nbconvert: valid, with ids in the metadata, no secret."""
    codes = (LOAD, "%%halo\nMy name is Zelda", "%%halo\nOpen a ticket")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    nbformat.validate(notebook)
    assert DEMO_KEY not in nbformat.writes(notebook)
    first, second = (cell.outputs[-1].metadata.halo for cell in notebook.cells[1:])
    assert first.session_id == second.session_id
    assert "Nice to meet you, Zelda" in notebook.cells[1].outputs[1].data["text/html"]
    ticket = notebook.cells[2].outputs[1]
    assert ticket.data["application/json"]["type"] == "create_ticket"
