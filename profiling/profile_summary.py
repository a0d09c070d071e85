"""The table that a profile ends with: how long each component takes, and how far two equal runs lie apart."""

from typing import Final

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from profiling.profile_plots import caption
from profiling.profiler import KEY_FIELDS
from profiling.statistics import summarize
from profiling.table import ProfileTable

TIMES: Final = (
    "preprocess_ms",
    "vision_encoder_ms",
    "projector_ms",
    "prefill_ms",
    "decode_per_token_ms",
    "total_ms",
)
KNOBS: Final = ("tier", "top_k", "num_active_blocks")


def noise_floor_pct(records: pd.DataFrame, column: str) -> float | None:
    """Return how far a run lies from the mean of the runs of the same request and setting, in percent, on average.

    No estimator that sees only request and setting can have a smaller mean absolute percentage error than about this.
    ``None`` if nothing was measured twice.
    """
    measured = records.dropna(subset=[column])
    group = [field for field in KEY_FIELDS if field != "run_id"]
    runs = measured.groupby(group, dropna=False)[column]
    num_runs = runs.transform("size").to_numpy()
    mean_ms = runs.transform("mean").to_numpy()
    several = num_runs > 1
    if not several.any():
        return None
    distance = np.abs(measured[column].to_numpy() - mean_ms)[several] / mean_ms[several]
    # The mean of n runs contains the run itself, which pulls it nearer by sqrt((n - 1) / n).
    return float(np.mean(distance / np.sqrt(1 - 1 / num_runs[several])) * 100)


def print_summary(table: ProfileTable, console: Console) -> None:
    """Print the distribution of each time over a profile, and how right the answers are if there are any."""
    records = table.to_pandas()
    summary = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    summary.add_column("milliseconds", no_wrap=True)
    for heading in ("n", "p50", "p90", "p95", "p99", "mean", "std", "noise %"):
        summary.add_column(heading, justify="right", no_wrap=True)
    for column in TIMES:
        samples_ms = records[column].dropna().to_numpy()
        if len(samples_ms) == 0:
            continue
        row = summarize(samples_ms)
        noise_pct = noise_floor_pct(records, column)
        figures = (row.p50, row.p90, row.p95, row.p99, row.mean, row.std)
        summary.add_row(
            column.removesuffix("_ms"),
            str(len(samples_ms)),
            *(f"{figure:.2f}" for figure in figures),
            "-" if noise_pct is None else f"{noise_pct:.2f}",
        )
    console.print(caption(table.environment, len(records)))
    console.print(summary)
    console.print("noise: how far a run lies from the others of the same request and setting, on average")
    by_setting = records.groupby(list(KNOBS))["accuracy"].mean().dropna()
    if len(by_setting):
        low, high = by_setting.min(), by_setting.max()
        console.print(
            f"accuracy: {records['accuracy'].mean():.3f}, {low:.3f} to {high:.3f} over {len(by_setting)} settings"
        )
