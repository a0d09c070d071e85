"""Whether blocks matter alike on other data: correlations of scores, with intervals and their power."""

# Shape suffixes: S = samples, K = blocks, R = resamplings.

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy.stats import norm, rankdata

from profiling.datasets.catalogue import dataset_entry
from profiling.importance.scores import BlockScore, PartScores
from profiling.resampling import Array, Interval, percentile_interval, resampled_means
from profiling.subsets.job import Part

Relation = Literal["splits", "within_task", "between_tasks"]
Place = tuple[str, Part]
"""A dataset and its part."""

RELATIONS: Mapping[Relation, str] = {
    "splits": "train and validation part of a dataset",
    "within_task": "datasets of one task type",
    "between_tasks": "datasets of different task types",
}
_RANK_VARIANCE = 1.06  # of Fisher's z of a rank correlation, against 1 of a linear one
_SIGNIFICANCE, _POWER = 0.05, 0.8


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """How alike blocks are scored in two places.

    Args:
        first: A dataset and its part.
        second: Another.
        relation: What they have in common.
        spearman: Rank correlation over blocks; ``None`` where all blocks score the same in one of them.
        pearson: Linear correlation, likewise.
    """

    first: Place
    second: Place
    relation: Relation
    spearman: Interval | None
    pearson: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return what ``cross_dataset_correlation.json`` holds."""
        return {
            "first": dict(zip(("dataset", "part"), self.first, strict=True)),
            "second": dict(zip(("dataset", "part"), self.second, strict=True)),
            "relation": self.relation,
            "spearman": None if self.spearman is None else asdict(self.spearman),
            "pearson": None if self.pearson is None else asdict(self.pearson),
        }


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """All correlations of one score.

    Args:
        score: The score.
        num_blocks: Blocks that were correlated over.
        correlations: Pair by pair.
        means: Mean rank correlation of the pairs of each relation that has any.
        task_effect: Mean rank correlation within task types minus that between them, from the same draws of samples;
            ``None`` where one of the two has no pairs.
    """

    score: BlockScore
    num_blocks: int
    correlations: tuple[Correlation, ...]
    means: Mapping[Relation, Interval | None]
    task_effect: Interval | None

    @property
    def smallest_detectable(self) -> float:
        """The rank correlation of so many blocks that a test at 5 % finds in 80 % of cases."""
        return smallest_detectable(self.num_blocks)

    def sentence(self) -> str:
        """Say whether importance is data-agnostic but task-dependent here, and what could have been seen."""
        within, between, splits = (self.means.get(each) for each in ("within_task", "between_tasks", "splits"))
        power = (
            f"with {self.num_blocks} blocks a rank correlation below {self.smallest_detectable:.2f} is missed more "
            "often than one time in five, and noise of the samples pulls all of these towards zero"
        )
        if self.task_effect is None:
            verdict = (
                "cannot be judged: it takes datasets of one task type and of several, and blocks that score differently"
            )
        elif self.task_effect.low > 0:
            verdict = "holds as to tasks: datasets of one task type agree more than those of different ones"
        elif self.task_effect.high < 0:
            verdict = "does not hold: datasets of different task types agree more than those of one"
        else:
            verdict = "is not shown: the difference between task types may be chance"
        return (
            f"By {self.score}, 'data-agnostic but task-dependent' {verdict} (mean Spearman within task types "
            f"{within or 'unknown'}, between them {between or 'unknown'}, difference {self.task_effect or 'unknown'}, "
            f"between parts of a dataset {splits or 'unknown'}); {power}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``cross_dataset_correlation.json`` holds."""
        return {
            "score": self.score,
            "num_blocks": self.num_blocks,
            "smallest_detectable_spearman": self.smallest_detectable,
            "sentence": self.sentence(),
            "mean_spearman": {
                relation: None if mean is None else asdict(mean) for relation, mean in self.means.items()
            },
            "within_minus_between_tasks": None if self.task_effect is None else asdict(self.task_effect),
            "pairs": [correlation.to_json() for correlation in self.correlations],
        }


