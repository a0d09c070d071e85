import numpy as np
import pytest
import torch

from models.latency_estimator import LatencyRows
from models.latency_terms import ModelShape
from profiling.latency_rows import latency_rows
from profiling.prediction_errors import (
    ESTIMATOR,
    Predictions,
    baseline_predictions,
    compact_table,
    error_summary,
    error_table,
    markdown,
    total_ms,
    typical_runs,
)
from tests.profile_law import profile_table


def _predictions() -> Predictions:
    rows = latency_rows(profile_table(num_images=6))
    rows = rows._replace(group=torch.zeros_like(rows.group))
    truth = rows.target_ms.double().numpy()
    return Predictions(
        rows=rows,
        median_ms={ESTIMATOR: truth * 1.01, "worse": truth * 1.1},
        interval_ms=np.stack([truth * 0.9, truth * 1.2], axis=-1),
        levels=(0.025, 0.975),
    )


def test_errors_equal_those_computed_by_hand() -> None:
    summary = error_summary(np.array([1.0, 3.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    assert summary["mae_ms"] == 1
    assert summary["rmse_ms"] == pytest.approx((5 / 3) ** 0.5)
    assert summary["mape"] == pytest.approx((0.5 + 0.5) / 3)
    assert summary["r2"] == pytest.approx(1 - 5 / (14 / 3))
    assert summary["p95_error_ms"] == pytest.approx(1.9)


def test_the_total_counts_decode_steps_and_leaves_out_vision_without_an_image() -> None:
    features = np.array([[2.0, 288, 10, 8, 16, 5], [0.0, 0, 10, 8, 16, 1]])
    component_ms = np.array([[4.0, 1, 10, 2], [4.0, 1, 10, 2]])
    np.testing.assert_allclose(total_ms(component_ms, features), [4 + 1 + 10 + 2 * 4, 10])


def test_the_table_marks_the_best_predictor_of_each_target() -> None:
    errors = error_table(_predictions(), ["synthetic"])
    assert set(errors.loc[errors["is_best"], "predictor"]) == {ESTIMATOR}
    own = errors[errors["predictor"] == ESTIMATOR]
    assert (own["coverage"] == 1).all()
    np.testing.assert_allclose(own["mape"], 0.01, rtol=1e-5)
    assert set(errors["group"]) == {"held_out_images"}


def test_the_compact_table_shows_every_predictor_on_one_line() -> None:
    compact = compact_table(error_table(_predictions(), ["synthetic"]))
    assert len(compact) == 5
    assert compact["worse"].tolist() == ["10.00"] * 5
    header, rule, *lines = markdown(compact).splitlines()
    assert "| estimator | worse | best |" in header
    assert rule.count("---") == len(compact.columns)
    assert len(lines) == 5


def _three_runs_of_one_request() -> LatencyRows:
    rows = latency_rows(profile_table(num_images=1))
    rows = LatencyRows(*(column[[0, 0, 0, 1]] for column in rows))
    prefill_ms = torch.tensor([8.0, 10.0, 20.0, 5.0])
    target_ms = rows.target_ms.clone()
    target_ms[:, 2] = prefill_ms
    return rows._replace(target_ms=target_ms, group=torch.zeros_like(rows.group))


def test_a_typical_run_is_the_median_of_those_that_measured_the_same() -> None:
    typical_ms, is_first = typical_runs(_three_runs_of_one_request())
    assert typical_ms[:, 2].tolist() == [10, 10, 10, 5]
    assert is_first.tolist() == [True, False, False, True]


def test_noise_is_told_apart_from_error() -> None:
    rows = _three_runs_of_one_request()
    typical_ms, _ = typical_runs(rows)
    predictions = Predictions(
        rows=rows,
        median_ms={ESTIMATOR: typical_ms},
        interval_ms=np.stack([typical_ms, typical_ms], axis=-1),
        levels=(0.025, 0.975),
    )
    errors = error_table(predictions, ["synthetic"]).set_index("target")
    assert errors.loc["prefill", "noise"] == pytest.approx((2 / 8 + 0 + 10 / 20 + 0) / 4)
    assert errors.loc["prefill", "typical_mape"] == 0
    assert errors.loc["prefill", "mape"] == pytest.approx(errors.loc["prefill", "noise"])


def test_baselines_are_fitted_for_each_device_by_itself() -> None:
    fast = latency_rows(profile_table(num_images=20))
    slow = latency_rows(profile_table(num_images=20, slowdown=50))._replace(device=torch.ones(400, dtype=torch.int64))
    both = LatencyRows(*(torch.cat(pair) for pair in zip(fast, slow, strict=True)))
    predicted = baseline_predictions(both, both, [ModelShape().to_mapping()] * 2)
    truth = both.target_ms.double().numpy()
    for name in ("nnls", "boosting"):
        assert np.nanmean(np.abs(predicted[name] - truth) / truth) < 0.04
