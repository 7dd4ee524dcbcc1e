"""The progress bar as it is saved: with its end, or not at all."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

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


CELLS = {
    "evaluate": (f"{RUN})", "12/12"),
    "aevaluate": ("_ = await aevaluate(cases, configs=configs)", "12/12"),
    "stopped": (f"{RUN}, checks=[stops])", r"\d+/12"),
    "twice": ("_ = evaluate(cases[:1], configs=configs)\n_ = evaluate(cases[:1], configs=configs)", "1/1"),
    "without": (f"{RUN}, progress=False)", ""),
}


def saved(cells: list[str], *, widget_state: bool) -> list[list[Any]]:
    """What cells show, in a notebook that nbclient runs and stores."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (SETUP, *cells)])
    NotebookClient(notebook, timeout=60, store_widget_state=widget_state, kernel_name="python3").execute()
    return [
        [output for output in cell.outputs if output.output_type == "display_data"]
        for cell in notebook.cells[1:]
    ]


@pytest.fixture(scope="module")
def bars() -> dict[str, list[Any]]:
    """What each of `CELLS` shows, in one notebook that is stored without the state of its widgets."""
    return dict(zip(CELLS, saved([cell for cell, _ in CELLS.values()], widget_state=False), strict=True))


def check_bar(output: Any, end: str) -> None:
    """Where the widget's state is not saved, the text beside it is what a reader sees."""
    assert re.search(end, output.data["text/plain"])
    assert "application/vnd.jupyter.widget-view+json" in output.data


@pytest.mark.kernel
@pytest.mark.parametrize("name", [name for name in CELLS if name != "without"])
def test_a_saved_bar_shows_its_end(name: str, bars: dict[str, list[Any]]) -> None:
    """The text is that of the finished bar, or of the bar as it was stopped."""
    cell, end = CELLS[name]
    assert len(bars[name]) == cell.count("evaluate(")
    for output in bars[name]:
        check_bar(output, end)


@pytest.mark.kernel
def test_a_bar_that_is_saved_with_its_state_shows_its_end() -> None:
    """Its text is there as well."""
    cell, end = CELLS["evaluate"]
    [[output]] = saved([cell], widget_state=True)
    check_bar(output, end)


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
def test_without_progress_there_is_no_bar(bars: dict[str, list[Any]]) -> None:
    """Nothing is shown."""
    assert bars["without"] == []


def test_outside_a_kernel_the_last_line_is_the_end(tmp_path: Path) -> None:
    """On a terminal and in a file, to which stderr is redirected."""
    (tmp_path / "run.py").write_text(f"{SETUP}\n{RUN})\n")
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, tmp_path / "run.py"], stderr=log, check=True)
    last = re.split(r"[\r\n]+", (tmp_path / "log").read_text().strip())[-1]
    assert "12/12" in last and last.startswith("100%")
