"""The harness itself, on plain IPython cells: what fails here is no fault of the package."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .kernels import Kernel


@pytest.mark.kernel
class TestKernel:
    """A kernel in its own process."""

    def test_outputs_are_folded_as_a_front_end_folds_them(self, kernel: Kernel) -> None:
        """Prints are joined, and an update changes the output that was there, in whichever cell."""
        first = kernel.start(
            "from IPython.display import display\n"
            "print('a'); print('b')\n"
            "handle = display('old', display_id=True)\n"
            "6 * 7"
        )
        result = first.result()
        assert result.status == "ok"
        assert result.stdout == "a\nb\n"
        assert result.displays == [{"text/plain": "'old'"}, {"text/plain": "42"}]

        kernel.run("handle.update('new')")
        assert first.outputs[1]["data"] == {"text/plain": "'new'"}

    def test_messages_carry_the_time_of_their_arrival(self, kernel: Kernel) -> None:
        """The times are those of arrival, not of the test's looking."""
        cell = kernel.start("import time\nprint(1, flush=True)\ntime.sleep(0.3)\nprint(2, flush=True)")
        cell.wait_for_text("2")
        started, first, second = [
            message.at
            for message in cell.result().messages
            if message.msg_type in {"execute_input", "stream"}
        ]
        assert started <= first < second
        assert second - first == pytest.approx(0.3, abs=0.25)

    def test_clear_output_clears_when_the_next_output_comes(self, kernel: Kernel) -> None:
        """`clear_output(wait=True)` leaves the old output until there is a new one."""
        result = kernel.run(
            "from IPython.display import clear_output\nprint(1)\nclear_output(wait=True)\nprint(2)"
        )
        assert result.stdout == "2\n"

    def test_error_is_reported_with_its_lines(self, kernel: Kernel) -> None:
        """A cell that fails says so in its reply and in its outputs."""
        result = kernel.run("1 / 0")
        assert (result.status, result.ename, result.evalue) == (
            "error",
            "ZeroDivisionError",
            "division by zero",
        )
        assert result.traceback
        assert [output["output_type"] for output in result.outputs] == ["error"]

    def test_run_all_runs_every_cell_in_order(self, kernel: Kernel) -> None:
        """Three cells that are sent at once all run."""
        results = kernel.run_all(["import time; time.sleep(0.1); x = 1", "x += 1", "x"])
        assert [result.status for result in results] == ["ok", "ok", "ok"]
        assert results[2].displays == [{"text/plain": "2"}]

    def test_run_all_stops_at_an_error(self, kernel: Kernel) -> None:
        """What was queued behind a failing cell does not run."""
        results = kernel.run_all(["x = 1", "1 / 0", "x = 2"])
        assert [result.status for result in results] == ["ok", "error", "aborted"]
        assert kernel.run("x").displays == [{"text/plain": "1"}]

    def test_interrupt_ends_a_running_cell(self, kernel: Kernel) -> None:
        """The cell ends with KeyboardInterrupt and the kernel goes on."""
        cell = kernel.start("import time\nprint('started', flush=True)\ntime.sleep(60)")
        cell.wait_for_text("started")
        kernel.interrupt()
        assert cell.result(10).ename == "KeyboardInterrupt"
        assert kernel.run("1").status == "ok"

    def test_restart_forgets_everything(self, kernel: Kernel) -> None:
        """After a restart no name is left, and the first cell is number one."""
        kernel.run("x = 1")
        kernel.restart()
        result = kernel.run("x")
        assert result.ename == "NameError"
        assert result.execution_count == 1

    def test_environment_has_no_settings_of_the_developer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """HALO_ variables are not inherited, and given ones are there."""
        from .kernels import Kernel

        monkeypatch.setenv("HALO_LEFT_OVER", "1")
        with Kernel(env={"HALO_GIVEN": "2"}) as kernel:
            result = kernel.run("import os; sorted(k for k in os.environ if k.startswith('HALO_'))")
        assert result.displays == [{"text/plain": "['HALO_GIVEN']"}]

    def test_a_wait_that_ends_says_what_for(self, kernel: Kernel) -> None:
        """No wait is without a bound, and its failure names the cell and what had come."""
        from .kernels import WaitedTooLong

        cell = kernel.start("import time\nprint('here', flush=True)\ntime.sleep(60)")
        cell.wait_for_text("here")
        with pytest.raises(
            WaitedTooLong, match=r"(?s)Waited 0\.1 s for the end of the cell.*'import time'.*here"
        ):
            cell.result(0.1)

    def test_a_kernel_that_ends_is_noticed(self, kernel: Kernel) -> None:
        """A wait does not go on when nothing can come any more."""
        from .kernels import WaitedTooLong

        began = time.monotonic()
        with pytest.raises(WaitedTooLong, match="The kernel ended while waiting"):
            kernel.run("import os; os._exit(3)")
        assert time.monotonic() - began < 10


@pytest.mark.kernel
def test_a_cell_may_ask_for_input(kernel: Kernel) -> None:
    """It gets what is typed in; where nothing can be, it is told so."""
    running = kernel.start("print(input('name? ') + input('again? '))", stdin=True)
    assert running.until_asked(1) == "name? "
    kernel.type_in("Ada")
    assert running.until_asked(2) == "again? "
    kernel.type_in("!")
    assert running.until_asked(3) == ""
    assert running.result().stdout == "Ada!\n"
    assert kernel.run("input('name? ')").ename == "StdinNotImplementedError"
