"""Which policies differ on one split, and how much of what is possible each of them reaches."""

# Shape suffixes: N = samples, K = policies, R = resamplings.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiling.controllers.baselines import BEST_STATIC_PER_BUDGET, ORACLES
from profiling.controllers.evaluation import Evaluation
from profiling.controllers.outcomes import Array
from profiling.resampling import Interval, cluster_means, percentile_interval
from profiling.standing import Standing, standings


@dataclass(frozen=True, kw_only=True)
class PolicyStanding(Standing):
    """Where a policy stands, between static choices and oracles, too.

    Args:
        gap_closed: Share of the way from the best static per budget to each oracle, interval over images; none where
            the oracle is not ahead in every resampling.
    """

    gap_closed: Mapping[str, Interval | None]


def compare(
    evaluations: Sequence[Evaluation], image_ids: Sequence[str], *, reference: str, seed: int
) -> dict[str, PolicyStanding]:
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
    goodput_N = {evaluation.name: evaluation.goodput_N for evaluation in evaluations}
    if len(goodput_N) < len(evaluations) or reference not in goodput_N:
        names = ", ".join(evaluation.name for evaluation in evaluations)
        raise ValueError(f"reference: must be one of the policies {names}, all different, got {reference!r}")
    gaps_closed = _gaps_closed(goodput_N, image_ids, seed=seed)
    found = standings(goodput_N, image_ids, reference=reference, seed=seed, uncorrected=ORACLES)
    return {name: PolicyStanding(**vars(standing), gap_closed=gaps_closed[name]) for name, standing in found.items()}


def _gaps_closed(
    goodput_N: Mapping[str, Array], image_ids: Sequence[str], *, seed: int
) -> dict[str, dict[str, Interval | None]]:
    """Return, for each policy, the share of the way to each oracle."""
    names = list(goodput_N)
    gaps: dict[str, dict[str, Interval | None]] = {name: {} for name in names}
    if BEST_STATIC_PER_BUDGET not in names:
        return gaps
    ahead_NK = np.column_stack([goodput_N[name] - goodput_N[BEST_STATIC_PER_BUDGET] for name in names])
    value_K, draws_RK = ahead_NK.mean(axis=0), cluster_means(ahead_NK, image_ids, seed=seed)
    for oracle in [name for name in ORACLES if name in names]:
        place = names.index(oracle)
        gap, gap_R = value_K[place], draws_RK[:, place]
        is_ahead = gap > 0 and (gap_R > 0).all()
        for k, name in enumerate(names):
            gaps[name][oracle] = percentile_interval(value_K[k] / gap, draws_RK[:, k] / gap_R) if is_ahead else None
    return gaps
