"""Every kernel of a decode step, by Triton's interpreter where there is no GPU, against the plain modules."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from models.engine.eager import allocate_cache, prefill
from models.engine.fused_decode import FusedDecode, Workspace
from models.engine.tiles import Cut, Tiles
from models.generation import generate
from models.inputs import ModelInputs
from models.knobs import KnobSetting
from models.molmo import Molmo
from tests.engine_models import DEVICE, HALF_TYPES, TILES, broken_mixture, mixture, prompt
from tests.helpers import golden_inputs
from tests.small_models import setting_of


@torch.inference_mode()
def fused_answer(
    model: Molmo,
    inputs: ModelInputs,
    setting: KnobSetting,
    *,
    num_tokens: int = 3,
    workspace: Workspace | None = None,
    tiles: Tiles = TILES,
) -> tuple[list[int], torch.Tensor]:
    """Answer greedily by the kernels: token ids, and the logits that each was chosen from."""
    length = inputs.input_ids.shape[1]
    workspace = workspace or Workspace.allocate(model, capacity=length + num_tokens, tiles=tiles)
    cache = allocate_cache(model, setting, batch_size=1, capacity=length)
    logits = prefill(model, inputs, model.embed(inputs, model.encode_images(inputs)), setting, cache).float()
    workspace.fill(cache, setting.active_blocks)
    workspace.begin(logits, length)
    step = FusedDecode(model, setting, workspace)
    tokens, kept = [int(workspace.token)], [logits]
    for _ in range(num_tokens - 1):
        step.run()
        tokens.append(int(workspace.token))
        kept.append(workspace.logits.clone())
    return tokens, torch.cat(kept)


def assert_as_the_modules(model: Molmo, inputs: ModelInputs, setting: KnobSetting, *, tiles: Tiles = TILES) -> None:
    plain = generate(model, inputs, setting=setting, max_new_tokens=3, keep_logits=True)
    tokens, logits = fused_answer(model, inputs, setting, tiles=tiles)
    assert plain.logits is not None
    assert tokens == plain.token_ids[0].tolist()
    torch.testing.assert_close(logits, plain.logits[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("top_k", "blocks"), [(1, (0,)), (2, (0, 2, 3)), (3, (0, 1, 2, 3)), (5, (0, 3)), (8, (1, 2)), (7, (0, 1, 2, 3))]
)
def test_every_setting_gives_the_tokens_and_logits_of_the_modules(top_k: int, blocks: tuple[int, ...]) -> None:
    model = mixture()
    assert_as_the_modules(model, prompt(), setting_of(model, top_k=top_k, blocks=blocks))


def test_a_picture_is_answered_as_by_the_modules() -> None:
    model = mixture()
    assert_as_the_modules(model, golden_inputs("moe", "img_tiny").to(DEVICE), model.full_setting)


@pytest.mark.parametrize("num_tokens", [1, 7, 8, 16, 33])
@pytest.mark.parametrize("splits", [2, 8])
def test_a_context_of_any_length_is_shared_out_among_splits(num_tokens: int, splits: int) -> None:
    model = mixture()
    tiles = replace(TILES, context_splits=splits, context_tokens=4)
    assert_as_the_modules(model, prompt(num_tokens), setting_of(model, blocks=(0, 2)), tiles=tiles)


def test_rows_that_do_not_divide_a_matrix_are_left_out() -> None:
    model = mixture()
    tiles = replace(TILES, qkv=Cut(128), out=Cut(128), expert_in=Cut(64), head=Cut(128))
    assert_as_the_modules(model, prompt(), setting_of(model, blocks=(0,)), tiles=tiles)


@pytest.mark.parametrize("top_k", [2, 3, 6])
def test_the_mass_of_the_trained_top_k_is_matched(top_k: int) -> None:
    plain = mixture()
    model = Molmo(replace(plain.config, match_router_mass=True)).eval()
    model.load_state_dict(plain.state_dict())
    assert_as_the_modules(model.to(DEVICE), prompt(), setting_of(model, top_k=top_k, blocks=(0, 1)))


def test_requests_of_several_settings_take_turns_on_one_memory() -> None:
    model = mixture()
    workspace = Workspace.allocate(model, capacity=24, tiles=TILES)
    requests = [
        (prompt(15, seed=1), setting_of(model, top_k=3, blocks=(0, 1, 2, 3))),
        (prompt(4, seed=2), setting_of(model, top_k=1, blocks=(0, 3))),
        (prompt(9, seed=3), setting_of(model, top_k=8, blocks=(2,))),
    ]
    alone = [fused_answer(model, inputs, setting) for inputs, setting in requests]
    for turn in (0, 1, 0, 2):
        inputs, setting = requests[turn]
        shared = fused_answer(model, inputs, setting, workspace=workspace)
        assert shared[0] == alone[turn][0]
        assert torch.equal(shared[1], alone[turn][1])


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_half_precision_is_as_near_to_float32_as_the_modules_are(dtype: torch.dtype) -> None:
    exact = mixture()
    half = deepcopy(exact).to(dtype)
    inputs = prompt(12)
    truth = generate(exact, inputs, max_new_tokens=1, keep_logits=True)
    assert truth.logits is not None
    token = truth.token_ids.to(DEVICE)
    longer = ModelInputs(input_ids=torch.cat([inputs.input_ids, token], dim=1))
    with torch.inference_mode():
        expected = exact(longer)[0, -1]
        plain_error = (half(longer)[0, -1].float() - expected).norm() / expected.norm()
        workspace = Workspace.allocate(half, capacity=16, tiles=TILES)
        fused_answer(half, inputs, half.full_setting, num_tokens=1, workspace=workspace)
        workspace.reset()
        workspace.token.copy_(token[0])
        workspace.position.fill_(12)
        FusedDecode(half, half.full_setting, workspace).run()
        fused_error = (workspace.logits[0] - expected).norm() / expected.norm()
    assert 0 < fused_error < 1.2 * plain_error < 0.05


def test_the_first_of_equally_likely_tokens_is_chosen() -> None:
    model = deepcopy(mixture())
    with torch.no_grad():
        model.language_model.head.weight[70:150] = model.language_model.head.weight[70]
        model.language_model.head.weight[70:150] *= 50
        inputs = prompt()
        setting = setting_of(model, blocks=(0,))
        tokens, logits = fused_answer(model, inputs, setting, num_tokens=4)
    for token, row in zip(tokens, logits, strict=True):
        assert token == int((row == row.max()).nonzero()[0])


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # of the interpreter
@pytest.mark.parametrize("top_k", [1, 3])
def test_what_is_no_number_stays_inside_the_memory(top_k: int) -> None:
    model = broken_mixture(1)
    setting = setting_of(model, top_k=top_k, blocks=(0, 1))
    workspace = Workspace.allocate(model, capacity=16, tiles=TILES)
    tokens, logits = fused_answer(model, prompt(), setting, workspace=workspace)
    assert logits[1:].isnan().all()
    assert tokens[1:] == [model.config.embedding_size - 1] * 2
