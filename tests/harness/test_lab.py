"""The harness in JupyterLab, on plain IPython cells: what fails here is not the package's fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab, LabPage

pytestmark = [pytest.mark.browser, pytest.mark.ci]

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
