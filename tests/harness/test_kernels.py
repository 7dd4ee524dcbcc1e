"""The harness's kernel, on plain IPython cells: what fails here is not the package's fault."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .kernels import Kernel, WaitedTooLong

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel for the tests that do not end it."""
    with Kernel() as running:
        yield running


def test_outputs_are_combined_as_in_a_front_end(kernel: Kernel) -> None:
    """Prints are joined, an update changes an earlier cell's output, and an error is an output.

    `clear_output(wait=True)` keeps the old output until there is a new one.
    """
    first = kernel.start(
        "from IPython.display import clear_output, display\n"
        "print('a'); print('b')\n"
        "handle = display('old', display_id=True)\n"
        "6 * 7"
    )
    result = first.result()
    assert (result.status, result.stdout) == ("ok", "a\nb\n")
    assert result.displays == [{"text/plain": "'old'"}, {"text/plain": "42"}]
    kernel.run("handle.update('new')")
    assert first.outputs[1]["data"] == {"text/plain": "'new'"}

    assert kernel.run("print(1)\nclear_output(wait=True)\nprint(2)").stdout == "2\n"

    result = kernel.run("1 / 0")
    assert (result.status, result.ename, result.evalue) == ("error", "ZeroDivisionError", "division by zero")
    assert result.traceback
    assert [output["output_type"] for output in result.outputs] == ["error"]


def test_messages_have_the_time_of_their_arrival(kernel: Kernel) -> None:
    """It does not matter when the test looks at them."""
    cell = kernel.start("import time\nprint(1, flush=True)\ntime.sleep(0.3)\nprint(2, flush=True)")
    cell.wait_for_text("2")
    kinds = {"execute_input", "stream"}
    started, first, second = [each.at for each in cell.result().messages if each.msg_type in kinds]
    assert started <= first < second
    assert second - first == pytest.approx(0.3, abs=0.25)


def test_run_all_runs_cells_in_order_until_one_fails(kernel: Kernel) -> None:
    """Cells that are sent at once all run; those behind a failing cell do not."""
    results = kernel.run_all(["import time; time.sleep(0.1); x = 1", "x += 1", "x"])
    assert [result.status for result in results] == ["ok", "ok", "ok"]
    assert results[2].displays == [{"text/plain": "2"}]
    results = kernel.run_all(["x = 1", "1 / 0", "x = 2"])
    assert [result.status for result in results] == ["ok", "error", "aborted"]
    assert kernel.run("x").displays == [{"text/plain": "1"}]


def test_failed_wait_says_what_for_and_an_interrupt_ends_the_cell(kernel: Kernel) -> None:
    """The failure names the cell and what it has shown so far; the cell ends with KeyboardInterrupt."""
    cell = kernel.start("import time\nprint('here', flush=True)\ntime.sleep(60)")
    cell.wait_for_text("here")
    with pytest.raises(
        WaitedTooLong, match=r"(?s)Waited 0\.1 s for the end of the cell.*'import time'.*here"
    ):
        cell.result(0.1)
    kernel.interrupt()
    assert cell.result(10).ename == "KeyboardInterrupt"
    assert kernel.run("1").status == "ok"


def test_cell_may_ask_for_input(kernel: Kernel) -> None:
    """It receives what is typed in; without a front end that can ask, `input` fails."""
    running = kernel.start("print(input('name? ') + input('again? '))", stdin=True)
    assert running.until_asked(1) == "name? "
    kernel.type_in("Ada")
    assert running.until_asked(2) == "again? "
    kernel.type_in("!")
    assert running.until_asked(3) == ""
    assert running.result().stdout == "Ada!\n"
    assert kernel.run("input('name? ')").ename == "StdinNotImplementedError"


def test_restart_forgets_everything_and_an_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart no name is left, and the first cell is number one.

    HALO_ variables are not inherited, and given ones are set. No wait continues after the kernel's end.
    """
    monkeypatch.setenv("HALO_LEFT_OVER", "1")
    with Kernel(env={"HALO_GIVEN": "2"}) as kernel:
        result = kernel.run("import os; x = sorted(k for k in os.environ if k.startswith('HALO_')); x")
        assert result.displays == [{"text/plain": "['HALO_GIVEN']"}]
        kernel.restart()
        result = kernel.run("x")
        assert (result.ename, result.execution_count) == ("NameError", 1)
        began = time.monotonic()
        with pytest.raises(WaitedTooLong, match="The kernel ended while waiting"):
            kernel.run("import os; os._exit(3)")
        assert time.monotonic() - began < 10
