"""What is said about raw latency samples: summaries, intervals, the noise floor. All times are milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

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


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate between its bounds.

    Args:
        low: Lower bound.
        estimate: Value of the samples themselves.
        high: Upper bound.
        confidence: Share of repetitions whose interval would hold the true value.
    """

    low: float
    estimate: float
    high: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """How much one thing, measured as if it were two, seems to differ.

    Args:
        median_difference_fraction: Distance of the two medians, relative to their mean.
        variation_fraction: Coefficient of variation inside a series, as root mean square of both.
    """

    median_difference_fraction: float
    variation_fraction: float


def summarize(samples_ms: Samples) -> LatencySummary:
    """Summarize samples.

    Raises:
        ValueError: If there are none, or one is not finite.
    """
    values = _checked(samples_ms, at_least=1)
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


def percentile_interval(
    samples_ms: Samples, percentile: float, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Bootstrap an interval of a percentile. The samples must be independent: resample requests, not their repeats.

    Args:
        samples_ms: At least two.
        percentile: 0 to 100.
        confidence: Confidence of the interval, above 0 and below 1.
        num_resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If there are too few samples, one is not finite, or an argument is out of range.
    """
    values = _checked(samples_ms, at_least=2)
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile: must be 0 to 100, got {percentile}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must be above 0 and below 1, got {confidence}")

    def statistic(resampled: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(np.percentile(resampled, percentile, axis=axis))

    # The bias-corrected bootstrap needs a smooth statistic; a percentile of few samples is not one.
    result = bootstrap(
        (values,),
        statistic,
        vectorized=True,
        n_resamples=num_resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(
        low=float(result.low),
        estimate=float(np.percentile(values, percentile)),
        high=float(result.high),
        confidence=confidence,
    )


def aa_noise_floor(samples_a_ms: Samples, samples_b_ms: Samples) -> NoiseFloor:
    """Compare two interleaved series of the same thing: a real effect must be larger than what this finds.

    Raises:
        ValueError: If a series has fewer than two samples, one is not finite, or all are zero.
    """
    a, b = _checked(samples_a_ms, at_least=2), _checked(samples_b_ms, at_least=2)
    center_ms = (np.median(a) + np.median(b)) / 2
    if center_ms <= 0 or a.mean() <= 0 or b.mean() <= 0:
        raise ValueError("samples: relative noise needs times above 0 ms")
    variations = [series.std(ddof=1) / series.mean() for series in (a, b)]
    return NoiseFloor(
        median_difference_fraction=float(abs(np.median(a) - np.median(b)) / center_ms),
        variation_fraction=float(np.sqrt(np.mean(np.square(variations)))),
    )


def _checked(samples_ms: Samples, *, at_least: int) -> NDArray[np.float64]:
    values = np.asarray(samples_ms, dtype=np.float64)
    if values.ndim != 1 or len(values) < at_least:
        raise ValueError(f"samples: needs {at_least} or more in one row, got shape {values.shape}")
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"samples[{index}]: must be finite, got {values[index]}")
    return values
