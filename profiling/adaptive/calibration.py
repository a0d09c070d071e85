"""Find the margins of a finished policy by running it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from profiling.adaptive.request import BudgetedRequest
from profiling.adaptive.served import Served
from profiling.promises.guarantee import Level, Trial, smallest_margins
from profiling.promises.promise import BudgetPromise, Denominator
from profiling.questions import QuestionRequest

Serve = Callable[[BudgetedRequest, float], Served]
"""Runs a request with a margin."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What fresh runs showed.

    Args:
        budgets: What may be promised.
        expected_ratio: Median of measured over expected time, over all runs.
    """

    budgets: tuple[BudgetPromise, ...]
    expected_ratio: float


def find_margins(
    serve: Serve,
    questions: Sequence[QuestionRequest],
    budgets_ms: Sequence[float],
    margins: Sequence[float],
    level: Level,
    *,
    denominator: Denominator,
) -> Findings:
    """Run questions under each budget, with smaller and smaller margins as long as the promise is shown.

    Args:
        serve: Runs the policy.
        questions: Those of the calibration; each is asked once for each budget and margin that is reached.
        budgets_ms: The budgets, in rising order.
        margins: Shares of the budget to keep back, safest first.
        level: What to promise.
        denominator: Whose misses count.

    Raises:
        ValueError: If there are too few questions to promise anything, or the margins do not fall.
    """
    level.check_requests(len(questions), len(budgets_ms))
    runs: dict[tuple[float, float], list[Served]] = {}

    def run(budget_ms: float, margin: float) -> Trial:
        requests = [BudgetedRequest(question=question, budget_ms=budget_ms) for question in questions]
        runs[budget_ms, margin] = [serve(request, margin) for request in requests]
        return _trial(runs[budget_ms, margin], denominator)

    found = smallest_margins(run, budgets_ms, margins, level)
    ratios = [row.latency_ms / row.expected_ms for rows in runs.values() for row in rows if row.expected_ms]
    return Findings(
        budgets=tuple(
            _promise(budget_ms, margin, runs[budget_ms, margins[0] if margin is None else margin], denominator)
            for budget_ms, margin in found.items()
        ),
        expected_ratio=float(np.median(ratios)),
    )


def _trial(rows: Sequence[Served], denominator: Denominator) -> Trial:
    counted = [row for row in rows if denominator == "all" or not row.is_infeasible]
    return Trial(num_requests=len(counted), num_misses=sum(not row.is_in_time for row in counted))


def _promise(budget_ms: float, margin: float | None, rows: Sequence[Served], denominator: Denominator) -> BudgetPromise:
    trial = _trial(rows, denominator)
    return BudgetPromise(
        budget_ms=budget_ms,
        margin=margin,
        num_requests=trial.num_requests,
        num_misses=trial.num_misses,
        num_infeasible=sum(row.is_infeasible for row in rows),
        num_truncated=sum(row.is_truncated for row in rows),
    )
