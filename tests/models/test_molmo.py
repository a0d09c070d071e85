import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.checkpoint import load_molmo
from models.checkpoint_layout import checkpoint_layout
from models.inputs import ModelInputs, collate
from models.knobs import ExpertCounts, KnobSetting
from models.molmo import Molmo, VisionModules, token_positions
from models.stages import observe
from tests.helpers import GOLDEN, IMAGE_CASES, VARIANTS, GoldenCase, golden_case, golden_inputs
from tests.small_models import LOGIT_TOLERANCE, golden_model, setting_of, tiny_inputs, tiny_molmo

Z_LOSS_SCALE = 1e-4


@pytest.mark.parametrize("case", [*IMAGE_CASES, "text_only", "placeholder"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_the_reference(variant: str, case: str) -> None:
    with torch.inference_mode():
        logits = golden_model(variant)(golden_inputs(variant, case))
    torch.testing.assert_close(logits, golden_case(variant, case).tensors["logits"], atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_of_a_padded_batch_equal_the_reference(variant: str) -> None:
    golden = golden_case(variant, "batch")
    inputs = collate([golden_inputs(variant, row) for row in golden.meta["rows"]])
    with torch.inference_mode():
        logits = golden_model(variant)(inputs)
    last16 = torch.stack([row[n - 16 : n] for row, n in zip(logits, inputs.num_tokens.tolist(), strict=True)])
    torch.testing.assert_close(last16, golden.tensors["logits_last16_valid"], atol=LOGIT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_equal_the_reference(variant: str) -> None:
    model = golden_model(variant)
    states: list[Tensor] = []
    blocks = model.language_model.blocks
    hooks = [block.register_forward_hook(lambda _module, _args, out: states.append(out)) for block in blocks]
    hooks.append(blocks[0].register_forward_pre_hook(lambda _module, args: states.append(args[0])))
    hooks.append(model.language_model.norm.register_forward_hook(lambda _module, _args, out: states.append(out)))
    with torch.inference_mode():
        model(golden_inputs(variant, "img_landscape"))
    for hook in hooks:
        hook.remove()
    # The reference keeps the last block's output only behind the final norm.
    ours = torch.cat([*states[:-2], states[-1]])
    theirs = golden_case(variant, "img_landscape").tensors["hidden_states"]
    torch.testing.assert_close(ours, theirs, atol=LOGIT_TOLERANCE, rtol=0)


def training_losses(logits_BSV: Tensor, golden: GoldenCase) -> tuple[Tensor, Tensor]:
    """Cross-entropy and the penalty on the logits' scale, both weighted by the loss mask."""
    mask = golden.tensors["loss_masks"]
    labels = golden.tensors["labels"].where(mask > 0, 0)  # elsewhere stand ids that no logit exists for
    cross_entropy = F.cross_entropy(logits_BSV.flatten(0, 1), labels.flatten(), reduction="none")
    z_squared = logits_BSV.logsumexp(dim=-1).square()
    total = mask.sum()
    return (cross_entropy * mask.flatten()).sum() / total, Z_LOSS_SCALE * (z_squared * mask).sum() / total


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_all_gradients_equal_the_reference(variant: str) -> None:
    golden = golden_case(variant, "train_multiturn")
    model = load_molmo(str(GOLDEN / variant))
    logits = model(golden_inputs(variant, "train_multiturn"), positions=golden.tensors["position_ids"])
    cross_entropy, z_loss = training_losses(logits, golden)
    torch.testing.assert_close(cross_entropy, golden.tensors["ce_loss"][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(z_loss, golden.tensors["z_loss"][0], atol=1e-6, rtol=1e-4)
    (cross_entropy + z_loss).backward()
    parameters = dict(model.named_parameters())
    norms: dict[str, float] = {}
    for piece in checkpoint_layout(model.config):
        gradient = parameters[piece.parameter].grad
        norms[piece.key] = 0.0 if gradient is None else float(gradient[piece.part].norm())
    assert norms == pytest.approx(golden.meta["grad_l2_norm"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_several_answers_to_one_image_equal_the_reference(variant: str) -> None:
    golden = golden_case(variant, "train_multiannotation")
    segment = golden.tensors["subsegment_ids"]
    length = segment.shape[1]
    # A token sees those before it that belong to its own answer or to what all answers share.
    mask = torch.ones(length, length, dtype=torch.bool).tril() & (segment[:, :, None] <= segment[:, None, :])
    with torch.inference_mode():
        logits = golden_model(variant)(
            golden_inputs(variant, "train_multiannotation"), positions=golden.tensors["position_ids"], mask=mask
        )
    torch.testing.assert_close(logits, golden.tensors["logits"], atol=LOGIT_TOLERANCE, rtol=0)
    cross_entropy, z_loss = training_losses(logits, golden)
    torch.testing.assert_close(cross_entropy, golden.tensors["ce_loss"][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(z_loss, golden.tensors["z_loss"][0], atol=1e-6, rtol=1e-4)


def plain_logits(model: Molmo, inputs: ModelInputs) -> Tensor:
    """Run every block one after another, knowing nothing of settings."""
    language_model = model.language_model
    positions = torch.arange(inputs.input_ids.shape[1])[None]
    hidden = language_model(
        model.embed(inputs, model.encode_images(inputs)),
        positions,
        active_blocks=range(len(language_model.blocks)),
        top_k=model.config.top_k,
    )
    logits: Tensor = language_model.head(hidden)
    return logits


@pytest.mark.parametrize("match_router_mass", [False, True])
@pytest.mark.parametrize("num_experts", [0, 4])
def test_the_full_setting_is_the_plain_model_bit_for_bit(num_experts: int, match_router_mass: bool) -> None:
    model = tiny_molmo(num_experts=num_experts, top_k=min(num_experts, 2), match_router_mass=match_router_mass)
    inputs = tiny_inputs(model.config)
    with torch.inference_mode():
        expected = plain_logits(model, inputs)
        assert torch.equal(model(inputs), expected)
        assert torch.equal(model(inputs, setting=model.full_setting), expected)


def test_a_uniform_meaning_of_top_k_is_the_plain_number_bit_for_bit() -> None:
    model = tiny_molmo(num_experts=4, top_k=2)
    inputs = tiny_inputs(model.config)
    uniform = replace(model.full_setting, top_k=4, experts=ExpertCounts.uniform(2, 2))
    with torch.inference_mode():
        assert torch.equal(model(inputs, setting=uniform), model(inputs))


def test_vision_tokens_and_blocks_may_have_experts_of_their_own() -> None:
    """A block whose vision tokens have other experts changes those tokens and what comes after them, nothing before."""
    model = tiny_molmo(num_experts=4, top_k=2)
    inputs = tiny_inputs(model.config)
    first = int(inputs.is_vision[0].int().argmax())
    with torch.inference_mode():
        plain = model(inputs)
        for experts in (
            ExpertCounts(text=(2, 2), vision=(1, 2)),
            ExpertCounts(text=(2, 2), vision=(2, 4)),
        ):
            other = model(inputs, setting=replace(model.full_setting, experts=experts))
            torch.testing.assert_close(other[:, :first], plain[:, :first])
            assert (other - plain)[:, first].abs().max() > 1e-3
        per_block = replace(model.full_setting, experts=ExpertCounts(text=(4, 1), vision=(4, 1)))
        x = model.embed(inputs, model.encode_images(inputs))
        positions = token_positions(inputs)
        hidden = model.language_model.run_blocks(x, positions, active_blocks=(0,), top_k=4)
        hidden = model.language_model(hidden, positions, active_blocks=(1,), top_k=1)
        assert torch.equal(model(inputs, setting=per_block), model.language_model.head(hidden))


def test_a_skipped_block_is_the_identity() -> None:
    model = tiny_molmo(num_blocks=3)
    shorter = tiny_molmo(num_blocks=2)
    shorter.load_state_dict(
        {
            name.replace("language_model.blocks.2.", "language_model.blocks.1."): tensor
            for name, tensor in model.state_dict().items()
            if "language_model.blocks.1." not in name
        }
    )
    inputs = tiny_inputs(model.config)
    with torch.inference_mode():
        skipped = model(inputs, setting=setting_of(model, blocks=(0, 2)))
        assert torch.equal(skipped, shorter(inputs))


def test_the_model_keeps_no_trace_of_a_setting() -> None:
    model = tiny_molmo(num_experts=4, top_k=2)
    inputs = tiny_inputs(model.config)
    with torch.inference_mode():
        before = model(inputs)
        model(inputs, setting=setting_of(model, top_k=1, blocks=(1,)))
        assert torch.equal(model(inputs), before)


def test_two_threads_with_two_settings_do_not_disturb_each_other() -> None:
    model = golden_model("moe")
    requests = [golden_inputs("moe", case) for case in ("img_tiny", "img_portrait")]
    settings = [setting_of(model, top_k=1, blocks=(1, 3)), setting_of(model, top_k=6, blocks=(0, 1, 2))]
    with torch.inference_mode():
        serial = [model(inputs, setting=setting) for inputs, setting in zip(requests, settings, strict=True)]
    start = threading.Barrier(2)
    equal: list[list[bool]] = [[], []]

    def run(worker: int) -> None:
        with torch.inference_mode():
            for _ in range(8):
                start.wait(timeout=60)
                logits = model(requests[worker], setting=settings[worker])
                equal[worker].append(torch.equal(logits, serial[worker]))

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [[True] * 8, [True] * 8]


@pytest.mark.parametrize(
    ("top_k", "blocks", "message"),
    [
        (9, (0,), r"top_k: must be 1 to 8 \(the model's experts\), got 9"),
        (0, (0,), r"top_k: must be 1 to 8 \(the model's experts\), got 0"),
        (3, (2, 7), "active_blocks: the model has blocks 0 to 3, got 7"),
    ],
)
def test_a_setting_that_the_model_cannot_run_is_refused(top_k: int, blocks: tuple[int, ...], message: str) -> None:
    setting = KnobSetting(tier="low", top_k=top_k, active_blocks=blocks)
    with pytest.raises(ValueError, match=message):
        golden_model("moe")(golden_inputs("moe", "text_only"), setting=setting)


def test_vision_tokens_are_added_to_the_ids_embeddings() -> None:
    model = tiny_molmo()
    inputs = tiny_inputs(model.config, num_crops=1, num_words=2)
    vision = torch.randn(1, 1, 6, 32)
    with torch.inference_mode():
        embedded = model.embed(inputs, vision)
        expected = model.language_model.embedding(inputs.input_ids)
        expected[0, 2:5] += vision[0, 0, ::2]
    assert torch.equal(embedded, expected)


def test_positions_count_ids_and_leave_padding_out() -> None:
    ids = torch.tensor([[4, 5, 6], [7, -1, -1]])
    assert token_positions(ModelInputs(input_ids=ids)).tolist() == [[0, 1, 2], [0, 0, 0]]
    assert token_positions(ModelInputs(input_ids=ids[:1])).tolist() == [[0, 1, 2]]


def test_forward_marks_its_stages() -> None:
    marks: list[str] = []

    class Recorder:
        def begin(self, name: str) -> None:
            marks.append(f"+{name}")

        def end(self, name: str) -> None:
            marks.append(f"-{name}")

    model = tiny_molmo()
    with torch.inference_mode(), observe(Recorder()):
        model(tiny_inputs(model.config))
    assert marks == ["+vision_encoder", "-vision_encoder", "+projector", "-projector", "+prefill", "-prefill"]


def test_bfloat16_stays_near_float32() -> None:
    model = load_molmo(str(GOLDEN / "dense"), dtype=torch.bfloat16)
    with torch.inference_mode():
        logits = model(golden_inputs("dense", "img_landscape"))
    golden = golden_case("dense", "img_landscape").tensors["logits"]
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - golden).abs().mean() < 0.02 * golden.abs().max()


def test_the_model_holds_weights_only() -> None:
    model = tiny_molmo(num_experts=4, top_k=2)
    assert not list(model.buffers())
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_vision_tokens_are_the_same_if_the_overviews_are_encoded_first(variant: str) -> None:
    model = golden_model(variant)
    inputs = collate([golden_inputs(variant, row) for row in golden_case(variant, "batch").meta["rows"]])
    assert inputs.crops is not None
    assert inputs.patch_mask is not None
    assert len(set(inputs.num_crops.tolist())) > 1  # so some crops are padding
    with torch.inference_mode():
        glance = model.glance(inputs.crops[:, 0], inputs.patch_mask[:, 0])
        expected = model.encode_images(inputs)
        found = model.encode_images(replace(inputs, crops=_blackened(inputs.crops)), glance=glance)
    assert expected is not None
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(glance.tokens, expected[:, 0], atol=1e-5, rtol=1e-5)


def _blackened(crops_BCPD: Tensor) -> Tensor:
    """Overwrite the overviews, which nobody is to look at again."""
    crops_BCPD = crops_BCPD.clone()
    crops_BCPD[:, 0] = 0
    return crops_BCPD


def test_a_glance_keeps_what_an_encoder_overwrites() -> None:
    model = tiny_molmo()
    inputs = tiny_inputs(model.config, num_crops=2)
    assert inputs.crops is not None
    assert inputs.patch_mask is not None
    features = torch.empty(1, model.config.num_patches, 2 * model.config.vision.hidden_dim)
    tokens = torch.empty(2, model.connector.patches_per_side[0] ** 2 // 4, model.config.hidden_dim)
    vision = VisionModules(
        vision_encoder=lambda crops: features.copy_(model.vision_encoder(crops)),
        connector=lambda *shown: tokens[: len(shown[0])].copy_(model.connector(*shown)),
    )

    with torch.inference_mode():
        glance = model.glance(inputs.crops[:, 0], inputs.patch_mask[:, 0], vision=vision)
        seen = glance.tokens.clone()
        found = model.encode_images(inputs, vision=vision, glance=glance)
        assert torch.equal(glance.tokens, seen)
        torch.testing.assert_close(found, model.encode_images(inputs))
