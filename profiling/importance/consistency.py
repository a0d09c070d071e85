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

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Correlation":
        """Read what ``to_json`` gave."""
        first, second = ((content[place]["dataset"], content[place]["part"]) for place in ("first", "second"))
        return cls(
            first=first,
            second=second,
            relation=content["relation"],
            spearman=_interval(content["spearman"]),
            pearson=_interval(content["pearson"]),
        )


@dataclass(frozen=True, kw_only=True)
class PairMean:
    """The mean correlation of some pairs.

    Args:
        interval: The mean.
        num_pairs: How many pairs it is of: those whose correlation is defined.
    """

    interval: Interval
    num_pairs: int

    def __str__(self) -> str:
        return f"{self.interval} ({self.num_pairs} pair{'s' if self.num_pairs > 1 else ''})"

    def to_json(self) -> dict[str, Any]:
        """Return what ``cross_dataset_correlation.json`` holds."""
        return {**asdict(self.interval), "num_pairs": self.num_pairs}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PairMean":
        """Read what ``to_json`` gave."""
        interval = Interval(**{end: content[end] for end in ("value", "low", "high")})
        return cls(interval=interval, num_pairs=content["num_pairs"])


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """All correlations of one score.

    Differences of means are from the same draws of samples, and ``None`` where one of the two has no pairs.

    Args:
        score: The score.
        num_blocks: Blocks that were correlated over.
        correlations: Pair by pair.
        spearman: Mean rank correlation of the pairs of each relation that has any.
        pearson: Mean linear correlation, likewise.
        data_effect: Mean rank correlation between parts of a dataset minus that of datasets of one task type.
        task_effect: Mean rank correlation within task types minus that between them.
    """

    score: BlockScore
    num_blocks: int
    correlations: tuple[Correlation, ...]
    spearman: Mapping[Relation, PairMean]
    pearson: Mapping[Relation, PairMean]
    data_effect: Interval | None
    task_effect: Interval | None

    @property
    def smallest_detectable(self) -> float:
        """The rank correlation of so many blocks that a test at 5 % finds in 80 % of cases."""
        return smallest_detectable(self.num_blocks)

    def sentence(self) -> str:
        """Say whether importance is data-agnostic but task-dependent here, and what could have been seen."""
        agnostic = _verdict(
            self.data_effect,
            above="is not so: datasets of one task type agree less than parts of a dataset do",
            below="holds: datasets of one task type agree even more than parts of a dataset do",
            between="is not refuted: whether datasets of one task type agree less than parts of a dataset is open",
        )
        dependent = _verdict(
            self.task_effect,
            above="holds: datasets of one task type agree more than those of different ones",
            below="is not so: datasets of different task types agree more than those of one",
            between="is not shown: whether datasets of one task type agree more than others is open",
        )
        means = "; ".join(f"{words} {self.spearman.get(each) or 'unknown'}" for each, words in RELATIONS.items())
        return (
            f"By {self.score}, 'data-agnostic' {agnostic}. 'Task-dependent' {dependent}. "
            f"Mean Spearman correlations: {means}. Intervals are over samples and say nothing about other datasets; "
            f"with {self.num_blocks} blocks a rank correlation below {self.smallest_detectable:.2f} is missed more "
            "often than one time in five, and noise of the samples pulls all of these towards zero."
        )

    def to_json(self) -> dict[str, Any]:
        """Return what ``cross_dataset_correlation.json`` holds."""
        return {
            "score": self.score,
            "num_blocks": self.num_blocks,
            "smallest_detectable_spearman": self.smallest_detectable,
            "sentence": self.sentence(),
            "mean_spearman": {relation: mean.to_json() for relation, mean in self.spearman.items()},
            "mean_pearson": {relation: mean.to_json() for relation, mean in self.pearson.items()},
            "splits_minus_within_task": None if self.data_effect is None else asdict(self.data_effect),
            "within_minus_between_tasks": None if self.task_effect is None else asdict(self.task_effect),
            "pairs": [correlation.to_json() for correlation in self.correlations],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Consistency":
        """Read what ``to_json`` gave."""
        means = [
            {relation: PairMean.from_json(mean) for relation, mean in content[name].items()}
            for name in ("mean_spearman", "mean_pearson")
        ]
        return cls(
            score=BlockScore(content["score"]),
            num_blocks=content["num_blocks"],
            correlations=tuple(map(Correlation.from_json, content["pairs"])),
            spearman=means[0],
            pearson=means[1],
            data_effect=_interval(content["splits_minus_within_task"]),
            task_effect=_interval(content["within_minus_between_tasks"]),
        )


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A mean correlation with its draws.

    Args:
        value: The mean over the pairs for which it is defined.
        draws_R: The same of each draw of samples.
        num_pairs: How many pairs these are.
    """

    value: float
    draws_R: Array
    num_pairs: int


def consistency(score: BlockScore, parts: Sequence[PartScores], *, seed: int) -> Consistency:
    """Correlate a score over blocks between every two places that are compared.

    Intervals are over samples: those of each place are drawn anew, and all correlations follow from one set of draws.

    Args:
        score: The score.
        parts: Scores of one part or of both, of the same datasets.
        seed: Of the draws.
    """
    values = {(name, each.part): scores[score] for each in parts for name, scores in each.values.items()}
    means = {place: values_SK.mean(axis=0, keepdims=True) for place, values_SK in values.items()}
    draws = {
        place: resampled_means(values_SK, seed=seed + number)
        for number, (place, values_SK) in enumerate(values.items())
    }
    correlations = []
    ranks: dict[Relation, list[tuple[float, Array]]] = {}
    lines: dict[Relation, list[tuple[float, Array]]] = {}
    for relation, first, second in _pairs(list(values), parts[-1].part):
        rank = float(correlate(_ranks(means[first]), _ranks(means[second]))[0])
        line = float(correlate(means[first], means[second])[0])
        ranks.setdefault(relation, []).append((rank, correlate(_ranks(draws[first]), _ranks(draws[second]))))
        lines.setdefault(relation, []).append((line, correlate(draws[first], draws[second])))
        correlations.append(
            Correlation(
                first=first,
                second=second,
                relation=relation,
                spearman=percentile_interval(*ranks[relation][-1]),
                pearson=percentile_interval(*lines[relation][-1]),
            )
        )
    rank_means = _means(ranks)
    return Consistency(
        score=score,
        num_blocks=next(iter(means.values())).shape[1],
        correlations=tuple(correlations),
        spearman=_pair_means(rank_means),
        pearson=_pair_means(_means(lines)),
        data_effect=_difference(rank_means.get("splits"), rank_means.get("within_task")),
        task_effect=_difference(rank_means.get("within_task"), rank_means.get("between_tasks")),
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


def _means(pairs: Mapping[Relation, Sequence[tuple[float, Array]]]) -> dict[Relation, _Drawn]:
    """Take means over the pairs whose correlation is defined; a draw's are over those defined in it."""
    found: dict[Relation, _Drawn] = {}
    for relation, members in pairs.items():
        defined = [(value, draws_R) for value, draws_R in members if np.isfinite(value)]
        if defined:
            values, draws = zip(*defined, strict=True)
            means_R = np.ma.masked_invalid(np.stack(draws)).mean(axis=0).filled(np.nan)
            found[relation] = _Drawn(value=float(np.mean(values)), draws_R=means_R, num_pairs=len(defined))
    return found


def _pair_means(means: Mapping[Relation, _Drawn]) -> dict[Relation, PairMean]:
    intervals = {relation: percentile_interval(mean.value, mean.draws_R) for relation, mean in means.items()}
    return {
        relation: PairMean(interval=interval, num_pairs=means[relation].num_pairs)
        for relation, interval in intervals.items()
        if interval is not None
    }


def _difference(first: _Drawn | None, second: _Drawn | None) -> Interval | None:
    if first is None or second is None:
        return None
    return percentile_interval(first.value - second.value, first.draws_R - second.draws_R)


def _verdict(effect: Interval | None, *, above: str, below: str, between: str) -> str:
    """Choose words by where an interval lies, and give it."""
    if effect is None:
        return "cannot be judged, for want of such pairs or of blocks that score differently"
    words = above if effect.low > 0 else below if effect.high < 0 else between
    return f"{words} (difference {effect})"


def _interval(content: Mapping[str, float] | None) -> Interval | None:
    return None if content is None else Interval(**content)


def _pairs(places: Sequence[Place], part: Part) -> list[tuple[Relation, Place, Place]]:
    """List what is compared: parts of each dataset, and datasets with one another in one part."""
    pairs: list[tuple[Relation, Place, Place]] = [
        ("splits", first, second) for first, second in combinations(places, 2) if first[0] == second[0]
    ]
    for first, second in combinations([place for place in places if place[1] == part], 2):
        same_task = dataset_entry(first[0]).task is dataset_entry(second[0]).task
        pairs.append(("within_task" if same_task else "between_tasks", first, second))
    return pairs
