"""A kernel with the magic, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..harness.cells import LOAD, fast_demo
from ..harness.kernels import Kernel


@pytest.fixture(scope="module")
def shared() -> Iterator[Kernel]:
    """One kernel for the tests that leave nothing behind, with the demo agent at full speed."""
    with Kernel() as running:
        assert running.run(f"{LOAD}\n{fast_demo()}").status == "ok"
        yield running
