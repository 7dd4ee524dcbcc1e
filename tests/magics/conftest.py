"""Kernels with the magic, and the demo agent at full speed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..harness.cells import LOAD_FAST
from ..harness.kernels import Kernel


@pytest.fixture
def fresh(kernel: Kernel) -> Kernel:
    """A kernel of the test's own."""
    assert kernel.run(LOAD_FAST).status == "ok"
    return kernel


@pytest.fixture(scope="module")
def shared() -> Iterator[Kernel]:
    """One kernel for the tests that leave nothing behind."""
    with Kernel() as running:
        assert running.run(LOAD_FAST).status == "ok"
        yield running