def consistency(score: BlockScore, parts: Sequence[PartScores], *, seed: int) -> Consistency:
    """Correlate a score over blocks between every two places that are compared.

    Intervals are over samples: those of each place are drawn anew, and all correlations follow from one set of draws.

    Args:
        score: The score.
        parts: Scores of one part or of both, of the same datasets.
        seed: Of the draws.
    """
    values = {(name, each.part): scores[score] for each in parts for name, scores in each.values.items()}
    means = {place: values_SK.mean(axis=0) for place, values_SK in values.items()}
    draws = {
        place: resampled_means(values_SK, seed=seed + number)
        for number, (place, values_SK) in enumerate(values.items())
    }
    correlations = []
    rank_by_relation: dict[Relation, list[tuple[float, Array]]] = {}
    for relation, first, second in _pairs(list(values), parts[-1].part):
        rank = correlate(_ranks(means[first][None]), _ranks(means[second][None]))[0]
        rank_R = correlate(_ranks(draws[first]), _ranks(draws[second]))
        linear = correlate(means[first][None], means[second][None])[0]
        linear_R = correlate(draws[first], draws[second])
        rank_by_relation.setdefault(relation, []).append((float(rank), rank_R))
        correlations.append(
            Correlation(
                first=first,
                second=second,
                relation=relation,
                spearman=percentile_interval(float(rank), rank_R),
                pearson=percentile_interval(float(linear), linear_R),
            )
        )
    of_relation = {relation: _mean_of(pairs) for relation, pairs in rank_by_relation.items()}
    effect = None
    if {"within_task", "between_tasks"} <= set(of_relation):
        within, between = of_relation["within_task"], of_relation["between_tasks"]
        effect = percentile_interval(within[0] - between[0], within[1] - between[1])
    return Consistency(
        score=score,
        num_blocks=len(next(iter(means.values()))),
        correlations=tuple(correlations),
        means={relation: percentile_interval(*mean) for relation, mean in of_relation.items()},
        task_effect=effect,
    )


def correlate(first_RK: Array, second_RK: Array) -> Array:
    """Return the linear correlation of each row with the other's; NaN where a row is constant."""
    first_RK = first_RK - first_RK.mean(axis=1, keepdims=True)
    second_RK = second_RK - second_RK.mean(axis=1, keepdims=True)
    scale_R = np.sqrt((first_RK**2).sum(axis=1) * (second_RK**2).sum(axis=1))
    found_R: Array = np.divide(
        (first_RK * second_RK).sum(axis=1), scale_R, out=np.full(len(scale_R), np.nan), where=scale_R > 0
    )
    return found_R


def rank_correlation(first_SK: Array, second_SK: Array, *, seed: int) -> Interval | None:
    """Correlate the ranks of two scores of the same samples; a draw takes the same of both if they have as many."""
    draws = [_ranks(resampled_means(values_SK, seed=seed)) for values_SK in (first_SK, second_SK)]
    means = [_ranks(values_SK.mean(axis=0, keepdims=True)) for values_SK in (first_SK, second_SK)]
    return percentile_interval(float(correlate(*means)[0]), correlate(*draws))


def smallest_detectable(num_points: int) -> float:
    """Return the rank correlation of so many points that a two-sided test at 5 % finds in 80 % of cases.

    By Fisher's z; 1 where there are too few points for any.
    """
    if num_points <= 3:
        return 1.0
    quantiles = norm.ppf(1 - _SIGNIFICANCE / 2) + norm.ppf(_POWER)
    return math.tanh(float(quantiles) * math.sqrt(_RANK_VARIANCE / (num_points - 3)))


def _ranks(values_RK: Array) -> Array:
    # Means of equal samples may differ in their last bits.
    ranks_RK: Array = rankdata(values_RK.round(12), axis=1)
    return ranks_RK


def _mean_of(pairs: Sequence[tuple[float, Array]]) -> tuple[float, Array]:
    values, draws = zip(*pairs, strict=True)
    return float(np.mean(values)), np.mean(draws, axis=0)


def _pairs(places: Sequence[Place], part: Part) -> list[tuple[Relation, Place, Place]]:
    """List what is compared: parts of each dataset, and datasets with one another in one part."""
    pairs: list[tuple[Relation, Place, Place]] = [
        ("splits", first, second) for first, second in combinations(places, 2) if first[0] == second[0]
    ]
    for first, second in combinations([place for place in places if place[1] == part], 2):
        same_task = dataset_entry(first[0]).task is dataset_entry(second[0]).task
        pairs.append(("within_task" if same_task else "between_tasks", first, second))
    return pairs
