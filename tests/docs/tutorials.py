"""Runs the tutorials and keeps their outputs: ``python -m tests.docs.tutorials [NAME …]``.

A notebook is committed with its outputs, so that it is worth reading where nothing runs. What
differs from run to run for no reader's benefit (times in the metadata, progress on its way, the
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
NO_SETTINGS = ("API_KEY", "BASE_URL", "USER_ID", "USER_TOKEN", "AGENT_ID")


def paths() -> list[Path]:
    """The tutorials, in their order."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def executed(path: Path, **settings: str) -> NotebookNode:
    """The notebook as it is after Run All, in a kernel of this Python.

    Args:
        path: the notebook.
        settings: variables of the kernel's environment; without any it meets the demo agent.

    Raises:
        nbclient.exceptions.CellExecutionError: when a cell fails that is not tagged ``raises-exception``.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # What a notebook writes beside itself is not for the next one, nor for the project.
        beside = shutil.copytree(
            path.parent, Path(folder) / "notebooks", ignore=shutil.ignore_patterns("lite")
        )
        client = nbclient.NotebookClient(
            notebook,
            timeout=90,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(beside)}},
        )
        env = {name: value for name, value in os.environ.items() if not _is_setting(name)}
        return client.execute(env=env | settings)


def _is_setting(name: str) -> bool:
    return name.removeprefix("HALO_") in NO_SETTINGS and name.startswith("HALO_")


def kept(notebook: NotebookNode) -> NotebookNode:
    """The notebook as it is committed."""
    for cell in notebook.cells:
        outputs = [each for each in cell.get("outputs", []) if each.get("name") != "stderr"]
        for output in outputs:
            # A widget is gone with its kernel, and its text says nothing; beside it stands what it showed.
            if output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None):
                output.data.pop("text/plain", None)
        if "outputs" in cell:
            cell.outputs = [each for each in outputs if each.get("data", True)]
    return notebook


def main(names: list[str]) -> None:
    """Run those named, or all, and write them with their outputs."""
    for path in paths():
        if not names or path.stem in names:
            nbformat.write(kept(executed(path)), path)


if __name__ == "__main__":
    main(sys.argv[1:])
