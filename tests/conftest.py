"""Fixtures that more than one test file uses. What is heavy is imported when it is asked for."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient

    from .harness.kernels import Kernel
    from .harness.lab import Lab, LabPage
    from .harness.voila import Voila, VoilaPage


def pytest_configure() -> None:
    """Undo what a shell or a CI runner may have set, and processes that the tests start would take on.

    Background jobs are often started with SIGINT ignored; Python leaves that as it is, and an interrupt
    that a test sends would have no effect. Without bytecode, each of a hundred kernels compiles all that
    it imports, which takes longer than most tests.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together when several processes share the run, and begin with the longest.

    Most tests wait, for a page, a kernel or a clock, so `make test` runs more of them at a time than
    there are cores. Nothing here changes what a test meets when it runs alone.
    """
    for item in items:
        if group := group_of(item):
            item.add_marker(pytest.mark.xdist_group(group))
    # A long test that begins last is waited for by all the others.
    items.sort(
        key=lambda item: (not item.get_closest_marker("browser"), not item.get_closest_marker("kernel"))
    )


def group_of(item: pytest.Item) -> str | None:
    """The tests with which this one stays in one process; None when it may be in any."""
    assert isinstance(item, pytest.Function)
    scopes = {
        definition.scope
        for definitions in item._fixtureinfo.name2fixturedefs.values()
        for definition in definitions
        # Those without a place are pytest's and its plugins' own.
        if definition.baseid
    }
    for server in ("notebook7_server", "voila_server"):
        if server in item.fixturenames:
            # One such server is enough for all that few tests ask of it. JupyterLab's have more to do.
            return server
    meets = item.get_closest_marker("browser") or item.get_closest_marker("kernel")
    if "module" in scopes or not meets:
        # What is over in a moment is not worth sending about one by one.
        return item.nodeid.partition("::")[0]
    return item.nodeid.rpartition("::")[0] if "class" in scopes else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Hold pytest-xdist to the groups: without them all passes, several times as slow."""
    if hasattr(session.config, "workerinput") and session.config.getoption("loadgroup"):
        assert all("@" in item.nodeid for item in session.items if item.get_closest_marker("xdist_group")), (
            "This pytest-xdist does not keep groups together on this pytest."
        )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """End the harness's browser before the first test that does not need it."""
    pages = sys.modules.get("tests.harness.pages")
    wanted = getattr(nextitem, "fixturenames", ())
    if pages and not {"lab_server", "lite", "notebook7_server", "voila_server"}.intersection(wanted):
        pages.CHROMIUM.close()


def pytest_report_header() -> list[str]:
    """Say which versions the run met: CI runs the same tests on several."""
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
