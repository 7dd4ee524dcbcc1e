"""One demo agent for the tests of a module, and a connection to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from halo_notebook.demo import DemoAgent

from .over_http import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@pytest.fixture(scope="module")
def running_agent() -> Iterator[DemoAgent]:
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        yield agent


@pytest.fixture
def agent(running_agent: DemoAgent) -> DemoAgent:
    """An agent that answers at once, without requests or faults of an earlier test."""
    running_agent.requests.clear()
    running_agent.faults.clear()
    return running_agent


@pytest.fixture
def http(agent: DemoAgent) -> Iterator[httpx.Client]:
    with connect(agent) as connected:
        yield connected
