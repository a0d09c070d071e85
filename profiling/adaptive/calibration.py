"""Find the margins of a finished policy by running it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from profiling.adaptive.request import BudgetedRequest, in_random_order
from profiling.adaptive.served import Served
from profiling.promises.guarantee import Pair, Trial, smallest_margins
from profiling.promises.promise import BudgetPromise, Denominator, Terms
from profiling.questions import QuestionRequest

Serve = Callable[[BudgetedRequest, float], Served]
"""Runs a request with a margin."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What fresh runs showed.

    Args:
        budgets: What may be promised.
        rows: All runs.
    """

    budgets: tuple[BudgetPromise, ...]
    rows: tuple[Served, ...]

    @property
    def expected_ratio(self) -> float:
        """Median of measured over expected time."""
        return float(np.median([row.latency_ms / row.expected_ms for row in self.rows if row.expected_ms]))


def find_margins(serve: Serve, questions: Sequence[QuestionRequest], terms: Terms, *, seed: int) -> Findings:
    """Run questions under each budget, with smaller and smaller margins as long as the promise is shown.

    Requests of all budgets that are still open are run in one random order, margin after margin, so that a drift of the
    device meets budgets alike. The same runs come in the same order again.

    Args:
        serve: Runs the policy.
        questions: Those of the calibration; each is asked once for each budget and margin that is reached.
        terms: What is to be promised.
        seed: Of the order.

    Raises:
        ValueError: If there are too few questions to promise anything, or the margins do not fall.
    """
    terms.level.check_requests(len(questions), len(terms.budgets_ms))
    runs: dict[Pair, list[Served]] = {}

    def run(pairs: Sequence[Pair]) -> list[Trial]:
        asked = [
            (BudgetedRequest(question=question, budget_ms=budget_ms), margin)
            for budget_ms, margin in pairs
            for question in questions
        ]
        order = in_random_order(asked, seed=seed + len(runs))
        runs.update({pair: [] for pair in pairs})
        for request, margin in order:
            runs[request.budget_ms, margin].append(serve(request, margin))
        return [_trial(runs[pair], terms.denominator) for pair in pairs]

    shown = smallest_margins(run, terms.budgets_ms, terms.margins, terms.level)
    return Findings(
        budgets=tuple(
            _promise(
                budget_ms, margin, runs[budget_ms, terms.margins[0] if margin is None else margin], terms.denominator
            )
            for budget_ms, margin in shown.items()
        ),
        rows=tuple(row for rows in runs.values() for row in rows),
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
