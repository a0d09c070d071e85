"""How fast the profile's data module is with a million rows."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from datamodules.profile import ProfileDataModule
from profiling.records import read_profiles, write_profile
from profiling.table import ProfileTable


def bench_data(
    files: list[str],
    *,
    num_rows: int = 1_000_000,
    batch_size: int = 4096,
    noise: float = 0.02,
    seed: int = 42,
    num_threads: int = 1,
) -> None:
    """Time reading, splitting and batching a profile resampled to a million rows.

    Args:
        files: Profile files of one device to resample from.
        num_rows: How many rows to make.
        batch_size: Rows in a training batch.
        noise: Standard deviation of the factor, in log space, that each row's times are multiplied by.
        seed: Of the resampling.
        num_threads: Threads of torch.

    Raises:
        ValueError: If a file is bad.
    """
    torch.set_num_threads(num_threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resampled.parquet"
        write_profile(resample(read_profiles(files), num_rows=num_rows, noise=noise, seed=seed), path)
        start_s = time.perf_counter()
        data = ProfileDataModule([str(path)], batch_size=batch_size)
        data.setup("fit")
        batches = data.train_dataloader()
        ready_s = time.perf_counter() - start_s
        start_s = time.perf_counter()
        num_seen = sum(len(batch.features) for batch in batches)
        epoch_s = time.perf_counter() - start_s
    table = Table("what", "seconds", title=f"{num_rows:,} rows, {num_seen:,} of them train")
    table.add_row("read, check, split, ready to batch", f"{ready_s:.2f}")
    table.add_row(f"one epoch at batch {batch_size}", f"{epoch_s:.2f}")
    Console().print(table)


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
