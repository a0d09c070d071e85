"""Which policies that met the same requests differ, and which only seem to: intervals and p-values over images."""

# Shape suffixes: N = samples, K = policies, R = resamplings.

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from profiling.resampling import Array, Interval, cluster_means, percentile_interval

SIGNIFICANCE: Final = 0.05
NUM_P_VALUE_RESAMPLINGS: Final = 20_000
"""No p-value is below 2 / 20,001: corrected for forty policies 0.004, where a tenth of the draws could say but 0.04."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a policy stands.

    Args:
        goodput: Goodput accuracy, interval over images.
        difference: Goodput minus the reference's on the same samples, interval over images.
        p_value: Chance of so large a difference between equals, corrected for the number of policies (Holm).
    """

    goodput: Interval
    difference: Interval
    p_value: float

    @property
    def is_tie(self) -> bool:
        """Whether no difference to the reference was shown."""
        return self.p_value >= SIGNIFICANCE

    @property
    def verdict(self) -> Literal["better", "tie", "worse"]:
        """What was shown, in a word."""
        if self.is_tie:
            return "tie"
        return "better" if self.difference.value > 0 else "worse"

    def cells(self, *, is_reference: bool) -> tuple[str, str, str]:
        """Return a table's cells: difference with its interval, p-value and verdict."""
        if is_reference:
            return "reference", "-", "-"
        return self.difference.signed(), f"{self.p_value:.4f}", self.verdict


def standings(
    goodput_N: Mapping[str, Array],
    image_ids: Sequence[str],
    *,
    reference: str,
    seed: int,
    uncorrected: Collection[str] = (),
) -> dict[str, Standing]:
    """Compare policies with one of them on the same samples.

    Args:
        goodput_N: ``(samples,)`` of each policy, by name.
        image_ids: The image of each sample; samples of an image are drawn together.
        reference: Name of the policy that the others are compared with.
        seed: Of the resamplings.
        uncorrected: Policies that take no part in the correction of p-values, since nobody doubts where they stand.
    """
    names = list(goodput_N)
    goodput_NK = np.column_stack([goodput_N[name] for name in names])
    # Differences are drawn themselves: between equals they are zero, not two sums that round apart.
    columns = np.hstack([goodput_NK, goodput_NK - goodput_N[reference][:, None]])
    draws = cluster_means(columns, image_ids, seed=seed, num_resamplings=NUM_P_VALUE_RESAMPLINGS)
    found = [_interval(value, draws_R) for value, draws_R in zip(columns.mean(axis=0), draws.T, strict=True)]
    goodput, difference = found[: len(names)], found[len(names) :]
    p_values = dict(zip(names, map(bootstrap_p_value, draws.T[len(names) :]), strict=True))
    p_values |= holm({name: p_values[name] for name in names if name != reference and name not in uncorrected})
    return {
        name: Standing(goodput=goodput[k], difference=difference[k], p_value=p_values[name])
        for k, name in enumerate(names)
    }


def bootstrap_p_value(difference_R: Array) -> float:
    """Return the two-sided chance of a difference of 0, from resampled differences."""
    tail = min(int((difference_R <= 0).sum()), int((difference_R >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(difference_R) + 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number (Holm, 1979), so that the chance of any false alarm stays what one's was."""
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def _interval(value: float, draws_R: Array) -> Interval:
    interval = percentile_interval(value, draws_R)
    assert interval is not None, "results hold finite values only"
    return interval
