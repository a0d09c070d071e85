import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.controllers.by_budget import by_budget_table, falls_in_words, falls_of
from profiling.controllers.tables import best_static_per_budget
from tests.controller_world import world_requests

REQUESTS = world_requests(num_images=30)
BUDGETS_MS = st.lists(st.floats(5, 100), min_size=2, max_size=8, unique=True).map(sorted)


def test_the_largest_fall_is_found_and_has_a_paired_interval() -> None:
    values_GN = np.asarray([[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    falls = falls_of(values_GN, list("abcd"), [10.0, 20.0, 30.0, 40.0], seed=0)
    assert (falls.num_falls, falls.num_steps) == (1, 3)
    assert (falls.from_ms, falls.to_ms) == (10.0, 20.0)
    assert falls.largest is not None
    assert falls.largest.value == pytest.approx(-0.25)
    assert (falls.largest.low, falls.largest.high) == (-0.75, 0.0)
    assert str(falls).startswith("falls in 1 of 3 steps from a budget to the next, most from 10.0 to 20.0 ms: -0.250 [")


def test_a_policy_that_never_falls_has_no_largest_fall() -> None:
    falls = falls_of(np.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), ["a", "b"], [1.0, 2.0, 3.0], seed=0)
    assert (falls.num_falls, falls.largest) == (0, None)
    assert str(falls) == "falls in 0 of 2 steps from a budget to the next"


@given(budgets_ms=BUDGETS_MS)
@settings(max_examples=25, deadline=None)
def test_a_table_never_gets_worse_with_more_time_where_it_was_made(budgets_ms: list[float]) -> None:
    outcomes = REQUESTS.outcomes
    chosen_GN = best_static_per_budget(outcomes)(REQUESTS, budgets_ms)
    sample_N = np.arange(len(outcomes))
    goodput_GN = np.stack(
        [
            outcomes.goodput_NS(budget_ms)[sample_N, chosen_N]
            for budget_ms, chosen_N in zip(budgets_ms, chosen_GN, strict=True)
        ]
    )
    assert (np.diff(goodput_GN.mean(axis=1)) >= -1e-9).all()  # equals in goodput are told apart by time


def test_words_tell_accuracy_and_goodput_apart() -> None:
    outcomes = REQUESTS.outcomes
    # The full setting, which is late in 1 ms, then the fastest one, which is in time in 1000 ms.
    chosen_GN = np.stack([np.full(len(outcomes), len(outcomes.settings) - 1), np.zeros(len(outcomes), dtype=np.int64)])
    said = falls_in_words(chosen_GN, outcomes, [1.0, 1000.0], seed=0)
    assert "Accuracy falls in 1 of 1 steps" in said
    assert "Goodput falls in 0 of 1 steps" in said


def test_a_budget_that_nothing_keeps_has_no_label() -> None:
    measures = {f"test/{name}/at_1_ms": 0.25 for name in ("accuracy", "goodput", "adherence", "regret")}
    table = by_budget_table(measures, [1.0], caption="More.")
    assert table.rows == (("1.0", "0.250", "0.250", "0.250", "0.250", "-", "-", "-", "-"),)
    assert table.caption.endswith("More.")
