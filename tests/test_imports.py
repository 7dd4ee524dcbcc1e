"""Modules import one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import halo_notebook
from halo_notebook.evaluation import inspect as inspect_provider

PACKAGE = Path(halo_notebook.__file__).parent

# Each module may import those before it, wherever in the file the import stands.
ORDER = [
    "errors",
    "stream",
    "demo.protocol",
    "demo.faults",
    "demo.script",
    "demo.server",
    "demo.__main__",
    "concurrency.loop",
    "concurrency.usercode",
    "concurrency.inbox",
    "concurrency.interrupts",
    "concurrency.pulled",
    "reply",
    "display.text",
    "display.words",
    "display.formulas",
    "display.highlight",
    "display.markdown",
    "display.blocks",
    "display.json_tree",
    "display.timeline",
    "display.bundles",
    "display.pacer",
    "display.transcript",
    "magics.template",
    "client.secrets",
    "client.tokens",
    "client.settings",
    "client.request",
    "client.transports.protocol",
    "client.transports.body",
    "client.transports.environment",
    "client.transports.network",
    "client.transports.aiohttp",
    "client.transports.fetch",
    "demo.inprocess",
    "client.failures",
    "client.tap",
    "client.endpoint",
    "client.exchange",
    "client.aio",
    "client.sync",
    "recording.format",
    "recording.recorder",
    "recording.replay",
    "session",
    "kernel",
    "magics.cell",
    "magics.screens.notebook",
    "magics.screens.terminal",
    "panel.bundle",
    "panel.views",
    "panel.callbacks",
    "panel.state",
    "panel.follower",
    "panel.outbox",
    "panel.requests",
    "panel.widget",
    "evaluation.cases",
    "checks",
    "evaluation.judging",
    "evaluation.journal",
    "evaluation.sender",
    "evaluation.state",
    "evaluation.intervals",
    "evaluation.rows",
    "evaluation.summary",
    "evaluation.report.notebook",
    "evaluation.report.plot",
    "evaluation.report.page",
    "evaluation.result",
    "evaluation.plan",
    "evaluation.pace",
    "evaluation.dask",
    "evaluation.run",
    "evaluation.inspect",
    "magics.options",
    "magics.output",
    "magics.commands",
    "magics.magic",
    "__init__",
]
# A value that can show itself imports what shows it, when it is asked to.
UPWARDS = {"reply": {"display.bundles", "display.words"}}
# Waiting needs none of the others, and the demo agent knows of the package its framing alone.
ALONE = {
    "concurrency.loop": {"errors"},
    "stream": set[str](),
    "demo.protocol": {"stream"},
    "demo.faults": {"demo.protocol", "stream"},
    "demo.script": {"demo.faults", "stream"},
    "demo.server": {"demo.faults", "demo.protocol", "demo.script", "stream"},
}


def imported(file: Path) -> set[str]:
    """The package's modules that `file` imports; those for the type checker only are left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = file.relative_to(PACKAGE).parts[:-1]
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            for name in [".".join(filter(None, base))] + [
                ".".join(filter(None, [*base, alias.name])) for alias in node.names
            ]:
                if name in ORDER:
                    names.add(name)
    return names


def test_imports_point_one_way() -> None:
    """No module imports one that stands after it."""
    files = {module_of(file): file for file in PACKAGE.rglob("*.py")}
    modules = {name for name, file in files.items() if file.name != "__init__.py"}
    assert modules | {"__init__"} == set(ORDER)
    for place, module in enumerate(ORDER):
        assert imported(files[module]) - UPWARDS.get(module, set()) <= set(ORDER[:place]), module
    for module, allowed in ALONE.items():
        assert imported(files[module]) <= allowed, module


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts if parts[-1] != "__init__" else parts[:-1]) or "__init__"


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Neither the network nor widgets nor rendering, before they are used."""
    heavy = {
        "httpx",
        "ipywidgets",
        "anywidget",
        "pandas",
        "markdown_it",
        "nh3",
        "IPython",
        "asyncio",
        "nest_asyncio2",
    }
    assert not loaded_by("import halo_notebook") & heavy


def test_loading_the_extension_loads_nothing_heavy() -> None:
    """The kernel has IPython and asyncio; the rest waits for the first message."""
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "InteractiveShell.instance().run_line_magic('load_ext', 'halo_notebook')"
    )
    heavy = {"httpx", "ipywidgets", "anywidget", "pandas", "markdown_it", "nh3", "nest_asyncio2"}
    assert not loaded_by(code) & heavy


def test_plain_text_and_words_load_no_markdown() -> None:
    """An error message or a count costs nothing of what renders a reply."""
    loaded = loaded_by(
        "import halo_notebook.display, halo_notebook.display.text, halo_notebook.display.words"
    )
    assert not loaded & {"markdown_it", "nh3", "pygments"}


def test_the_inspect_provider_loads_inspect_when_it_is_asked_for() -> None:
    """Whoever has not installed that extra can import every module; a wrong name is none of it."""
    assert not {"inspect_ai", "httpx"} & loaded_by("import halo_notebook.evaluation.inspect")
    code = "from halo_notebook.evaluation import inspect as provider; provider.halo"
    assert "inspect_ai" in loaded_by(code)
    assert not hasattr(inspect_provider, "nothing_of_that_name")


def test_evaluating_loads_nothing_heavy() -> None:
    """Dask is loaded with a cluster, NumPy, SciPy and pandas with the first figure."""
    heavy = {"distributed", "dask", "numpy", "scipy", "pandas"}
    assert not heavy & loaded_by("import halo_notebook.evaluation.run, halo_notebook.evaluation.dask")


def test_every_public_name_is_there() -> None:
    """What `__all__` promises can be had, and nothing else is made up."""
    for name in halo_notebook.__all__:
        assert getattr(halo_notebook, name) is not None
    assert set(halo_notebook.__all__) <= set(dir(halo_notebook))
    assert not hasattr(halo_notebook, "nothing_of_that_name")
