from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.config import released_config
from models.inputs import ModelInputs, collate
from models.knobs import STANDARD_TIERS, Tier
from models.processor import MolmoProcessor, format_question
from models.tiling import image_layout
from models.tokenizer import SpecialTokens, load_tokenizer
from tests.helpers import (
    GOLDEN,
    IMAGE_CASES,
    REAL_CASES,
    VARIANTS,
    golden_case,
    golden_config,
    golden_image,
    golden_inputs,
    golden_meta,
    golden_special_tokens,
    write_golden_tokenizer,
)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def processor(variant: str, tmp_path: Path) -> MolmoProcessor:
    write_golden_tokenizer(tmp_path, variant)
    tokenizer, special_tokens = load_tokenizer(tmp_path)
    return MolmoProcessor(golden_config(variant), special_tokens, tokenizer)


def _assert_same(inputs: ModelInputs, golden: ModelInputs) -> None:
    assert torch.equal(inputs.input_ids, golden.input_ids)
    assert inputs.crops is not None
    assert inputs.patch_mask is not None
    assert inputs.token_index is not None
    assert golden.crops is not None
    assert golden.patch_mask is not None
    assert golden.token_index is not None
    assert torch.allclose(inputs.crops, golden.crops, rtol=0, atol=1e-5)
    assert torch.equal(inputs.patch_mask, golden.patch_mask)
    assert torch.equal(inputs.token_index, golden.token_index)


@pytest.mark.parametrize("name", IMAGE_CASES)
def test_question_and_image_give_the_inputs_of_the_reference(
    processor: MolmoProcessor, variant: str, name: str
) -> None:
    meta = golden_case(variant, name).meta
    inputs = processor(meta["prompt"], golden_image(meta["image"]))
    _assert_same(inputs, golden_inputs(variant, name))


def test_what_is_kept_of_one_size_is_not_taken_for_another(processor: MolmoProcessor, variant: str) -> None:
    for name in [*IMAGE_CASES, *IMAGE_CASES]:
        meta = golden_case(variant, name).meta
        _assert_same(processor(meta["prompt"], golden_image(meta["image"])), golden_inputs(variant, name))


def test_what_inference_has_kept_can_be_trained_with(processor: MolmoProcessor, variant: str) -> None:
    meta = golden_case(variant, IMAGE_CASES[0]).meta
    with torch.inference_mode():
        processor(meta["prompt"], golden_image(meta["image"]))
    inputs = processor(meta["prompt"], golden_image(meta["image"]))
    assert inputs.crops is not None
    assert inputs.patch_mask is not None
    assert inputs.token_index is not None
    assert not any(tensor.is_inference() for tensor in (inputs.crops, inputs.patch_mask, inputs.token_index))


def test_question_alone_gives_the_inputs_of_the_reference(processor: MolmoProcessor, variant: str) -> None:
    inputs = processor("t11 t12 t13 t14 t55 t56 t57")
    assert torch.equal(inputs.input_ids, golden_inputs(variant, "text_only").input_ids)
    assert inputs.crops is None
    assert inputs.token_index is None


def test_image_takes_the_place_of_the_placeholder(processor: MolmoProcessor, variant: str) -> None:
    case = golden_case(variant, "placeholder")
    ids = processor.tokenizer.encode(case.meta["formatted"])
    assert ids == case.tensors["text_token_ids"].tolist()
    inputs = processor.from_token_ids(ids, golden_image(case.meta["image"]))
    golden = golden_inputs(variant, "placeholder")
    # The reference shifts dropped tokens too (-98 here); every negative index means dropped.
    assert golden.token_index is not None
    is_dropped = golden.token_index < 0
    assert set(golden.token_index[is_dropped].tolist()) == {-98}
    unshifted = golden.token_index.where(~is_dropped, -100)
    _assert_same(inputs, ModelInputs(**{**vars(golden), "token_index": unshifted}))


@pytest.mark.parametrize("num_words_before", [0, 99, 250])
def test_dropped_tokens_stay_dropped_after_a_long_text(
    processor: MolmoProcessor, variant: str, num_words_before: int
) -> None:
    special_tokens = golden_special_tokens(variant)
    image = golden_image("images/landscape.png")
    inputs = processor.from_token_ids([11] * num_words_before + [special_tokens.image_id, 12], image)
    layout = image_layout(image.height, image.width, processor.image_processor.geometry)
    assert inputs.token_index is not None
    kept = inputs.token_index[inputs.token_index >= 0]
    assert len(kept) == layout.num_vision_tokens
    assert (inputs.input_ids[0, kept] == special_tokens.im_patch_id).all()
    assert int((inputs.input_ids == special_tokens.im_patch_id).sum()) == len(kept)


