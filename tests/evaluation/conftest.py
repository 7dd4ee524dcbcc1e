"""Fixtures of the tests of evaluations: on the demo agent, with a file of the test's own."""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook.demo import DEMO_KEY

from .agents import chat

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog
    from inspect_ai.model import Model
    from inspect_ai.solver import Solver

    from halo_notebook import DemoAgent, Evaluation, HaloClient

Run = Callable[..., "Evaluation"]
RunEval = Callable[..., "EvalLog"]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where an evaluation is kept."""
    return tmp_path / "evaluation.jsonl"


@pytest.fixture
def run(client: HaloClient) -> Run:
    """`evaluate` on the demo agent, as the configuration ``demo``, without a progress bar."""
    from halo_notebook import evaluate

    return partial(evaluate, configs={"demo": client}, progress=False)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No note says that this machine was too busy, as it may be while the tests run."""
    monkeypatch.setattr("halo_notebook.evaluation.tables.notes.BUSY_S", math.inf)


@pytest.fixture
def given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is refused twice, or has no connection, is given up."""
    from halo_notebook.evaluation.sending import conversations, pace

    monkeypatch.setattr(conversations, "MAX_REFUSALS", 2)
    monkeypatch.setattr(pace, "NEVER_REACHED_S", 0.2)


@pytest.fixture(scope="module")
def inspect_imported() -> None:
    """inspect_ai is loaded, and the garbage collection after each test leaves it out."""
    import inspect_ai.model  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture
def inspect_settings(
    inspect_imported: None, agent: DemoAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The demo agent from the environment; inspect writes only into the test's folder."""
    for name in list(os.environ):
        if name.startswith(("HALO_", "INSPECT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HALO_API_KEY", DEMO_KEY)
    monkeypatch.setenv("HALO_BASE_URL", agent.url)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    # inspect_ai sets up logging and the hook for errors of this process, in which other tests run too.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers])
    levels = {name: logging.getLogger(name).level for name in ("", "httpx")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    gc.collect()  # what it leaves behind must not warn in another test


@pytest.fixture
def run_eval(tmp_path: Path, agent: DemoAgent) -> RunEval:
    """Run an eval of these inputs and return its log as it is on the disk."""

    def run(
        *inputs: Any,
        solver: list[Solver] | None = None,
        target: str = "",
        model: Any = "halo/default",
        **settings: Any,
    ) -> EvalLog:
        from inspect_ai import Task
        from inspect_ai import eval as inspect_eval
        from inspect_ai.dataset import Sample
        from inspect_ai.log import read_eval_log
        from inspect_ai.scorer import includes
        from inspect_ai.solver import generate

        task = Task(
            dataset=[
                Sample(input=each if isinstance(each, str) else chat(each), target=target) for each in inputs
            ],
            solver=solver or [generate()],
            scorer=includes(),
        )
        # By its address, since inspect keeps models from one eval to the next.
        settings = {"model_base_url": agent.url, "log_dir": str(tmp_path / "logs"), **settings}
        [log] = inspect_eval(task, model=model, display="none", **settings)
        return read_eval_log(log.location, resolve_attachments=True)

    return run


@pytest.fixture
def model() -> Model:
    """A new model, which has reached no agent yet."""
    from inspect_ai.model import get_model

    return get_model("halo/default", memoize=False)
