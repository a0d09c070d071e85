"""How fast the profile's data module is with a million rows."""

import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from datamodules.profile import ProfileDataModule, RowBatches
from profiling.clock import CALL, StageClock, measure
from profiling.records import read_profiles, write_profile
from profiling.statistics import summarize
from profiling.table import ProfileTable


def bench_data(
    files: list[str],
    *,
    num_rows: int = 1_000_000,
    batch_size: int = 4096,
    noise: float = 0.02,
    seed: int = 42,
    num_threads: int = 1,
    repeats: int = 5,
) -> None:
    """Time reading, splitting and batching a profile resampled to a million rows.

    Args:
        files: Profile files of one device to resample from.
        num_rows: How many rows to make.
        batch_size: Rows in a training batch.
        noise: Standard deviation of the factor, in log space, that each row's times are multiplied by.
        seed: Of the resampling.
        num_threads: Threads of torch.
        repeats: How often either is timed, after once untimed.

    Raises:
        ValueError: If a file is bad, or nothing would be timed.
    """
    torch.set_num_threads(num_threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resampled.parquet"
        write_profile(resample(read_profiles(files), num_rows=num_rows, noise=noise, seed=seed), path)
        ready = partial(_ready, path, batch_size)
        tasks: dict[str, Callable[[], object]] = {
            "read, check, split, ready to batch": ready,
            f"one epoch at batch {batch_size}": partial(deque, ready(), maxlen=0),
        }
        samples_ms = {
            name: measure(task, clock=StageClock("cpu"), warmup=1, repeats=repeats)[CALL]
            for name, task in tasks.items()
        }
    title = f"{num_rows:,} rows, n = {repeats}, {num_threads} threads of torch"
    table = Table("seconds", "p50", "min", "max", title=title)
    for name, task_ms in samples_ms.items():
        summary = summarize(task_ms)
        table.add_row(name, *(f"{ms / 1e3:.3f}" for ms in (summary.p50, summary.min, summary.max)))
    Console().print(table)


def _ready(path: Path, batch_size: int) -> RowBatches:
    data = ProfileDataModule([str(path)], batch_size=batch_size)
    data.setup("fit")
    return data.train_dataloader()


def resample(table: ProfileTable, *, num_rows: int, noise: float, seed: int) -> ProfileTable:
    """Draw rows with replacement and multiply all times of a row by one random factor."""
    rng = np.random.default_rng(seed)
    drawn = table.take(rng.integers(len(table), size=num_rows))
    factor = np.exp(rng.normal(0, noise, size=num_rows))
    columns = drawn.columns
    for i, field in enumerate(columns.schema):
        if field.name.endswith("_ms"):
            values = pa.array(drawn.numbers(field.name) * factor, from_pandas=True)
            columns = columns.set_column(i, field, values)
    return replace(drawn, columns=columns)
