"""The harness in front ends, on plain IPython cells: what fails here is not the package's fault."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab, LabPage
    from .voila import Voila

pytestmark = pytest.mark.browser

LAB_CELLS = (
    "import time\nprint('six times seven is', 6 * 7, flush=True)\ntime.sleep(60)",
    "from IPython.display import HTML\nHTML('<b>bold</b><script>window.ran = 1</script>')",
    """\
HTML('''
  <div class="wrong"><button></button><p style="color: #aaa">pale</p></div>
  <div class="right"><button>Send</button></div>
''')
""",
)


def test_jupyterlab_runs_interrupts_and_distrusts(lab: LabPage, lab_server: Lab) -> None:
    """Output is seen as it arrives, what another program wrote runs no script, settings are reset."""
    lab.open_notebook(LAB_CELLS)
    lab.start_cell(0)
    lab.wait_for_text(0, "six times seven is 42")
    lab.interrupt()
    lab.wait_for_text(0, "KeyboardInterrupt")
    lab.kernel_idle()
    lab.run_cell(1)
    lab.wait_for_text(1, "bold")
    lab.run_cell(2)
    lab.wait_for_text(2, "Send")
    assert lab.page.evaluate("window.ran") == 1
    assert (lab.dialogs, lab.browser_dialogs, lab.page_errors, lab.console_errors) == ([], [], [], [])

    found = {violation.id: violation for violation in lab.axe(".wrong")}
    assert found.keys() == {"button-name", "color-contrast"}
    assert found["button-name"].nodes == ("<button></button>",)
    assert lab.axe(".right") == []
    with pytest.raises(AssertionError, match=r"Nothing on the page fits '\.nowhere'"):
        lab.axe(".nowhere")

    lab.set_theme("JupyterLab Dark")
    themes = "lab/api/settings/@jupyterlab/apputils-extension:themes"
    assert lab_server.request("GET", themes)["settings"] == {"theme": "JupyterLab Dark"}
    lab.reopen(trusted=False, new_kernel=True)
    lab.wait_for_text(1, "bold")
    assert lab.page.evaluate("window.ran") is None
    lab.run_cell(2)
    lab.wait_for_text(2, "NameError")
    lab_server.reset_settings()
    assert lab_server.request("GET", themes)["settings"] == {}


VOILA_CELLS = (
    "import ipywidgets, os\nipywidgets.IntSlider(description='level', value=3)",
    """\
button, seen = ipywidgets.Button(description='press'), ipywidgets.Label()
button.on_click(lambda _: setattr(seen, 'value', 'the kernel has seen it'))
display(button, seen)
print('settings:', [name for name in os.environ if name.startswith('HALO_')], 'in kernel', os.getpid())
""",
    "1 / 0",
)


def test_voila_shows_widgets_and_errors_and_ends_its_kernel(voila_server: Voila) -> None:
    """Widgets are there without their code, the kernel sees a click and ends with the page."""
    from .voila import VoilaPage

    with VoilaPage(voila_server) as voila:
        voila.open_notebook(VOILA_CELLS)
        voila.page.locator(".widget-slider").get_by_text("level").wait_for()
        voila.page.get_by_role("button", name="press").click()
        for text in ("the kernel has seen it", "settings: []", "ZeroDivisionError"):
            voila.wait_for_text(text)
        body = voila.page.inner_text("body")
        assert "IntSlider" not in body
        assert (voila.page_errors, voila.console_errors, voila.browser_dialogs) == ([], [], [])
        pid = int(body.split("in kernel")[1].split()[0])
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_closing_the_browser_ends_its_event_loop() -> None:
    """`asyncio.run` works in the tests that follow those with a browser."""
    from .pages import CHROMIUM

    CHROMIUM.browser()
    CHROMIUM.close()
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
