"""Evaluations: send many cases to an agent, apply checks to its replies, and compare."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import Agreement
    from .baseline import ResultComparison
    from .case_users import CaseUser, ConversationEnd
    from .cases import Case, CaseTurn, read_cases
    from .intervals import Interval, mean_score, pass_rate, passes_every_time
    from .paired import (
        Comparison,
        NoWorse,
        TimeComparison,
        compare_passes,
        compare_scores,
        compare_times,
        holm,
        no_worse,
    )
    from .result import Evaluation
    from .run import aevaluate, evaluate
    from .sample_size import cases_needed
    from .simulated_users import ScriptedUser, SimulatedUser
    from .times import AtLeast, TimeQuantile, TimeQuantiles, time_quantiles

_FILES = {
    "agreement": ("Agreement",),
    "baseline": ("ResultComparison",),
    "case_users": ("CaseUser", "ConversationEnd"),
    "cases": ("Case", "CaseTurn", "read_cases"),
    "paired": (
        *("Comparison", "NoWorse", "TimeComparison"),
        *("compare_passes", "compare_scores", "compare_times", "holm", "no_worse"),
    ),
    "intervals": ("Interval", "mean_score", "pass_rate", "passes_every_time"),
    "sample_size": ("cases_needed",),
    "result": ("Evaluation",),
    "run": ("aevaluate", "evaluate"),
    "simulated_users": ("ScriptedUser", "SimulatedUser"),
    "times": ("AtLeast", "TimeQuantile", "TimeQuantiles", "time_quantiles"),
}
__all__ = [
    "Agreement",
    "AtLeast",
    "Case",
    "CaseTurn",
    "CaseUser",
    "Comparison",
    "ConversationEnd",
    "Evaluation",
    "Interval",
    "NoWorse",
    "ResultComparison",
    "ScriptedUser",
    "SimulatedUser",
    "TimeComparison",
    "TimeQuantile",
    "TimeQuantiles",
    "aevaluate",
    "cases_needed",
    "compare_passes",
    "compare_scores",
    "compare_times",
    "evaluate",
    "holm",
    "mean_score",
    "no_worse",
    "pass_rate",
    "passes_every_time",
    "read_cases",
    "time_quantiles",
]


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f".{file}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
