from typing import Any

import pytest

from profiling.adaptive.request import BudgetedRequest, in_random_order
from tests.served_rows import questions


@pytest.mark.parametrize("budget_ms", [0, -5.0, float("nan"), float("inf"), "soon", True, None])
def test_a_budget_that_means_nothing_is_refused(budget_ms: Any) -> None:
    (question,) = questions(1)
    with pytest.raises(ValueError, match="latency_budget: must be a positive number of milliseconds, got"):
        BudgetedRequest(question=question, budget_ms=budget_ms)


def test_the_order_depends_on_the_seed_alone() -> None:
    assert in_random_order(range(50), seed=1) == in_random_order(range(50), seed=1)
    assert in_random_order(range(50), seed=1) != in_random_order(range(50), seed=2)
    assert sorted(in_random_order(range(50), seed=1)) == list(range(50))
