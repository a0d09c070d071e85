"""Which policies differ, and which only seem to: differences on the same samples, intervals over images."""

# Shape suffixes: I = images, N = samples, K = policies, R = resamplings.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiling.controllers.baselines import BEST_STATIC_PER_BUDGET, ORACLES
from profiling.controllers.evaluation import Evaluation
from profiling.controllers.outcomes import Array
from profiling.resampling import Interval, percentile_interval, resampled_means

SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a policy stands.

    Args:
        goodput: Goodput accuracy over budgets, interval over images.
        difference: Goodput minus the reference's on the same samples, interval over images.
        p_value: Chance of so large a difference between equals, corrected for the number of policies (Holm).
        gap_closed: Share of the way from the best static per budget to each oracle, interval over images; none where
            the oracle is not ahead in every resampling.
    """

    goodput: Interval
    difference: Interval
    p_value: float
    gap_closed: Mapping[str, Interval | None]

    @property
    def is_tie(self) -> bool:
        """Whether no difference to the reference was shown."""
        return self.p_value >= SIGNIFICANCE


def compare(
    evaluations: Sequence[Evaluation], image_ids: Sequence[str], *, reference: str, seed: int
) -> dict[str, Standing]:
    """Compare policies on the same samples.

    Oracles take no part in the correction: that they are ahead is no question.

    Args:
        evaluations: Of the same samples; the static table and the oracles among them, or no gap is told.
        image_ids: The image of each sample; samples of an image are drawn together.
        reference: Name of the policy that the others are compared with.
        seed: Of the resamplings.

    Raises:
        ValueError: If there is no such reference, or a name comes twice.
    """
    names = [evaluation.name for evaluation in evaluations]
    if len(set(names)) < len(names) or reference not in names:
        raise ValueError(f"reference: must be one of the policies {', '.join(names)}, all different, got {reference!r}")
    goodput_NK = np.column_stack([evaluation.goodput_N for evaluation in evaluations])
    value_K, draws_RK = goodput_NK.mean(axis=0), cluster_means(goodput_NK, image_ids, seed=seed)
    place = names.index(reference)
    difference_K, difference_RK = value_K - value_K[place], draws_RK - draws_RK[:, [place]]
    p_values = {name: bootstrap_p_value(draws_R) for name, draws_R in zip(names, difference_RK.T, strict=True)}
    p_values |= holm({name: p_values[name] for name in names if name != reference and name not in ORACLES})
    return {
        name: Standing(
            goodput=_interval(value_K[k], draws_RK[:, k]),
            difference=_interval(difference_K[k], difference_RK[:, k]),
            p_value=p_values[name],
            gap_closed=_gaps_closed(names, value_K, draws_RK, k),
        )
        for k, name in enumerate(names)
    }


def cluster_means(values_NK: Array, image_ids: Sequence[str], *, seed: int) -> Array:
    """Draw images with replacement and take the means over their samples: ``(resamplings, columns)``."""
    images, image_N = np.unique(image_ids, return_inverse=True)
    sums_IK = np.zeros((len(images), values_NK.shape[1] + 1))
    np.add.at(sums_IK, image_N, np.column_stack([values_NK, np.ones(len(values_NK))]))
    draws_RK = resampled_means(sums_IK, seed=seed)
    means_RK: Array = draws_RK[:, :-1] / draws_RK[:, -1:]
    return means_RK


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


def _gaps_closed(names: list[str], value_K: Array, draws_RK: Array, k: int) -> dict[str, Interval | None]:
    if BEST_STATIC_PER_BUDGET not in names:
        return {}
    low = names.index(BEST_STATIC_PER_BUDGET)
    found: dict[str, Interval | None] = {}
    for oracle in [name for name in ORACLES if name in names]:
        high = names.index(oracle)
        gap, gap_R = value_K[high] - value_K[low], draws_RK[:, high] - draws_RK[:, low]
        is_ahead = gap > 0 and (gap_R > 0).all()
        closed, closed_R = value_K[k] - value_K[low], draws_RK[:, k] - draws_RK[:, low]
        found[oracle] = percentile_interval(closed / gap, closed_R / gap_R) if is_ahead else None
    return found


def _interval(value: float, draws_R: Array) -> Interval:
    interval = percentile_interval(value, draws_R)
    assert interval is not None, "results hold finite values only"
    return interval
