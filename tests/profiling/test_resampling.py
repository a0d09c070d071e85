import numpy as np
import pytest

from profiling.resampling import (
    NUM_RESAMPLINGS,
    Interval,
    cluster_means,
    mean_intervals,
    percentile_interval,
    resampled_means,
)


def test_an_interval_is_as_wide_as_the_normal_law_says() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, size=(400, 1))
    (interval,) = mean_intervals(values, seed=0)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draws = np.random.default_rng(1).normal(size=(60, 300))
    held = [interval.low <= 0 <= interval.high for interval in mean_intervals(draws, seed=1)]
    assert 0.89 <= np.mean(held) <= 0.99


def test_all_columns_are_drawn_alike() -> None:
    column = np.random.default_rng(2).normal(size=50)
    draws = resampled_means(np.stack([column, 2 * column + 1], axis=1), seed=3)
    assert draws.shape == (NUM_RESAMPLINGS, 2)
    assert np.allclose(draws[:, 1], 2 * draws[:, 0] + 1)


def test_what_is_undefined_has_no_interval() -> None:
    assert percentile_interval(float("nan"), np.ones(3)) is None
    assert percentile_interval(1.0, np.full(3, np.nan)) is None
    assert percentile_interval(1.0, np.array([np.nan, 1.0])) == Interval(value=1.0, low=1.0, high=1.0)
    with pytest.raises(ValueError, match="needs at least one sample"):
        resampled_means(np.empty((0, 2)), seed=0)


def test_an_interval_reads_as_a_number_with_its_ends() -> None:
    assert str(Interval(value=0.5, low=-0.25, high=1.0)) == "0.500 [-0.250, 1.000]"
    assert Interval(value=0.5, low=-0.25, high=1.0).signed() == "+0.500 [-0.250, +1.000]"


def test_draws_in_parts_are_those_of_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=(30, 2))
    whole = resampled_means(values, seed=5, num_resamplings=100)
    assert whole.shape == (100, 2)
    monkeypatch.setattr("profiling.resampling._MOST_COUNTS", 30 * 7)
    np.testing.assert_allclose(resampled_means(values, seed=5, num_resamplings=100), whole, rtol=1e-12)


def test_samples_of_a_cluster_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(50), 4)
    values = rng.normal(size=50)[cluster][:, None]
    together = cluster_means(values, cluster.astype(str).tolist(), seed=0)
    apart = cluster_means(values, [str(place) for place in range(200)], seed=0)
    assert together.shape == (2000, 1)
    assert together.std() == pytest.approx(values[::4].std() / np.sqrt(50), rel=0.1)
    assert apart.std() == pytest.approx(together.std() / 2, rel=0.1)


def test_clusters_of_many_samples_weigh_more() -> None:
    draws = cluster_means(np.asarray([[1.0], [0.0], [0.0], [0.0]]), list("abbb"), seed=0)
    assert {round(float(value), 3) for value in draws[:, 0]} == {0.0, 0.25, 1.0}
