"""The tutorials: they run as they are, on the demo agent and on another; as committed they can be read."""

from __future__ import annotations

import copy
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from .tutorials import check_ran_well, code_cells, executed, kept, paths

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent

PATHS = paths()
SENT_TO_THE_KERNELS_AGENT = """\
import json
from halo_notebook.kernel import kernel_state
demo = kernel_state(get_ipython())[0].demo
print(json.dumps([request.body["message"] for request in demo.requests] if demo else []))
"""


def kind_of(output: NotebookNode) -> list[str]:
    return sorted(output.data) if "data" in output else [output.get("name", output.output_type)]


def shape(notebook: NotebookNode) -> list[tuple[str, list[list[str]]]]:
    """Of each code cell its source and the kinds of its outputs; streams may come in any number of pieces."""
    return [
        (cell.source, [kind for kind, _ in itertools.groupby(map(kind_of, cell.outputs))])
        for cell in code_cells(notebook)
    ]


def check_sent(messages: list[str], path: Path) -> None:
    """A user's own agent must not get messages that ask for faults; one tutorial chooses the demo agent."""
    assert not [message for message in messages if message.startswith("/")]
    assert bool(messages) == (path.stem != "08-when-things-go-wrong")


@pytest.mark.kernel
@pytest.mark.parametrize(
    "path",
    # The first is what a reader runs first; CI runs all.
    [pytest.param(path, id=path.stem, marks=() if path == PATHS[0] else pytest.mark.ci) for path in PATHS],
)
def test_a_notebook_runs_with_no_key(path: Path) -> None:
    """From top to bottom on the demo agent; and what is committed is what it gives."""
    committed = nbformat.read(path, as_version=4)
    notebook = copy.deepcopy(committed)
    notebook.cells.append(nbformat.v4.new_code_cell(SENT_TO_THE_KERNELS_AGENT))
    executed(notebook, pauses=False)
    check_sent(json.loads(notebook.cells.pop().outputs[0].text), path)
    check_ran_well(notebook)
    assert "demo agent" in str(notebook)
    assert shape(kept(notebook)) == shape(committed)
    assert "ChatPanel('default', 0 turns)" not in str(notebook), "the panel's static copy was not updated"


@pytest.mark.kernel
@pytest.mark.ci
@pytest.mark.parametrize(
    "path",
    # A cell, a panel and a client; the one with an agent of its own; an evaluation.
    [path for path in PATHS if path.stem[:2] in {"02", "08", "09"}],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_on_the_agent_that_the_settings_name(path: Path, agent: DemoAgent) -> None:
    """Unchanged: with a key in the environment, what went to the kernel's demo agent goes there."""
    notebook = nbformat.read(path, as_version=4)
    executed(notebook, pauses=False, HALO_API_KEY="ab_live_of_another", HALO_BASE_URL=agent.url)
    check_sent([request.body["message"] for request in agent.requests], path)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_built_as_the_others_are(path: Path) -> None:
    """It says first what the reader will have, then where to go; cells are short and none was left out."""
    notebook = nbformat.read(path, as_version=4)
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.source.startswith("# ") and "By the end of this notebook you will have" in first.source
    assert "## Where to go next" in last.source and last.cell_type == "markdown"
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 20, cell.source
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "committed as run from top to bottom"
    assert not re.search(r"/(?:tmp|home|root|work)/", str(notebook))


def test_the_first_is_where_one_begins() -> None:
    """`make demo` and Binder open it; each of the others can be reached from it, by links."""
    assert [path.stem[:2] for path in PATHS] == [f"{number:02}" for number in range(1, len(PATHS) + 1)]
    reached, found = set[str](), {"01-first-reply.ipynb"}
    while found - reached:
        name = min(found - reached)
        reached.add(name)
        cells = nbformat.read(PATHS[0].with_name(name), as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found |= set(re.findall(r"\]\((\d\d-[\w-]+\.ipynb)\)", text))
    assert reached == {path.name for path in PATHS}


@pytest.mark.browser
@pytest.mark.ci
def test_the_notebooks_can_be_read_where_nothing_runs(tmp_path: Path) -> None:
    """As HTML with JavaScript off: the text of each reply is there, and the tree of each action opens."""
    from ..harness.pages import ARTEFACTS, BROWSER

    ARTEFACTS.mkdir(exist_ok=True)
    page = BROWSER.browser().new_page(viewport={"width": 1100, "height": 900}, java_script_enabled=False)
    page.route(re.compile("^https?:"), lambda route: route.abort())  # as without a network
    for path in PATHS:
        notebook = nbformat.read(path, as_version=4)
        html, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook)
        page_file = tmp_path / f"{path.stem}.html"
        page_file.write_text(html, encoding="utf-8")
        page.goto(page_file.as_uri())
        shown = [output.data.get("text/html", "") for cell in code_cells(notebook) for output in cell.outputs
                 if "data" in output]  # fmt: skip
        replies = page.locator(".halo-reply").all()
        assert len(replies) == sum(html.count('class="halo-reply') for html in shown), path
        assert all(reply.is_visible() and reply.inner_text().strip() for reply in replies), path
        trees = page.locator(".halo-json > details > summary")
        assert all(tree.is_visible() for tree in trees.all()), path
        page.screenshot(path=ARTEFACTS / f"notebook-{path.stem}.png")
        assert replies or page.locator(".halo-evaluation").count(), path
    page.goto((tmp_path / f"{PATHS[0].stem}.html").as_uri())
    outline = page.locator(".halo-json").get_by_text('"2px solid"').first
    assert not outline.is_visible()
    page.locator(".halo-json summary", has_text="style").last.click()
    assert outline.is_visible(), "a tree opens without script"
    page.context.close()