def test_batch_is_padded_as_in_the_reference(processor: MolmoProcessor, variant: str) -> None:
    batch = golden_case(variant, "batch")
    rows = [golden_case(variant, name).meta for name in batch.meta["rows"]]
    inputs = collate([processor(row["prompt"], golden_image(row["image"])) for row in rows])
    assert inputs.patch_mask is not None
    assert inputs.token_index is not None
    assert torch.equal(inputs.input_ids, batch.tensors["input_ids"])
    assert torch.equal(inputs.patch_mask, batch.tensors["image_masks"])
    assert torch.equal(inputs.token_index, batch.tensors["image_input_idx"].long())
    assert inputs.num_crops.tolist() == [row["n_crops_incl_global"] for row in rows]


@pytest.mark.parametrize("max_crops", [1, 2, 4])
def test_fewer_crops_give_the_inputs_of_the_reference(processor: MolmoProcessor, variant: str, max_crops: int) -> None:
    knobs = golden_case(variant, "knobs")
    meta = golden_case(variant, knobs.meta["inputs_of"]).meta
    tier = Tier(name="fewer", min_crops=1, max_crops=max_crops)
    inputs = processor(meta["prompt"], golden_image(meta["image"]), tier=tier, tiling="upper_bound")
    assert inputs.token_index is not None
    assert torch.equal(inputs.input_ids, knobs.tensors[f"crops{max_crops}.input_ids"])
    assert torch.equal(inputs.token_index, knobs.tensors[f"crops{max_crops}.image_input_idx"].long())


@pytest.mark.parametrize("name", REAL_CASES)
def test_ids_at_the_released_size_equal_the_reference(name: str) -> None:
    config = released_config("molmoe-1b-0924")
    processor = MolmoProcessor(config, SpecialTokens.of_shape(config))
    case, golden = REAL_CASES[name], load_file(GOLDEN / "preproc_real" / f"{name}.safetensors")
    tier = Tier(name=name, min_crops=1, max_crops=case["max_crops"])
    inputs = processor.from_token_ids([10, 11, 12], golden_image(case["image"]), tier=tier, tiling="upper_bound")
    assert inputs.token_index is not None
    assert inputs.input_ids[0].tolist() == golden["input_ids"].tolist()
    assert torch.equal(inputs.token_index[0], golden["image_input_idx"].long())


def test_counts_known_from_the_size_are_those_of_the_inputs(processor: MolmoProcessor) -> None:
    image = golden_image("images/portrait.png")
    for tier in (None, *STANDARD_TIERS):
        inputs = processor("t11", image, tier=tier)
        layout = image_layout(image.height, image.width, processor.image_processor.geometry, tier=tier)
        assert inputs.num_vision_tokens.tolist() == [layout.num_vision_tokens]
        assert inputs.num_crops.tolist() == [layout.num_crops]
        assert inputs.num_tokens.tolist() == [1 + layout.num_tokens + 3]


def test_conversation_gives_the_training_example_of_the_reference(processor: MolmoProcessor, variant: str) -> None:
    case = golden_case(variant, "train_multiturn")
    turns = [("t11 t12", "t13 t14 t15"), ("t16", "t17 t18")]
    example = processor.training_example(turns, golden_image(case.meta["image"]))
    _assert_same(example.inputs, golden_inputs(variant, "train_multiturn"))
    assert torch.equal(example.labels, case.tensors["labels"])
    assert torch.equal(example.loss_mask, case.tensors["loss_masks"])


def test_style_goes_in_front_of_the_question() -> None:
    assert format_question("What is it?") == " User: What is it? Assistant:"
    assert format_question("What is it?", style="vqa2") == " User: vqa2: What is it? Assistant:"


def test_answer_is_decoded_up_to_its_first_end(processor: MolmoProcessor, variant: str) -> None:
    end = golden_meta(variant)["eos_token_id"]
    assert processor.decode([11, 12, end, 13, end]) == "t11 t12"
    assert processor.decode([11, 12]) == "t11 t12"


def test_placeholders_that_do_not_match_the_image_are_refused(processor: MolmoProcessor) -> None:
    with pytest.raises(ValueError, match="text: holds the image placeholder 1 times, but no image was given"):
        processor("t11 <|image|>")
    with pytest.raises(ValueError, match="text: holds the image placeholder 2 times, but one image was given"):
        processor("<|image|> <|image|>", golden_image("images/tiny.png"))


def test_conversation_that_cannot_be_trained_on_is_refused(processor: MolmoProcessor) -> None:
    with pytest.raises(ValueError, match="turns: needs at least one question and answer, got none"):
        processor.training_example([])
    with pytest.raises(ValueError, match="turns: an image placeholder cannot be trained on"):
        processor.training_example([("t11 <|image|>", "t12")], golden_image("images/tiny.png"))


def test_text_without_a_tokenizer_is_refused() -> None:
    config = golden_config("moe")
    processor = MolmoProcessor(config, SpecialTokens.of_shape(config))
    with pytest.raises(ValueError, match="processor: has no tokenizer, so it takes token ids only"):
        processor("t11")
