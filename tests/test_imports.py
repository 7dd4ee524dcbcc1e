"""Modules import one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import halo_notebook
from halo_notebook import inspect_provider

PACKAGE = Path(halo_notebook.__file__).parent

# Each module may import those before it, wherever in the file the import stands.
ORDER = [
    "errors",
    "stream",
    "demo_script",
    "demo",
    "demo_transport",
    "browser",
    "threads",
    "bridge",
    "render",
    "outputs",
    "template",
    "settings",
    "request",
    "reply",
    "recording",
    "fetch",
    "client",
    "session",
    "connection",
    "live",
    "transcript",
    "panel",
    "cases",
    "checks",
    "journal",
    "transport",
    "asking",
    "cluster",
    "intervals",
    "report",
    "evaluation",
    "evaluating",
    "inspect_provider",
    "magics",
    "__init__",
]
# Waiting needs none of the others, and the demo agent knows of the package its framing alone.
ALONE = {
    "browser": {"errors"},
    "threads": {"browser"},
    "bridge": {"browser", "threads"},
    "fetch": set[str](),
    "stream": set[str](),
    "demo_script": {"stream"},
    "demo": {"demo_script", "stream"},
}


def imported(module: str) -> set[str]:
    """The package's modules that `module` imports; those for the type checker alone are left out."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return names


def test_imports_point_one_way() -> None:
    """No module imports one that stands after it."""
    assert {file.stem for file in PACKAGE.glob("*.py")} == set(ORDER)
    for place, module in enumerate(ORDER):
        assert imported(module) <= set(ORDER[:place]), module
    for module, allowed in ALONE.items():
        assert imported(module) <= allowed, module


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


def test_the_inspect_provider_loads_inspect_when_it_is_asked_for() -> None:
    """Whoever has not installed that extra can import every module; a wrong name is none of it."""
    assert not {"inspect_ai", "httpx"} & loaded_by("import halo_notebook.inspect_provider")
    code = "from halo_notebook import inspect_provider as provider; provider.halo"
    assert "inspect_ai" in loaded_by(code)
    assert not hasattr(inspect_provider, "nothing_of_that_name")


def test_evaluating_loads_dask_when_it_is_asked_for() -> None:
    """Whoever has not installed that extra can evaluate without it."""
    assert not {"distributed", "dask"} & loaded_by("import halo_notebook.evaluating, halo_notebook.cluster")


def test_every_public_name_is_there() -> None:
    """What `__all__` promises can be had, and nothing else is made up."""
    for name in halo_notebook.__all__:
        assert getattr(halo_notebook, name) is not None
    assert set(halo_notebook.__all__) <= set(dir(halo_notebook))
    assert not hasattr(halo_notebook, "nothing_of_that_name")
