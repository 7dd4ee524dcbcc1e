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
    "cases": ("Case", "CaseTurn", "read_cases"),
    "intervals": (
        *("Comparison", "Interval", "TimeComparison"),
        *("compare_passes", "compare_times", "pass_rate"),
    ),
    "result": ("Evaluation",),
    "run": ("aevaluate", "evaluate"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
