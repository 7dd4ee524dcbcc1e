"""The explorer in JupyterLab and Notebook 7, with a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from ..harness.kernels import Kernel
    from ..harness.lab import LabPage

RESULT = """\
from halo_notebook import Action, DemoAgent, HaloClient, TextDelta, evaluate
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY

def reply(request):
    yield TextDelta(f"You said: **{request['message']}**")
    yield Action({"type": "note"})

agent = DemoAgent(reply=reply, first_byte_s=0, chunk_s=0).start()
client = HaloClient(DEMO_KEY, base_url=agent.url)
cases = [{"id": f"<b>{n}</b>", "message": "Open a ticket" if n % 2 else "Hello"} for n in range(30)]
configs = {"chat": client, "voice": {"client": client, "mode": "voice"}}
result = evaluate(cases, {"tickets": contains("ticket")}, configs=configs, progress=False)
explorer = result.explore(height="500px")
explorer
"""
SELECTED = "print(len(explorer.selected), set(explorer.selected['message']))"
RESCORE = "result.rescore({'polite': contains('please')});"


def use(page: LabPage) -> Locator:
    """Find conversations, select them, open one by keyboard, and see what the program gets."""
    page.open_notebook([RESULT, SELECTED, RESCORE])
    page.run_cell(0)
    root = page.cell_output(0).locator(".halo-explorer")
    root.locator(".halo-counts", has_text="60 conversations").wait_for(timeout=30_000)
    root.get_by_label("Search messages and replies").fill("open TICKET")
    root.locator(".halo-counts", has_text="30 of 60 conversations").wait_for()
    grid = root.get_by_role("grid")
    grid.focus()
    # Keys that mean something to the notebook, too.
    for key in ("Home", "ArrowDown", " ", "ArrowDown", " ", "Enter"):
        page.page.keyboard.press(key)
    root.get_by_role("heading", name="<b>3</b>").wait_for()
    root.locator(".halo-pane").get_by_role("tree").wait_for()
    root.get_by_role("button", name="Clear selection of 2").wait_for()
    page.run_cell(1)
    page.wait_for_text(1, "2 {'Open a ticket'}")
    page.run_cell(2)
    root.get_by_role("columnheader", name="polite").wait_for()
    expect(page.cell_output(0).locator(".halo-evaluation"), "the static copy").to_be_hidden()
    assert page.axe(".halo-panel") == []
    assert (page.page_errors, page.dialogs, page.browser_dialogs) == ([], [], [])
    return root


@pytest.mark.browser
@pytest.mark.ci
def test_it_works_in_jupyterlab_and_after_a_reload(lab: LabPage) -> None:
    """A page that is loaded again shows the same; without its kernel it shows the overview."""
    root = use(lab)
    lab.screenshot("explorer-in-jupyterlab", cell=0)
    lab.reopen()
    root = lab.cell_output(0).locator(".halo-explorer")
    root.locator(".halo-counts", has_text="30 of 60 conversations").wait_for(timeout=30_000)
    expect(root.get_by_label("Search messages and replies")).to_have_value("open TICKET")
    root.get_by_role("button", name="Clear selection of 2").wait_for()
    lab.reopen(new_kernel=True)
    lab.cell_output(0).locator(".halo-evaluation", has_text="60 conversations: 60 complete").wait_for()
    expect(root).to_have_count(0)


@pytest.mark.browser
def test_it_works_in_notebook_7(notebook7: LabPage) -> None:
    """As in JupyterLab; Notebook 7 handles keys before the page of a widget does."""
    use(notebook7)


@pytest.mark.kernel
def test_a_terminal_gets_the_overview(kernel: Kernel) -> None:
    """Each output has a text, and the second one the table as HTML."""
    outputs = kernel.run(RESULT).outputs
    shown = [output["data"] for output in outputs if "data" in output]
    assert shown[0]["text/plain"] == "ResultExplorer(60 conversations)"
    assert "60 conversations: 60 complete" in shown[1]["text/plain"]
    assert "halo-evaluation" in shown[1]["text/html"] and "<script" not in shown[1]["text/html"]
