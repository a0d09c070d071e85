import math

import pytest
import torch
from torch import Tensor

from models.latency_estimator import (
    TARGETS,
    LatencyEstimator,
    conformal_offset,
    interval_pairs,
    log_base,
    pinball_loss,
)
from models.latency_terms import COMPONENTS, FEATURES, TERMS, ModelShape

GROWS = {
    "vision_encoder": ["num_crops"],
    "prefill": ["vision_tokens", "text_tokens", "top_k", "num_active_blocks"],
    "decode_per_token": ["vision_tokens", "text_tokens", "top_k", "num_active_blocks"],
}


def _estimator(num_devices: int = 2) -> LatencyEstimator:
    names = [f"device {i}" for i in range(num_devices)]
    estimator = LatencyEstimator(names, [ModelShape().to_mapping()] * num_devices)
    # Far from the start, where nothing could go wrong yet.
    with torch.no_grad():
        for parameter in estimator.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return estimator


def _requests(num_rows: int) -> Tensor:
    low = torch.tensor([1.0, 100, 10, 4, 8, 1])
    high = torch.tensor([13.0, 1600, 600, 12, 16, 64])
    return (low + (high - low) * torch.rand(num_rows, len(FEATURES))).round()


def test_medians_never_fall_when_work_grows() -> None:
    estimator = _estimator()
    features = _requests(400)
    device = torch.arange(400) % 2
    before = estimator.quantiles_ms(features, device)[..., estimator.median_index]
    for component, names in GROWS.items():
        for name in names:
            more = features.clone()
            more[:, FEATURES.index(name)] += torch.randint(1, 50, (400,))
            after = estimator.quantiles_ms(more, device)[..., estimator.median_index]
            c = COMPONENTS.index(component)
            assert (after[:, c] >= before[:, c] * (1 - 1e-5)).all(), (component, name)


def test_quantiles_ascend_even_after_offsets_that_would_swap_them() -> None:
    estimator = _estimator()
    estimator.log_offset.normal_(0, 0.5)
    quantiles = estimator.quantiles_ms(_requests(200), torch.arange(200) % 2)
    assert quantiles.shape == (200, len(TARGETS), 6)
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_the_total_adds_decode_for_all_tokens_but_the_first() -> None:
    estimator = _estimator(1)
    features = _requests(1)
    features[0, FEATURES.index("output_tokens")] = 11
    vision, projector, prefill, decode, total = estimator.quantiles_ms(features, torch.tensor([0]))[0]
    torch.testing.assert_close(total, vision + projector + prefill + 10 * decode)


def test_a_request_without_an_image_pays_for_no_vision() -> None:
    features = _requests(1)
    features[0, :2] = 0
    estimator = _estimator(1)
    estimator.log_offset[..., -1] = math.inf
    quantiles = estimator.quantiles_ms(features, torch.tensor([0]))[0]
    assert (quantiles[:2] == 0).all()
    assert (quantiles[2:] > 0).all()


def test_the_base_goes_from_the_sum_to_the_longer_of_host_and_device() -> None:
    terms = torch.zeros(len(TERMS))
    terms[TERMS.index("fixed")], terms[TERMS.index("dense_flops")] = 3.0, 4.0
    coefficient = torch.zeros(len(TERMS))
    assert float(log_base(terms, coefficient, torch.tensor(-30.0)).exp()) == pytest.approx(7.0, rel=1e-4)
    assert float(log_base(terms, coefficient, torch.tensor(math.log(math.e - 1))).exp()) == pytest.approx(5.0, rel=1e-4)
    assert float(log_base(terms, coefficient, torch.tensor(30.0)).exp()) == pytest.approx(4.0, rel=1e-4)


def test_first_coefficients_are_where_the_base_starts() -> None:
    coefficients = [[[float(t + 1) for t in range(len(TERMS))] for _ in COMPONENTS]]
    estimator = LatencyEstimator(["a"], [ModelShape().to_mapping()], coefficients=coefficients)
    torch.testing.assert_close(estimator.log_coefficient.exp(), torch.tensor(coefficients))


def test_pinball_loss_weighs_the_two_sides_by_the_level() -> None:
    loss = pinball_loss(torch.tensor([2.0, -2.0]), torch.tensor(0.9))
    torch.testing.assert_close(loss, torch.tensor([1.8, 0.2]))


def test_conformal_offsets_are_order_statistics() -> None:
    error = torch.arange(1.0, 100.0)
    # Rank ceil(100 x 0.9) = 90 of 99 from below, rank floor(100 x 0.025) = 2.
    assert conformal_offset(error, 0.9) == 90
    assert conformal_offset(error, 0.025) == 2
    assert conformal_offset(error, 0.5) == 50


def test_too_few_rows_promise_nothing() -> None:
    assert conformal_offset(torch.zeros(98), 0.99) == math.inf
    assert conformal_offset(torch.zeros(38), 0.025) == -math.inf


def test_conformal_quantiles_cover_new_data_however_wrong_the_network_is() -> None:
    generator = torch.Generator().manual_seed(0)
    wrong_by = 0.3 * torch.randn(20_000, generator=generator) + 0.7
    calibration, fresh = wrong_by[:2000], wrong_by[2000:]
    low, high = conformal_offset(calibration, 0.025), conformal_offset(calibration, 0.975)
    covered = ((fresh >= low) & (fresh <= high)).float().mean()
    assert float(covered) == pytest.approx(0.95, abs=0.015)


def test_conformalizing_leaves_a_target_that_was_never_measured() -> None:
    estimator = _estimator(1)
    features = _requests(60)
    quantiles = estimator.uncalibrated_ms(features, torch.zeros(60, dtype=torch.int64))
    target = quantiles[..., estimator.median_index] * 2
    target[:, 1] = torch.nan
    estimator.conformalize(0, quantiles, target)
    torch.testing.assert_close(estimator.log_offset[0, 0, 1], torch.tensor(2.0).log())
    assert (estimator.log_offset[0, 1] == 0).all()


def test_levels_that_sum_to_one_are_paired() -> None:
    assert interval_pairs([0.025, 0.05, 0.5, 0.9, 0.95, 0.975]) == [(0, 5), (1, 4)]


@pytest.mark.parametrize("levels", [[0.9, 0.5], [0.1, 0.9], [0.0, 0.5], [0.5, 1.0]])
def test_wrong_levels_are_refused(levels: list[float]) -> None:
    with pytest.raises(ValueError, match=r"quantiles: must ascend within \(0, 1\) and include 0.5"):
        LatencyEstimator(["a"], [ModelShape().to_mapping()], quantiles=levels)


def test_every_device_needs_a_shape() -> None:
    with pytest.raises(ValueError, match="got 2 devices and 1 shapes"):
        LatencyEstimator(["a", "b"], [ModelShape().to_mapping()])


def test_negative_coefficients_are_refused() -> None:
    coefficients = [[[-1.0] * len(TERMS) for _ in COMPONENTS]]
    with pytest.raises(ValueError, match="must be non-negative numbers of shape"):
        LatencyEstimator(["a"], [ModelShape().to_mapping()], coefficients=coefficients)
