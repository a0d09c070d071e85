import pytest
import torch
from torch.nn.functional import one_hot

from models.knobs import STANDARD_TIERS
from models.tiling import CropGeometry, ImageLayout, image_layout
from models.token_places import NUM_PLACES, TokenPlaces, token_places

GEOMETRY = CropGeometry(crop_pixels=64, patch_pixels=8, left_margin=0, right_margin=0, max_crops=12)
CPU = torch.device("cpu")


def square_layout(tier: int) -> ImageLayout:
    return image_layout(192, 192, GEOMETRY, tier=STANDARD_TIERS[tier])


@pytest.mark.parametrize(
    ("tier", "along"),
    [(0, [3, 9, 15, 21]), (1, [1, 4, 7, 10, 13, 16, 19, 22]), (2, list(range(1, 24, 2)))],
)
def test_tokens_lie_where_the_sequence_puts_them(tier: int, along: list[int]) -> None:
    overview, image = [3, 9, 15, 21], along
    expected = [(-100, -100)]  # the begin id
    for places in (overview, image):
        expected.append((-100, -100))
        for row in places:
            expected += [*((row, column) for column in places), (-100, -100)]
        expected.append((-100, -100))
    assert list(map(tuple, token_places(square_layout(tier), CPU).tolist())) == expected


def test_a_dropped_token_of_an_overlap_is_nowhere() -> None:
    geometry = CropGeometry(crop_pixels=64, patch_pixels=8, left_margin=2, right_margin=2, max_crops=12)
    places = token_places(ImageLayout(rows=1, columns=2, geometry=geometry), CPU)
    # The canvas is 96 pixels wide and 64 high: six tokens in each of four rows, behind begin id, overview and start id.
    row = places[1 + 22 + 1 :][:6]
    assert row.tolist() == [[3, 2], [3, 6], [3, 10], [3, 14], [3, 18], [3, 22]]


def test_right_logits_cost_nothing_and_only_vision_tokens_count() -> None:
    layout = square_layout(1)
    target = token_places(layout, CPU)
    logits = 100.0 * one_hot(target.clamp(min=0), NUM_PLACES).expand(2, -1, -1, -1).clone()
    head = TokenPlaces(6)
    logits[:, target[:, 0] < 0] = -50.0
    assert float(head.loss(logits, layout)) < 1e-6
    logits[1, 2] = logits[1, 2].roll(1, dims=-1)  # one token of one request, both its row and its column
    assert float(head.loss(logits, layout)) == pytest.approx(100 * 2 / (2 * 2 * 80))


def test_the_scale_of_hidden_states_does_not_matter() -> None:
    head, hidden = TokenPlaces(6), torch.randn(2, 5, 6)
    torch.testing.assert_close(head(hidden), head(1000 * hidden), rtol=1e-4, atol=1e-4)
    assert head(hidden).shape == (2, 5, 2, NUM_PLACES)
