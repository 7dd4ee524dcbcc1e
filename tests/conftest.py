"""Fixtures that more than one test file uses. What is heavy is imported when it is asked for."""

from __future__ import annotations

import importlib.metadata
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .harness.kernels import Kernel
    from .harness.lab import Lab, LabPage
    from .harness.voila import Voila, VoilaPage


def pytest_configure() -> None:
    """Let Ctrl-C mean what the tests expect of it.

    A shell starts its background jobs, and so many a CI runner its own, with SIGINT ignored;
    Python leaves that as it is, and an interrupt that a test sends would have no effect.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
    """A browser of its own on JupyterLab; what it opened is closed with the test."""
    from .harness.lab import LabPage

    with LabPage(lab_server) as page:
        yield page


@pytest.fixture
def notebook7(notebook7_server: Lab) -> Iterator[LabPage]:
    """A browser of its own on Notebook 7."""
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
    """A browser of its own on Voila."""
    from .harness.voila import VoilaPage

    with VoilaPage(voila_server) as page:
        yield page
