"""How sure a number is: bootstrap intervals over samples."""

# Shape suffixes: S = samples, C = clusters of them, K = blocks or other things scored on the same samples,
# R = resamplings.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLINGS = 2000
_TAIL_PERCENT = 2.5
_MOST_COUNTS = 10_000_000  # at once: 80 MB, and as much again while they are multiplied

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

    def signed(self) -> str:
        """Return the words for a difference: all three with their signs."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def resampled_means(values_SK: Array, *, seed: int, num_resamplings: int = NUM_RESAMPLINGS) -> Array:
    """Draw samples with replacement and take their means, all columns from the same draw: ``(resamplings, columns)``.

    Args:
        values_SK: ``(samples, columns)``.
        seed: Of the draws.
        num_resamplings: How often samples are drawn anew.

    Raises:
        ValueError: If there are no samples.
    """
    num_samples = len(values_SK)
    if num_samples == 0:
        raise ValueError("values: needs at least one sample, got none")
    generator, at_once = np.random.default_rng(seed), max(1, _MOST_COUNTS // num_samples)
    sums_RK = [
        resampled_counts(num_samples, seed=generator, num_resamplings=min(at_once, num_resamplings - first)) @ values_SK
        for first in range(0, num_resamplings, at_once)
    ]
    means_RK: Array = np.concatenate(sums_RK) / num_samples
    return means_RK


def resampled_counts(
    num_samples: int, *, seed: int | np.random.Generator, num_resamplings: int = NUM_RESAMPLINGS
) -> NDArray[np.int64]:
    """Draw as many samples with replacement, and count how often each came: ``(resamplings, samples)``.

    A generator is drawn on from where it is, so that parts are what they would be in one go.
    """
    shares_S = np.full(num_samples, 1 / num_samples)
    return np.random.default_rng(seed).multinomial(num_samples, shares_S, size=num_resamplings)


def cluster_means(
    values_SK: Array, clusters: Sequence[str], *, seed: int, num_resamplings: int = NUM_RESAMPLINGS
) -> Array:
    """Draw clusters with replacement and take the means over their samples: ``(resamplings, columns)``.

    Args:
        values_SK: ``(samples, columns)``.
        clusters: The cluster of each sample, such as its image: samples of a cluster are drawn together.
        seed: Of the draws.
        num_resamplings: How often clusters are drawn anew.

    Raises:
        ValueError: If there are no samples.
    """
    names, cluster_S = np.unique(clusters, return_inverse=True)
    sums_CK = np.zeros((len(names), values_SK.shape[1] + 1))
    np.add.at(sums_CK, cluster_S, np.column_stack([values_SK, np.ones(len(values_SK))]))
    draws_RK = resampled_means(sums_CK, seed=seed, num_resamplings=num_resamplings)
    means_RK: Array = draws_RK[:, :-1] / draws_RK[:, -1:]
    return means_RK


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
