"""What a run of requests amounts to, budget by budget."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from profiling.adaptive.served import Served
from profiling.controllers.evaluation import adherence_interval
from profiling.resampling import Interval

MANY_BUDGETS: Final = 24
"""More different budgets than this are the requests' own, and are not told apart."""

PUNCTUALITY: Final = (
    *("in time [95 %]", "late", "truncated", "infeasible", "latency / budget p50 / p95 / p99"),
    *("overhead p50 / p99 (ms)", "of median request"),
)
"""Heads of the columns that say how punctual requests were, see ``Totals.punctuality``."""

MEANING: Final = (
    "Goodput: accuracy with late answers as wrong. In time: requests without a feasible setting are misses; "
    "Clopper-Pearson interval. Truncated: cut off at the deadline, scored as far as they go. Overhead: controller and "
    "what it reads, part of the latency."
)
"""What a table of totals says below."""

_KNOBS: Final = ("tier", "top_k", "num_active_blocks")


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What requests of one budget, or of all, came to. Shares are of all these requests.

    Args:
        budget_ms: The budget; ``None`` for all together.
        num_requests: Requests.
        accuracy: Mean accuracy of those answers whose right answer is known, late ones included, cut ones scored as far
            as they go; NaN where no right answer is known.
        goodput: The same, late answers counted as wrong.
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

    def rightness(self) -> tuple[str, str]:
        """Return a table's cells: accuracy and goodput."""
        accuracy, goodput = ("-" if math.isnan(value) else f"{value:.3f}" for value in (self.accuracy, self.goodput))
        return accuracy, goodput

    def punctuality(self) -> tuple[str, ...]:
        """Return a table's cells for the columns ``PUNCTUALITY``."""
        ratios = (self.latency_to_budget_p50, self.latency_to_budget_p95, self.latency_to_budget_p99)
        return (
            str(self.adherence),
            *(f"{share:.1%}" for share in (self.late, self.truncated, self.infeasible)),
            " / ".join(f"{ratio:.2f}" for ratio in ratios),
            f"{self.overhead_p50_ms:.2f} / {self.overhead_p99_ms:.2f}",
            f"{self.overhead_share:.1%}",
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values, ``None`` where nothing is known."""
        values = {**asdict(self), "overhead_share": self.overhead_share}
        return {name: None if _is_unknown(value) else value for name, value in values.items()}


def totals_by_budget(rows: Sequence[Served]) -> list[Totals]:
    """Return the totals of each budget in rising order, and of all requests last.

    Raises:
        ValueError: If there is no request.
    """
    if not rows:
        raise ValueError("totals: no request was answered")
    found = [totals([row for row in rows if row.budget_ms == ms], budget_ms=ms) for ms in shared_budgets_ms(rows)]
    return [*found, totals(rows, budget_ms=None)]


def shared_budgets_ms(rows: Iterable[Served]) -> list[float]:
    """Return the budgets in rising order; none where they are the requests' own, too many to be told apart."""
    budgets_ms = sorted({row.budget_ms for row in rows})
    return budgets_ms if len(budgets_ms) <= MANY_BUDGETS else []


def totals(rows: Sequence[Served], *, budget_ms: float | None) -> Totals:
    """Add requests up."""
    ratio = [row.latency_ms / row.budget_ms for row in rows]
    p50, p95, p99 = (float(value) for value in np.percentile(ratio, [50, 95, 99]))
    overhead_p50_ms, overhead_p99_ms = np.percentile([row.features_ms + row.controller_ms for row in rows], [50, 99])
    return Totals(
        budget_ms=budget_ms,
        num_requests=len(rows),
        accuracy=_mean([row.accuracy for row in rows if row.accuracy is not None]),
        goodput=_mean([row.goodput for row in rows if row.accuracy is not None]),
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


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _is_unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _shares(levels: Sequence[str]) -> dict[str, float]:
    return {level: count / len(levels) for level, count in Counter(levels).most_common()}
