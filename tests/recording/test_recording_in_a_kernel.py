"""Magic and panel record and replay in a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook.recording.replay import WAITS

from ..harness.cells import LOAD, LOAD_FAST

if TYPE_CHECKING:
    from ..harness.kernels import CellResult, Kernel


TRACKING = "How do I set up event tracking?"
WATCH = (
    "import sys\n"
    "used = []\n"
    "sys.addaudithook(lambda event, arguments: used.append(event) if event in "
    "('socket.connect', 'socket.bind', 'socket.getaddrinfo', 'socket.sendto') else None)"
)


def plain(result: CellResult) -> str:
    return "\n".join(data.get("text/plain", "") for data in result.displays)


def shown(result: CellResult) -> list[str]:
    """What a cell shows, without its status line and without a notice."""
    return [data["text/plain"] for data in result.displays if not data["text/plain"].startswith("[No HALO")][
        :-1
    ]


def printed(kernel: Kernel, expression: str) -> str:
    return kernel.run(f"print({expression})").stdout.strip()


@pytest.mark.kernel
def test_a_recorded_demo_is_replayed_in_a_new_kernel(kernel: Kernel) -> None:
    """Without a key, a demo agent or a network, each Run All shows the same, marked as a replay."""
    cells = [f"%%halo\n{TRACKING}", "%%halo\nMy name is Ada", "%%halo\nWhat is my name?"]
    kernel.run(LOAD_FAST)
    assert "Recording to 'demo.jsonl'." in kernel.run("%halo record demo.jsonl").stdout
    then = kernel.run_all(cells)
    assert "record   'demo.jsonl', 3 exchanges" in kernel.run("%halo").stdout
    assert "'demo.jsonl', 3 exchanges" in kernel.run("%halo record stop").stdout
    session_id = printed(kernel, "_halo.session_id")

    kernel.restart()
    kernel.run(WATCH)
    kernel.run(LOAD)
    answer = kernel.run("%halo replay demo.jsonl --fast").stdout
    assert "'demo.jsonl' (3 exchanges) answers from now on, without waiting." in answer
    for _ in range(2):
        now = kernel.run_all(cells)
        assert [cell.status for cell in now] == ["ok"] * 3
        assert [shown(cell) for cell in now] == [shown(cell) for cell in then]
        assert all("No HALO_API_KEY" not in plain(cell) for cell in now)
        status = now[0].displays[-1]
        who = "[replay of demo.jsonl (demo agent) · agent agent_demo · session default · first text 0."
        assert status["text/plain"].startswith(who)
        assert "font-weight:bold" in status["text/html"], "the badge is framed"
        about = now[0].outputs[-1]["metadata"]["halo"]
        assert (about["source"], about["session_id"]) == ("replay of demo.jsonl (demo agent)", session_id)
    assert "target   replay of demo.jsonl (demo agent), without waiting" in kernel.run("%halo").stdout
    assert '"pace": "fast"' in plain(kernel.run("%halo status"))
    assert "replay of demo.jsonl (demo agent)" in plain(kernel.run("%halo history"))
    assert printed(kernel, "used, get_ipython()._halo_connection.demo") == "[] None"
    missing = kernel.run("%%halo\nWhat else?")
    assert (missing.ename, len(missing.traceback)) == ("UsageError", 1)
    assert "'What else?' is not in the recording 'demo.jsonl'. Nothing was sent" in missing.evalue
    assert "The replay has ended" in kernel.run("%halo replay stop").stdout
    assert "demo agent" in plain(kernel.run("%%halo\nHello"))
    assert printed(kernel, "_halo.session_id") != session_id, "no recorded id goes to an agent"


def _shown_items(turn: dict[str, Any]) -> list[str]:
    """The HTML of the blocks and the ids of the actions, in order."""
    return [item.get("html") or item.get("waited") or item["action"]["id"] for item in turn["items"]]


@pytest.mark.kernel
def test_a_panel_records_and_replays(kernel: Kernel) -> None:
    """The same connection: its turns are recorded, and answered by a replay, step by step if so wanted."""
    kernel.run(
        f"{LOAD_FAST}from halo_notebook import ChatPanel\npanel = ChatPanel('docs')\n%halo record demo.jsonl"
    )
    assert printed(kernel, f"panel.ask({TRACKING!r}).result().status") == "complete"
    kernel.run("%halo replay demo.jsonl --step")
    kernel.run(f"sent = panel.ask({TRACKING!r})")

    def told(kind: str) -> list[dict[str, Any]]:
        sent = [each.content["data"] for each in kernel.messages if each.msg_type == "comm_msg"]
        contents = [data.get("content") or {} for data in sent]
        return [content for content in contents if content.get("kind") == kind]

    def waits() -> bool:
        return any(message.get("state") == WAITS for message in told("frame") + told("beat"))

    kernel.wait_until(waits, "the panel to say what it waits for")
    assert printed(kernel, "panel.status") == WAITS
    assert "busy" not in printed(kernel, "sent.done()")
    kernel.run(
        "import time\nreplay = get_ipython()._halo_connection.replay\n"
        "waits = lambda: replay.waits(panel.session.turns[-1].reply)"
    )
    for _ in range(30):
        if printed(kernel, "sent.done()") == "True":
            break
        assert kernel.run("%halo step").status == "ok"
        kernel.run("while not (sent.done() or waits()): time.sleep(0.01)")
    kernel.wait_until(lambda: len(told("turn")) == 2, "the end of the turn")
    live, replayed = (message["turn"] for message in told("turn"))
    assert (live["source"], replayed["source"]) == ("demo agent", "replay of demo.jsonl (demo agent)")
    assert _shown_items(replayed) == _shown_items(live)
    then, now = live["first_text_s"], replayed["first_text_s"]
    assert then - 0.005 < now < then + 1, "a busy machine is late"
    assert "No turn waits for a step just now." in kernel.run("%halo step").stdout


@pytest.mark.kernel
def test_a_cell_asks_the_presenter_for_each_step(kernel: Kernel) -> None:
    """Enter lets the next step out; Stop ends it; a front end that cannot ask says so."""
    kernel.run(LOAD_FAST)
    kernel.run(f"%halo record demo.jsonl\n%halo ask {TRACKING}\n%halo replay demo.jsonl --step")
    running = kernel.start(f"%%halo\n{TRACKING}", stdin=True)
    texts_shown, trees = [], []
    for number in range(1, 10):
        if not (prompt := running.until_asked(number)):
            break
        assert prompt == "Enter: the next step "
        texts_shown.append("".join(output.get("data", {}).get("text/html", "") for output in running.outputs))
        trees.append(sum("application/json" in output.get("data", {}) for output in running.outputs))
        kernel.type_in("")
    result = running.result()
    assert result.status == "ok", result.evalue
    # A step that ends with one of the two actions may show no more text.
    assert len({*texts_shown}) >= len(texts_shown) - 2 and "four steps" in texts_shown[1]
    assert trees[0] == 0 and trees[-1] == 2, "the actions wait for the end of the list that they came in"
    assert "2 actions" in plain(result) and "like a story" in plain(result)

    running = kernel.start(f"%%halo\n{TRACKING}", stdin=True)
    assert running.until_asked(1)
    kernel.interrupt()
    stopped = running.result(5)
    assert (stopped.ename, len(stopped.traceback)) == ("ReplyStopped", 1)
    assert "four steps" in plain(stopped) and "like a story" not in plain(stopped)

    silent = kernel.run(f"%%halo\n{TRACKING}")
    assert (silent.ename, len(silent.traceback)) == ("UsageError", 1)
    assert "this front end cannot ask for it" in silent.evalue


@pytest.mark.kernel
def test_recording_and_replaying_in_turn(kernel: Kernel) -> None:
    """Each command says what it has done; what cannot be changes nothing."""
    kernel.run(LOAD_FAST)

    def refused(line: str, words: str) -> None:
        result = kernel.run(line)
        assert (result.ename, len(result.traceback)) == ("UsageError", 1), line
        assert words in result.evalue and "Nothing" in result.evalue, result.evalue

    refused("%halo record", "Usage: %halo record FILE|stop")
    refused("%halo record stop", "Nothing is being recorded")
    for words in ("", "a.jsonl --slow", "a.jsonl b.jsonl"):
        refused(f"%halo replay {words}", "Usage: %halo replay FILE|stop [--fast | --step]")
    refused("%halo replay stop", "Nothing is being replayed")
    refused("%halo replay a.jsonl", "'a.jsonl' could not be read")
    refused("%halo step", "No replay runs step by step")
    kernel.run("from pathlib import Path; Path('notes.txt').write_text('mine')")
    refused("%halo record notes.txt", "'notes.txt' is not a recording")
    assert printed(kernel, "Path('notes.txt').read_text()") == "mine"

    kernel.run("import os, shutil\nos.mkdir('gone')\n%halo record gone/demo.jsonl\nshutil.rmtree('gone')")
    lost = "'demo.jsonl' lacks a reply, which could not be written"
    assert lost in kernel.run("%%halo\nHello").displays[-1]["text/plain"]
    assert lost in kernel.run("%halo record stop").stdout

    kernel.run("%halo record 'a b.jsonl'\nos.mkdir('sub'); os.chdir('sub')\n%halo ask Hello")
    kernel.run("os.chdir('..')\n%halo record 'a b.jsonl'")
    assert printed(kernel, "get_ipython()._halo_connection.recorder.count") == "1"
    replaying = kernel.run("%halo replay 'a b.jsonl' --fast").stdout
    assert "The recording has ended: 'a b.jsonl', 1 exchange." in replaying
    refused("%halo record c.jsonl", "'a b.jsonl' is being replayed")
    assert "after the 1 exchange there" in kernel.run("%halo demo start\n%halo record 'a b.jsonl'").stdout
    assert "replay of a b.jsonl" in plain(kernel.run("%halo replay 'a b.jsonl'\n%halo ask Hello"))
    kernel.run("%config HaloMagics.api_key = 'ab_live_x'\n%halo connect http://127.0.0.1:9")
    assert "target   http://127.0.0.1:9" in kernel.run("%halo").stdout
    kernel.run("%halo replay 'a b.jsonl' --fast")
    assert kernel.run("%unload_ext halo_notebook").status == "ok"
    assert printed(kernel, "get_ipython()._halo_connection.replay") == "None"
