"""Rows of a profile, sorted into cells: a cell is a sample under a setting, and holds a row a run."""

# Shape suffixes: P = rows of the profile, N = samples, S = settings, R = runs of a cell, T = tiers.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.knobs import KnobGrid
from profiling.schema import ProfileError
from profiling.table import ProfileTable

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Where each row belongs.

    Args:
        sample_P: ``(rows,)`` sample of each row; samples are numbered in order of first appearance.
        setting_P: ``(rows,)`` setting of each row.
        run_P: ``(rows,)`` place of each row among the runs of its cell, by rising ``run_id``.
        first_row_N: ``(samples,)`` first row of each sample.
        num_settings: Settings of the grid.
        num_tiers: Tiers of the grid.
    """

    sample_P: Codes
    setting_P: Codes
    run_P: Codes
    first_row_N: Codes
    num_settings: int
    num_tiers: int

    def means(self, values_P: Array) -> Array:
        """Average each cell's rows that have a value: ``(samples, settings)``, NaN where there is none."""
        return self._means(values_P, self.setting_P, self.num_settings)

    def tier_means(self, values_P: Array) -> Array:
        """Average over the settings of each tier: ``(samples, tiers)``, NaN where there is none."""
        return self._means(values_P, self.setting_P // (self.num_settings // self.num_tiers), self.num_tiers)

    def runs(self, values_P: Array) -> Array:
        """Return each cell's runs side by side: ``(samples, settings, runs)``, NaN behind the last one."""
        shape = (len(self.first_row_N), self.num_settings, int(self.run_P.max()) + 1)
        values_NSR = np.full(shape, np.nan)
        values_NSR[self.sample_P, self.setting_P, self.run_P] = values_P
        return values_NSR

    def _means(self, values_P: Array, group_P: Codes, num_groups: int) -> Array:
        shape = (len(self.first_row_N), num_groups)
        is_there = np.isfinite(values_P)
        cell = (self.sample_P * num_groups + group_P)[is_there]
        size = shape[0] * shape[1]
        counts = np.bincount(cell, minlength=size)
        sums = np.bincount(cell, weights=values_P[is_there], minlength=size)
        means = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
        return np.asarray(means.reshape(shape), dtype=np.float64)


def cells_of(table: ProfileTable, grid: KnobGrid, key: Sequence[str]) -> Cells:
    """Sort rows into cells.

    Args:
        table: The rows.
        grid: The settings.
        key: Columns that together name a sample.

    Raises:
        ProfileError: If a row is of no setting of the grid, a setting has no row, or a run is there twice.
    """
    sample_P, first_row_N = _number(table, key)
    setting_P = _settings(table, grid)
    num_settings = len(grid.settings())
    _check_settings(setting_P, grid)
    run_id = table.numbers("run_id").astype(np.int64)
    cell_P = sample_P * num_settings + setting_P
    order = np.lexsort((run_id, cell_P))
    cell, run = cell_P[order], run_id[order]
    is_repeated = (cell[1:] == cell[:-1]) & (run[1:] == run[:-1])
    if is_repeated.any():
        row = int(order[1:][is_repeated][0])
        name = table.columns["sample_id"][row].as_py()
        raise ProfileError(f"run_id: sample {name!r} has run {run_id[row]} twice at {_words(grid, setting_P[row])}")
    starts = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
    run_P = np.empty(len(cell), dtype=np.int64)
    run_P[order] = np.arange(len(cell)) - np.repeat(starts, np.diff(np.r_[starts, len(cell)]))
    return Cells(
        sample_P=sample_P,
        setting_P=setting_P,
        run_P=run_P,
        first_row_N=first_row_N,
        num_settings=num_settings,
        num_tiers=len(grid.tiers),
    )


def _number(table: ProfileTable, key: Sequence[str]) -> tuple[Codes, Codes]:
    """Number the samples in order of first appearance; return each row's number and each sample's first row."""
    combined = np.zeros(len(table), dtype=np.int64)
    for name in key:
        codes, texts = table.codes(name)
        combined = combined * (len(texts) + 1) + codes + 1
    _, first, inverse = np.unique(combined, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], first[order]


def _settings(table: ProfileTable, grid: KnobGrid) -> Codes:
    """Return the setting of each row."""
    codes, names = table.codes("tier")
    tiers = [tier.name for tier in grid.tiers]
    counts = tuple(grid.blocks_by_count)
    tier_P = np.asarray([tiers.index(name) if name in tiers else -1 for name in names])[codes]
    top_k_P = _places(table.numbers("top_k"), grid.top_k)
    count_P = _places(table.numbers("num_active_blocks"), counts)
    for knob, places, levels in (
        ("tier", tier_P, tiers),
        ("top_k", top_k_P, grid.top_k),
        ("num_active_blocks", count_P, counts),
    ):
        if (places < 0).any():
            value = table.columns[knob][int(np.flatnonzero(places < 0)[0])].as_py()
            raise ProfileError(f"{knob}: the grid has {', '.join(map(str, levels))}, the profile has {value!r}")
    setting_P: Codes = (tier_P * len(grid.top_k) + top_k_P) * len(counts) + count_P
    return setting_P


def _places(values_P: Array, levels: Sequence[int]) -> Codes:
    """Return the place of each value among the levels, -1 where it is none."""
    is_level = values_P[:, None] == np.asarray(levels)
    return np.where(is_level.any(axis=1), is_level.argmax(axis=1), -1)


def _check_settings(setting_P: Codes, grid: KnobGrid) -> None:
    settings = grid.settings()
    missing = sorted(set(range(len(settings))) - set(np.unique(setting_P).tolist()))
    if missing:
        raise ProfileError(
            f"profile: lacks {len(missing)} of the {len(settings)} settings of its grid, "
            f"first {_words(grid, missing[0])}"
        )


def _words(grid: KnobGrid, setting: int) -> str:
    found = grid.settings()[setting]
    return f"tier {found.tier}, top_k {found.top_k}, {found.num_active_blocks} active blocks"
