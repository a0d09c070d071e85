"""What happened to every sample under every knob setting: the tables that controllers learn from and are judged by."""

# Shape suffixes: N = samples, S = settings in the order of `grid.settings()`, R = runs of a cell, T = tiers.

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.knobs import KnobGrid, KnobSetting
from profiling.controllers.cells import Cells, cells_of
from profiling.controllers.measured_grid import full_setting, measured_grid
from profiling.records import read_profiles
from profiling.schema import PART_NAMES, AnswerRecord, Environment, ProfileError, ProfileRecord
from profiling.table import ProfileTable

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]

KEY: Final = ("dataset", "split", "sample_id")
"""What names a sample."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """The outcome of every setting for every sample. A cell that was not measured is NaN, and stays so.

    Args:
        grid: The settings; tables have a column for each, in the order of ``grid.settings()``.
        environment: Where the profile was measured.
        full_setting: Column of the model as released: highest tier, trained top_k, every block.
        samples: A row a sample: ``dataset``, ``split``, ``sample_id``, ``image_id``, ``question`` (texts, empty where
            the profile has none), ``image_width`` and ``image_height`` (pixels, NaN where unknown).
        accuracy_NS: ``(samples, settings)``, 0 to 1, mean over runs.
        latency_runs_NSR: ``(samples, settings, runs)``: milliseconds from raw input to last token. A cell with fewer
            runs than others ends in NaN; all is NaN, here and in other times, where samples were answered untimed.
        output_tokens_NS: ``(samples, settings)``, mean over runs.
        before_decode_ms_NS: ``(samples, settings)``: preprocessing, vision, connector and prefill, mean over runs.
        prefill_ms_NS: ``(samples, settings)``, mean over runs.
        token_ms_NS: ``(samples, settings)``: a decode step, mean over runs; NaN where one token was the answer.
        preprocess_ms_NT: ``(samples, tiers)``: cutting the image and making ids, mean over settings and runs.
        vision_done_ms_NT: ``(samples, tiers)``: time until the vision tokens are there, mean over settings and runs.
        vision_tokens_NT: ``(samples, tiers)``; NaN where the tier was not measured.
        text_tokens_NT: ``(samples, tiers)``: ids that are no vision tokens, those that lay out the image included.
    """

    grid: KnobGrid
    environment: Environment
    full_setting: int
    samples: pd.DataFrame
    accuracy_NS: Array
    latency_runs_NSR: Array
    output_tokens_NS: Array
    before_decode_ms_NS: Array
    prefill_ms_NS: Array
    token_ms_NS: Array
    preprocess_ms_NT: Array
    vision_done_ms_NT: Array
    vision_tokens_NT: Array
    text_tokens_NT: Array

    def __len__(self) -> int:
        return len(self.accuracy_NS)

    @cached_property
    def settings(self) -> tuple[KnobSetting, ...]:
        """The setting of each column."""
        return tuple(self.grid.settings())

    @cached_property
    def is_measured_NS(self) -> Mask:
        """``(samples, settings)``: which cells have an outcome."""
        return np.isfinite(self.accuracy_NS)

    @cached_property
    def latency_ms_NS(self) -> Array:
        """``(samples, settings)``: mean over runs."""
        return _mean(self.latency_runs_NSR)

    @cached_property
    def realised_ms_NS(self) -> Array:
        """``(samples, settings)``: the last run of each cell, the one request that a policy is judged by."""
        last_NS = np.isfinite(self.latency_runs_NSR).sum(axis=2).clip(min=1) - 1
        realised: Array = np.take_along_axis(self.latency_runs_NSR, last_NS[:, :, None], axis=2)[:, :, 0]
        return realised

    @cached_property
    def repeated_ms_NS(self) -> Array:
        """``(samples, settings)``: mean of the runs other than the realised one; the realised one if it is alone."""
        counts_NS = np.isfinite(self.latency_runs_NSR).sum(axis=2)
        others = np.arange(self.latency_runs_NSR.shape[2]) < counts_NS[:, :, None] - 1
        mean_ms_NS = _mean(np.where(others, self.latency_runs_NSR, np.nan))
        return np.where(counts_NS > 1, mean_ms_NS, self.realised_ms_NS)

    def goodput_NS(self, budget_ms: float) -> Array:
        """``(samples, settings)``: accuracy times the share of runs in time; NaN where nothing was measured."""
        return self.accuracy_NS * _mean(_within(self.latency_runs_NSR, budget_ms))

    def realised_goodput_NS(self, budget_ms: float) -> Array:
        """``(samples, settings)``: accuracy if the realised run is in time, else 0; NaN where nothing was measured."""
        return self.accuracy_NS * _within(self.realised_ms_NS, budget_ms)

    def take(self, rows: Codes | Mask) -> "Outcomes":
        """Return some samples, given by index or by a mask."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in _arrays(self)}
        return replace(self, samples=self.samples.loc[rows].reset_index(drop=True), **arrays)


def join_outcomes(parts: Sequence[Outcomes]) -> Outcomes:
    """Put parts of one profile together, one behind the other; the environment is the first one's."""
    most = max(part.latency_runs_NSR.shape[2] for part in parts)
    parts = [replace(part, latency_runs_NSR=_with_runs(part.latency_runs_NSR, most)) for part in parts]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in _arrays(parts[0])
    }
    return replace(parts[0], samples=pd.concat([part.samples for part in parts], ignore_index=True), **arrays)


