import math

import numpy as np
import pytest
import torch

from profiling.controllers.budgets import (
    BudgetRange,
    best_static_frontier,
    budget_grid,
    budget_range,
    check_budgets,
    mean_latency_ms,
)
from profiling.controllers.outcomes import outcomes_of
from tests.controller_world import world, world_rows, world_table


def test_no_setting_beside_the_frontier_is_faster_and_as_right() -> None:
    outcomes = world(num_images=100)
    frontier = best_static_frontier(outcomes)
    ms, accuracy = mean_latency_ms(outcomes), outcomes.accuracy_NS.mean(axis=0)
    assert frontier[0] == ms.argmin()
    assert frontier[-1] == accuracy.argmax()
    assert (np.diff(ms[frontier]) > 0).all()
    assert (np.diff(accuracy[frontier]) > 0).all()
    for other in set(range(len(ms))) - set(frontier.tolist()):
        assert any(ms[f] <= ms[other] and accuracy[f] >= accuracy[other] for f in frontier)


def test_the_grid_holds_ten_points_of_the_frontier_and_five_shares_of_the_full_setting() -> None:
    outcomes = world(num_images=60)
    budgets = budget_grid(outcomes)
    assert budgets == sorted(budgets)
    assert len(budgets) == 15
    full_ms = float(np.median(outcomes.latency_ms_NS[:, outcomes.full_setting]))
    for share in (0.35, 0.5, 0.7, 0.85, 1.0):
        assert round(full_ms * share, 3) in budgets
    frontier_ms = mean_latency_ms(outcomes)[best_static_frontier(outcomes)]
    for percent in (5, 55, 95):
        assert round(float(np.percentile(frontier_ms, percent)), 3) in budgets


def test_budgets_are_drawn_evenly_on_a_logarithmic_scale_within_the_feasible_range() -> None:
    outcomes = world(num_images=60)
    feasible = budget_range(outcomes)
    ms = outcomes.latency_ms_NS
    assert feasible.low_ms == pytest.approx(np.percentile(ms[:, ms.mean(axis=0).argmin()], 5))
    assert feasible.high_ms == pytest.approx(np.percentile(ms[:, ms.mean(axis=0).argmax()], 95))
    draws = BudgetRange(low_ms=10.0, high_ms=1000.0).sample(20_000, torch.Generator().manual_seed(0))
    assert draws.dtype == torch.float32
    assert 10 <= draws.min() < 10.1
    assert 990 < draws.max() <= 1000
    assert (draws < 100).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_draws_depend_on_the_seed_alone() -> None:
    feasible = BudgetRange(low_ms=1.0, high_ms=2.0)
    one, again, other = (feasible.sample(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_missing_cell_does_not_pull_a_mean() -> None:
    rows = world_rows(num_images=20)
    holed = rows[(rows["sample"] != 0) | (rows["setting"] != 0)]
    whole, without = (outcomes_of(world_table(each)) for each in (rows, holed))
    assert mean_latency_ms(without)[0] == pytest.approx(whole.latency_ms_NS[1:, 0].mean())
    only = without.take(np.asarray([0]))
    with pytest.raises(ValueError, match="was measured for no sample of these"):
        mean_latency_ms(only)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_must_be_a_positive_number(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"budgets_ms\[1\]: must be a positive number of milliseconds, got"):
        check_budgets([3.0, wrong])
    with pytest.raises(ValueError, match="budget range"):
        BudgetRange(low_ms=wrong, high_ms=1.0)


def test_budgets_are_sorted_and_none_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs at least one budget"):
        check_budgets([])
    assert check_budgets([2.5, 1.0, 2.5]) == [1.0, 2.5]
