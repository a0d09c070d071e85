from dataclasses import replace

import numpy as np
import pytest

from profiling.controllers import tables
from profiling.controllers.budgets import mean_latency_ms
from profiling.controllers.outcomes import Codes, Outcomes, outcomes_of
from profiling.controllers.requests import Policy, Requests, choose
from tests.controller_world import GRID, world_requests, world_rows, world_table

BUDGETS_MS = [14.0, 22.0, 30.0]


@pytest.fixture(scope="module")
def requests() -> Requests:
    return world_requests(num_images=60)


def static(policy: Policy, requests: Requests, budget_ms: float) -> int:
    """Return the one setting that a policy chooses for all samples."""
    chosen = np.unique(policy(requests, [budget_ms]))
    assert len(chosen) == 1
    return int(chosen[0])


def test_the_cheapest_is_the_fastest_and_the_full_one_has_everything(requests: Requests) -> None:
    outcomes = requests.outcomes
    assert static(tables.cheapest(outcomes), requests, 1.0) == mean_latency_ms(outcomes).argmin() == 0
    full = static(tables.full(outcomes), requests, 1.0)
    assert full == len(GRID.settings()) - 1 == outcomes.full_setting


def test_the_look_up_table_takes_the_most_accurate_setting_within_the_budget(requests: Requests) -> None:
    outcomes = requests.outcomes
    accuracy, ms = outcomes.accuracy_NS.mean(axis=0), mean_latency_ms(outcomes)
    p95_ms = np.percentile(outcomes.latency_runs_NSR, 95, axis=(0, 2))
    for budget_ms in (22.0, 30.0, 60.0):
        for rule, bound_ms in (("mean", ms), ("p95", p95_ms)):
            chosen = static(tables.lut(outcomes, rule=rule), requests, budget_ms)  # type: ignore[arg-type]
            within = bound_ms <= budget_ms
            expected = int(np.where(within, accuracy, -1).argmax()) if within.any() else int(ms.argmin())
            assert chosen == expected
    assert static(tables.lut(outcomes, rule="mean"), requests, 1.0) == 0


def test_random_choices_are_feasible_all_of_them_and_follow_the_seed(requests: Requests) -> None:
    ms = mean_latency_ms(requests.outcomes)
    policy = tables.random_feasible(requests.outcomes, seed=0)
    chosen = policy(requests, [25.0])
    assert set(chosen.ravel()) == set(np.flatnonzero(ms <= 25.0))
    assert np.array_equal(chosen, policy(requests, [25.0]))
    assert not np.array_equal(chosen, tables.random_feasible(requests.outcomes, seed=1)(requests, [25.0]))
    assert static(policy, requests, 1.0) == 0


def test_the_best_static_settings_have_the_best_goodput_there_is(requests: Requests) -> None:
    outcomes = requests.outcomes
    goodput = np.stack([outcomes.goodput_NS(budget_ms).mean(axis=0) for budget_ms in BUDGETS_MS])
    assert static(tables.best_static(outcomes, BUDGETS_MS), requests, 1.0) == goodput.mean(axis=0).argmax()
    per_budget = tables.best_static_per_budget(outcomes)(requests, BUDGETS_MS)
    assert (per_budget == goodput.argmax(axis=1)[:, None]).all()


def test_where_nothing_is_in_time_the_table_takes_the_fastest(requests: Requests) -> None:
    assert static(tables.best_static_per_budget(requests.outcomes), requests, 0.1) == 0


def test_a_table_for_each_dataset_uses_it_and_that_of_all_for_an_unseen_one(requests: Requests) -> None:
    outcomes = requests.outcomes
    chosen = tables.per_dataset(outcomes)(requests, [22.0])[0]
    names = outcomes.samples["dataset"].to_numpy()
    for name in ("colors", "signs"):
        part = outcomes.take(names == name)
        assert set(chosen[names == name]) == {int(part.goodput_NS(22.0).mean(axis=0).argmax())}
    renamed = replace(requests, outcomes=replace(outcomes, samples=outcomes.samples.assign(dataset="new")))
    unseen = static(tables.per_dataset(outcomes), renamed, 22.0)
    assert unseen == static(tables.best_static_per_budget(outcomes), requests, 22.0)


@pytest.mark.parametrize("knob", ["tier", "top_k", "num_active_blocks"])
def test_a_single_knob_leaves_the_others_alone(requests: Requests, knob: tables.Knob) -> None:
    outcomes = requests.outcomes
    best = outcomes.settings[static(tables.best_static(outcomes, BUDGETS_MS), requests, 1.0)]
    policy = tables.single_knob(outcomes, BUDGETS_MS, knob)
    settings = [outcomes.settings[static(policy, requests, budget_ms)] for budget_ms in (5.0, 22.0, 60.0)]
    for other in {"tier", "top_k", "num_active_blocks"} - {knob}:
        assert {getattr(setting, other) for setting in settings} == {getattr(best, other)}
    assert len({getattr(setting, knob) for setting in settings}) > 1


def holed() -> Outcomes:
    """A world in which each sample lacks what most policies would choose for it."""
    rows = world_rows(num_images=40)
    return outcomes_of(world_table(rows[~rows["setting"].isin([0, 17]) | (rows["sample"] < 2)]))


def test_what_was_not_measured_is_never_chosen() -> None:
    outcomes = holed()
    requests = replace(world_requests(num_images=40), outcomes=outcomes)
    policies: list[Policy] = [
        tables.cheapest(outcomes),
        tables.full(outcomes),
        tables.random_feasible(outcomes, seed=0),
        tables.lut(outcomes, rule="mean"),
        tables.best_static(outcomes, BUDGETS_MS),
        tables.best_static_per_budget(outcomes),
        tables.per_dataset(outcomes),
        tables.single_knob(outcomes, BUDGETS_MS, "tier"),
    ]
    for policy in policies:
        chosen: Codes = policy(requests, [1.0, 25.0, 90.0])
        assert outcomes.is_measured_NS[np.arange(len(outcomes)), chosen].all()


def test_of_equals_the_first_is_chosen() -> None:
    requests = replace(world_requests(num_images=40), outcomes=holed())
    chosen = choose(np.zeros(18), requests)
    assert chosen.tolist() == [0, 0] + [1] * 78
