"""No settings from outside, and asyncio for async tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASE_URL", "USER_ID", "USER_TOKEN"):
        monkeypatch.delenv(f"HALO_{name}", raising=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
