"""How many levels each knob has, and where a setting stands among all."""

from models.knobs import KnobGrid

# Tiers, levels of top_k, numbers of active blocks. Setting (t, k, c) is number (t * K + k) * C + c, as in
# `KnobGrid.settings`; `torch.unravel_index(number, shape)` is the way back.
GridShape = tuple[int, int, int]


def grid_shape(grid: KnobGrid) -> GridShape:
    """Return how many levels each knob of a grid has."""
    return len(grid.tiers), len(grid.top_k), len(grid.blocks_by_count)
