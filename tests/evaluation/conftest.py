"""Fixtures of the tests of evaluations: on the demo agent, with a file of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from halo_notebook import Evaluation, HaloClient

RunCases = Callable[..., "Evaluation"]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where an evaluation is kept."""
    return tmp_path / "evaluation.jsonl"


@pytest.fixture
def run_cases(client: HaloClient) -> RunCases:
    """`evaluate` on the demo agent, as the configuration ``demo``, without a progress bar."""
    from halo_notebook import evaluate

    return partial(evaluate, configs={"demo": client}, progress=False)
