"""Measured profiles as batches for the latency estimator."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from datamodules.processes import rank_and_world
from models.latency_estimator import TARGETS, LatencyRows
from models.latency_terms import FEATURES
from profiling.latency_rows import base_coefficients, latency_rows, model_shape
from profiling.records import read_profiles
from profiling.splits import ProfileSplit, split_profile
from profiling.table import ProfileTable, concat

_WIDTHS = (len(FEATURES), len(TARGETS), 2)


class RowBatches:
    """Batches cut from rows in memory, one indexing each; every process of a distributed run gets its part.

    Training batches are dealt from one permutation that all processes share, so that N processes with batches of B do
    what one would do with N x B; an incomplete last batch is left out unless it is the only one. Other batches keep the
    order and every row, once.

    Args:
        rows: What to cut.
        batch_size: Rows in a process's batch.
        shuffle_seed: Seed of the permutation, with the epoch's number; ``None`` keeps the order.
    """

    def __init__(self, rows: LatencyRows, *, batch_size: int, shuffle_seed: int | None) -> None:
        codes = torch.stack([rows.device, rows.group], dim=1)
        # One float matrix is indexed once a batch; device and group are small enough to be exact in it.
        self._packed = torch.cat([rows.features, rows.target_ms, codes], dim=1)
        self._batch_size = batch_size
        self._shuffle_seed = shuffle_seed
        self._epoch = 0

    # Lightning looks for `set_epoch` behind these two names.
    batch_sampler = None

    @property
    def sampler(self) -> "RowBatches":
        """What chooses the rows of an epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation."""
        self._epoch = epoch

    def __len__(self) -> int:
        num_rows = len(self._packed)
        rank, world = rank_and_world()
        if self._shuffle_seed is None:
            own_rows = num_rows // world + (rank < num_rows % world)
            return math.ceil(own_rows / self._batch_size)
        return max(1, num_rows // (self._batch_size * world))

    def __iter__(self) -> Iterator[LatencyRows]:
        rank, world = rank_and_world()
        if self._shuffle_seed is None:
            for batch in self._packed.tensor_split(world)[rank].split(self._batch_size):
                yield _unpack(batch)
            return
        generator = torch.Generator().manual_seed(self._shuffle_seed + self._epoch)
        order = torch.randperm(len(self._packed), generator=generator)
        for step in order.split(self._batch_size * world)[: len(self)]:
            yield _unpack(self._packed.index_select(0, step.tensor_split(world)[rank]))


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What was read: rows in file order, codes that the split needs, and the devices."""

    rows: LatencyRows
    image: np.ndarray
    setting: np.ndarray
    is_test_only: np.ndarray
    devices: list[str]
    shapes: list[dict[str, int]]


