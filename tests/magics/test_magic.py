"""`%halo` and `%%halo` in a real kernel: what is shown, kept, written and refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from halo_notebook.demo import DEMO_KEY, DemoAgent, sign_user_token

from ..harness.faults import FAULTS, Fault
from ..harness.kernels import CellResult, Kernel

pytestmark = pytest.mark.kernel

LOAD = "%load_ext halo_notebook"
SEED = "How do I set up event tracking?"


@pytest.fixture(scope="module")
def shared() -> Iterator[Kernel]:
    """One kernel for the tests that leave nothing behind, with the demo agent at full speed."""
    with Kernel() as running:
        assert running.run(f"{LOAD}\n{fast_demo()}").status == "ok"
        yield running


def fast_demo() -> str:
    """Code that puts a demo agent without pauses in the place of the one that starts by itself."""
    return (
        "from halo_notebook.demo import DemoAgent\n"
        "magics = get_ipython().magics_manager.registry['HaloMagics']\n"
        "magics.connection.demo = DemoAgent(first_byte_s=0, chunk_s=0).start()\n"
        "magics.connection.demo_urls.add(magics.connection.demo.url)\n"
        "magics.demo_announced = True"
    )


def evaluated(kernel: Kernel, expression: str) -> Any:
    """The value of an expression in the kernel, by way of JSON."""
    result = kernel.run(f"import json as _json; print(_json.dumps({expression}))")
    assert result.status == "ok", result.traceback
    return json.loads(result.stdout)


def html(result: CellResult) -> str:
    return "\n".join(data.get("text/html", "") for data in result.displays)


def plain(result: CellResult) -> str:
    return "\n".join(data.get("text/plain", "") for data in result.displays)


def sent(kernel: Kernel) -> dict[str, Any]:
    """The body of the last request that the demo agent received."""
    body: dict[str, Any] = evaluated(kernel, "magics.connection.demo.requests[-1].body")
    return body


def refused(kernel: Kernel, cell: str, words: str) -> None:
    """The cell fails with one line that holds `words`, and nothing is sent."""
    before = evaluated(kernel, "len(magics.connection.demo.requests)")
    result = kernel.run(cell)
    assert result.status == "error", cell
    assert len(result.traceback) == 1
    assert words in result.evalue, result.evalue
    assert "Nothing was" in result.evalue
    assert evaluated(kernel, "len(magics.connection.demo.requests)") == before


# --- A turn ---


def test_a_first_reply_without_a_key(kernel: Kernel) -> None:
    """The demo agent answers by itself, says so once, and everything is on the screen and in the kernel."""
    assert kernel.run(LOAD).status == "ok"
    first = kernel.run(f"%%halo\n{SEED}")
    assert first.status == "ok"
    notice, text, *actions, status = first.displays
    assert "No HALO_API_KEY is set, so the demo agent answers" in notice["text/plain"]
    assert "<strong>Open the tracking settings.</strong>" in text["text/html"]
    assert "**Open the tracking settings.**" in text["text/plain"]
    assert [action["application/json"]["type"] for action in actions] == ["highlight", "navigate"]
    assert all("<details" in action["text/html"] and "text/plain" in action for action in actions)
    labels = [output["metadata"]["application/json"]["root"] for output in first.outputs[2:-1]]
    assert labels == ["action 1: highlight", "action 2: navigate"]
    for words in ("demo agent", "agent_demo", "session default", "first text", "total", "2 actions"):
        assert words in status["text/plain"] and words in status["text/html"]
    metadata = first.outputs[1]["metadata"]["halo"]
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


def test_actions_that_trickle_in_stay_few_outputs(kernel: Kernel) -> None:
    """JupyterLab hides a cell's outputs beyond the fiftieth, and the status line with them."""
    kernel.run(
        f"{LOAD}\n{fast_demo()}\n"
        "from halo_notebook import Action, TextDelta\n"
        "steps = [s for n in range(60) for s in (TextDelta(f'{n} '), Action({'n': n}), 0.06)]\n"
        "magics.connection.demo = DemoAgent(first_byte_s=0, reply=lambda request: steps).start()"
    )
    result = kernel.run("%%halo\nHello")
    assert len(result.displays) <= 25
    trees = [data["application/json"] for data in result.displays if "application/json" in data]
    shown = [each for tree in trees for each in (tree if isinstance(tree, list) else [tree])]
    assert shown == [{"n": n} for n in range(60)]
    assert "60 actions" in result.displays[-1]["text/plain"]
    labels = [output["metadata"].get("application/json", {}).get("root") for output in result.outputs]
    assert labels[-2].endswith("–60")


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
    assert "_halo.text holds the whole" in plain(result)


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


