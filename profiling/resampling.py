"""How sure a number is: bootstrap intervals over samples."""

# Shape suffixes: S = samples, K = blocks or other things scored on the same samples, R = resamplings.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLINGS = 2000
_TAIL_PERCENT = 2.5

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its 95 % interval.

    Args:
        value: The number.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def resampled_means(values_SK: Array, *, seed: int) -> Array:
    """Draw samples with replacement and take their means, all columns from the same draw: ``(resamplings, columns)``.

    Args:
        values_SK: ``(samples, columns)``.
        seed: Of the draws.

    Raises:
        ValueError: If there are no samples.
    """
    if len(values_SK) == 0:
        raise ValueError("values: needs at least one sample, got none")
    means_RK: Array = resampled_counts(len(values_SK), seed=seed) @ values_SK / len(values_SK)
    return means_RK


def resampled_counts(num_samples: int, *, seed: int) -> NDArray[np.int64]:
    """Draw as many samples with replacement, and count how often each came: ``(resamplings, samples)``."""
    shares_S = np.full(num_samples, 1 / num_samples)
    return np.random.default_rng(seed).multinomial(num_samples, shares_S, size=NUM_RESAMPLINGS)


def percentile_interval(value: float, draws_R: Array, *, tail_percent: float = _TAIL_PERCENT) -> Interval | None:
    """Return the interval that leaves out a tail of the draws on either side, so that it holds 95 % of them.

    ``None`` where the number or all draws are undefined.
    """
    defined = draws_R[np.isfinite(draws_R)]
    if not np.isfinite(value) or len(defined) == 0:
        return None
    low, high = np.percentile(defined, [tail_percent, 100 - tail_percent])
    return Interval(value=float(value), low=float(low), high=float(high))


def mean_intervals(values_SK: Array, *, seed: int) -> list[Interval]:
    """Return the mean of each column with its interval over samples."""
    draws_RK = resampled_means(values_SK, seed=seed)
    found = [percentile_interval(mean, draws) for mean, draws in zip(values_SK.mean(axis=0), draws_RK.T, strict=True)]
    assert all(interval is not None for interval in found), "results hold finite values only"
    return [interval for interval in found if interval is not None]
