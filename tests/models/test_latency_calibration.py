import pytest
import torch

from models.latency_calibration import calibrate_device
from models.latency_estimator import LatencyEstimator, LatencyRows
from models.latency_terms import ModelShape
from profiling.latency_rows import base_coefficients, latency_rows
from tests.profile_law import profile_table

SHAPE = ModelShape().to_mapping()


def _take(rows: LatencyRows, index: slice) -> LatencyRows:
    return LatencyRows(*(column[index] for column in rows))


def _mape(estimator: LatencyEstimator, rows: LatencyRows) -> torch.Tensor:
    with torch.no_grad():
        median_ms = estimator.quantiles_ms(rows.features, rows.device)[..., estimator.median_index]
    return ((median_ms - rows.target_ms).abs() / rows.target_ms).nanmean(dim=0)


def test_fifty_rows_bring_an_estimator_to_a_forty_times_slower_device() -> None:
    fast = latency_rows(profile_table(num_images=60, noise=0.01))
    slow = latency_rows(profile_table(num_images=60, noise=0.01, slowdown=40, seed=1))
    estimator = LatencyEstimator(["a"], [SHAPE], coefficients=base_coefficients(fast, [SHAPE]))
    order = torch.randperm(len(slow.features), generator=torch.Generator().manual_seed(0))
    slow = LatencyRows(*(column[order] for column in slow))
    few, rest = _take(slow, slice(50)), _take(slow, slice(50, None))
    assert (_mape(estimator, rest) > 0.9).all()
    fitted = torch.tensor(base_coefficients(few, [SHAPE])[0])
    calibrate_device(estimator, 0, few, fitted=fitted, seed=0)
    assert (_mape(estimator, rest) < 0.03).all()
    # Fifty rows can promise 97.5 %, not 99 %.
    upper = estimator.log_offset[0, :, 4:]
    assert upper[:, 0].isfinite().all()
    assert upper[:, 1].isposinf().all()


def test_fewer_rows_than_folds_are_refused() -> None:
    estimator = LatencyEstimator(["a"], [SHAPE])
    few = _take(latency_rows(profile_table(num_images=4)), slice(4))
    with pytest.raises(ValueError, match="calibration needs at least 5, got 4"):
        calibrate_device(estimator, 0, few, fitted=torch.ones(4, 9), seed=0)