# --- Interrupts and queued cells ---


def test_an_interrupt_keeps_the_text_and_gives_the_prompt_back(kernel: Kernel) -> None:
    """Within a second; the next turn works, in the same session."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    kernel.run("%halo ask Hello")
    session_id = evaluated(kernel, "_halo.session_id")
    running = kernel.start("%%halo\n/fault stall")
    running.wait_for(lambda cell: any("stalls" in str(output) for output in cell.outputs), "the text")
    started = time.monotonic()
    kernel.interrupt()
    result = running.result(5)
    assert time.monotonic() - started < 1
    assert (result.status, result.ename) == ("error", "ReplyStopped")
    assert len(result.traceback) == 1
    assert "Stopped after" in result.evalue
    assert "stalls" in plain(result) and "stopped" in plain(result)
    assert evaluated(kernel, "_halo.status") == "stopped"
    assert kernel.run("%halo ask Hello").status == "ok"
    assert sent(kernel)["session_id"] == session_id


def test_an_interrupt_before_the_first_byte(kernel: Kernel) -> None:
    """Nothing has come yet: the line says that the message had been sent."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    running = kernel.start("%%halo\n/fault stall first")
    running.wait_for(lambda cell: bool(cell.outputs), "the waiting line")
    kernel.wait_until(lambda: "connecting" not in str(running.outputs), "the request to be sent", 5)
    kernel.interrupt()
    result = running.result(5)
    assert result.ename == "ReplyStopped"
    assert "The session is kept" in result.evalue


def test_two_interrupts_at_once(kernel: Kernel) -> None:
    """An impatient second one costs neither the text nor the status line."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    # It comes just when the first is dealt with: sent from here it might come when the cell has ended.
    kernel.run(
        "import os, signal\nfrom halo_notebook.magics.cell import NotebookScreen\n"
        "finish = NotebookScreen.finish\n"
        "def interrupted(screen, words):\n"
        "    NotebookScreen.finish = finish\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    finish(screen, words)\n"
        "NotebookScreen.finish = interrupted"
    )
    running = kernel.start("%%halo\n/fault stall")
    running.wait_for(lambda cell: any("stalls" in str(output) for output in cell.outputs), "the text")
    kernel.interrupt()
    result = running.result(5)
    assert result.ename == "ReplyStopped"
    assert "stopped" in plain(result)
    assert kernel.run("%halo ask Hello").status == "ok"


def test_an_interrupt_while_a_retry_is_waited_for(kernel: Kernel) -> None:
    """Nothing had been taken, and the line says so."""
    kernel.run(f"{LOAD}\n{fast_demo()}\nmagics.connection.demo.faults.append('503 retry-after 30')")
    running = kernel.start("%%halo\nHello")
    running.wait_for(lambda cell: "trying again in 30 s" in str(cell.outputs), "the retry")
    kernel.interrupt()
    result = running.result(5)
    assert result.ename == "ReplyStopped"
    assert "the message had not been sent" in result.evalue


def test_queued_cells_all_run(kernel: Kernel) -> None:
    """Run All over several replies finishes each of them, in order."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    cells = ["%%halo\nMy name is Zelda", "%%halo\nMarkdown", "x = 1", "%%halo\nWhat is my name?", "print(x)"]
    results = kernel.run_all(cells)
    assert [result.status for result in results] == ["ok"] * 5
    assert "Zelda" in plain(results[3])
    assert results[4].stdout == "1\n"
    assert all(result.stderr == "" for result in results)


