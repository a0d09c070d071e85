import numpy as np
import pytest

from models.latency_estimator import LatencyEstimator
from profiling.controllers.outcomes import Outcomes, read_outcomes
from profiling.latency_rows import base_coefficients, latency_rows, model_shape
from profiling.promises.estimated_times import estimated_times
from profiling.promises.latency_table import PARTS, calibrated, measured_times
from profiling.records import read_profiles
from tests.adaptive_world import PROFILE, write_world_of_small_model


def world_and_estimator(device: str = "a synthetic device") -> tuple[Outcomes, LatencyEstimator]:
    """A profile, and an untrained estimator: the physical base, fitted to it."""
    write_world_of_small_model()
    table = read_profiles([PROFILE])
    shapes = [model_shape(table.environment).to_mapping()]
    estimator = LatencyEstimator([device], shapes, coefficients=base_coefficients(latency_rows(table), shapes))
    return read_outcomes([PROFILE]), estimator.eval()


def test_estimates_stand_in_for_means_and_kappa_makes_up_for_what_they_miss() -> None:
    outcomes, estimator = world_and_estimator()
    part = outcomes.samples["split"].to_numpy()
    by_tokens = estimated_times(estimator, outcomes.take(part == "train"))
    calibration, test = outcomes.take(part == "calibration"), outcomes.take(part == "test")
    table = calibrated(outcomes.grid, by_tokens, calibration, alpha=0.1)
    for name in PARTS:
        assert np.isfinite(getattr(table.kappa, name)).all()
    measured = measured_times(test)
    times = [table.expected(tokens_T.astype(int).tolist()) for tokens_T in test.vision_tokens_NT]
    bound = np.stack([each.first_token_ms * table.kappa.first_token_ms for each in times])
    assert 0.75 < np.mean(measured.first_token_ms <= bound) <= 1.0
    # The estimate is of the right size; the world's law is another one than the estimator's.
    ratio = np.median(measured.total_ms / np.stack([each.total_ms for each in times]))
    assert 0.5 < ratio < 2
    # More blocks and higher tiers take longer.
    first = times[0].first_token_ms.reshape(3, 3, 2)
    assert (np.diff(first, axis=0) > 0).all()
    assert (np.diff(first, axis=2) > 0).all()


def test_a_device_that_the_estimator_does_not_know_is_named() -> None:
    outcomes, estimator = world_and_estimator("another")
    with pytest.raises(ValueError, match="estimator: knows another, but the profile is of a synthetic device"):
        estimated_times(estimator, outcomes)
