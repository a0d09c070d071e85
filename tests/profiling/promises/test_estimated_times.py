from dataclasses import replace

import numpy as np
import pytest

from models.latency_estimator import LatencyEstimator
from profiling.controllers.outcomes import Outcomes, join_outcomes, read_outcomes
from profiling.latency_rows import base_coefficients, latency_rows, model_shape
from profiling.promises.estimated_times import estimated_times, with_estimated_latency
from profiling.promises.latency_table import PARTS, calibrated, measured_times
from profiling.records import read_profiles
from tests.adaptive_world import PROFILE, write_world_of_small_model

TIMES = (
    "latency_runs_NSR",
    "before_decode_ms_NS",
    "prefill_ms_NS",
    "token_ms_NS",
    "preprocess_ms_NT",
    "vision_done_ms_NT",
)


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


def test_estimated_latencies_take_the_place_of_measured_ones_with_preprocessing_as_measured() -> None:
    outcomes, estimator = world_and_estimator()
    estimated = with_estimated_latency(outcomes, estimator)
    known = estimated_times(estimator, outcomes)[1][int(outcomes.vision_tokens_NT[7, 1])]
    num_steps = outcomes.output_tokens_NS[7, 6:12] - 1  # of this answer, whatever the others'
    expected_ms = 1.0 + known.first_token_ms + num_steps * known.token_ms
    np.testing.assert_allclose(estimated.latency_ms_NS[7].reshape(3, 6)[1], expected_ms)
    np.testing.assert_array_equal(estimated.accuracy_NS, outcomes.accuracy_NS)
    np.testing.assert_array_equal(estimated.vision_done_ms_NT, outcomes.vision_done_ms_NT)
    # Requests of one size are told apart by their answers' lengths, and measured latencies are neither read nor kept.
    alike = (outcomes.vision_tokens_NT == outcomes.vision_tokens_NT[7]).all(axis=1)
    alike &= (outcomes.output_tokens_NS == outcomes.output_tokens_NS[7]).all(axis=1)
    assert alike.sum() > 1
    assert (np.ptp(estimated.latency_ms_NS[alike], axis=0) == 0).all()


def test_settings_that_were_not_measured_have_an_estimated_latency() -> None:
    outcomes, estimator = world_and_estimator()
    whole = with_estimated_latency(outcomes, estimator)
    for name, columns in (("latency_runs_NSR", np.s_[0, 6:12]), ("preprocess_ms_NT", np.s_[0, 1])):
        getattr(outcomes, name)[columns] = np.nan
    partial = with_estimated_latency(outcomes, estimator)
    np.testing.assert_allclose(partial.latency_ms_NS, whole.latency_ms_NS)


def test_untimed_samples_get_what_is_expected_of_their_tokens_and_the_mean_preprocessing() -> None:
    outcomes, estimator = world_and_estimator()
    outcomes.preprocess_ms_NT[:, 2] = np.arange(len(outcomes))
    times = {name: np.full_like(getattr(outcomes, name), np.nan) for name in TIMES}
    untimed = replace(outcomes.take(np.arange(3)), **{name: values[:3] for name, values in times.items()})
    estimated = with_estimated_latency(join_outcomes([outcomes, untimed]), estimator)
    whole = with_estimated_latency(outcomes, estimator)
    later_ms = outcomes.preprocess_ms_NT[:, 2].mean() - outcomes.preprocess_ms_NT[:3, 2]
    added_ms = np.repeat([np.zeros(3), np.zeros(3), later_ms], 6, axis=0).T
    np.testing.assert_allclose(estimated.latency_ms_NS[-3:], whole.latency_ms_NS[:3] + added_ms)
    stages_ms = np.concatenate([outcomes.vision_done_ms_NT, untimed.vision_done_ms_NT])
    np.testing.assert_array_equal(estimated.vision_done_ms_NT, stages_ms)  # as they were


def test_an_answer_of_unknown_length_is_taken_for_a_mean_one() -> None:
    outcomes, estimator = world_and_estimator()
    known = estimated_times(estimator, outcomes)[0][int(outcomes.vision_tokens_NT[0, 0])]
    outcomes.output_tokens_NS[0, 0] = np.nan
    mean = np.nanmean(outcomes.output_tokens_NS)
    estimated = with_estimated_latency(outcomes, estimator)
    expected_ms = 1.0 + known.first_token_ms[0] + (mean - 1) * known.token_ms[0]
    np.testing.assert_allclose(estimated.latency_ms_NS[0, 0], expected_ms, rtol=0.02)
