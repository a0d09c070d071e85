"""A fused prefill, by Triton's interpreter where there is no GPU, against the plain modules."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from models.engine.eager import allocate_cache, prefill
from models.engine.fused_decode import Workspace
from models.engine.fused_prefill import FusedPrefill
from models.engine.recording import Call, Record
from models.inputs import ModelInputs
from models.knobs import ExpertCounts, KnobSetting
from models.molmo import Molmo
from tests.engine_models import DEVICE, HALF_TYPES, broken_mixture, mixture, prompt
from tests.helpers import golden_inputs
from tests.small_models import setting_of, tiny_inputs, tiny_molmo

PADDING = 8


@torch.inference_mode()
def plain(model: Molmo, inputs: ModelInputs, setting: KnobSetting) -> tuple[torch.Tensor, torch.Tensor]:
    """Prefill through the modules: last logits, and the cache."""
    cache = allocate_cache(model, setting, batch_size=1, capacity=inputs.input_ids.shape[1])
    x = model.embed(inputs, model.encode_images(inputs))
    return prefill(model, inputs, x, setting, cache), cache.memory


@torch.inference_mode()
def fused(
    model: Molmo, inputs: ModelInputs, setting: KnobSetting, fused_prefill: FusedPrefill | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    length = inputs.input_ids.shape[1]
    fused_prefill = fused_prefill or make_prefill(model, capacity=length + 3)
    logits = fused_prefill.run(model.embed(inputs, model.encode_images(inputs))[0], setting, inputs.is_vision[0])
    return logits, fused_prefill.workspace.cache[list(setting.active_blocks), ..., :length, :]


def make_prefill(model: Molmo, *, capacity: int, record: Record = lambda call: call) -> FusedPrefill:
    return FusedPrefill(model, Workspace.allocate(model, capacity=capacity), record, multiple=PADDING)


def assert_as_the_modules(model: Molmo, inputs: ModelInputs, setting: KnobSetting) -> None:
    for ours, theirs in zip(fused(model, inputs, setting), plain(model, inputs, setting), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("top_k", "blocks"), [(1, (0,)), (2, (0, 2, 3)), (3, (0, 1, 2, 3)), (5, (0, 3)), (8, (1, 2)), (7, (0, 1, 2, 3))]
)
def test_every_setting_gives_the_logits_and_the_cache_of_the_modules(top_k: int, blocks: tuple[int, ...]) -> None:
    model = mixture()
    assert_as_the_modules(model, prompt(11), setting_of(model, top_k=top_k, blocks=blocks))


def test_a_picture_is_read_as_by_the_modules() -> None:
    model = mixture()
    assert_as_the_modules(model, golden_inputs("moe", "img_tiny").to(DEVICE), setting_of(model, blocks=(0, 2)))


@pytest.mark.parametrize("matches", [False, True])
def test_vision_tokens_and_blocks_may_have_experts_of_their_own(*, matches: bool) -> None:
    model = tiny_molmo(num_experts=8, top_k=3, num_blocks=3, qk_norm=True, match_router_mass=matches).to(DEVICE)
    inputs = tiny_inputs(model.config).to(DEVICE)
    assert_as_the_modules(model, inputs, setting_of(model, experts=ExpertCounts(text=(1, 7, 4), vision=(5, 2, 4))))


def test_one_token_is_a_prompt_too() -> None:
    model = mixture()
    assert_as_the_modules(model, prompt(1), model.full_setting)


def test_what_an_earlier_request_left_behind_the_prompt_is_not_read() -> None:
    model = mixture()
    shared = make_prefill(model, capacity=24)
    shared.workspace.prompt.fill_(torch.nan)
    shared.workspace.cache.fill_(torch.nan)
    setting = setting_of(model, top_k=3, blocks=(0, 2))
    for num_tokens in (19, 5, 11):
        ours, _ = fused(model, prompt(num_tokens), setting, shared)
        theirs, _ = plain(model, prompt(num_tokens), setting)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_blocks_are_recorded_once_for_each_top_k_and_padded_length() -> None:
    model, recorded = mixture(), []

    def record(call: Call) -> Call:
        recorded.append(call)
        return call

    shared = make_prefill(model, capacity=40, record=record)
    fused(model, prompt(5), setting_of(model, top_k=2, blocks=(0, 2)), shared)
    assert len(recorded) == 2
    fused(model, prompt(8), setting_of(model, top_k=2, blocks=(0, 1, 2)), shared)
    assert len(recorded) == 3  # block 1; the others met this length before
    fused(model, prompt(9), setting_of(model, top_k=2, blocks=(0,)), shared)
    assert len(recorded) == 4  # 9 tokens are padded to 16
    shared.warm_up(setting_of(model, top_k=2, blocks=(0,)))
    assert len(recorded) == 4 + 3  # 24, 32 and 40 tokens


def test_recording_outside_of_inference_mode_keeps_no_history_for_gradients() -> None:
    model = mixture()
    assert model.language_model.head.weight.requires_grad

    def run_and_keep(call: Call) -> Call:
        call()
        return call

    shared = make_prefill(model, capacity=8, record=run_and_keep)
    shared.warm_up(setting_of(model, blocks=(0,)))
    assert not shared.workspace.prompt.requires_grad


@pytest.mark.parametrize("top_k", [2, 3, 6])
def test_the_mass_of_the_trained_top_k_is_matched(top_k: int) -> None:
    original = mixture()
    model = Molmo(replace(original.config, match_router_mass=True)).eval()
    model.load_state_dict(original.state_dict())
    assert_as_the_modules(model.to(DEVICE), prompt(7), setting_of(model, top_k=top_k, blocks=(0, 1)))


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_half_precision_is_as_near_to_float32_as_the_modules_are(dtype: torch.dtype) -> None:
    exact = mixture()
    half = deepcopy(exact).to(dtype)
    inputs = prompt(12)
    truth, _ = plain(exact, inputs, exact.full_setting)
    errors = [(run(half, inputs, half.full_setting)[0].float() - truth).norm() / truth.norm() for run in (fused, plain)]
    assert 0 < errors[0] < 1.5 * errors[1] < 0.05


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of the interpreter
def test_what_is_no_number_stays_inside_the_memory() -> None:
    model = broken_mixture(1)
    logits, cache = fused(model, prompt(7), setting_of(model, blocks=(0, 1, 2)))
    assert logits.isnan().all()
    assert cache[:2].isfinite().all()  # what the blocks before it left
    assert cache[2].isnan().all()
