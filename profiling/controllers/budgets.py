"""Latency budgets: the grid that everything is judged at, and the range that training draws from."""

# Shape suffixes: N = samples, S = settings, B = budgets drawn.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from profiling.controllers.outcomes import Array, Codes, Outcomes

FRONTIER_PERCENT: Final = tuple(range(5, 100, 10))
FULL_PERCENT: Final = (35, 50, 70, 85, 100)
_RANGE_PERCENT: Final = (5, 95)


@dataclass(frozen=True, kw_only=True)
class BudgetRange:
    """Budgets between which training draws.

    Args:
        low_ms: Smallest budget in milliseconds.
        high_ms: Largest budget in milliseconds.

    Raises:
        ValueError: If the range is empty or does not start above 0.
    """

    low_ms: float
    high_ms: float

    def __post_init__(self) -> None:
        if not 0 < self.low_ms <= self.high_ms < math.inf:
            raise ValueError(f"budget range: needs 0 < low_ms <= high_ms, got {self.low_ms} and {self.high_ms}")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw budgets whose logarithms fill the range evenly: ``(count,)`` float32 milliseconds."""
        share_B = torch.rand(count, generator=generator, dtype=torch.float64)
        return (self.low_ms * (self.high_ms / self.low_ms) ** share_B).float()


def budget_range(outcomes: Outcomes) -> BudgetRange:
    """Return the feasible range: from the 5th percentile of the fastest setting to the 95th of the slowest."""
    mean_ms_S = mean_latency_ms(outcomes)
    lows, highs = np.nanpercentile(outcomes.latency_ms_NS, _RANGE_PERCENT, axis=0)
    return BudgetRange(low_ms=float(lows[mean_ms_S.argmin()]), high_ms=float(highs[mean_ms_S.argmax()]))


def budget_grid(outcomes: Outcomes) -> list[float]:
    """Return the budgets of a device in rising order, rounded to a microsecond.

    The 5, 15, ..., 95 % points of the best-static frontier, as percentiles of its settings' mean latencies, and 35, 50,
    70, 85 and 100 % of the full setting's median.
    """
    frontier_ms = mean_latency_ms(outcomes)[best_static_frontier(outcomes)]
    full_ms = float(np.nanmedian(outcomes.latency_ms_NS[:, outcomes.full_setting]))
    absolute_ms = np.percentile(frontier_ms, FRONTIER_PERCENT)
    relative_ms = full_ms * np.asarray(FULL_PERCENT) / 100
    budgets_ms: list[float] = np.unique(np.concatenate([absolute_ms, relative_ms]).round(3)).tolist()
    return budgets_ms


def best_static_frontier(outcomes: Outcomes) -> Codes:
    """Return the settings that no faster one matches in mean accuracy, fastest first."""
    accuracy_S = np.nanmean(outcomes.accuracy_NS, axis=0)
    order = np.lexsort((-accuracy_S, mean_latency_ms(outcomes)))
    best_before = np.maximum.accumulate(np.r_[-np.inf, accuracy_S[order][:-1]])
    return np.asarray(order[accuracy_S[order] > best_before], dtype=np.int64)


def mean_latency_ms(outcomes: Outcomes) -> Array:
    """Return each setting's mean latency over the samples that were measured at it: ``(settings,)``.

    Raises:
        ValueError: If a setting was measured for no sample.
    """
    num_S = outcomes.is_measured_NS.sum(axis=0)
    if not num_S.all():
        raise ValueError(
            f"outcomes: setting {outcomes.settings[int(num_S.argmin())]} was measured for no sample of these"
        )
    mean_ms_S: Array = np.nanmean(outcomes.latency_ms_NS, axis=0)
    return mean_ms_S


def check_budgets(budgets_ms: Sequence[float]) -> list[float]:
    """Return the budgets in rising order, each once.

    Raises:
        ValueError: If there is none, or one is not a positive number of milliseconds.
    """
    if not budgets_ms:
        raise ValueError("budgets_ms: needs at least one budget, got none")
    for place, budget_ms in enumerate(budgets_ms):
        if not 0 < budget_ms < math.inf:
            raise ValueError(f"budgets_ms[{place}]: must be a positive number of milliseconds, got {budget_ms}")
    return sorted(set(budgets_ms))
