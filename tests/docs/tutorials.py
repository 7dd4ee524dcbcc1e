"""Runs the tutorials and keeps their outputs: ``python -m tests.docs.tutorials [NAME …]``.

A notebook is committed with its outputs, so that it is worth reading where nothing runs. What
differs from run to run without telling a reader anything (times in the metadata, progress, the
ids of widgets that are gone) is left out.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WITHOUT_PAUSES = """\
from halo_notebook import DemoAgent
DemoAgent.__init__.__kwdefaults__.update(first_byte_s=0, chunk_s=0)
"""


def paths() -> list[Path]:
    """The tutorials, in their order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def executed(notebook: NotebookNode, *, pauses: bool = True, **settings: str) -> NotebookNode:
    """Run all cells of a notebook in a new kernel of this Python, and return it with its outputs.

    Args:
        notebook: the notebook, which is changed. It runs in a copy of the folder of the tutorials.
        pauses: whether the kernel's demo agent pauses between two chunks, as a user sees it.
        settings: variables of the kernel's environment; without any, the demo agent answers.

    Raises:
        nbclient.exceptions.CellExecutionError: when a cell fails that is not tagged ``raises-exception``.
    """
    if not pauses:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(WITHOUT_PAUSES))
    with tempfile.TemporaryDirectory() as folder:
        # What a notebook writes must not reach the next one, nor the project.
        beside = shutil.copytree(NOTEBOOKS, Path(folder) / "notebooks", ignore=shutil.ignore_patterns("lite"))
        client = nbclient.NotebookClient(
            notebook,
            timeout=90,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(beside)}},
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith("HALO_")}
        client.execute(env=env | settings)
    if not pauses:
        del notebook.cells[0]
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The notebook's cells without its texts."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def check_ran_well(notebook: NotebookNode) -> None:
    """Check that exactly the cells failed that fail by design, and that each message got its reply."""
    for cell in code_cells(notebook):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        assert bool(errors) == ("raises-exception" in cell.metadata.get("tags", [])), cell.source
        for error in errors:
            assert len(error.traceback) == 1, "an error is one line"
        complaints = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert not complaints, cell.source
        if cell.source.startswith(("%%halo", "%halo ask")) and "--dry-run" not in cell.source:
            statuses = [
                output.metadata.halo.status for output in cell.outputs if "halo" in output.get("metadata", {})
            ]
            assert statuses == ([] if not statuses and errors else ["failed" if errors else "complete"]), (
                cell.source
            )


def kept(notebook: NotebookNode) -> NotebookNode:
    """The notebook as it is committed."""
    for cell in notebook.cells:
        outputs = [each for each in cell.get("outputs", []) if each.get("name") != "stderr"]
        for output in outputs:
            # A widget is gone with its kernel, and its text says nothing; what it showed stands beside it.
            if output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None):
                output.data.pop("text/plain", None)
        if "outputs" in cell:
            cell.outputs = [each for each in outputs if each.get("data", True)]
    return notebook


def main(names: list[str]) -> None:
    """Run the named tutorials, or all of them, and write them with their outputs."""
    for path in paths():
        if not names or path.stem in names:
            nbformat.write(kept(executed(nbformat.read(path, as_version=4))), path)


if __name__ == "__main__":
    main(sys.argv[1:])
