"""The harness itself, on plain IPython cells: what fails here is no fault of the package."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .kernels import Kernel
    from .lab import LabPage
    from .voila import Voila, VoilaPage


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


PAGE_WITH_FAULTS = """\
from IPython.display import HTML
HTML('''
  <div class="wrong"><button></button><p style="color: #aaa">pale</p></div>
  <div class="right"><button>Send</button></div>
''')
"""


@pytest.mark.browser
class TestLab:
    """JupyterLab in a browser."""

    def test_a_cell_runs_and_is_interrupted(self, lab: LabPage) -> None:
        """Output is seen as it arrives, the stop button's command reaches the kernel, nothing complains."""
        lab.open_notebook(["import time\nprint('six times seven is', 6 * 7, flush=True)\ntime.sleep(60)"])
        lab.start_cell(0)
        lab.wait_for_text(0, "six times seven is 42")
        assert lab.cell_text(0).strip() == "six times seven is 42"

        lab.interrupt()
        lab.wait_for_text(0, "KeyboardInterrupt")
        lab.kernel_idle()
        assert lab.dialogs == []
        assert lab.browser_dialogs == []
        assert lab.page_errors == []
        assert lab.console_errors == []

    def test_json_shows_as_a_tree_in_both_themes(self, lab: LabPage) -> None:
        """`application/json` is shown as a tree; the theme switches; a screenshot is made."""
        lab.open_notebook(["from IPython.display import JSON\nJSON({'order': {'id': 7}}, root='action')"])
        lab.run_cell(0)
        lab.wait_for_text(0, "action")
        lab.cell_output(0).locator(".jp-RenderedJSON").wait_for()

        light = lab.page.evaluate("getComputedStyle(document.body).getPropertyValue('--jp-layout-color0')")
        lab.set_theme("JupyterLab Dark")
        dark = lab.page.evaluate("getComputedStyle(document.body).getPropertyValue('--jp-layout-color0')")
        assert light != dark

        picture = lab.screenshot("harness-json-dark")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert lab.screenshot("harness-json-cell", cell=0).stat().st_size > 0

    def test_run_all_waits_for_the_last_cell(self, lab: LabPage) -> None:
        """Three cells run; the theme that another test chose is gone."""
        lab.open_notebook(["import time; time.sleep(0.2); x = 1", "x += 1", "print('x is', x)"])
        assert lab.page.evaluate("document.body.dataset.jpThemeName") == "JupyterLab Light"
        lab.run_all()
        lab.wait_for_text(2, "x is 2")

    def test_outputs_changed_by_another_program_are_not_trusted(self, lab: LabPage) -> None:
        """Reopened, a changed file shows its text and runs no script; the new kernel knows no name."""
        lab.open_notebook(
            ["from IPython.display import HTML\nHTML('<b>bold</b><script>window.ran = 1</script>')", "HTML"]
        )
        lab.run_cell(0)
        lab.wait_for_text(0, "bold")
        assert lab.page.evaluate("window.ran") == 1

        lab.reopen(trusted=False, new_kernel=True)
        lab.wait_for_text(0, "bold")
        assert lab.page.evaluate("window.ran") is None
        lab.run_cell(1)
        lab.wait_for_text(1, "NameError")

    def test_axe_names_what_is_wrong_in_a_part_of_the_page(self, lab: LabPage) -> None:
        """A button without a name and text without contrast are found where they are, and only there."""
        lab.open_notebook([PAGE_WITH_FAULTS])
        lab.run_cell(0)
        lab.wait_for_text(0, "Send")

        found = {violation.id: violation for violation in lab.axe(".wrong")}
        assert found.keys() == {"button-name", "color-contrast"}
        assert found["button-name"].impact == "critical"
        assert found["button-name"].nodes == ("<button></button>",)
        assert ">pale<" in found["color-contrast"].nodes[0]
        assert lab.axe(".right") == []
        with pytest.raises(AssertionError, match=r"Nothing on the page fits '\.nowhere'"):
            lab.axe(".nowhere")

    def test_axe_is_not_there(self, lab: LabPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Without axe-core the test fails and says what installs it."""
        monkeypatch.setattr("tests.harness.lab.AXE", tmp_path / "axe.min.js")
        with pytest.raises(pytest.fail.Exception, match="make test"):
            lab.axe("body")

    def test_voila_adds_nothing_to_the_page(self, lab: LabPage) -> None:
        """Voila's own extension, which its package puts into every JupyterLab, is not loaded."""
        lab.open_notebook([""])
        plugins = lab.page.evaluate("() => jupyterapp.listPlugins()")
        assert "@jupyterlab/notebook-extension:tracker" in plugins
        assert [name for name in plugins if "voila" in name] == []


VOILA_CELLS = (
    "import ipywidgets\nslider = ipywidgets.IntSlider(description='level', value=3)\nslider",
    """\
import anywidget, os, traitlets

class Counter(anywidget.AnyWidget):
    _esm = '''
        export default { render({ model, el }) {
          const button = document.createElement("button");
          const show = () => { button.textContent = `pressed ${model.get("presses")}`; };
          button.onclick = () => { model.set("presses", model.get("presses") + 1); model.save_changes(); };
          model.on("change:presses", show);
          show();
          el.append(button);
        } };
    '''
    presses = traitlets.Int(0).tag(sync=True)

counter = Counter()
seen = ipywidgets.Label('the kernel has seen 0')
counter.observe(lambda change: setattr(seen, 'value', f'the kernel has seen {change.new}'), 'presses')
display(counter, seen)
print('settings:', [name for name in os.environ if name.startswith('HALO_')])
""",
)


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


@pytest.mark.browser
class TestVoila:
    """Voila in a browser."""

    def test_widgets_are_shown_and_reach_their_kernel(self, voila: VoilaPage) -> None:
        """A slider and an anywidget are there without their code; a press is seen by the kernel."""
        voila.open_notebook(VOILA_CELLS)
        voila.page.locator(".widget-slider").get_by_text("level").wait_for()
        voila.page.get_by_role("button", name="pressed 0").click()
        voila.wait_for_text("pressed 1")
        voila.wait_for_text("the kernel has seen 1")
        voila.wait_for_text("settings: []")
        assert "IntSlider" not in voila.page.inner_text("body")
        assert voila.page_errors == []
        assert voila.console_errors == []
        assert voila.browser_dialogs == []
        assert voila.axe("button") == []

    def test_a_cell_that_fails_says_so(self, voila: VoilaPage) -> None:
        """The error is on the page."""
        voila.open_notebook(["1 / 0"])
        voila.wait_for_text("ZeroDivisionError")

    def test_the_kernel_ends_with_the_page(self, voila_server: Voila) -> None:
        """What a page started is gone when it is closed."""
        from .voila import VoilaPage

        with VoilaPage(voila_server) as page:
            page.open_notebook(["import os\nprint('kernel', os.getpid(), 'runs')"])
            page.wait_for_text("runs")
            pid = int(page.page.inner_text("body").split("kernel")[1].split()[0])
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.browser
def test_notebook_7_runs_a_cell(notebook7: LabPage) -> None:
    """The same page object drives Notebook 7."""
    notebook7.open_notebook(["print('hello from', 6 * 7)"])
    notebook7.run_cell(0)
    notebook7.wait_for_text(0, "hello from 42")
    assert notebook7.dialogs == []
    assert notebook7.page_errors == []


def test_a_browser_test_leaves_no_event_loop_behind() -> None:
    """`asyncio.run` works after the tests that had a browser."""
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
