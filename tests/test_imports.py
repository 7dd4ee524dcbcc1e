"""Modules import one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import halo_notebook

PACKAGE = Path(halo_notebook.__file__).parent

# A file may import from its own folder, and from the layers before its own, wherever in the file
# the import stands and also when it is for the type checker only.
LAYERS = ["stream", "reply", "errors", "concurrency", "display", "client", "recording", "session", "demo"]
EVALUATION = [
    "outcomes",
    "json_text",
    "file_paths",
    "statistics",
    "cases",
    "judging",
    "file",
    "tables",
    "report",
]
EVALUATION += ["comparisons", "sending", "labels", "result", "run", "inspect_ai"]
LAYERS += ["kernel", "checks", *(f"evaluation.{name}" for name in EVALUATION), "evaluation"]
LAYERS += ["panel", "magics", "__init__"]
# A reply can show itself, a conversation can become a case, and a result can be explored in a widget: each
# imports what does so when it is asked to.
UPWARDS = {("reply", "display"), ("session", "evaluation"), ("evaluation.result", "panel")}
# The parser stands alone, and the demo agent shares only the wire format with the rest.
ALONE = {"stream": set[str](), "demo": {"stream"}}
CARRIERS = {"demo.inprocess"}  # a transport of the client's
MAX_FILE_LINES = 600
MAX_CLASS_LINES = 400
MAX_CLASS_METHODS = 40
MAX_ENTRIES = 16


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts if parts[-1] != "__init__" else parts[:-1]) or "__init__"


FILES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def trees() -> dict[str, ast.Module]:
    return {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}


def imports(module: str) -> set[tuple[str, str]]:
    """The package's modules that `module` imports from, each with the imported name."""
    folder = FILES[module].relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            parent = ".".join(filter(None, base))
            for alias in node.names:
                whole = ".".join(filter(None, [parent, alias.name]))
                found.add((whole if whole in FILES else parent or "__init__", alias.name))
    return found


def layer(module: str) -> int:
    parts = module.split(".")
    return LAYERS.index(".".join(parts[:2]) if ".".join(parts[:2]) in LAYERS else parts[0])


def test_imports_point_down() -> None:
    """No file imports from a layer above its own."""
    upward = {
        (module, other)
        for module in FILES
        for other, _ in imports(module)
        if layer(other) > layer(module) and (module, other.split(".")[0]) not in UPWARDS
    }
    assert upward == set()


def test_the_parser_and_the_demo_agent_stand_alone() -> None:
    """The demo agent can test the client because it shares no code with it."""
    for module in FILES:
        folder = module.split(".")[0]
        if folder in ALONE and module not in CARRIERS:
            others = {other.split(".")[0] for other, _ in imports(module)}
            assert others <= ALONE[folder] | {folder}, module


def test_no_two_files_import_each_other() -> None:
    """Also not by way of others: the files of a folder have an order, too."""
    faces = {module for module, file in FILES.items() if file.name == "__init__.py"}
    below = {
        module: {
            other
            for other, _ in imports(module)
            if other not in faces and other != module and (module, other.split(".")[0]) not in UPWARDS
        }
        for module in FILES
        if module not in faces
    }
    # Take away what imports nothing that is left, again and again; a circle stays.
    while lowest := {module for module, others in below.items() if not others & below.keys()}:
        below = {module: others for module, others in below.items() if module not in lowest}
    assert below == {}


def test_no_private_name_is_used_in_another_file() -> None:
    """A name that another file needs is public, or the seam is in the wrong place."""
    own = {module: names_of(tree) for module, tree in trees().items()}
    known = set[str]().union(*own.values())
    used = [
        f"{FILES[module]}:{node.lineno} {node.attr}"
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr in known - own[module]
    ]
    used += [f"{module} {name}" for module in FILES for _, name in imports(module) if is_private(name)]
    assert used == []


def names_of(tree: ast.Module) -> set[str]:
    """The names that a file gives to functions, classes, variables and attributes."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) if isinstance(node.value, ast.Name):
                names |= {name} if node.value.id in ("self", "cls", "copied") else set()
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.Constant(value=str(name)):
                names.add(name)
    return names


def is_private(name: str) -> bool:
    # IPython's hooks, such as `_repr_mimebundle_`, end with an underscore, too.
    return name.startswith("_") and not name.endswith("_")


def test_files_and_classes_stay_small() -> None:
    """A file has one job; a class that outgrows its file's job is divided."""
    large = [
        f"{file}: {lines} lines"
        for folder in (PACKAGE, Path(__file__).parent)
        for file in sorted(folder.rglob("*"))
        if file.suffix in (".py", ".js", ".mjs", ".css") and "node_modules" not in file.parts
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    ]
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                methods = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
                if lines > MAX_CLASS_LINES or methods > MAX_CLASS_METHODS:
                    large.append(f"{module}.{node.name}: {lines} lines, {methods} methods")
    assert large == []


def test_the_package_has_few_entries() -> None:
    """The first look at the package shows the nouns that a user knows, and no more."""
    entries = [entry.name for entry in PACKAGE.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= MAX_ENTRIES, sorted(entries)


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


# Neither the network nor widgets nor rendering is loaded before it is used.
LOAD_EXTENSION = (
    "from IPython.core.interactiveshell import InteractiveShell\n"
    "InteractiveShell.instance().run_line_magic('load_ext', 'halo_notebook')"
)
HEAVY = "httpx ipywidgets anywidget pandas markdown_it nh3 nest_asyncio2"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import halo_notebook", f"{HEAVY} IPython asyncio"),
        # The kernel has IPython and asyncio; the rest waits for the first message.
        (LOAD_EXTENSION, HEAVY),
        # An error message or a count costs nothing of what renders a reply.
        (
            "import halo_notebook.display, halo_notebook.display.text, halo_notebook.display.wording",
            "markdown_it nh3 pygments",
        ),
        # Dask is loaded with a cluster, NumPy, SciPy and pandas with the first figure.
        (
            "import halo_notebook.evaluation.run, halo_notebook.evaluation.sending.dask",
            "distributed dask numpy scipy pandas",
        ),
    ],
)
def test_importing_loads_nothing_heavy(code: str, heavy: str) -> None:
    """What is heavy is loaded when it is used."""
    assert not loaded_by(code) & set(heavy.split())


def test_every_public_name_is_there() -> None:
    """What `__all__` promises can be had, and nothing else is made up."""
    for name in halo_notebook.__all__:
        assert getattr(halo_notebook, name) is not None
    assert set(halo_notebook.__all__) <= set(dir(halo_notebook))
    assert not hasattr(halo_notebook, "nothing_of_that_name")