class ProfileDataModule(LightningDataModule):
    """Read profiles, split them by image and by knob setting, hand out batches of ``LatencyRows``.

    An image's rows all train, all calibrate or all test, on every device and dataset together. A share of the knob
    settings is held out of training on top. Test batches name each row's group, ``profiling.splits.TEST_GROUPS``.

    Args:
        files: Profile files, folders or glob patterns.
        results_dir: Folder of result files by dataset, in place of ``files`` or beside them.
        dataset_names: Which datasets to read from ``results_dir``.
        held_out_files: Files that only test; their images or settings must not be trained on.
        train_split: Share of images that train.
        val_split: Share of images that stop the training and calibrate; the rest test.
        held_out_settings_fraction: Share of knob settings that never train.
        split_seed: Of the split and of the order of training batches.
        batch_size: Rows in a batch of each process.
        strict: Raise at a bad row, or skip it and log how many and why.
        allow_mixed_devices: Read profiles of several devices together.

    Raises:
        ValueError: If the batch size is not positive; when reading, if a file is bad or the split leaves a part empty.
    """

    def __init__(
        self,
        files: list[str] | None = None,
        *,
        results_dir: str | None = None,
        dataset_names: list[str] | None = None,
        held_out_files: list[str] | None = None,
        train_split: float = 0.8,
        val_split: float = 0.1,
        held_out_settings_fraction: float = 0.1,
        split_seed: int = 42,
        batch_size: int = 64,
        strict: bool = True,
        allow_mixed_devices: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size: must be 1 or more, got {batch_size}")
        self.files = files or []
        self.results_dir = results_dir
        self.dataset_names = dataset_names or []
        self.held_out_files = held_out_files or []
        self.train_split = train_split
        self.val_split = val_split
        self.held_out_settings_fraction = held_out_settings_fraction
        self.split_seed = split_seed
        self.batch_size = batch_size
        self.strict = strict
        self.allow_mixed_devices = allow_mixed_devices

    def __str__(self) -> str:
        """Name the files, as errors do. Lightning would size the loaders, which it can only of its own kind."""
        return f"{type(self).__name__}({', '.join(map(str, self.files))})"

    @property
    def devices(self) -> list[str]:
        """Labels of the devices in the profiles; reads the files when first asked."""
        return self._source.devices

    @property
    def shapes(self) -> list[dict[str, int]]:
        """For each device the numbers of the model that was measured there."""
        return self._source.shapes

    @cached_property
    def coefficients(self) -> list[list[list[float]]]:
        """Where the estimator's physical base starts, fitted to the training rows."""
        return base_coefficients(self.training_rows, self.shapes)

    @cached_property
    def training_rows(self) -> LatencyRows:
        """The rows that train, in file order."""
        return _select(self._source.rows, self._split.train)

    @cached_property
    def validation_rows(self) -> LatencyRows:
        """The rows that stop the training and calibrate."""
        return _select(self._source.rows, self._split.val)

    @cached_property
    def test_rows(self) -> LatencyRows:
        """The rows that test, with their group."""
        group = torch.from_numpy(self._split.test_group)
        return _select(self._source.rows._replace(group=group), self._split.test_group >= 0)

    def setup(self, stage: str) -> None:
        """Read and split, once whatever the stages."""
        _ = self._split

    def train_dataloader(self) -> RowBatches:
        """Return shuffled training batches."""
        return RowBatches(self.training_rows, batch_size=self.batch_size, shuffle_seed=self.split_seed)

    def val_dataloader(self) -> RowBatches:
        """Return the validation rows in large batches."""
        return self._in_order(self.validation_rows)

    def test_dataloader(self) -> RowBatches:
        """Return the test rows in large batches."""
        return self._in_order(self.test_rows)

    def predict_dataloader(self) -> RowBatches:
        """Return every row of every file, in order."""
        return self._in_order(self._source.rows)

    def _in_order(self, rows: LatencyRows) -> RowBatches:
        return RowBatches(rows, batch_size=max(self.batch_size, 4096), shuffle_seed=None)

    @cached_property
    def _source(self) -> _Source:
        main = read_profiles(
            self.files,
            results_dir=self.results_dir,
            dataset_names=self.dataset_names,
            strict=self.strict,
            allow_mixed_devices=self.allow_mixed_devices,
        )
        mixed = self.allow_mixed_devices
        tables = {"files": main}
        if self.held_out_files:
            held_out = read_profiles(self.held_out_files, strict=self.strict, allow_mixed_devices=mixed)
            tables["held_out_files"] = held_out
        table = concat(list(tables.values()), names=list(tables), allow_mixed_devices=mixed)
        devices = table.codes("device")[1]
        return _Source(
            rows=latency_rows(table),
            image=table.codes("image_id")[0],
            setting=_setting_codes(table),
            is_test_only=np.arange(len(table)) >= len(main),
            devices=devices,
            shapes=[model_shape(table.environments[device]).to_mapping() for device in devices],
        )

    @cached_property
    def _split(self) -> ProfileSplit:
        return split_profile(
            self._source.image,
            self._source.setting,
            self._source.is_test_only,
            train_fraction=self.train_split,
            val_fraction=self.val_split,
            held_out_settings_fraction=self.held_out_settings_fraction,
            seed=self.split_seed,
        )


def _setting_codes(table: ProfileTable) -> np.ndarray:
    knobs = np.column_stack([table.codes("tier")[0], table.numbers("top_k"), table.numbers("num_active_blocks")])
    # A mixed-radix number is much faster to compare than rows.
    codes = np.zeros(len(knobs), dtype=np.int64)
    for knob in knobs.astype(np.int64).T:
        codes = codes * (int(knob.max()) + 1) + knob
    return codes


def _select(rows: LatencyRows, mask: np.ndarray) -> LatencyRows:
    index = torch.from_numpy(np.flatnonzero(mask))
    return LatencyRows(*(column.index_select(0, index) for column in rows))


def _unpack(packed: Tensor) -> LatencyRows:
    features, target_ms, codes = packed.split(_WIDTHS, dim=1)
    device, group = codes.long().unbind(dim=1)
    return LatencyRows(features=features, device=device, target_ms=target_ms, group=group)
