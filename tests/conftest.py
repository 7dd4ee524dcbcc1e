"""Fixtures that several test files use, and the order in which tests run. Heavy modules are imported late."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient

    from .harness.kernels import Kernel
    from .harness.lab import Lab, LabPage

SHARED_SERVERS = {"lite", "notebook7_server"}
"""Of these the run starts one each; tests of JupyterLab may start several."""
OTHER_FRONT_ENDS = {"lite", "notebook7_server", "voila"}
"""What runs there runs in JupyterLab, too. So these tests are marked `ci`."""


def pytest_configure() -> None:
    """Undo settings of a shell or a CI runner, which the processes started by tests would inherit, too.

    Background jobs are often started with SIGINT ignored, and an interrupt that a test sends would have no
    effect. Without bytecode files each kernel would compile all that it imports.
    """
    for name in [name for name in os.environ if name.startswith("HALO_")]:
        del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # jsonschema would build parsers for a format that nothing here uses: a second in each process.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def in_ci(config: pytest.Config) -> bool:
    """Whether the tests marked `ci` run: in CI, or where `-m` names them."""
    return bool(os.environ.get("CI")) or "ci" in config.option.markexpr.split()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m browser`, import only the files with such tests, since each process imports them."""
    named = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    if (
        named
        and config.option.markexpr == "browser"
        and "mark.browser" not in collection_path.read_text("utf-8")
    ):
        return True
    return None


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep the names of tests readable, some of which get texts of 100,000 characters."""
    return f"{val[:40]!r}… {len(val)}" if isinstance(val, str | bytes) and len(val) > 100 else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the browser's tests into two groups, and each file's others into one, in the order of their cost.

    Most tests wait, so `make test` runs more of them at once than there are cores. A browser keeps a core
    busy: two processes begin with a group of its tests each, the others with the kernel's. With `-m browser`
    there is nothing else to do, and each process takes the next page.
    """
    for item in items:
        if OTHER_FRONT_ENDS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.ci)
    if not in_ci(config):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("ci")])
        items[:] = [item for item in items if not item.get_closest_marker("ci")]
    groups = len(items) if config.option.markexpr == "browser" else 2
    places: dict[str, int] = {}
    with_kernel = {item.path for item in items if item.get_closest_marker("kernel")}
    for item in items:
        group = str(item.path.relative_to(config.rootpath))
        if item.get_closest_marker("browser"):
            # A class of tests shares its page. A page, or a server, costs more than the tests on it.
            server = next(iter(SHARED_SERVERS.intersection(getattr(item, "fixturenames", ()))), None)
            place = places.setdefault(server or item.nodeid.rpartition("::")[0], len(places))
            group = f"browser {place % groups}"
        item.add_marker(pytest.mark.xdist_group(group))

    classes_in_ci = {
        item.cls for item in items if isinstance(item, pytest.Function) and item.get_closest_marker("ci")
    } - {None}

    def cost(item: pytest.Item) -> tuple[bool, bool, bool]:
        shared = SHARED_SERVERS.intersection(getattr(item, "fixturenames", ()))
        # All tests of a class follow one another, so that its page is loaded once.
        is_long = shared or item.get_closest_marker("ci") or getattr(item, "cls", None) in classes_in_ci
        return not item.get_closest_marker("browser"), not is_long, item.path not in with_kernel

    items.sort(key=cost)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector, which takes a fifth of the time: nothing is garbage yet."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave what was imported out of later garbage collections, each of which would look at all of it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Undo it if hypothesis will be imported now, by its plugin: it asks the collector for referrers."""
    if "hypothesis" not in sys.modules:
        gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a failed test with what is on its pages, and save pictures of them in artefacts/."""
    report = yield
    pages = sys.modules.get("tests.harness.pages")
    if report.failed and pages:
        for number, page in enumerate(pages.OPEN_PAGES):
            report.sections.append((f"page {number}", page.as_failed(f"failed-{item.name}-{number}")))
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Close the harness's browser before the first test that does not need it."""
    pages = sys.modules.get("tests.harness.pages")
    if pages and not (nextitem and nextitem.get_closest_marker("browser")):
        pages.BROWSER.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """List the versions of the packages in use: CI runs the tests with several."""
    names = ("ipykernel", "ipython", "jupyterlab", "notebook", "voila", "httpx", "ipywidgets", "anywidget")
    installed = {each.name.lower(): each.version for each in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {installed.get(name, 'absent')}" for name in names)
    repeats = "run" if in_ci(config) else "left out; CI=true runs them, too"
    return [versions, f"interpreter: {sys.executable}", f"tests marked ci: {repeats}"]


@pytest.fixture
def agent() -> Iterator[DemoAgent]:
    """A demo agent that answers at once."""
    from halo_notebook.demo import DemoAgent

    with DemoAgent(first_byte_s=0, chunk_s=0) as running:
        yield running


@pytest.fixture
def client(agent: DemoAgent) -> HaloClient:
    """A client of that agent, which waits no longer than a test should."""
    from halo_notebook import HaloClient
    from halo_notebook.demo import DEMO_KEY

    return HaloClient(DEMO_KEY, base_url=agent.url, silence_timeout_s=1)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A fresh ipykernel, ended with the test."""
    from .harness.kernels import Kernel

    with Kernel() as running:
        yield running


@pytest.fixture(scope="session")
def lab_server() -> Iterator[Lab]:
    """One JupyterLab server for the run; its pages, files and settings are each test's own."""
    from .harness.lab import Lab

    with Lab() as server:
        yield server


@pytest.fixture(scope="session")
def notebook7_server() -> Iterator[Lab]:
    """One Notebook 7 server for the run."""
    from .harness.lab import Lab

    with Lab(front_end="notebook") as server:
        yield server


@pytest.fixture
def lab(lab_server: Lab) -> Iterator[LabPage]:
    """A page on JupyterLab, with a browser profile of its own; what it opened is closed with the test."""
    from .harness.lab import LabPage

    with LabPage(lab_server) as page:
        yield page
