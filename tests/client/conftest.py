"""No settings from outside, a client of the demo agent, and asyncio for async tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from halo_notebook import HaloClient

from .clients import KEY

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASE_URL", "USER_ID", "USER_TOKEN"):
        monkeypatch.delenv(f"HALO_{name}", raising=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def client(agent: DemoAgent) -> Iterator[HaloClient]:
    with HaloClient(KEY, base_url=agent.url, silence_timeout_s=1) as connected:
        yield connected
