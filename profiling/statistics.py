"""What is said about raw latency samples: summaries. All times are milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LatencySummary:
    """Summary of samples in milliseconds.

    Args:
        count: Number of samples.
        mean: Mean.
        std: Sample standard deviation; NaN for a single sample.
        p50: Median. Percentiles are interpolated linearly.
        p90: 90th percentile.
        p95: 95th percentile.
        p99: 99th percentile.
        min: Smallest sample.
        max: Largest sample.
    """

    count: int
    mean: float
    std: float
    p50: float
    p90: float
    p95: float
    p99: float
    min: float
    max: float


def summarize(samples_ms: Samples) -> LatencySummary:
    """Summarize samples.

    Raises:
        ValueError: If there are none, or one is not finite.
    """
    values = _checked(samples_ms)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, [50, 90, 95, 99]))
    return LatencySummary(
        count=len(values),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        min=float(values.min()),
        max=float(values.max()),
    )


def _checked(samples_ms: Samples) -> NDArray[np.float64]:
    values = np.asarray(samples_ms, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"samples: needs 1 or more in one row, got shape {values.shape}")
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"samples[{index}]: must be finite, got {values[index]}")
    return values
