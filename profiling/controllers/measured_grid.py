"""Which knob settings a profile was measured at."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.config import MolmoConfig
from models.knobs import MOLMOE_1B_GRID, KnobGrid, own_grid, read_experts
from profiling.schema import Environment, ProfileError
from profiling.table import ProfileTable

_SOURCE: Final = "environment.model_shape"


def measured_grid(table: ProfileTable) -> KnobGrid:
    """Return the levels that occur in a profile, in the order of the model's own grid.

    Where a knob has a level that is not in it, the knob's levels are in rising order. Which blocks run is read from the
    rows; where they do not say, it is what the model's own grid says. What levels of top_k mean is in the environment.

    Raises:
        ProfileError: If a tier is unknown, or a number of active blocks stands for several sets of blocks or for none.
    """
    shape = table.environment.model_shape
    usual = (own_grid(shape, source=_SOURCE) if shape else None) or MOLMOE_1B_GRID
    tiers = {tier.name: tier for tier in usual.tiers}
    codes, names = table.codes("tier")
    measured = [names[code] for code in np.unique(codes)]
    strange = sorted(set(measured) - set(tiers))
    if strange:
        raise ProfileError(f"tier: the model's grid has {', '.join(tiers)}, the profile has {strange[0]!r}")
    top_k = np.unique(table.numbers("top_k")).astype(int).tolist()
    return KnobGrid(
        tiers=tuple(tier for name, tier in tiers.items() if name in measured),
        top_k=tuple(_in_order(top_k, usual.top_k)),
        blocks_by_count=_blocks_by_count(table, usual),
        experts_by_top_k=read_experts(table.environment.experts_by_top_k or {}),
    )


def full_setting(grid: KnobGrid, environment: Environment) -> int:
    """Return the index of the setting that stands for the whole model: highest tier, trained top_k, most blocks.

    Where the trained top_k is unknown or no level of the grid, it is the highest.
    """
    top_k = max(grid.top_k)
    if environment.model_shape:
        trained = MolmoConfig.from_hf(environment.model_shape, source=_SOURCE).top_k
        top_k = trained if trained in grid.top_k else top_k
    whole = grid.setting(tier=grid.tiers[-1].name, top_k=top_k, num_active_blocks=max(grid.blocks_by_count))
    return grid.settings().index(whole)


def _in_order(levels: Sequence[int], usual: Sequence[int]) -> list[int]:
    """Order levels as usual if all are known there, else by size."""
    if set(levels) <= set(usual):
        return [level for level in usual if level in levels]
    return sorted(levels)


def _blocks_by_count(table: ProfileTable, usual: KnobGrid) -> dict[int, tuple[int, ...]]:
    count_of_row = table.numbers("num_active_blocks").astype(np.int64)
    blocks = table.columns["active_blocks"].combine_chunks()
    found: dict[int, tuple[int, ...]] = {}
    for count in _in_order(np.unique(count_of_row).tolist(), list(usual.blocks_by_count)):
        sets = np.unique(_block_sets(blocks, np.flatnonzero(count_of_row == count), count), axis=0)
        if len(sets) > 1:
            raise ProfileError(f"active_blocks: {count} blocks must be one set in a profile, got {sets[:2].tolist()}")
        if len(sets) == 0 and count not in usual.blocks_by_count:
            raise ProfileError(f"active_blocks: no row says which {count} blocks ran")
        found[count] = tuple(sets[0].tolist()) if len(sets) else usual.blocks_by_count[count]
    return found


def _block_sets(blocks: pa.Array, rows: np.ndarray, count: int) -> np.ndarray:
    """Return the blocks of the rows that name them: ``(rows, count)``."""
    own = pc.drop_null(blocks.take(pa.array(rows)))
    return np.asarray(pc.list_flatten(own)).reshape(-1, count)
