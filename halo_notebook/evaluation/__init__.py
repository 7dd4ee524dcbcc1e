"""Evaluations: send many cases to an agent, apply checks to its replies, and compare."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases.case import Case, CaseTurn, read_cases
    from .cases.simulated_users import ScriptedUser, SimulatedUser
    from .cases.user_functions import CaseUser, ConversationEnd
    from .comparisons.between_results import ResultComparison
    from .labels.agreement import Agreement
    from .result import Evaluation
    from .run import aevaluate, evaluate
    from .statistics.intervals import Interval, mean_score, pass_rate, passes_every_time
    from .statistics.paired import (
        Comparison,
        NoWorse,
        TimeComparison,
        compare_passes,
        compare_scores,
        compare_times,
        holm,
        no_worse,
    )
    from .statistics.sample_size import cases_needed
    from .statistics.times import AtLeast, TimeQuantile, TimeQuantiles, time_quantiles

_FILES = {
    "labels.agreement": ("Agreement",),
    "comparisons.between_results": ("ResultComparison",),
    "cases.user_functions": ("CaseUser", "ConversationEnd"),
    "cases.case": ("Case", "CaseTurn", "read_cases"),
    "statistics.paired": (
        *("Comparison", "NoWorse", "TimeComparison"),
        *("compare_passes", "compare_scores", "compare_times", "holm", "no_worse"),
    ),
    "statistics.intervals": ("Interval", "mean_score", "pass_rate", "passes_every_time"),
    "statistics.sample_size": ("cases_needed",),
    "result": ("Evaluation",),
    "run": ("aevaluate", "evaluate"),
    "cases.simulated_users": ("ScriptedUser", "SimulatedUser"),
    "statistics.times": ("AtLeast", "TimeQuantile", "TimeQuantiles", "time_quantiles"),
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
