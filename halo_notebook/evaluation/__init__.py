"""Evaluations: send many cases to an agent, apply checks to its replies, and compare."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import Case, CaseTurn, read_cases
    from .intervals import Comparison, Interval, TimeComparison, compare_passes, compare_times, pass_rate
    from .result import Evaluation
    from .run import aevaluate, evaluate

__all__ = [
    "Case",
    "CaseTurn",
    "Comparison",
    "Evaluation",
    "Interval",
    "TimeComparison",
    "aevaluate",
    "compare_passes",
    "compare_times",
    "evaluate",
    "pass_rate",
    "read_cases",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = {"Evaluation": "result", "aevaluate": "run", "evaluate": "run"}
    cases = ("Case", "CaseTurn", "read_cases")
    module = modules.get(name, "cases" if name in cases else "intervals")
    return getattr(importlib.import_module(f".{module}", __name__), name)
