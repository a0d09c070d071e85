from dataclasses import replace

import numpy as np
import pytest

from profiling.controllers import oracles
from profiling.controllers.requests import Requests
from tests.controller_world import share_out, world_requests

BUDGETS_MS = [18.0, 26.0, 34.0]


@pytest.fixture(scope="module")
def parts() -> dict[str, Requests]:
    return {str(part): members for part, members in share_out(world_requests(num_images=240)).items()}


def test_nothing_beats_the_realised_oracle_on_any_sample(parts: dict[str, Requests]) -> None:
    test = parts["test"]
    chosen = oracles.realised(test, BUDGETS_MS)
    for budget_ms, chosen_N in zip(BUDGETS_MS, chosen, strict=True):
        goodput = test.outcomes.realised_goodput_NS(budget_ms)
        reached = goodput[np.arange(len(test)), chosen_N]
        assert np.array_equal(reached, goodput.max(axis=1))
        ties = np.where(goodput == reached[:, None], test.outcomes.realised_ms_NS, np.inf)
        assert np.array_equal(chosen_N, ties.argmin(axis=1))


def test_a_cell_has_no_say_in_the_guess_about_itself() -> None:
    rng = np.random.default_rng(0)
    taught = rng.normal(size=(200, 6)) + rng.normal(size=(200, 1))
    asked = rng.normal(size=(10, 6))
    changed = asked.copy()
    changed[:, 2] += 1
    before, after = (oracles.expected_surprise(taught, values) for values in (asked, changed))
    np.testing.assert_allclose(before[:, 2], after[:, 2])
    assert (np.abs(before - after)[:, [0, 1, 3, 4, 5]] > 0.01).all()


def test_what_the_other_cells_say_is_the_regression_on_them() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=(5000, 1))
    taught = common + 0.1 * rng.normal(size=(5000, 4))
    guess = oracles.expected_surprise(taught, np.asarray([[0.6, 0.6, 0.6, -9.0]]))
    # Three noisy readings of one number, and a tenth of its variance added to the noise's: shrunk a little.
    shrunk = 0.6 * 3 / (3 + 0.01 + 0.1)
    assert guess[0, 3] == pytest.approx(shrunk, abs=0.02)


def test_the_noise_free_oracle_is_blind_to_the_realised_run(parts: dict[str, Requests]) -> None:
    train, test = parts["train"], parts["test"]
    first = np.asarray(test.image_ids) == test.image_ids[0]
    runs = test.outcomes.latency_runs_NSR.copy()
    runs[first, :, -1] = 1e3
    late = replace(test, outcomes=replace(test.outcomes, latency_runs_NSR=runs))
    seen = [oracles.noise_free(train, requests, BUDGETS_MS, seed=0)[:, first] for requests in (test, late)]
    assert np.array_equal(seen[0], seen[1])
    runs[first, :, 0] = 1e3
    late = replace(test, outcomes=replace(test.outcomes, latency_runs_NSR=runs))
    assert not np.array_equal(oracles.noise_free(train, late, BUDGETS_MS, seed=0)[:, first], seen[0])


def test_the_feature_limited_oracle_does_not_look_at_the_sample_it_chooses_for(parts: dict[str, Requests]) -> None:
    train, test = parts["train"], parts["test"]
    first = np.asarray(test.image_ids) == test.image_ids[0]
    accuracy = test.outcomes.accuracy_NS.copy()
    accuracy[first] = 1 - accuracy[first]
    turned = replace(test, outcomes=replace(test.outcomes, accuracy_NS=accuracy))
    one, two = (oracles.feature_limited(train, each, BUDGETS_MS, seed=0) for each in (test, turned))
    assert np.array_equal(one[:, first], two[:, first])
    assert np.array_equal(one, oracles.feature_limited(train, test, BUDGETS_MS, seed=0))


def test_folds_keep_an_images_samples_together_and_hold_each_once(parts: dict[str, Requests]) -> None:
    test = parts["test"]
    folds = oracles.folds(test, seed=0)
    assert (np.sum(folds, axis=0) == 1).all()
    images = np.asarray(test.image_ids)
    for fold in folds:
        assert not set(images[fold]) & set(images[~fold])
    assert any((one != two).any() for one, two in zip(folds, oracles.folds(test, seed=1), strict=True))


def test_one_image_teaches_nothing_about_itself(parts: dict[str, Requests]) -> None:
    test = parts["test"]
    single = test.take(np.asarray(test.image_ids) == test.image_ids[0])
    with pytest.raises(ValueError, match="needs samples of 2 images or more"):
        oracles.feature_limited(parts["train"], single, BUDGETS_MS, seed=0)
