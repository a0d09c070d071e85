"""The fused vision encoder, by Triton's interpreter where there is no GPU, against the module."""

from copy import deepcopy

import pytest
import torch

from models.engine.fused_vision import FusedVision
from tests.engine_models import DEVICE, HALF_TYPES, mixture
from tests.small_models import tiny_molmo


@torch.inference_mode()
@pytest.mark.parametrize("num_crops", [1, 3])
def test_features_are_those_of_the_module(num_crops: int) -> None:
    encoder = tiny_molmo().to(DEVICE).vision_encoder
    crops = torch.randn(num_crops, 15, 48, device=DEVICE)
    torch.testing.assert_close(FusedVision(encoder)(crops), encoder(crops), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_last_block_of_all_may_be_read() -> None:
    encoder = tiny_molmo(vit_layers=(-1, -3)).to(DEVICE).vision_encoder
    crops = torch.randn(2, 15, 48, device=DEVICE)
    torch.testing.assert_close(FusedVision(encoder)(crops), encoder(crops), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_half_precision_is_as_near_to_float32_as_the_module_is(dtype: torch.dtype) -> None:
    exact = mixture().vision_encoder
    half = deepcopy(exact).to(dtype)
    crops = torch.randn(1, 144, 75, device=DEVICE)
    truth = exact(crops)
    errors = [(encode(crops).float() - truth).norm() / truth.norm() for encode in (FusedVision(half), half)]
    assert 0 < errors[0] < 1.2 * errors[1] < 0.05