def test_a_failed_reply_stops_run_all(kernel: Kernel) -> None:
    """The cells behind it are not run, as behind any cell that fails."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    results = kernel.run_all(["%%halo\n/error 500", "print('not reached')"])
    assert [result.status for result in results] == ["error", "aborted"]


def test_an_async_token_runs_on_the_kernels_own_loop(kernel: Kernel) -> None:
    """It may hold objects of that loop; the cells behind it all run, and asyncio is patched only then."""
    secret = "ha_secret_for_this_test"
    signed = sign_user_token(secret, "u_1")
    kernel.run(
        f"{LOAD}\n"
        "import asyncio, sys\n"
        "from halo_notebook.demo import DemoAgent, DEMO_KEY\n"
        f"agent = DemoAgent(first_byte_s=0, chunk_s=0, identity_secret={secret!r}).start()\n"
        "magics = get_ipython().magics_manager.registry['HaloMagics']\n"
        "magics.base_url, magics.api_key, magics.user_id = agent.url, DEMO_KEY, 'u_1'\n"
        "kernel_loop = asyncio.get_event_loop()\n"
        "seen = []\n"
        "async def fresh():\n"
        "    await asyncio.sleep(0.01)\n"
        "    seen.append(asyncio.get_running_loop() is kernel_loop)\n"
        f"    return {signed!r}\n"
    )
    kernel.run("magics.user_token = fresh")
    results = kernel.run_all(["%%halo\nHello", "%%halo\nMarkdown", "print(seen)"])
    assert [result.status for result in results] == ["ok"] * 3, results[0].traceback
    assert results[2].stdout == "[True]\n"


# --- Options ---


def test_options_reach_the_request(shared: Kernel) -> None:
    """Each option sends its field; variables come from the notebook."""
    shared.run(
        "import pandas as pd, numpy as np\n"
        "orders = pd.DataFrame({'n': [1, 2], 'paid': [True, None]})\n"
        "plan = {'label': 'Plan', 'type': 'status', 'value': 'pro'}\n"
        "seats = np.int64(3)\n"
        "traits = {'role': 'admin'}\n"
        "past = [{'role': 'user', 'content': 'Hi'}]\n"
        "did = 'looked at /billing'\n"
        "picture = b'\\x89PNG\\r\\n\\x1a\\n....'"
    )
    result = shared.run(
        "%%halo -s other -a agent_x -u u_1 --company c_1 -m voice -c orders -c plan --context seats "
        "-f traits --history past --behavior did -i picture -i https://example.com/a.png -o kept\nHello"
    )
    assert result.status == "ok", result.traceback
    body = sent(shared)
    assert body["agent_id"] == "agent_x"
    assert (body["user_id"], body["company_id"], body["mode"]) == ("u_1", "c_1", "voice")
    assert body["context"] == {
        "orders": {
            "label": "orders",
            "type": "list",
            "value": [{"n": 1, "paid": True}, {"n": 2, "paid": None}],
        },
        "plan": {"label": "Plan", "type": "status", "value": "pro"},
        "seats": {"label": "seats", "value": 3},
    }
    assert body["custom_fields"] == {"role": "admin"}
    assert body["conversation_history"] == [{"role": "user", "content": "Hi"}]
    assert body["behavior_context"] == "looked at /billing"
    assert body["images"][0].startswith("data:image/png;base64,") and body["images"][1].startswith("https:")
    assert evaluated(shared, "kept is _halo and kept.agent_id") == "agent_x"


def test_an_image_file_is_sent(shared: Kernel, tmp_path: Path) -> None:
    """A path with blanks and backslashes as typed; a file that is no image is not sent."""
    picture = tmp_path / "a picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n....")
    assert shared.run(f"%%halo -i '{picture}'\nLook").status == "ok"
    assert sent(shared)["images"][0].startswith("data:image/png;base64,")
    assert shared.run(f"shot = {str(picture)!r}\n%halo ask x").status == "ok"
    assert shared.run("%%halo -i shot\nLook").status == "ok"
    assert sent(shared)["images"][0].startswith("data:image/png;base64,")
    other = tmp_path / "key"
    other.write_text("private")
    refused(shared, f"%%halo -i {other}\nLook", "is not an image")
    refused(shared, "%%halo -i absent.png\nLook", "could not be read")


def test_a_dry_run_shows_the_exact_request_and_sends_nothing(kernel: Kernel) -> None:
    """Secrets show as 'set'."""
    kernel.run(f"{LOAD}\n{fast_demo()}\nmagics.user_token = 'a.b.c'\nmagics.user_id = 'u_1'")
    result = kernel.run("%%halo --dry-run -m voice\nHello {{ 1 + 1 }}")
    assert result.status == "ok"
    request = result.displays[0]["application/json"]
    assert request["body"] == {"message": "Hello 2", "user_id": "u_1", "mode": "voice", "user_token": "set"}
    assert request["headers"]["Authorization"] == "Bearer set"
    assert request["url"].endswith("/chat/stream")
    assert evaluated(kernel, "len(magics.connection.demo.requests)") == 0
    assert "a.b.c" not in str(result.outputs) and DEMO_KEY not in str(result.outputs)


def test_expressions_in_the_cell(shared: Kernel) -> None:
    """Double braces are replaced, single ones left alone, --raw sends all as typed."""
    shared.run("plan = 'pro'")
    shared.run('%%halo\nOn {{ plan }}: {"a": {plan}} $plan')
    assert sent(shared)["message"] == 'On pro: {"a": {plan}} $plan'
    shared.run("%%halo --raw\nOn {{ plan }}")
    assert sent(shared)["message"] == "On {{ plan }}"
    shared.run("%halo ask On {{ plan }}, {plan} and $plan")
    assert sent(shared)["message"] == "On pro, {plan} and $plan"
    refused(shared, "%%halo\nOn {{ paln }}", "There is no 'paln'")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%halo --sesion x\nHello", "did you mean '--session'"),
        ("%%halo --sess x\nHello", "no option '--sess'"),
        ("%%halo -s a -s b\nHello", "given twice"),
        ("%%halo -s\nHello", "expected one argument"),
        ("%%halo extra\nHello", "no option 'extra'"),
        ("%%halo --timeout soon\nHello", "invalid float value"),
        ("%%halo --timeout 0\nHello", "above 0"),
        ("%%halo -s 'open\nHello", "No closing quotation"),
        ("%%halo -c orderz\nHello", "There is no variable 'orderz'"),
        ("%%halo -m chta\nHello", "did you mean 'chat'"),
        ("%%halo -o 1x\nHello", "not a variable name"),
        ("%%halo -o class\nHello", "not a variable name"),
        ("%%halo\n \n", "message is empty"),
        ("%halo sesions", "did you mean 'sessions'"),
        ("%halo frobnicate", "the commands are ask, panel, sessions"),
        ("%halo ask", "message is empty"),
        ("%halo ask -s other Hello", "takes no options"),
        ("%halo use", "Usage: %halo use NAME"),
        ("%halo resume", "Usage: %halo resume ID [NAME]"),
        ("%halo history nobody", "There is no session 'nobody'"),
        ("%halo export notes.txt", "neither .md nor .json"),
        ("%halo demo", "Usage: %halo demo start|stop"),
        ("%halo new bob's", "No closing quotation"),
        ("%halo history 'x", "No closing quotation"),
        ("%halo resume ''", "Usage: %halo resume ID [NAME]"),
        ("%halo use ''", "Usage: %halo use NAME"),
        ("%%halo -s ''\nHello", "--session needs a name"),
        ("%halo ask --session=other Hello", "takes no options"),
        ("%halo ask -sother Hello", "takes no options"),
        ("%halo connect http://api.example.com", "Plain http"),
    ],
)
def test_what_is_not_understood_is_named(cell: str, words: str, shared: Kernel) -> None:
    """One line with what was meant, in a cell that fails; nothing is sent or changed."""
    refused(shared, cell, words)


# --- Line commands ---


def test_where_things_stand(kernel: Kernel) -> None:
    """`%halo` alone: target, agent, session."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    before = kernel.run("%halo").stdout
    assert "demo agent, http://127.0.0.1:" in before
    assert "not named yet" in before and "no id yet, 0 turns" in before
    kernel.run("%halo ask Hello")
    after = kernel.run("%halo").stdout
    assert "agent    agent_demo" in after and "sess_" in after and "1 turn\n" in after


