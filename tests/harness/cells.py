"""Cells that use the magic on a fast demo agent, and what they showed and sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kernels import CellResult, Kernel

LOAD = "%load_ext halo_notebook"
SEED = "How do I set up event tracking?"
LOAD_FAST = f"""{LOAD}
from halo_notebook.demo import DemoAgent
magics = get_ipython().magics_manager.registry['HaloMagics']
magics.connection.demo = DemoAgent(first_byte_s=0, chunk_s=0).start()
magics.demo_announced = True
"""
"""Loads the extension with a demo agent that makes no pauses."""


def evaluated(kernel: Kernel, expression: str) -> Any:
    """The value of an expression in the kernel, by way of JSON."""
    result = kernel.run(f"import json as _json; print(_json.dumps({expression}))")
    assert result.status == "ok", result.traceback
    return json.loads(result.stdout)


def html(result: CellResult) -> str:
    return "\n".join(data.get("text/html", "") for data in result.displays)


def plain(result: CellResult) -> str:
    return "\n".join(data.get("text/plain", "") for data in result.displays)


def sent(kernel: Kernel) -> dict[str, Any]:
    """The body of the last request that the demo agent received."""
    body: dict[str, Any] = evaluated(kernel, "magics.connection.demo.requests[-1].body")
    return body


def refused(kernel: Kernel, cell: str, words: str) -> None:
    """The cell fails with one line that holds `words`, and nothing is sent."""
    before = evaluated(kernel, "len(magics.connection.demo.requests)")
    result = kernel.run(cell)
    assert result.status == "error", cell
    assert len(result.traceback) == 1
    assert words in result.evalue, result.evalue
    assert "Nothing was" in result.evalue
    assert evaluated(kernel, "len(magics.connection.demo.requests)") == before
