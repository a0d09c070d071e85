import torch

from models.knobs import STANDARD_TIERS
from models.patch_labels import UNKNOWN, PatchLabels, patch_cells
from models.tiling import CropGeometry, ImageLayout, image_layout

GEOMETRY = CropGeometry(crop_pixels=64, patch_pixels=8, left_margin=0, right_margin=0, max_crops=12)
CPU = torch.device("cpu")


def test_at_the_highest_tier_a_patch_is_a_cell() -> None:
    layout = image_layout(192, 192, GEOMETRY, tier=STANDARD_TIERS[-1])
    rows, columns = patch_cells(layout, 24, CPU)
    assert rows.shape == columns.shape == (10, 64)
    # The fourth crop after the overview is the middle row's first.
    assert rows[4].view(8, 8)[:, 0].tolist() == list(range(8, 16))
    assert columns[4].view(8, 8)[0].tolist() == list(range(8))
    assert rows[0].view(8, 8)[:, 0].tolist() == list(range(1, 24, 3))


def test_overlapping_crops_name_their_common_cells_twice() -> None:
    geometry = CropGeometry(crop_pixels=64, patch_pixels=8, left_margin=2, right_margin=2, max_crops=12)
    layout = ImageLayout(rows=1, columns=2, geometry=geometry)
    _, columns = patch_cells(layout, 12, CPU)  # the canvas is 96 pixels wide
    assert columns[1].view(8, 8)[0].tolist() == list(range(8))
    assert columns[2].view(8, 8)[0].tolist() == list(range(4, 12))


def test_each_vision_token_is_compared_with_its_own_four_patches() -> None:
    layout = image_layout(192, 192, GEOMETRY, tier=STANDARD_TIERS[-1])
    cells = torch.randint(1, 5, (2, 24, 24)).to(torch.uint8)
    head = PatchLabels(6, 5)
    # Crop 5 of the image is its middle; token 6 of it lies in the second row and the third column.
    expected = cells[:, 8 + 2 : 8 + 4, 8 + 4 : 8 + 6].flatten(1).long()
    logits = torch.zeros(2, 10, 16, 4, 5)
    logits[:, 5, 6] = 100 * torch.nn.functional.one_hot(expected, 5)
    only = torch.full_like(cells, UNKNOWN)
    only[:, 10:12, 12:14] = cells[:, 10:12, 12:14]
    # The overview sees one of these cells too.
    logits[:, 0] = 100 * torch.nn.functional.one_hot(_overview(cells), 5)
    assert float(head.loss(logits, only, layout)) < 1e-6
    logits[:, 5, 6] = logits[:, 5, 6].flip(-1)
    assert float(head.loss(logits, only, layout)) > 1


def _overview(cells: torch.Tensor) -> torch.Tensor:
    patches = cells[:, 1::3, 1::3].long()
    return patches.view(2, 4, 2, 4, 2).transpose(2, 3).reshape(2, 16, 4)
