"""Stop and Run All in a real kernel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ..harness.cells import LOAD, evaluated, fast_demo, plain, sent

if TYPE_CHECKING:
    from ..harness.kernels import Kernel

pytestmark = pytest.mark.kernel


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
        "import os, signal\nfrom halo_notebook.magics.screens.notebook import NotebookScreen\n"
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


def test_an_interrupt_while_another_turn_runs(kernel: Kernel) -> None:
    """The cell stops waiting for its turn, and its message is not sent."""
    kernel.run(f"{LOAD}\n{fast_demo()}")
    kernel.run(
        "import threading\nfrom halo_notebook import current_client, current_session\n"
        "session = current_session()\n"
        "threading.Thread(target=session.ask, args=(current_client(), '/fault stall'), daemon=True).start()\n"
        "while not session.busy: pass"
    )
    running = kernel.start("print('asking')\nget_ipython().run_cell_magic('halo', '', 'Hello')")
    running.wait_for_text("asking")
    time.sleep(0.1)
    kernel.interrupt()
    result = running.result(5)
    assert (result.ename, len(result.traceback)) == ("ReplyStopped", 1)
    assert "The message was not sent" in result.evalue
    assert evaluated(kernel, "[turn.message for turn in session.turns]") == ["/fault stall"]
    kernel.run("session.stop()")
    assert kernel.run("%halo ask Hello").status == "ok"


def test_an_interrupt_of_the_users_own_code(kernel: Kernel) -> None:
    """It is raised in the callable as anywhere, and stops the turn, of which nothing has been sent."""
    kernel.run(
        f"{LOAD}\n{fast_demo()}\nimport time\n"
        "magics.user_id = 'u_1'\n"
        "def token():\n    print('signing', flush=True)\n    time.sleep(60)\n"
        "magics.user_token = token"
    )
    running = kernel.start("%%halo\nHello")
    running.wait_for_text("signing")
    kernel.interrupt()
    result = running.result(5)
    assert (result.ename, len(result.traceback)) == ("ReplyStopped", 1)
    assert "the message had not been sent" in result.evalue
    assert evaluated(kernel, "len(magics.connection.demo.requests)") == 0


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
