"""A connection to the demo agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .over_http import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from halo_notebook.demo import DemoAgent


@pytest.fixture
def http(agent: DemoAgent) -> Iterator[httpx.Client]:
    with connect(agent) as connected:
        yield connected
