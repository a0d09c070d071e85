import pytest
import torch

from models.inputs import ModelInputs, collate, is_crop
from tests.helpers import VARIANTS, golden_case, golden_inputs
from tests.small_models import tiny_config, tiny_inputs


def text(*ids: int) -> ModelInputs:
    return ModelInputs(input_ids=torch.tensor([ids]))


def test_counts_of_a_request_with_an_image() -> None:
    config = tiny_config()
    inputs = tiny_inputs(config, num_crops=3, num_words=4)
    assert inputs.num_crops.tolist() == [3]
    assert inputs.num_vision_tokens.tolist() == [9]  # every second of six tokens a crop
    assert inputs.num_tokens.tolist() == [13]


def test_counts_of_a_request_without_image() -> None:
    inputs = text(3, 4, 5)
    assert inputs.num_crops.tolist() == inputs.num_vision_tokens.tolist() == [0]
    assert inputs.num_tokens.tolist() == [3]


def test_shorter_requests_are_padded_on_the_right_with_minus_one() -> None:
    batch = collate([text(1, 2, 3), text(4)])
    assert batch.input_ids.tolist() == [[1, 2, 3], [4, -1, -1]]
    assert batch.valid.tolist() == [[True, True, True], [True, False, False]]
    assert batch.num_tokens.tolist() == [3, 1]
    assert batch.crops is None


def test_missing_crops_are_padded_and_not_counted() -> None:
    config = tiny_config()
    batch = collate([tiny_inputs(config, num_crops=1), tiny_inputs(config, num_crops=3)])
    assert batch.crops is not None
    assert batch.token_index is not None
    assert is_crop(batch.crops).tolist() == [[True, False, False], [True, True, True]]
    assert batch.num_crops.tolist() == [1, 3]
    assert batch.num_vision_tokens.tolist() == [3, 9]
    assert (batch.token_index[0, 1:] == -1).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_equals_the_reference_collator(variant: str) -> None:
    golden = golden_case(variant, "batch")
    batch = collate([golden_inputs(variant, row) for row in golden.meta["rows"]])
    assert batch.patch_mask is not None
    assert batch.token_index is not None
    assert torch.equal(batch.input_ids, golden.tensors["input_ids"])
    assert torch.equal(batch.patch_mask, golden.tensors["image_masks"])
    assert torch.equal(batch.token_index, golden.tensors["image_input_idx"].long())


def test_no_request_makes_no_batch() -> None:
    with pytest.raises(ValueError, match="collate: needs at least one request, got none"):
        collate([])


def test_requests_with_and_without_image_do_not_mix() -> None:
    with pytest.raises(ValueError, match="collate: either every request has an image or none has; got some of both"):
        collate([text(1), tiny_inputs(tiny_config())])


def test_vision_tokens_are_where_features_go() -> None:
    index = torch.tensor([[[1, 3, -100]], [[0, -1, 2]]])
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, -1]])
    inputs = ModelInputs(input_ids=ids, token_index=index)
    assert inputs.is_vision.tolist() == [[False, True, False, True], [True, False, True, False]]
    assert inputs.is_vision.sum(dim=1).tolist() == inputs.num_vision_tokens.tolist()
    assert not ModelInputs(input_ids=ids).is_vision.any()


@pytest.mark.parametrize("missing", ["crops", "patch_mask", "token_index"])
def test_a_part_of_an_image_is_refused(missing: str) -> None:
    inputs = tiny_inputs(tiny_config())
    parts = {name: getattr(inputs, name) for name in ("crops", "patch_mask", "token_index") if name != missing}
    with pytest.raises(ValueError, match=f"crops, patch_mask and token_index belong together, got no {missing}"):
        ModelInputs(input_ids=inputs.input_ids, **parts)


def test_inputs_move_whole_to_a_device() -> None:
    inputs = tiny_inputs(tiny_config())
    moved = inputs.to("meta")
    for name in ("input_ids", "crops", "patch_mask", "token_index"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == getattr(inputs, name).shape
    assert text(1).to("meta").crops is None
