from dataclasses import replace

import numpy as np
import pytest

from profiling.controllers.outcomes import outcomes_of
from profiling.controllers.requests import Requests
from profiling.controllers.smoothers import (
    KNN_COUNTS,
    expected_goodput,
    forest_smoother,
    knn,
    mean_goodput,
    smoothed,
)
from profiling.controllers.tables import best_static_per_budget
from tests.controller_world import QUESTIONS, share_out, world, world_requests, world_rows, world_table

BUDGETS_MS = [18.0, 26.0, 34.0]


def test_gaps_have_no_say_in_an_average() -> None:
    values = np.asarray([[1.0, np.nan], [3.0, np.nan], [np.nan, 5.0]])
    found = smoothed(lambda table: np.asarray([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0]]) @ table, values)
    assert found[0].tolist() == pytest.approx([1.25 / 0.75, 5.0])
    assert found[1].tolist() == [2.0, 0.0]


def test_expected_goodput_is_that_of_the_samples_that_are_alike() -> None:
    outcomes = world(num_images=30)
    goodput = expected_goodput(lambda table: table[[4, 7]], outcomes, 25.0)
    in_time = outcomes.latency_ms_NS <= 25.0
    np.testing.assert_allclose(goodput, (outcomes.goodput_NS(25.0) + 0.01 * in_time)[[4, 7]])


def test_trees_average_over_samples_that_came_out_alike() -> None:
    requests = world_requests(num_images=300)
    known = requests.features.free_NF
    smoother = forest_smoother(known, requests.outcomes, known, seed=0)
    ones = smoother(np.ones((len(requests), 1)))
    np.testing.assert_allclose(ones, 1.0)
    questions = requests.outcomes.samples["question"].to_numpy()
    for question in QUESTIONS:
        is_asked = (questions == question).astype(float)[:, None]
        share = smoother(is_asked)[:, 0]
        assert share[questions == question].mean() > 0.9
        assert share[questions != question].mean() < 0.1


def test_neighbours_choose_better_than_the_table() -> None:
    parts = share_out(world_requests(num_images=300))
    policy = knn(parts["train"], parts["val"], BUDGETS_MS)
    table = best_static_per_budget(parts["train"].outcomes)
    test = parts["test"]
    assert mean_goodput(policy, test, BUDGETS_MS) > mean_goodput(table, test, BUDGETS_MS) + 0.03
    assert np.array_equal(policy(test, BUDGETS_MS), policy(test, BUDGETS_MS))


def test_fewer_training_samples_than_neighbours_are_enough() -> None:
    requests = world_requests(num_images=3)
    assert len(requests) < min(KNN_COUNTS)
    assert knn(requests, requests, BUDGETS_MS)(requests, BUDGETS_MS).shape == (3, 6)


def test_neighbours_never_choose_what_was_not_measured() -> None:
    rows = world_rows(num_images=40)
    rng = np.random.default_rng(0)
    cell = rows["sample"] * 18 + rows["setting"]
    outcomes = outcomes_of(world_table(rows[~cell.isin(rng.permutation(80 * 18)[:500])]))
    requests = Requests(outcomes=outcomes, features=world_requests(num_images=40).features)
    order = np.asarray([int(sample_id[1:]) for sample_id in outcomes.samples["sample_id"]], dtype=np.int64)
    requests = replace(requests, features=requests.features.take(order))
    chosen = knn(requests, requests, BUDGETS_MS)(requests, BUDGETS_MS)
    assert outcomes.is_measured_NS.sum() == 80 * 18 - 500
    assert outcomes.is_measured_NS[np.arange(80), chosen].all()