def test_sessions_can_be_named_listed_and_resumed(kernel: Kernel) -> None:
    """Each conversation remembers its own; an id picks one up again."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    kernel.run("%%halo -s work\nMy name is Zelda")
    session_id = evaluated(kernel, "_halo.session_id")
    assert "Zelda" not in plain(kernel.run("%halo ask What is my name?"))
    assert "session 'work'" in kernel.run("%halo use work").stdout
    assert "Zelda" in plain(kernel.run("%halo ask What is my name?"))
    listed = kernel.run("%halo sessions").stdout.splitlines()
    assert [line.split()[:2] for line in listed[2:]] == [["*", "work"]]
    assert session_id in listed[2] and listed[2].endswith("2")
    assert "new conversation" in kernel.run("%halo new").stdout
    assert "Zelda" not in plain(kernel.run("%halo ask What is my name?"))
    assert "work-1" in kernel.run("%halo sessions").stdout
    kernel.run(f"%halo resume {session_id} again")
    assert "Zelda" in plain(kernel.run("%halo ask What is my name?"))
    assert "Zelda" not in plain(kernel.run("%%halo --new -s again\nWhat is my name?"))


def test_history_shows_the_turns(shared: Kernel) -> None:
    """Messages and replies, as they were shown."""
    shared.run("%halo new hist\n%halo ask My name is <b>Zelda</b>")
    shared.run("%halo ask Open a ticket")
    result = shared.run("%halo history")
    assert len(result.displays) == 2
    assert "&lt;b&gt;Zelda&lt;/b&gt;" in html(result) and "<b>" not in html(result)
    assert "create_ticket" in html(result)
    assert all(
        "demo agent · agent agent_demo · session hist" in data["text/plain"] for data in result.displays
    )
    assert "no turns yet" in shared.run("%halo new empty\n%halo history").stdout


def test_export_writes_the_conversation(shared: Kernel, tmp_path: Path) -> None:
    """To Markdown and JSON, by the file's ending."""
    shared.run("%halo new exp")
    shared.run("%halo ask My name is Zelda")
    for name in ("talk.md", "talk.json"):
        assert "Wrote" in shared.run(f"%halo export {tmp_path / name} exp").stdout
    assert "Nice to meet you, Zelda" in (tmp_path / "talk.md").read_text(encoding="utf-8")
    data = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert data["turns"][0]["request"]["message"] == "My name is Zelda"


