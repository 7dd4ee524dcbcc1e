"""The notebooks run from top to bottom, with no key."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell succeeds, writes no complaint, and every message gets a complete reply."""
    for name in ("API_KEY", "BASE_URL", "USER_ID", "USER_TOKEN"):
        monkeypatch.delenv(f"HALO_{name}", raising=False)
    notebook = nbformat.read(path, as_version=4)
    asked = sum(cell.source.startswith(("%%halo", "%halo ask")) for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    replies = [output.metadata.halo for output in outputs if "halo" in output.get("metadata", {})]
    assert [reply.status for reply in replies] == ["complete"] * asked


def test_there_are_notebooks() -> None:
    """The first one is where `make demo` and Binder begin."""
    assert NOTEBOOKS[0].name == "01-first-reply.ipynb"
