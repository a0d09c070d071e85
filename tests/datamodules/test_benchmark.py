from pathlib import Path

import numpy as np
import pytest

from datamodules.benchmark import bench_data, resample
from profiling.records import write_profile
from tests.profile_law import profile_table


def test_resampled_rows_are_scaled_as_a_whole() -> None:
    table = profile_table(num_images=5)
    drawn = resample(table, num_rows=1000, noise=0.1, seed=0)
    assert len(drawn) == 1000
    ratio = drawn.numbers("total_ms") / drawn.numbers("prefill_ms")
    original = table.numbers("total_ms") / table.numbers("prefill_ms")
    assert np.abs(ratio[:, None] - original).min(axis=1).max() < 1e-9


def test_the_benchmark_prints_both_figures(capsys: pytest.CaptureFixture[str]) -> None:
    write_profile(profile_table(num_images=20), Path("profile.parquet"))
    bench_data(["profile.parquet"], num_rows=2000, batch_size=256)
    printed = capsys.readouterr().out
    assert "2,000 rows" in printed
    assert "ready to batch" in printed
    assert "one epoch at batch 256" in printed