def test_status_shows_no_secret(kernel: Kernel) -> None:
    """Settings, sessions and the client's state, with secrets as 'set'; `%config` likewise."""
    key, token = "ab_live_very_private", "aaa.bbb.ccc"
    kernel.run(LOAD)
    kernel.run(
        f"%config HaloMagics.api_key = {key!r}\n%config HaloMagics.user_token = {token!r}\n"
        "%config HaloMagics.base_url = 'http://127.0.0.1:9'"
    )
    outputs = [
        kernel.run(code) for code in ("%halo status", "%config HaloMagics", "%config HaloMagics.api_key")
    ]
    outputs.append(
        kernel.run(
            "m = get_ipython().magics_manager.registry['HaloMagics']\n"
            "print(vars(m), m.trait_values(), m.config)"
        )
    )
    assert all(result.status == "ok" for result in outputs), outputs
    shown = str([result.outputs for result in outputs])
    assert key not in shown and token not in shown
    assert outputs[0].displays[0]["application/json"]["client"]["api_key"] == "set"
    secret = kernel.run("%config HaloMagics.api_key = 'ha_secret_never'")
    assert "never" not in str(secret.outputs).replace("never leave", "")


def test_secrets_of_the_environment_stay_hidden() -> None:
    """The magics' own state shows none, and neither does a traceback with every local variable."""
    key, token = "ab_live_very_private", "aaa.bbb.ccc"
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        environment = {"HALO_API_KEY": key, "HALO_USER_TOKEN": token, "HALO_BASE_URL": agent.url}
        with Kernel(env=environment) as kernel:
            kernel.run(f"{LOAD}\n%xmode Verbose")
            outputs = [
                kernel.run("%halo ask Hello"),
                kernel.run("print(vars(get_ipython().find_magic('halo').__self__))"),
                kernel.run("%halo status"),
                kernel.run("%halo ask /error 401"),
                kernel.run("%config HaloMagics.user_token = 5"),
                kernel.run("%%halo --timeout -1\nHello"),
            ]
    shown = str([(result.outputs, result.traceback) for result in outputs])
    assert agent.requests[0].body["user_token"] == token
    assert key not in shown and token not in shown


