"""Fixtures that several test files use, and the order in which tests run. Heavy modules are imported late."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient

    from .harness.kernels import Kernel
    from .harness.lab import Lab, LabPage
    from .harness.voila import Voila, VoilaPage


TESTS_IN_A_GROUP = 20


def pytest_configure() -> None:
    """Undo settings of a shell or a CI runner that the processes started by tests would inherit.

    Background jobs are often started with SIGINT ignored, which Python leaves as it is, and an interrupt that
    a test sends would have no effect. Without bytecode files, each kernel would compile all that it imports,
    which takes longer than most tests.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that share something into one group, and the groups that take longest first.

    Most tests wait, for a page, a kernel or a timer, so `make test` runs more of them at once than there are
    cores. Nothing here changes what a test does when it runs alone.
    """
    in_file = Counter[str]()
    for item in items:
        group = group_of(item)
        if group is None:
            # Sending short tests to the processes one by one would take longer than some of them.
            file = item.nodeid.partition("::")[0]
            group = f"{file}#{in_file[file] // TESTS_IN_A_GROUP}"
            in_file[file] += 1
        marks = [name for name in ("browser", "kernel") if item.get_closest_marker(name)]
        item.add_marker(pytest.mark.xdist_group(f"{' '.join(marks)} {group}"))
    # All others would wait for a long test that starts last.
    items.sort(
        key=lambda item: (not item.get_closest_marker("browser"), not item.get_closest_marker("kernel"))
    )


def group_of(item: pytest.Item) -> str | None:
    """The name of the group that must run in one process; None if the test may run in any process."""
    assert isinstance(item, pytest.Function)
    scopes = {
        definition.scope
        for definitions in item._fixtureinfo.name2fixturedefs.values()
        for definition in definitions
        if definition.baseid  # pytest's own fixtures and those of its plugins have none
    }
    for server in ("notebook7_server", "voila_server"):
        if server in item.fixturenames:
            # The few tests that need such a server share one. Tests of JupyterLab may start several.
            return server
    if "module" in scopes:
        return item.nodeid.partition("::")[0]
    if "class" in scopes:
        return item.nodeid.rpartition("::")[0]
    if item.get_closest_marker("browser") or item.get_closest_marker("kernel"):
        return re.sub(r"[][@]", " ", item.nodeid)  # pytest-xdist looks for these in a group's name
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let two processes begin with the browser's tests, and the others with the rest.

    A browser keeps a core busy, whereas most other tests wait, so both cores are used from start to end.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler.loadgroup import LoadGroupScheduling

    class BrowserScheduling(LoadGroupScheduling):  # type: ignore[misc]
        def _assign_work_unit(self, node: Any) -> None:
            prefers_browser = node.gateway.id in ("gw0", "gw1")
            for group in self.workqueue:
                if group.startswith("browser") == prefers_browser:
                    self.workqueue.move_to_end(group, last=False)
                    break
            super()._assign_work_unit(node)

    return BrowserScheduling(config, log)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fail if pytest-xdist ignores the groups: the tests would pass, but take several times as long."""
    if hasattr(session.config, "workerinput") and session.config.getoption("loadgroup"):
        assert all("@" in item.nodeid for item in session.items if item.get_closest_marker("xdist_group")), (
            "This pytest-xdist does not keep groups together on this pytest."
        )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Close the harness's browser before the first test that does not need it."""
    pages = sys.modules.get("tests.harness.pages")
    wanted = getattr(nextitem, "fixturenames", ())
    if pages and not {"lab_server", "lite", "notebook7_server", "voila_server"}.intersection(wanted):
        pages.CHROMIUM.close()


def pytest_report_header() -> list[str]:
    """List the versions of the packages in use: CI runs the tests with several."""
    names = ("ipykernel", "ipython", "jupyterlab", "notebook", "voila", "httpx", "ipywidgets", "anywidget")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} absent")
    return [", ".join(versions), f"interpreter: {sys.executable}"]


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


@pytest.fixture
def notebook7(notebook7_server: Lab) -> Iterator[LabPage]:
    """A page on Notebook 7, with a browser profile of its own."""
    from .harness.lab import LabPage

    with LabPage(notebook7_server) as page:
        yield page


@pytest.fixture(scope="session")
def voila_server() -> Iterator[Voila]:
    """One Voila server for the run."""
    from .harness.voila import Voila

    with Voila() as server:
        yield server


@pytest.fixture
def voila(voila_server: Voila) -> Iterator[VoilaPage]:
    """A page on Voila, with a browser profile of its own."""
    from .harness.voila import VoilaPage

    with VoilaPage(voila_server) as page:
        yield page
