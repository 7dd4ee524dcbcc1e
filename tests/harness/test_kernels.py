"""The harness's kernel, on plain IPython cells: what fails here is not the package's fault."""

from __future__ import annotations

import pytest

from .kernels import Kernel, WaitedTooLong

pytestmark = pytest.mark.kernel


def test_a_kernel_is_driven_as_a_front_end_drives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs are combined, cells run in order, input is answered; waits end with the kernel."""
    monkeypatch.setenv("HALO_LEFT_OVER", "1")
    with Kernel(env={"HALO_GIVEN": "2"}) as kernel:
        first = kernel.start(
            "import os, time\n"
            "from IPython.display import clear_output, display\n"
            "print('a'); print('b')\n"
            "handle = display('old', display_id=True)\n"
            "[name for name in os.environ if name.startswith('HALO_')]"
        )
        result = first.result()
        assert (result.status, result.stdout) == ("ok", "a\nb\n")
        assert result.displays == [{"text/plain": "'old'"}, {"text/plain": "['HALO_GIVEN']"}]
        kernel.run("handle.update('new')")
        assert first.outputs[1]["data"] == {"text/plain": "'new'"}
        assert kernel.run("print(1)\nclear_output(wait=True)\nprint(2)").stdout == "2\n"

        results = kernel.run_all(["time.sleep(0.1); x = 1", "1 / 0", "x = 2"])
        assert [result.status for result in results] == ["ok", "error", "aborted"]
        assert (results[1].ename, results[1].evalue) == ("ZeroDivisionError", "division by zero")
        assert kernel.run("x").displays == [{"text/plain": "1"}]

        running = kernel.start("print(input('name? ') + input('again? '))", stdin=True)
        assert running.until_asked(1) == "name? "
        kernel.type_in("Ada")
        assert running.until_asked(2) == "again? "
        kernel.type_in("!")
        assert running.until_asked(3) == ""
        assert running.result().stdout == "Ada!\n"

        cell = kernel.start(
            "print(1, flush=True)\ntime.sleep(0.3)\nprint('here', flush=True)\ntime.sleep(60)"
        )
        cell.wait_for_text("here")
        one, here = [each.at for each in cell.messages if each.msg_type == "stream"]
        assert here - one == pytest.approx(0.3, abs=0.25)
        with pytest.raises(WaitedTooLong, match=r"(?s)Waited 0\.1 s for the end of the cell .*'print.*here"):
            cell.result(0.1)
        kernel.interrupt()
        assert cell.result(10).ename == "KeyboardInterrupt"

        kernel.restart()
        assert kernel.run("x").ename == "NameError"
        with pytest.raises(WaitedTooLong, match="The kernel ended while waiting"):
            kernel.run("import os; os._exit(3)")
