from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.config import MolmoConfig, released_config
from models.cost import Cost, component_costs, expected_experts, floor_ms, itemised_costs
from models.experts import Experts
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from models.stages import TOTAL, observe
from tests.helpers import VARIANTS, golden_inputs
from tests.small_models import golden_model, setting_of, tiny_inputs, tiny_molmo


class FlopsByStage:
    """Count the operations of each stage as torch's own counter does."""

    def __init__(self) -> None:
        self.flops: dict[str, int] = {}
        self._counter = FlopCounterMode(display=False)

    def begin(self, name: str) -> None:
        if name != TOTAL:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def end(self, name: str) -> None:
        if name != TOTAL:
            self._counter.__exit__(None, None, None)
            self.flops[name] = self._counter.get_total_flops()


def counted_flops(model: Molmo, inputs: ModelInputs, setting: KnobSetting, output_tokens: int) -> dict[str, int]:
    observer = FlopsByStage()
    # The counter knows neither the CPU's fused attention nor products in groups, but those that they stand for.
    one_by_one = patch.object(Experts, "_can_group", return_value=False)
    with sdpa_kernel(SDPBackend.MATH), one_by_one, observe(observer):
        generate(model, inputs, setting=setting, max_new_tokens=output_tokens)
    return observer.flops


def costs_of(
    config: MolmoConfig, inputs: ModelInputs, setting: KnobSetting, output_tokens: int, *, dtype_bytes: int = 4
) -> dict[str, Cost]:
    vision_tokens = int(inputs.num_vision_tokens.item())
    return component_costs(
        config,
        num_crops=int(inputs.num_crops.item()),
        vision_tokens=vision_tokens,
        text_tokens=int(inputs.num_tokens.item()) - vision_tokens,
        output_tokens=output_tokens,
        top_k=setting.top_k,
        num_active_blocks=setting.num_active_blocks,
        dtype_bytes=dtype_bytes,
    )


@pytest.mark.parametrize("output_tokens", [1, 2, 7])
@pytest.mark.parametrize("blocks", [(0, 1, 2, 3), (1, 3), (2,)])
@pytest.mark.parametrize(
    ("variant", "case", "top_k"),
    [("moe", "img_landscape", 3), ("moe", "img_tiny", 1), ("moe", "text_only", 8), ("dense", "img_square", 0)],
)
def test_flops_equal_those_that_torch_counts(
    variant: str, case: str, top_k: int, blocks: tuple[int, ...], output_tokens: int
) -> None:
    model, inputs = golden_model(variant), golden_inputs(variant, case)
    setting = setting_of(model, top_k=top_k, blocks=blocks)
    costs = costs_of(model.config, inputs, setting, output_tokens)
    for component, flops in counted_flops(model, inputs, setting, output_tokens).items():
        assert costs[component].flops == flops, component


def test_flops_equal_those_that_torch_counts_on_an_odd_grid_of_patches() -> None:
    model = tiny_molmo(num_kv_heads=2, qkv_bias=True)
    inputs = tiny_inputs(model.config)
    costs = costs_of(model.config, inputs, model.full_setting, 4)
    for component, flops in counted_flops(model, inputs, model.full_setting, 4).items():
        assert costs[component].flops == flops, component


def test_a_request_without_image_costs_nothing_before_prefill() -> None:
    model = golden_model("moe")
    costs = costs_of(model.config, golden_inputs("moe", "text_only"), model.full_setting, 3)
    assert costs["vision_encoder"] == costs["projector"] == Cost()


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_are_all_parameters_that_a_component_reads(variant: str) -> None:
    model = golden_model(variant)
    # With every expert chosen, every expert is visited.
    setting = setting_of(model, top_k=model.config.num_experts)
    costs = costs_of(model.config, golden_inputs(variant, "img_tiny"), setting, 2)

    def parameter_bytes(*prefixes: str) -> int:
        return sum(p.nbytes for name, p in model.named_parameters() if name.startswith(prefixes))

    unread = tuple(
        f"vision_encoder.blocks.{i}."
        for i in range(max(model.vision_encoder.read_blocks) + 1, model.config.vision.num_blocks)
    )
    language = parameter_bytes("language_model") - parameter_bytes("language_model.embedding")
    assert costs["vision_encoder"].weight_bytes == parameter_bytes("vision_encoder") - parameter_bytes(*unread)
    assert costs["projector"].weight_bytes == parameter_bytes("connector")
    assert costs["prefill"].weight_bytes == language
    assert costs["decode"].weight_bytes == language


