"""What a run of requests amounts to, budget by budget."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiling.adaptive.served import Served
from profiling.controllers.evaluation import adherence_interval
from profiling.resampling import Interval

MANY_BUDGETS: Final = 24
"""More different budgets than this are the requests' own, and are not told apart."""

_KNOBS: Final = ("tier", "top_k", "num_active_blocks")


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What requests of one budget, or of all, came to. Shares are of all these requests.

    Args:
        budget_ms: The budget; ``None`` for all together.
        num_requests: Requests.
        accuracy: Mean accuracy, late answers included, cut ones scored as far as they go.
        goodput: Mean accuracy, late answers counted as wrong.
        adherence: Share in time, requests without a feasible setting counted as misses; Clopper-Pearson interval.
        late: Share of answers that took longer than their budget.
        truncated: Share of answers that were cut off at the deadline.
        infeasible: Share of requests for which no setting was expected in time.
        latency_to_budget_p50: Median of latency divided by budget.
        latency_to_budget_p95: 95th percentile of it.
        latency_to_budget_p99: 99th percentile of it.
        latency_p50_ms: Median latency.
        overhead_p50_ms: Median time of the controller and what it reads.
        overhead_p99_ms: 99th percentile of it.
        knob_shares: How often each level of each knob was chosen.
    """

    budget_ms: float | None
    num_requests: int
    accuracy: float
    goodput: float
    adherence: Interval
    late: float
    truncated: float
    infeasible: float
    latency_to_budget_p50: float
    latency_to_budget_p95: float
    latency_to_budget_p99: float
    latency_p50_ms: float
    overhead_p50_ms: float
    overhead_p99_ms: float
    knob_shares: Mapping[str, Mapping[str, float]]

    @property
    def overhead_share(self) -> float:
        """Median overhead as a share of the median latency."""
        return self.overhead_p50_ms / self.latency_p50_ms


def totals_by_budget(rows: Sequence[Served]) -> list[Totals]:
    """Return the totals of each budget in rising order, and of all requests last.

    Raises:
        ValueError: If there is no request.
    """
    if not rows:
        raise ValueError("totals: no request was answered")
    budgets_ms = sorted({row.budget_ms for row in rows})
    if len(budgets_ms) > MANY_BUDGETS:
        budgets_ms = []
    found = [totals([row for row in rows if row.budget_ms == budget], budget_ms=budget) for budget in budgets_ms]
    return [*found, totals(rows, budget_ms=None)]


def totals(rows: Sequence[Served], *, budget_ms: float | None) -> Totals:
    """Add requests up."""
    ratio = [row.latency_ms / row.budget_ms for row in rows]
    p50, p95, p99 = (float(value) for value in np.percentile(ratio, [50, 95, 99]))
    overhead_p50_ms, overhead_p99_ms = np.percentile([row.features_ms + row.controller_ms for row in rows], [50, 99])
    accuracy = [row.accuracy or 0.0 for row in rows]
    return Totals(
        budget_ms=budget_ms,
        num_requests=len(rows),
        accuracy=float(np.mean(accuracy)),
        goodput=float(np.mean([value * (not row.is_late) for value, row in zip(accuracy, rows, strict=True)])),
        adherence=adherence_interval(sum(row.is_in_time for row in rows), len(rows)),
        late=float(np.mean([row.is_late for row in rows])),
        truncated=float(np.mean([row.is_truncated for row in rows])),
        infeasible=float(np.mean([row.is_infeasible for row in rows])),
        latency_to_budget_p50=p50,
        latency_to_budget_p95=p95,
        latency_to_budget_p99=p99,
        latency_p50_ms=float(np.median([row.latency_ms for row in rows])),
        overhead_p50_ms=float(overhead_p50_ms),
        overhead_p99_ms=float(overhead_p99_ms),
        knob_shares={knob: _shares([str(getattr(row, knob)) for row in rows]) for knob in _KNOBS},
    )


def _shares(levels: Sequence[str]) -> dict[str, float]:
    return {level: count / len(levels) for level, count in Counter(levels).most_common()}
