"""`%%halo` in a real kernel: what is shown of a reply, kept of it and saved with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest

from halo_notebook.demo import DEMO_KEY

from ..harness.cells import LOAD, SEED, evaluated, fast_demo, html, plain, sent
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
    assert "**Open the tracking settings.**" in text["text/plain"]
    assert [action["application/json"]["type"] for action in actions] == ["highlight", "navigate"]
    assert "I have opened <strong>Settings" in rest["text/html"]
    assert all("<details" in action["text/html"] and "text/plain" in action for action in actions)
    labels = [output["metadata"]["application/json"]["root"] for output in first.outputs[2:-2]]
    assert labels == ["action 1: highlight", "action 2: navigate"]
    for words in ("demo agent", "agent_demo", "session default", "first text", "total", "2 actions"):
        assert words in status["text/plain"] and words in status["text/html"]
    metadata = first.outputs[-1]["metadata"]["halo"]
    assert metadata["session_id"].startswith("sess_")
    assert (metadata["agent_id"], metadata["status"]) == ("agent_demo", "complete")
    assert metadata["source"] == "demo agent"
    assert evaluated(kernel, "[_halo.status, _halo.session_id]") == ["complete", metadata["session_id"]]

    second = kernel.run("%%halo\nMy name is Zelda")
    assert "No HALO_API_KEY" not in plain(second)
    assert "Zelda" in plain(kernel.run("%halo ask What is my name?"))


def test_text_is_shown_while_it_arrives(kernel: Kernel) -> None:
    """The reply's beginning is published long before its end, and the last frame is the whole."""
    kernel.run(LOAD)
    result = kernel.run(f"%%halo\n{SEED}")
    frames = [m for m in result.messages if m.msg_type in ("display_data", "update_display_data")]
    texts = [m for m in frames if "halo-reply" in m.content["data"].get("text/html", "")]
    assert len(texts) >= 5
    lengths = [len(m.content["data"]["text/html"]) for m in texts]
    assert lengths[0] < lengths[-1] / 4
    assert texts[0].at < texts[-1].at - 1
    assert "text/plain" in texts[-1].content["data"]


def test_the_whole_reply_may_be_asked_for_at_once(shared: Kernel) -> None:
    """--no-stream uses the other endpoint."""
    result = shared.run("%%halo --no-stream\nMy name is Zelda")
    assert result.status == "ok"
    assert "Nice to meet you, Zelda" in plain(result)
    assert evaluated(shared, "magics.connection.demo.requests[-1].path") == "/api/sdk/chat"
    assert evaluated(shared, "_halo.raw['session_id'] == _halo.session_id") is True


def test_many_actions_are_shown_once_and_in_few_messages(shared: Kernel) -> None:
    """A burst is grouped: each payload is in one tree, and what the summary repeats is not shown again."""
    result = shared.run("%%halo\n/fault many actions")
    shown: list[Any] = []
    for output in result.outputs:
        if "application/json" in output.get("data", {}):
            payload = output["data"]["application/json"]
            shown += payload if isinstance(payload, list) else [payload]
    assert shown == evaluated(shared, "_halo.actions")
    assert len(shown) == 200
    assert len(result.messages) < 60


def test_a_huge_reply_is_shown_in_part_and_kept_whole(kernel: Kernel) -> None:
    """Its beginning and its end, with a note between, also when it is stopped."""
    kernel.run(
        f"{LOAD}\n{fast_demo()}\n"
        "from halo_notebook import TextDelta\n"
        "def endless(request):\n"
        "    for n in range(10**9):\n"
        "        yield TextDelta(f'line {n} of many\\n\\n' * 500)\n"
        "        yield 0.02\n"
        "magics.connection.demo = DemoAgent(first_byte_s=0, reply=endless).start()"
    )
    running = kernel.start("%%halo\nHello")
    running.wait_for(lambda cell: "not shown here" in str(cell.outputs), "more than is shown", 60)
    kernel.interrupt()
    result = running.result(30)
    assert result.ename == "ReplyStopped"
    assert evaluated(kernel, "len(_halo.text)") > 300_000
    assert len(json.dumps(result.displays)) < 3_000_000
    assert "<code>_halo.text</code> has the full text" in html(result)


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


def test_connection_refused_in_a_cell(shared: Kernel) -> None:
    """Nothing listens: the line names the address and says that nothing was sent."""
    shared.run("%config HaloMagics.base_url = 'http://127.0.0.1:9'\n%config HaloMagics.api_key = 'ab_live_x'")
    result = shared.run("%%halo\nHello")
    shared.run("magics.base_url = magics.api_key = None")
    assert (result.status, result.ename) == ("error", "ConnectionFailed")
    assert "127.0.0.1:9" in result.evalue
    assert "The message was not sent" in result.evalue


def test_a_saved_notebook_says_which_conversation_it_shows(tmp_path: Path) -> None:
    """Executed as by nbconvert: valid, with ids in the metadata, no secret, and resumed after a restart."""
    cells = [
        nbformat.v4.new_code_cell(code)
        for code in (LOAD, "%%halo\nMy name is Zelda", "%%halo\nOpen a ticket")
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60)
    client.execute()
    nbformat.validate(notebook)
    text = nbformat.writes(notebook)
    assert DEMO_KEY not in text
    replies = [
        output for cell in notebook.cells for output in cell.outputs if "halo" in output.get("metadata", {})
    ]
    assert len(replies) == 2
    assert {reply.metadata.halo.session_id for reply in replies} == {replies[0].metadata.halo.session_id}
    assert "Nice to meet you, Zelda" in notebook.cells[1].outputs[1].data["text/html"]
    ticket = notebook.cells[2].outputs[1]
    assert ticket.data["application/json"]["type"] == "create_ticket"