def test_help_says_it_all(kernel: Kernel) -> None:
    """Every option and every command, from `%halo help` and from `%%halo?`."""
    kernel.run(LOAD)
    text = kernel.run("%halo help").stdout
    for words in (
        "--session",
        "--dry-run",
        "--image",
        "%halo resume ID",
        "%halo demo start|stop",
        "{{ expression }}",
    ):
        assert words in text
    assert kernel.run("print(get_ipython().find_cell_magic('halo').__doc__)").stdout.strip() == text.strip()


def test_the_demo_agent_can_be_stopped_and_started(kernel: Kernel) -> None:
    """Stopped, a turn asks for a key in one line; started, it answers again."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    assert kernel.run("%halo ask Hello").status == "ok"
    assert "stopped" in kernel.run("%halo demo stop").stdout
    failed = kernel.run("%halo ask Hello")
    assert failed.ename == "ConfigError" and "HALO_API_KEY" in failed.evalue
    assert "none: There is no API key" in kernel.run("%halo").stdout
    assert "127.0.0.1" in kernel.run("%halo demo start").stdout
    assert kernel.run("%halo ask Hello").status == "ok"


def test_connect_uses_the_key_from_the_environment() -> None:
    """With a key in the environment the agent that it names answers, and no badge says demo."""
    with (
        DemoAgent(first_byte_s=0, chunk_s=0) as agent,
        Kernel(env={"HALO_API_KEY": DEMO_KEY, "HALO_BASE_URL": agent.url}) as kernel,
    ):
        kernel.run(LOAD)
        result = kernel.run("%%halo\nHello")
        assert result.status == "ok"
        assert "demo agent" not in result.displays[-1]["text/plain"] and result.stdout == ""
        assert len(agent.requests) == 1
        kernel.run("%halo demo start")
        assert "demo agent" in kernel.run("%%halo\nHello").displays[-1]["text/plain"]
        assert f"target   {agent.url}" in kernel.run("%halo connect").stdout
        kernel.run("%%halo\nHello")
        assert len(agent.requests) == 2
        assert "session_id" not in agent.requests[1].body, "the demo agent's session is not sent elsewhere"


def test_connect_asks_for_the_key(kernel: Kernel) -> None:
    """By way of the front end, also when the extension was loaded before; a blank answer changes nothing."""
    kernel.run(f"{LOAD}\nimport getpass")
    # In the cell itself: the kernel puts its own function there as each cell begins.
    typed = "getpass.getpass = lambda prompt: {!r}\n"
    assert "No key was given. Nothing was changed" in kernel.run(typed.format(" ") + "%halo connect").evalue
    assert kernel.run("%halo ask Hello").status == "ok", "the demo agent still answers"
    connected = kernel.run(typed.format("ab_live_typed") + "%halo connect http://127.0.0.1:9")
    assert "target   http://127.0.0.1:9" in connected.stdout
    assert "ab_live_typed" not in str(connected.outputs)


def test_connect_without_a_key_where_nothing_can_ask(kernel: Kernel) -> None:
    """A front end without input gets one line."""
    kernel.run(LOAD)
    result = kernel.run("%halo connect")
    assert result.ename == "ConfigError"
    assert "cannot ask for one" in result.evalue


def test_loading_again_keeps_the_sessions(kernel: Kernel) -> None:
    """`%reload_ext` is harmless; unloading stops the demo agent and takes the magics away."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    kernel.run("%halo ask Hello")
    kernel.run(LOAD)
    assert "1 turn" in kernel.run("%halo").stdout
    assert kernel.run("%reload_ext halo_notebook").status == "ok"
    assert "1 turn" in kernel.run("%halo").stdout
    assert kernel.run("import importlib, halo_notebook.magics.magic as m; importlib.reload(m)").status == "ok"
    assert kernel.run("%reload_ext halo_notebook").status == "ok"
    assert kernel.run("%halo ask Is it?").status == "ok"
    assert kernel.run("%unload_ext halo_notebook").status == "ok"
    assert "not found" in kernel.run("%halo").stderr
    assert kernel.run(LOAD).status == "ok"
    assert "2 turns" in kernel.run("%halo").stdout, "kept on the shell"


