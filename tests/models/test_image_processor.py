from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from models.config import released_config
from models.image_processor import ImageProcessor
from models.knobs import STANDARD_TIERS, Tier
from tests.helpers import GOLDEN, IMAGE_CASES, REAL_CASES, VARIANTS, golden_case, golden_config, golden_image

REAL = ImageProcessor(released_config("molmoe-1b-0924"))
SMALL = ImageProcessor(golden_config("moe"))
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def _noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _rgb(crops_CPD: Tensor, *, side: int, patch: int) -> Tensor:
    """Undo patches and normalisation: ``(crops, height, width, 3)`` in [0, 1]."""
    patches = crops_CPD.view(-1, side // patch, side // patch, patch, patch, 3)
    return patches.permute(0, 1, 3, 2, 4, 5).reshape(-1, side, side, 3) * CLIP_STD + CLIP_MEAN


@pytest.mark.parametrize("name", REAL_CASES)
def test_crops_at_the_released_size_equal_the_reference(name: str) -> None:
    case, golden = REAL_CASES[name], load_file(GOLDEN / "preproc_real" / f"{name}.safetensors")
    tier = Tier(name=name, min_crops=1, max_crops=case["max_crops"])
    processed = REAL(golden_image(case["image"]), tier=tier, tiling="upper_bound")
    assert list(processed.crops.shape) == case["images_shape"]
    assert torch.equal(processed.patch_mask, golden["image_masks"])
    samples = processed.crops.flatten()[golden["sample_flat_index"].long()]
    assert torch.allclose(samples, golden["sample_value"], rtol=0, atol=1e-5)
    assert torch.allclose(processed.crops.mean(dim=2), golden["patch_mean"], rtol=0, atol=1e-5)
    assert torch.allclose(processed.crops.std(dim=2, correction=0), golden["patch_std"], rtol=0, atol=1e-5)
    assert torch.allclose(processed.crops.double().sum(dim=(1, 2)), golden["crop_sum_f64"], rtol=0, atol=0.5)
    assert processed.layout.num_vision_tokens == case["n_image_features_inserted"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", IMAGE_CASES)
def test_crops_of_small_models_equal_the_reference(variant: str, name: str) -> None:
    case = golden_case(variant, name)
    processed = ImageProcessor(golden_config(variant))(golden_image(case.meta["image"]))
    assert processed.layout.num_crops == case.meta["n_crops_incl_global"]
    assert torch.equal(processed.patch_mask, case.tensors["image_masks"][0])
    assert torch.allclose(processed.crops, case.tensors["images"][0], rtol=0, atol=1e-5)


def test_array_and_picture_give_the_same_crops() -> None:
    array = _noise(50, 90)
    from_picture = SMALL(Image.fromarray(array))
    for same in (array, np.asfortranarray(array), np.asarray(Image.fromarray(array))):
        assert torch.equal(SMALL(same).crops, from_picture.crops)


def test_picture_is_turned_upright_as_its_exif_data_says() -> None:
    upright = Image.fromarray(_noise(50, 90))
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # "turn by 90 degrees clockwise to view"
    file = BytesIO()
    lying.save(file, "png", exif=orientation)
    assert torch.equal(SMALL(Image.open(file)).crops, SMALL(upright).crops)


def test_transparency_is_dropped_and_grey_becomes_colour() -> None:
    array = _noise(50, 90)
    see_through = Image.fromarray(np.dstack([array, np.zeros((50, 90), dtype=np.uint8)]))
    assert torch.equal(SMALL(see_through).crops, SMALL(array).crops)
    grey = Image.fromarray(array[:, :, 0])
    assert torch.equal(SMALL(grey).crops, SMALL(np.repeat(array[:, :, :1], 3, axis=2)).crops)


def test_call_leaves_its_image_alone() -> None:
    array = _noise(50, 90)
    before = array.copy()
    SMALL(array)
    assert np.array_equal(array, before)


def test_patches_of_an_image_that_fills_one_crop_are_its_pixels_in_order() -> None:
    array = _noise(60, 60)
    rgb = _rgb(SMALL(array).crops, side=60, patch=5)
    assert rgb.shape[0] == 2
    assert torch.allclose(rgb, torch.from_numpy(array) / 255, rtol=0, atol=1e-6)


def test_neighbouring_crops_overlap_by_their_margins() -> None:
    tier = Tier(name="one row of two", min_crops=2, max_crops=2)
    overview, left, right = _rgb(SMALL(_noise(60, 80), tier=tier).crops, side=60, patch=5)
    assert torch.equal(left[:, 20:], right[:, :40])
    assert not torch.equal(overview, left)


def test_mask_is_one_crop_late_as_in_the_released_models() -> None:
    tier = Tier(name="one row of two", min_crops=2, max_crops=2)
    # 60x60 fits the middle of a 60x80 canvas: pixel columns 10 to 70 are real.
    mask_CP = SMALL(_noise(60, 60), tier=tier).patch_mask.view(3, 12, 12)
    assert mask_CP[0, 0].tolist() == [0] * 2 + [1] * 10  # of the left crop, pixel columns 0 to 60
    assert mask_CP[1, 0].tolist() == [1] * 10 + [0] * 2  # of the right crop, pixel columns 20 to 80
    assert (mask_CP[2] == -1).all()


@pytest.mark.parametrize("tier", [*STANDARD_TIERS, None])
def test_from_its_overview_an_image_is_cut_as_in_one_go(tier: Tier | None) -> None:
    array = _noise(70, 130)
    overview = SMALL.overview(array)
    whole, rest = SMALL(array, tier=tier), SMALL(overview, tier=tier)
    assert torch.equal(overview.crop, whole.crops[0])
    assert torch.equal(rest.crops, whole.crops)
    assert torch.equal(rest.patch_mask, whole.patch_mask)
    assert rest.layout == whole.layout
    repainted = SMALL(replace(overview, crop=torch.full_like(overview.crop, 7.0)), tier=tier)
    assert (repainted.crops[0] == 7).all()  # what was cut is taken as it is
    assert torch.equal(repainted.crops[1:], whole.crops[1:])


def test_an_overview_is_marked_by_what_it_shows_itself() -> None:
    mask = SMALL.overview(_noise(30, 60)).patch_mask.view(12, 12)  # the middle half of the rows
    assert mask[:, 0].tolist() == [0] * 3 + [1] * 6 + [0] * 3
    assert torch.equal(mask, mask[:, :1].expand(-1, 12))


def test_padding_is_black_and_not_the_mean_colour() -> None:
    rgb = _rgb(SMALL(_noise(30, 60)).crops, side=60, patch=5)
    assert torch.allclose(rgb[0, :15], torch.zeros(15, 60, 3), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(5, 300), st.integers(5, 300), st.integers(1, 4), st.integers(0, 4))
def test_shapes_follow_the_layout_for_any_size(height: int, width: int, min_crops: int, extra: int) -> None:
    tier = Tier(name="any", min_crops=min_crops, max_crops=min_crops + extra)
    processed = SMALL(_noise(height, width), tier=tier)
    num_crops = processed.layout.num_crops
    assert min_crops < num_crops <= min_crops + extra + 1
    assert processed.crops.shape == (num_crops, 144, 75)
    assert processed.patch_mask.shape == (num_crops, 144)
    assert processed.crops.isfinite().all()
    real_fraction = processed.patch_mask[:-1]
    assert ((real_fraction >= 0) & (real_fraction <= 1)).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((4, 4, 3), dtype=np.float32),
            r"uint8 of shape \(height, width, 3\), got float32 of shape \(4, 4, 3\)",
        ),
        (np.zeros((4, 4), dtype=np.uint8), r"uint8 of shape \(height, width, 3\), got uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"uint8 of shape \(height, width, 3\), got uint8 of shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "needs at least 1x1 pixels, got height 0 and width 4"),
        (Image.new("RGB", (4, 0)), "needs at least 1x1 pixels, got height 0 and width 4"),
        (Image.new("I;16", (4, 4)), "needs 8 bits a channel, got a picture of mode 'I;16'"),
        (np.zeros((1, 4000, 3), dtype=np.uint8), "too thin, 1x4000 pixels"),
        ("cat.png", "must be a PIL image or a uint8 array, got str"),
    ],
)
def test_image_that_cannot_be_used_is_refused(image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"image: .*{message}"):
        SMALL(image)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("size", [(37, 91), (480, 640), (1700, 2200)])
def test_a_gpu_cuts_as_the_cpu_does(size: tuple[int, int]) -> None:
    config = released_config("molmoe-1b-0924")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    here, there = ImageProcessor(config)(image), ImageProcessor(config, device="cuda")(image)
    assert there.layout == here.layout
    assert there.crops.is_cuda
    # The two sum in another order; a step between two gray levels is a hundred times as large.
    torch.testing.assert_close(there.crops.cpu(), here.crops, atol=2e-4, rtol=0)
    torch.testing.assert_close(there.patch_mask.cpu(), here.patch_mask, atol=0, rtol=0)