def test_cache_traffic_is_the_context_of_every_step() -> None:
    model = tiny_molmo(num_kv_heads=2)
    inputs = tiny_inputs(model.config, num_words=4)
    prompt = int(inputs.num_tokens.item())
    costs = costs_of(model.config, inputs, model.full_setting, 4, dtype_bytes=2)
    bytes_per_token = 2 * 2 * 16 * 2  # blocks, keys and values, two heads of 8, two bytes
    contexts = [prompt + 1, prompt + 2, prompt + 3]
    assert costs["decode"].kv_bytes == bytes_per_token * sum(context + 1 for context in contexts)
    assert costs["prefill"].kv_bytes == bytes_per_token * 2 * prompt


def test_terms_add_up_to_components() -> None:
    request = {"num_crops": 3, "vision_tokens": 256, "text_tokens": 40, "output_tokens": 9}
    config = released_config("molmoe-1b-0924")
    costs = component_costs(config, **request, top_k=6, num_active_blocks=10)
    for component, terms in itemised_costs(config, **request, top_k=6, num_active_blocks=10).items():
        assert sum(float(cost.num_bytes) for cost in terms.values()) == pytest.approx(costs[component].num_bytes)
        assert sum(float(cost.flops) for cost in terms.values()) == costs[component].flops
    assert costs["decode"].flops == 8 * costs["decode_per_token"].flops


def test_arrays_of_requests_cost_what_each_costs_alone() -> None:
    config = released_config("molmoe-1b-0924")
    requests = np.array([[0, 0, 20, 1, 4, 8], [3, 256, 40, 9, 8, 12], [13, 1344, 600, 64, 12, 16]], dtype=float)

    def costs(numbers: NDArray[np.float64]) -> dict[str, Cost]:
        return component_costs(
            config,
            num_crops=numbers[..., 0],
            vision_tokens=numbers[..., 1],
            text_tokens=numbers[..., 2],
            output_tokens=numbers[..., 3],
            top_k=numbers[..., 4],
            num_active_blocks=numbers[..., 5],
        )

    together = costs(requests)
    for row, request in enumerate(requests):
        alone = costs(request)
        for component, cost in together.items():
            for field in ("flops", "weight_bytes", "activation_bytes", "kv_bytes"):
                values = np.broadcast_to(getattr(cost, field), 3)
                assert values[row] == pytest.approx(getattr(alone[component], field)), (component, field)


def test_expected_experts_of_hand_computed_cases() -> None:
    assert expected_experts(8, top_k=2, num_tokens=1) == pytest.approx(2)
    assert expected_experts(8, top_k=2, num_tokens=2) == pytest.approx(8 * (1 - 0.75**2))
    assert expected_experts(8, top_k=8, num_tokens=5) == pytest.approx(8)
    assert expected_experts(8, top_k=2, num_tokens=1000) == pytest.approx(8)
    assert expected_experts(8, top_k=2, num_tokens=1000, evenness=0.0) == pytest.approx(2)
    assert expected_experts(8, top_k=2, num_tokens=1000, evenness=0.5) == pytest.approx(5)


def test_expected_experts_match_random_choices() -> None:
    chosen = torch.rand(400, 10, 16).argsort(dim=-1)[..., :3]
    visited = torch.zeros(400, 16).scatter_(1, chosen.flatten(1), 1.0).sum(dim=1)
    assert visited.mean().item() == pytest.approx(expected_experts(16, top_k=3, num_tokens=10), rel=0.01)


def test_decode_reads_only_the_chosen_experts() -> None:
    config = released_config("molmoe-1b-0924")
    request = {"num_crops": 0, "vision_tokens": 0, "text_tokens": 10, "output_tokens": 2, "num_active_blocks": 16}
    terms = [itemised_costs(config, **request, top_k=top_k)["decode_per_token"]["experts"] for top_k in (4, 12)]
    assert [term.weight_bytes for term in terms] == pytest.approx([16 * k * 3 * 2048 * 1024 * 2 for k in (4, 12)])


def test_floor_is_the_slower_of_arithmetic_and_memory() -> None:
    cost = Cost(flops=2e12, weight_bytes=1e9, activation_bytes=2e9, kv_bytes=1e9)
    assert floor_ms(cost, peak_flops_per_s=1e15, bandwidth_bytes_per_s=4e12) == pytest.approx(2.0)
    assert floor_ms(cost, peak_flops_per_s=1e15, bandwidth_bytes_per_s=1e12) == pytest.approx(4.0)
