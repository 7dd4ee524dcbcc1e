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

_MODULES = {
    "Case": "cases",
    "CaseTurn": "cases",
    "Comparison": "intervals",
    "Evaluation": "result",
    "Interval": "intervals",
    "TimeComparison": "intervals",
    "aevaluate": "run",
    "compare_passes": "intervals",
    "compare_times": "intervals",
    "evaluate": "run",
    "pass_rate": "intervals",
    "read_cases": "cases",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
