import math
from dataclasses import asdict

import numpy as np
import pytest

from profiling.statistics import aa_noise_floor, percentile_interval, summarize


def test_a_summary_of_hand_counted_samples() -> None:
    summary = summarize([4.0, 1.0, 3.0, 2.0, 5.0])
    assert asdict(summary) == pytest.approx(
        {
            "count": 5,
            "mean": 3.0,
            "std": math.sqrt(2.5),
            "p50": 3.0,
            "p90": 4.6,
            "p95": 4.8,
            "p99": 4.96,
            "min": 1.0,
            "max": 5.0,
        }
    )


def test_one_sample_has_no_deviation() -> None:
    summary = summarize(np.array([7.0]))
    assert math.isnan(summary.std)
    assert (summary.count, summary.p50, summary.p99) == (1, 7.0, 7.0)


@pytest.mark.parametrize(
    ("samples_ms", "message"),
    [
        ([], r"needs 1 or more in one row, got shape \(0,\)"),
        ([[1.0]], r"in one row, got shape \(1, 1\)"),
        ([1.0, math.nan], r"samples\[1\]: must be finite, got nan"),
    ],
)
def test_samples_that_cannot_be_summarized_are_named(samples_ms: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarize(samples_ms)


def test_an_interval_holds_the_true_percentile_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(100):
        interval = percentile_interval(rng.normal(10.0, 1.0, size=80), 50, num_resamples=300, seed=seed)
        assert interval.low <= interval.estimate <= interval.high
        hits += interval.low <= 10.0 <= interval.high
    assert 88 <= hits <= 99


def test_an_interval_is_the_same_for_the_same_seed_and_a_point_for_equal_samples() -> None:
    samples_ms = np.random.default_rng(0).normal(10.0, 1.0, size=50)
    assert percentile_interval(samples_ms, 95, seed=3) == percentile_interval(samples_ms, 95, seed=3)
    constant = percentile_interval([2.0, 2.0, 2.0], 95)
    assert (constant.low, constant.estimate, constant.high, constant.confidence) == (2.0, 2.0, 2.0, 0.95)


def test_arguments_of_an_interval_are_checked() -> None:
    with pytest.raises(ValueError, match="needs 2 or more"):
        percentile_interval([1.0], 50)
    with pytest.raises(ValueError, match="percentile: must be 0 to 100, got 101"):
        percentile_interval([1.0, 2.0], 101)
    with pytest.raises(ValueError, match="confidence: must be above 0 and below 1, got 95"):
        percentile_interval([1.0, 2.0], 50, confidence=95)


def test_the_noise_floor_of_hand_counted_series() -> None:
    floor = aa_noise_floor([9.0, 10.0, 11.0], [10.0, 12.0, 14.0])
    assert floor.median_difference_fraction == pytest.approx(2.0 / 11.0)
    assert floor.variation_fraction == pytest.approx(math.sqrt((0.1**2 + (2 / 12) ** 2) / 2))
    assert aa_noise_floor([1.0, 1.0], [1.0, 1.0]).median_difference_fraction == 0.0


def test_a_noise_floor_needs_times() -> None:
    with pytest.raises(ValueError, match="needs 2 or more"):
        aa_noise_floor([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="relative noise needs times above 0 ms"):
        aa_noise_floor([0.0, 0.0], [0.0, 0.0])
