"""Stop and Run All in a real kernel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ..harness.cells import evaluated, plain, sent

if TYPE_CHECKING:
    from ..harness.kernels import CellResult, Kernel, Running

pytestmark = pytest.mark.kernel


def stopped(kernel: Kernel, running: Running, words: str) -> CellResult:
    """Interrupt a cell, and look at the one line with which it fails."""
    kernel.interrupt()
    result = running.result(5)
    assert (result.ename, len(result.traceback)) == ("ReplyStopped", 1)
    assert words in result.evalue
    return result


@pytest.mark.parametrize(
    ("message", "shown", "words"),
    [
        ("/fault stall", "stalls", "Stopped after"),
        ("/fault stall first", "waiting", "The session is kept"),
        ("/fault 503 retry-after 30", "trying again in 30 s", "the message had not been sent"),
    ],
)
def test_an_interrupt_keeps_the_text_and_gives_the_prompt_back(
    message: str, shown: str, words: str, shared: Kernel
) -> None:
    """Within a second, with the text, before any or before a retry; the session continues."""
    shared.run("%halo new\n%halo ask Hello")
    session_id = evaluated(shared, "_halo.session_id")
    running = shared.start(f"%%halo\n{message}")
    running.wait_for(lambda cell: shown in str(cell.outputs), shown)
    started = time.monotonic()
    result = stopped(shared, running, words)
    assert time.monotonic() - started < 1
    assert "stopped" in plain(result) and ("stalls" in plain(result)) == (shown == "stalls")
    assert evaluated(shared, "_halo.status") == "stopped"
    assert shared.run("%halo ask Hello").status == "ok"
    assert sent(shared)["session_id"] == session_id


def test_two_interrupts_at_once(fresh: Kernel) -> None:
    """An impatient second one costs neither the text nor the status line."""
    # It comes just when the first is dealt with: sent from here it might come when the cell has ended.
    fresh.run(
        "import os, signal\nfrom halo_notebook.magics.screens.notebook import NotebookScreen\n"
        "finish = NotebookScreen.finish\n"
        "def interrupted(screen, words):\n"
        "    NotebookScreen.finish = finish\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    finish(screen, words)\n"
        "NotebookScreen.finish = interrupted"
    )
    running = fresh.start("%%halo\n/fault stall")
    running.wait_for(lambda cell: "stalls" in str(cell.outputs), "the text")
    assert "stopped" in plain(stopped(fresh, running, "Stopped after"))
    assert fresh.run("%halo ask Hello").status == "ok"


def test_an_interrupt_while_another_turn_runs(fresh: Kernel) -> None:
    """The cell says that it waits for its turn, can stop waiting, and then its message is not sent."""
    fresh.run(
        "import threading\nfrom halo_notebook import current_client, current_session\n"
        "session = current_session()\n"
        "threading.Thread(target=session.ask, args=(current_client(), '/fault stall'), daemon=True).start()\n"
        "while not session.busy: pass"
    )
    running = fresh.start("%%halo\nHello")
    running.wait_for_text("waiting for another turn of session 'default' to end")
    stopped(fresh, running, "The message was not sent")
    assert evaluated(fresh, "[turn.message for turn in session.turns]") == ["/fault stall"]
    fresh.run("session.stop()")
    assert fresh.run("%halo ask Hello").status == "ok"


def test_an_interrupt_of_the_users_own_code(fresh: Kernel) -> None:
    """It is raised in the callable as anywhere, and stops the turn, of which nothing has been sent."""
    fresh.run(
        "import time\nmagics.user_id = 'u_1'\n"
        "def token():\n    print('signing', flush=True)\n    time.sleep(60)\n"
        "magics.user_token = token"
    )
    running = fresh.start("%%halo\nHello")
    running.wait_for_text("signing")
    stopped(fresh, running, "the message had not been sent")
    assert evaluated(fresh, "len(magics.connection.demo.requests)") == 0


def test_queued_cells_all_run(fresh: Kernel) -> None:
    """Run All over several replies finishes each of them, in order, up to one that fails."""
    cells = ["%%halo\nMy name is Zelda", "%%halo\nMarkdown", "x = 1", "%%halo\nWhat is my name?", "print(x)"]
    results = fresh.run_all([*cells, "%%halo\n/error 500", "print('not reached')"])
    assert [result.status for result in results] == ["ok"] * 5 + ["error", "aborted"]
    assert "Zelda" in plain(results[3])
    assert results[4].stdout == "1\n"
    assert all(result.stderr == "" for result in results)
