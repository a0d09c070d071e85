from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import released_config
from models.knobs import STANDARD_TIERS, Tier, Tiling
from models.tiling import CropGeometry, choose_tiling, image_layout, tier_changes

REAL = CropGeometry.from_config(released_config("molmoe-1b-0924"))
SMALL = CropGeometry(crop_pixels=60, patch_pixels=5, left_margin=4, right_margin=4, max_crops=6)
LOPSIDED = CropGeometry(crop_pixels=40, patch_pixels=4, left_margin=4, right_margin=2, max_crops=9)

# Height and width: small to large, narrow to wide.
SIZES = [
    (48, 64),
    (112, 112),
    (224, 300),
    (333, 500),
    (480, 640),
    (700, 700),
    (800, 300),
    (250, 1200),
    (1080, 1920),
    (1920, 1080),
    (2000, 400),
    (3000, 4000),
]

heights_and_widths = st.integers(1, 5000)


def _tier(min_crops: int, max_crops: int) -> Tier:
    return Tier(name="any", min_crops=min_crops, max_crops=max_crops)


@pytest.mark.parametrize(
    ("width", "height", "tilings"),
    [
        (500, 333, [(1, 1), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2)]),
        (700, 700, [(1, 1), (1, 1), (2, 2), (2, 2), (3, 3), (3, 3)]),
        (1200, 250, [(1, 1), (1, 3), (1, 4), (1, 5), (1, 5), (1, 5)]),
        (300, 800, [(1, 1), (3, 1), (4, 1), (4, 1), (4, 1), (4, 1)]),
        (1920, 1080, [(1, 1), (1, 2), (2, 2), (2, 4), (3, 4), (4, 8)]),
        (64, 48, [(1, 1)] * 6),
    ],
)
def test_released_rule_cuts_as_the_reference_was_measured_to(
    width: int, height: int, tilings: list[tuple[int, int]]
) -> None:
    chosen = [
        choose_tiling(height, width, window=224, margin_pixels=112, max_crops=max_crops)
        for max_crops in (1, 3, 4, 8, 12, 36)
    ]
    assert chosen == tilings


def test_without_a_tier_the_released_rule_and_limit_apply() -> None:
    layout = image_layout(1080, 1920, REAL)
    assert (layout.rows, layout.columns) == (3, 4)
    assert layout == image_layout(1080, 1920, REAL, tier=_tier(1, 12), tiling="upper_bound")


@pytest.mark.parametrize(
    ("height", "width", "tier", "expected"),
    [
        (700, 700, _tier(1, 3), (1, 1)),
        (700, 700, _tier(4, 8), (2, 2)),
        (700, 700, _tier(9, 12), (3, 3)),
        (700, 700, _tier(2, 2), (1, 2)),  # two mirrored tilings waste the same: fewer rows
        (700, 700, _tier(1, 4), (1, 1)),  # 1x1 and 2x2 waste nothing: fewer crops
        (48, 64, _tier(9, 12), (3, 4)),  # enlarged
        (333, 500, _tier(4, 8), (2, 3)),
        (250, 1200, _tier(4, 8), (1, 7)),
        (10, 5000, _tier(9, 12), (1, 12)),
    ],
)
def test_target_rule_wastes_least_on_padding(height: int, width: int, tier: Tier, expected: tuple[int, int]) -> None:
    layout = image_layout(height, width, REAL, tier=tier)
    assert (layout.rows, layout.columns) == expected


@settings(deadline=None)
@given(heights_and_widths, heights_and_widths, st.integers(1, 12), st.integers(0, 6))
def test_target_rule_stays_in_the_tier_for_any_size(height: int, width: int, min_crops: int, extra: int) -> None:
    layout = image_layout(height, width, REAL, tier=_tier(min_crops, min_crops + extra))
    assert min_crops <= layout.rows * layout.columns <= min_crops + extra