def read_outcomes(
    files: Sequence[Path | str], *, dataset_names: Sequence[str] = (), record: type[AnswerRecord] = ProfileRecord
) -> Outcomes:
    """Read profiles of one model on one device.

    Args:
        files: Profile files, folders or glob patterns.
        dataset_names: Keep these datasets only; all if empty.
        record: What rows must be, see ``read_profile``.

    Raises:
        ProfileError: If a file is bad, a dataset is not there, devices are mixed, or see ``outcomes_of``.
    """
    table = read_profiles(files, record=record)
    if dataset_names:
        codes, names = table.codes("dataset")
        strange = sorted(set(dataset_names) - set(names))
        if strange:
            raise ProfileError(f"dataset_names: the profile has {', '.join(names)}, got {strange[0]!r}")
        table = table.take(np.isin(codes, [names.index(name) for name in dataset_names]))
    return outcomes_of(table)


def outcomes_of(table: ProfileTable, grid: KnobGrid | None = None) -> Outcomes:
    """Lay out the rows of a profile by sample and setting. Rows without an accuracy say nothing and are left out.

    The latency is preprocessing and the total, which begins after it; where a file has no total, its components' sum.
    Rows without times have none of them.

    Args:
        table: Rows of one device.
        grid: The settings; those of the rows if ``None``.

    Raises:
        ProfileError: If devices are mixed, no row has an accuracy or one is no share of 1, a setting of the grid was
            never measured, a row is of no setting of the grid, or a run is there twice.
    """
    environment = table.environment
    table = table.take(_is_answered(table))
    grid = grid or measured_grid(table)
    cells = cells_of(table, grid, KEY)
    parts_ms = {name: table.numbers(name) for name in PART_NAMES}
    is_timed = np.isfinite(parts_ms["prefill_ms"])
    preprocess_ms = np.where(is_timed, np.nan_to_num(table.numbers("preprocess_ms")), np.nan)
    parts_ms["projector_ms"] = np.nan_to_num(parts_ms["projector_ms"])
    vision_done_ms = preprocess_ms + parts_ms["vision_encoder_ms"] + parts_ms["projector_ms"]
    total_ms = table.numbers("total_ms")
    total_ms = np.where(np.isfinite(total_ms), total_ms, np.sum(list(parts_ms.values()), axis=0))
    return Outcomes(
        grid=grid,
        environment=environment,
        full_setting=full_setting(grid, environment),
        samples=_samples(table, cells),
        accuracy_NS=cells.means(table.numbers("accuracy")),
        latency_runs_NSR=cells.runs(preprocess_ms + total_ms),
        output_tokens_NS=cells.means(table.numbers("output_tokens")),
        before_decode_ms_NS=cells.means(vision_done_ms + parts_ms["prefill_ms"]),
        prefill_ms_NS=cells.means(parts_ms["prefill_ms"]),
        token_ms_NS=cells.means(table.numbers("decode_per_token_ms")),
        preprocess_ms_NT=cells.tier_means(preprocess_ms),
        vision_done_ms_NT=cells.tier_means(vision_done_ms),
        vision_tokens_NT=cells.tier_means(table.numbers("vision_tokens")),
        text_tokens_NT=cells.tier_means(table.numbers("text_tokens")),
    )


def _arrays(outcomes: Outcomes) -> list[str]:
    """Name the tables, which all have a row a sample."""
    return [field.name for field in fields(outcomes) if isinstance(getattr(outcomes, field.name), np.ndarray)]


def _is_answered(table: ProfileTable) -> Mask:
    accuracy = table.numbers("accuracy")
    is_answered = np.isfinite(accuracy)
    if not is_answered.any():
        raise ProfileError("accuracy: no row of the profile has one; profile a dataset with answers")
    if (accuracy[is_answered] > 1).any():
        row = int(np.flatnonzero(accuracy > 1)[0])
        raise ProfileError(f"accuracy: row {row}: must be a share of 1 to be weighed against time, got {accuracy[row]}")
    return is_answered


def _samples(table: ProfileTable, cells: Cells) -> pd.DataFrame:
    first = table.take(cells.first_row_N)
    texts = [*KEY, "image_id", "question"]
    columns = first.to_pandas()[[*texts, "image_width", "image_height"]]
    columns[texts] = columns[texts].fillna("")
    return columns.astype({"image_width": np.float64, "image_height": np.float64})


def _with_runs(latency_runs_NSR: Array, num_runs: int) -> Array:
    """Add runs that were not made."""
    missing = num_runs - latency_runs_NSR.shape[2]
    return np.pad(latency_runs_NSR, ((0, 0), (0, 0), (0, missing)), constant_values=np.nan)


def _within(latency_ms: Array, budget_ms: float) -> Array:
    """Return 1 where a latency is within the budget, 0 where not, NaN where there is none."""
    return np.where(np.isfinite(latency_ms), latency_ms <= budget_ms, np.nan)


def _mean(runs_NSR: Array) -> Array:
    """Average over the runs that are there; NaN where there is none."""
    counts_NS = np.isfinite(runs_NSR).sum(axis=2)
    sums_NS = np.nansum(runs_NSR, axis=2)
    means_NS: Array = np.divide(sums_NS, counts_NS, out=np.full(counts_NS.shape, np.nan), where=counts_NS > 0)
    return means_NS
