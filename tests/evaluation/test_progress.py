"""The progress bar as it is saved: with its end, or not at all."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

if TYPE_CHECKING:
    from pathlib import Path

SETUP = """\
from halo_notebook import DemoAgent, HaloClient, aevaluate, evaluate
from halo_notebook.demo import DEMO_KEY
agent = DemoAgent(first_byte_s=0, chunk_s=0).start()
configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
cases = [f"message {number}" for number in range(12)]
def stops(reply):
    raise KeyboardInterrupt
"""
RUN = "_ = evaluate(cases, configs=configs, concurrency=1"


def saved(cell: str, *, widget_state: bool, must_work: bool = True) -> list[Any]:
    """The outputs of a cell in a notebook that nbclient runs and stores."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (SETUP, cell)])
    client = NotebookClient(notebook, timeout=60, store_widget_state=widget_state, kernel_name="python3")
    try:
        client.execute()
    except CellExecutionError:
        assert not must_work
    return [output for output in notebook.cells[1].outputs if output.output_type == "display_data"]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("cell", "end", "widget_state"),
    [
        (f"{RUN})", "12/12", False),
        (f"{RUN})", "12/12", True),
        ("_ = await aevaluate(cases, configs=configs)", "12/12", False),
        (f"{RUN}, checks=[stops])", r"\d+/12", False),
        ("_ = evaluate(cases[:1], configs=configs)\n_ = evaluate(cases[:1], configs=configs)", "1/1", False),
    ],
    ids=["evaluate", "with its state", "aevaluate", "stopped", "twice"],
)
def test_a_saved_bar_shows_its_end(cell: str, end: str, widget_state: bool) -> None:
    """Where the widget's state is not saved, the text beside it is what a reader sees."""
    outputs = saved(cell, widget_state=widget_state)
    assert len(outputs) == cell.count("evaluate(")
    for output in outputs:
        assert re.search(end, output.data["text/plain"])
        assert "application/vnd.jupyter.widget-view+json" in output.data


@pytest.mark.kernel
def test_a_bar_that_is_never_updated_says_nothing() -> None:
    """A kernel that dies, or a front end that applies no updates, does not leave a bar at 0 %."""
    cell = f"import os\n{RUN}, checks=[lambda reply: os._exit(1)])"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (SETUP, cell)])
    with pytest.raises(Exception, match="Kernel died"):
        NotebookClient(notebook, timeout=60, store_widget_state=False, kernel_name="python3").execute()
    [output] = notebook.cells[1].outputs
    assert output.data["text/plain"] == ""


@pytest.mark.kernel
def test_without_progress_there_is_no_bar() -> None:
    """Nothing is shown."""
    assert saved(f"{RUN}, progress=False)", widget_state=False) == []


def test_outside_a_kernel_the_last_line_is_the_end(tmp_path: Path) -> None:
    """On a terminal and in a file, to which stderr is redirected."""
    (tmp_path / "run.py").write_text(f"{SETUP}\n{RUN})\n")
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, tmp_path / "run.py"], stderr=log, check=True)
    last = re.split(r"[\r\n]+", (tmp_path / "log").read_text().strip())[-1]
    assert "12/12" in last and last.startswith("100%")