@settings(deadline=None)
@given(heights_and_widths, heights_and_widths, st.integers(1, 36))
def test_released_rule_never_exceeds_its_bound(height: int, width: int, max_crops: int) -> None:
    layout = image_layout(height, width, REAL, tier=_tier(1, max_crops), tiling="upper_bound")
    assert 1 <= layout.rows * layout.columns <= max_crops


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6))
def test_token_counts_follow_the_closed_form_of_the_released_models(rows: int, columns: int) -> None:
    layout = replace(image_layout(1, 1, REAL), rows=rows, columns=columns)
    assert layout.num_vision_tokens == 144 + (8 * rows + 4) * (8 * columns + 4)
    assert layout.num_tokens == 158 + (8 * rows + 4) * (8 * columns + 5) + 2
    assert layout.num_crops == 1 + rows * columns


@pytest.mark.parametrize("geometry", [REAL, SMALL, LOPSIDED])
@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_every_place_of_the_image_keeps_one_token_in_reading_order(
    geometry: CropGeometry, rows: int, columns: int
) -> None:
    layout = replace(image_layout(1, 1, geometry), rows=rows, columns=columns)
    positions = layout.token_positions()
    kept = positions[positions >= 0]
    assert len(kept.unique()) == len(kept) == layout.num_vision_tokens
    # Rows of a grid run on without a gap but for the column token, and each grid has a start and an end token.
    expected = []
    start = 0
    for grid_rows, grid_columns in layout.token_grids:
        for row in range(grid_rows):
            first = start + 1 + row * (grid_columns + 1)
            expected += list(range(first, first + grid_columns))
        start += grid_rows * (grid_columns + 1) + 2
    assert kept.sort().values.tolist() == expected
    assert start == layout.num_tokens


@pytest.mark.parametrize("geometry", [REAL, SMALL, LOPSIDED])
def test_overlapping_crops_agree_on_where_a_token_goes(geometry: CropGeometry) -> None:
    layout = replace(image_layout(1, 1, geometry), rows=2, columns=3)
    side, window = geometry.tokens_per_side, geometry.window_tokens
    _, (grid_rows, grid_columns) = layout.token_grids
    overview_tokens = side * (side + 1) + 2
    place = torch.arange(grid_rows)[:, None] * (grid_columns + 1) + torch.arange(grid_columns) + overview_tokens + 1
    crops = layout.token_positions()[1:].view(2, 3, side, side)
    for row in range(2):
        for column in range(3):
            here = place[row * window :, column * window :][:side, :side]
            is_kept = crops[row, column] >= 0
            assert torch.equal(crops[row, column][is_kept], here[is_kept])


def test_each_standard_tier_cuts_each_of_twelve_sizes_anew() -> None:
    assert len(SIZES) == 12
    assert tier_changes(SIZES, STANDARD_TIERS, REAL) == {"medium": 12, "high": 12}
    vision_tokens = [
        [image_layout(*size, REAL, tier=tier).num_vision_tokens for tier in STANDARD_TIERS] for size in SIZES
    ]
    assert all(low < medium < high for low, medium, high in vision_tokens)


def test_a_tier_that_only_bounds_does_nothing_to_images_that_fit() -> None:
    changes = tier_changes(SIZES, STANDARD_TIERS, REAL, tiling="upper_bound")
    assert changes == {"medium": 8, "high": 4}


def test_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="image: needs at least 1x1 pixels, got height 0 and width 5"):
        image_layout(0, 5, REAL)


def test_unknown_tiling_is_refused() -> None:
    tiling: Tiling = "nearest"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="tiling: must be 'upper_bound' or 'target', got 'nearest'"):
        image_layout(5, 5, REAL, tiling=tiling)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("crop_pixels", 61, "image_size: must be a multiple of the patch size 5, got 61"),
        ("crop_pixels", 65, "image_size: 2x2 pooling needs an even number of patches, got 13"),
        ("left_margin", 3, "overlap_margins: 2x2 pooling needs even numbers of patches, got 3"),
        ("right_margin", -2, "overlap_margins: 2x2 pooling needs even numbers of patches, got -2"),
        ("left_margin", 8, "overlap_margins: must leave part of the 12 patches of a crop, got 8 and 4"),
    ],
)
def test_geometry_that_cannot_be_cut_is_refused(field: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **{field: value})


def test_crops_that_are_not_square_are_refused() -> None:
    config = released_config("molmoe-1b-0924")
    with pytest.raises(ValueError, match="crops must be square as in every released Molmo, got 336x224"):
        CropGeometry.from_config(replace(config, vision=replace(config.vision, image_size=(336, 224))))
