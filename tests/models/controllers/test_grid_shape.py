import torch

from models.controllers.grid_shape import grid_shape
from models.knobs import STANDARD_TIERS, KnobGrid, spread_grid


def test_a_setting_is_numbered_as_the_grid_lists_it() -> None:
    grid: KnobGrid = spread_grid(6, top_k=(1, 2, 4, 8), block_counts=(3, 6), tiers=STANDARD_TIERS)
    shape = grid_shape(grid)
    assert shape == (3, 4, 2)
    for number, setting in enumerate(grid.settings()):
        tier, top_k, count = (int(level) for level in torch.unravel_index(torch.tensor(number), shape))
        expected = grid.setting(
            tier=grid.tiers[tier].name, top_k=grid.top_k[top_k], num_active_blocks=list(grid.blocks_by_count)[count]
        )
        assert setting == expected
