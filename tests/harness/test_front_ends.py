"""The harness in front ends, on plain IPython cells: what fails here is not the package's fault."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab, LabPage
    from .voila import Voila

LAB_CELLS = (
    """\
import pathlib, time
print('six times seven is', 6 * 7, flush=True)
time.sleep(60 if pathlib.Path('slow').exists() else 0.2)
x = 1
""",
    "x += 1\nprint('x is', x)",
    "from IPython.display import HTML, JSON\nJSON({'order': {'id': 7}}, root='action')",
    "HTML('<b>bold</b><script>window.ran = 1</script>')",
    """\
HTML('''
  <div class="wrong"><button></button><p style="color: #aaa">pale</p></div>
  <div class="right"><button>Send</button></div>
''')
""",
)


@pytest.fixture(scope="class")
def opened(lab_server: Lab) -> Iterator[LabPage]:
    """One page for all of JupyterLab's tests: loading it takes longer than each of them."""
    from .lab import LabPage

    with LabPage(lab_server) as page:
        page.open_notebook(LAB_CELLS)
        yield page


@pytest.mark.browser
class TestLab:
    """JupyterLab in a browser."""

    def test_a_cell_runs_and_is_interrupted(self, opened: LabPage) -> None:
        """Output is seen as it arrives, the stop button's command reaches the kernel, nothing complains."""
        slow = opened.path.with_name("slow")
        slow.touch()
        opened.start_cell(0)
        opened.wait_for_text(0, "six times seven is 42")
        assert opened.cell_text(0).strip() == "six times seven is 42"

        opened.interrupt()
        opened.wait_for_text(0, "KeyboardInterrupt")
        opened.kernel_idle()
        slow.unlink()
        assert opened.dialogs == []
        assert opened.browser_dialogs == []
        assert opened.page_errors == []
        assert opened.console_errors == []

    def test_run_all_waits_for_the_last_cell(self, opened: LabPage) -> None:
        """All cells have run, in order."""
        opened.run_all()
        opened.wait_for_text(1, "x is 2")
        opened.wait_for_text(4, "Send")

    def test_json_shows_as_a_tree_in_both_themes(self, opened: LabPage) -> None:
        """`application/json` is shown as a tree; the theme switches; a screenshot is made."""
        opened.run_cell(2)
        opened.wait_for_text(2, "action")
        opened.cell_output(2).locator(".jp-RenderedJSON").wait_for()

        background = "getComputedStyle(document.body).getPropertyValue('--jp-layout-color0')"
        light = opened.page.evaluate(background)
        opened.set_theme("JupyterLab Dark")
        assert opened.page.evaluate(background) != light

        picture = opened.screenshot("harness-json-dark")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert opened.screenshot("harness-json-cell", cell=2).stat().st_size > 0
        opened.set_theme("JupyterLab Light")

    def test_axe_names_what_is_wrong_in_a_part_of_the_page(
        self, opened: LabPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A button without a name and text without contrast are found where they are, and only there."""
        opened.run_cell(2)
        opened.run_cell(4)
        opened.wait_for_text(4, "Send")

        found = {violation.id: violation for violation in opened.axe(".wrong")}
        assert found.keys() == {"button-name", "color-contrast"}
        assert found["button-name"].impact == "critical"
        assert found["button-name"].nodes == ("<button></button>",)
        assert ">pale<" in found["color-contrast"].nodes[0]
        assert opened.axe(".right") == []
        with pytest.raises(AssertionError, match=r"Nothing on the page fits '\.nowhere'"):
            opened.axe(".nowhere")

        monkeypatch.setattr("tests.harness.pages.AXE", tmp_path / "axe.min.js")
        with pytest.raises(pytest.fail.Exception, match="make test"):
            opened.axe("body")

    def test_voila_adds_nothing_to_the_page(self, opened: LabPage) -> None:
        """Voila's own extension, which its package puts into every JupyterLab, is not loaded."""
        plugins = opened.page.evaluate("() => jupyterapp.listPlugins()")
        assert "@jupyterlab/notebook-extension:tracker" in plugins
        assert [name for name in plugins if "voila" in name] == []

    def test_outputs_changed_by_another_program_are_not_trusted(self, opened: LabPage) -> None:
        """Reopened, a changed file shows its text and runs no script; the new kernel knows no name."""
        opened.run_cell(2)
        opened.run_cell(3)
        opened.wait_for_text(3, "bold")
        assert opened.page.evaluate("window.ran") == 1

        opened.reopen(trusted=False, new_kernel=True)
        opened.wait_for_text(3, "bold")
        assert opened.page.evaluate("window.ran") is None
        opened.run_cell(3)
        opened.wait_for_text(3, "NameError")

    def test_settings_are_reset(self, opened: LabPage, lab_server: Lab) -> None:
        """The theme that was chosen on one page is gone when another page starts."""
        opened.set_theme("JupyterLab Dark")
        themes = "lab/api/settings/@jupyterlab/apputils-extension:themes"
        assert lab_server.request("GET", themes)["settings"] == {"theme": "JupyterLab Dark"}
        lab_server.reset_settings()
        assert lab_server.request("GET", themes)["settings"] == {}


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
print('settings:', [name for name in os.environ if name.startswith('HALO_')], 'in kernel', os.getpid())
""",
    "1 / 0",
)


@pytest.mark.browser
def test_voila_shows_widgets_and_errors_and_ends_its_kernel(voila_server: Voila) -> None:
    """A slider and an anywidget are there without their code, and the kernel sees a click.

    A cell that fails shows its error. The kernel ends with the page.
    """
    from .voila import VoilaPage

    with VoilaPage(voila_server) as voila:
        voila.open_notebook(VOILA_CELLS)
        voila.page.locator(".widget-slider").get_by_text("level").wait_for()
        voila.page.get_by_role("button", name="pressed 0").click()
        voila.wait_for_text("pressed 1")
        voila.wait_for_text("the kernel has seen 1")
        voila.wait_for_text("settings: []")
        voila.wait_for_text("ZeroDivisionError")
        body = voila.page.inner_text("body")
        assert "IntSlider" not in body
        assert voila.page_errors == []
        assert voila.console_errors == []
        assert voila.browser_dialogs == []
        assert voila.axe("button") == []
        pid = int(body.split("in kernel")[1].split()[0])
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


@pytest.mark.browser
def test_closing_the_browser_ends_its_event_loop() -> None:
    """`asyncio.run` works in the tests that follow those with a browser."""
    from .pages import CHROMIUM

    CHROMIUM.browser()
    CHROMIUM.close()
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
