"""pass@k, pass^k, intervals that respect that a task's samples belong together, and paired comparison."""

from __future__ import annotations

from tau2_exp.statistics.comparison import Arm, Comparison, compare, compare_all, ranks
from tau2_exp.statistics.estimators import Measure, Samples, pass_at_k, pass_hat_k, per_task
from tau2_exp.statistics.intervals import Estimate, estimate

__all__ = [
    "Arm",
    "Comparison",
    "Estimate",
    "Measure",
    "Samples",
    "compare",
    "compare_all",
    "estimate",
    "pass_at_k",
    "pass_hat_k",
    "per_task",
    "ranks",
]
