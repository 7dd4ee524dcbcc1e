"""Labelling in JupyterLab and Notebook 7, with a real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator

    from ..harness.kernels import Kernel
    from ..harness.lab import LabPage

EVALUATED = """\
from halo_notebook import DemoAgent, HaloClient, evaluate
from halo_notebook.demo import DEMO_KEY

def judge(reply):
    return "ticket" in reply.text

agent = DemoAgent(first_byte_s=0, chunk_s=0).start()
client = HaloClient(DEMO_KEY, base_url=agent.url)
cases = [f"{{'Open a ticket' if n % 2 else 'Hello'}} {{n}}" for n in range(12)]
evaluate(cases, judge, configs={{"hidden": client}}, path={path!r}, progress=False);
"""
LABEL = """\
from halo_notebook import Evaluation
Evaluation.open({path!r}).label(6, by="judge", author="ada")
"""


def label_three(page: LabPage, path: str) -> Locator:
    """Label by keys that mean something to the notebook, too: B inserts a cell, F finds, P opens a list."""
    page.open_notebook([EVALUATED.format(path=path), LABEL.format(path=path)])
    page.run_cell(0)
    page.run_cell(1)
    root = page.cell_output(1).locator(".halo-labeller")
    progress = root.locator(".halo-progress-words")  # a screen reader hears of it before it is painted
    expect(progress).to_have_text("0 of 6 labelled")
    root.locator(".halo-pane").focus()
    for count, key in enumerate("pfu", 1):
        page.page.keyboard.press(key)
        expect(progress).to_have_text(f"{count} of 6 labelled")
    page.page.keyboard.press("b")
    root.locator("[aria-pressed=true]", has_text="Unsure").wait_for()
    page.page.keyboard.press("n")
    page.page.keyboard.type("probably fine")
    page.page.keyboard.press("Escape")
    page.page.keyboard.press("p")
    root.locator("[aria-pressed=true]").wait_for(state="hidden")
    page.painted()
    assert page.page.locator(".jp-Cell").count() == 2
    expect(page.cell_output(1).get_by_text("Labelling needs"), "the static copy").to_be_hidden()
    return root


@pytest.mark.browser
@pytest.mark.ci
def test_it_works_in_jupyterlab_and_in_another_kernel(lab: LabPage, tmp_path: Path) -> None:
    """The same cell in a new kernel continues with the fourth reply."""
    path = str(tmp_path / "labelled.jsonl")
    label_three(lab, path)
    lab.screenshot("labelling-in-jupyterlab", cell=1)
    lab.reopen(new_kernel=True)
    lab.run_cell(1)
    root = lab.cell_output(1).locator(".halo-labeller")
    expect(root.locator(".halo-progress-words")).to_have_text("3 of 6 labelled")
    assert (lab.page_errors, lab.dialogs, lab.browser_dialogs) == ([], [], [])


@pytest.mark.browser
def test_it_works_in_notebook_7(notebook7: LabPage, tmp_path: Path) -> None:
    """As in JupyterLab; Notebook 7 handles keys before the page of a widget does."""
    label_three(notebook7, str(tmp_path / "labelled.jsonl"))


@pytest.mark.kernel
def test_a_terminal_gets_one_line(kernel: Kernel, tmp_path: Path) -> None:
    """It names the way from code, and the rows."""
    path = str(tmp_path / "labelled.jsonl")
    kernel.run(EVALUATED.format(path=path))
    shown = [output["data"] for output in kernel.run(LABEL.format(path=path)).outputs if "data" in output]
    assert shown[0]["text/plain"] == "LabelPanel(0 of 6 labels by 'ada')"
    assert shown[1]["text/plain"].startswith(
        "Labelling needs a notebook that shows widgets. From code, result."
    )