# --- What a saved notebook holds ---


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
    assert "Nice to meet you, Zelda" in replies[0].data["text/html"]
    ticket = notebook.cells[2].outputs[1]
    assert ticket.data["application/json"]["type"] == "create_ticket"


# --- The kernel's settings and restarts ---


def test_a_client_takes_the_magics_settings(kernel: Kernel) -> None:
    """`%config` goes before the environment for a client made by hand, too."""
    kernel.run(
        f"{LOAD}\nimport os\nos.environ['HALO_USER_ID'] = 'u_env'\nfrom halo_notebook import HaloClient"
    )
    made = "HaloClient('ab_live_x').debug()['user_id']"
    assert evaluated(kernel, made) == "u_env"
    kernel.run("%config HaloMagics.user_id = 'u_config'")
    assert evaluated(kernel, made) == "u_config"
    assert evaluated(kernel, "HaloClient('ab_live_x', user_id='u_arg').debug()['user_id']") == "u_arg"


def test_a_method_may_give_the_token(kernel: Kernel) -> None:
    """The one of that very object, not of a copy."""
    kernel.run(
        f"{LOAD}\n{fast_demo()}\nimport threading\n"
        "class Signer:\n"
        "    lock, asked = threading.Lock(), 0\n"
        "    def token(self):\n"
        "        self.asked += 1\n"
        "        return 'aaa.bbb.ccc'\n"
        "signer = Signer()"
    )
    assert kernel.run("%config HaloMagics.user_token = signer.token").stderr == ""
    assert kernel.run("%halo ask Hello").status == "ok"
    assert sent(kernel)["user_token"] == "aaa.bbb.ccc"
    assert evaluated(kernel, "signer.asked") == 1


def test_a_conversation_is_resumed_after_a_restart(kernel: Kernel) -> None:
    """By the id that the saved output's metadata holds."""
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        aim = f"%config HaloMagics.base_url = {agent.url!r}\n%config HaloMagics.api_key = {DEMO_KEY!r}"
        kernel.run(f"{LOAD}\n{aim}")
        first = kernel.run("%halo ask My name is Zelda")
        session_id = first.outputs[0]["metadata"]["halo"]["session_id"]
        kernel.restart()
        kernel.run(f"{LOAD}\n{aim}")
        assert "Zelda" not in plain(kernel.run("%halo ask What is my name?"))
        assert session_id in kernel.run(f"%halo resume {session_id}").stdout
        assert "Zelda" in plain(kernel.run("%halo ask What is my name?"))


@pytest.mark.parametrize(
    "text",
    [
        "Is it?",
        "What's up?",
        'Say "hi"?',
        "x is y??",
        "f(x)?",
        "a = b?",
        "100% {sure} $x?",
        "ends in \\\\ no",
    ],
)
def test_a_message_on_one_line_is_sent_as_typed(text: str, shared: Kernel) -> None:
    """Also one that ends in '?', which IPython would take for a call for help."""
    assert shared.run(f"%halo ask {text}").status == "ok"
    assert sent(shared)["message"] == text


def test_help_on_the_magic_is_still_help(shared: Kernel) -> None:
    """A '?' after the magic's name shows its documentation and sends nothing."""
    before = evaluated(shared, "len(magics.connection.demo.requests)")
    for code in ("%%halo?", "%halo?"):
        assert shared.run(code).status == "ok"
    shared.run("text = '''\n%halo ask Is this a string?\n'''")
    assert evaluated(shared, "text") == "\n%halo ask Is this a string?\n"
    assert evaluated(shared, "len(magics.connection.demo.requests)") == before
