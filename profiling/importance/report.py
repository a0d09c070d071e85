"""Scores of blocks as files and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from profiling.datasets.catalogue import dataset_entry
from profiling.importance.consistency import RELATIONS, Consistency, PairMean, rank_correlation
from profiling.importance.scores import BlockScore, PartScores
from profiling.markup import Table
from profiling.resampling import Array, Interval, mean_intervals, percentile_interval, resampled_means
from profiling.subsets.measures import spans


def comparison_json(name: str, parts: Sequence[PartScores], *, seed: int) -> dict[str, Any]:
    """Return what ``importance_comparison_<dataset>.json`` holds: every score of every block on each part.

    Each score is compared with the accuracy drop by the rank correlation over blocks, on the same samples.
    """
    found: dict[str, Any] = {"model": parts[0].label, "dataset": name, "task": dataset_entry(name).task, "parts": {}}
    for each in parts:
        values = each.values[name]
        truth = values[BlockScore.ACCURACY_DROP]
        agreement = {score: rank_correlation(values[score], truth, seed=seed) for score in BlockScore}
        angles = mean_intervals(each.span_angles[name], seed=seed)
        found["parts"][each.part] = {
            "num_samples": len(truth),
            "scores": {
                score: [asdict(interval) for interval in mean_intervals(values[score], seed=seed)]
                for score in BlockScore
            },
            "spearman_with_accuracy_drop": {
                score: None if interval is None else asdict(interval) for score, interval in agreement.items()
            },
            "angular_spans": [
                {"first": first, "last": end - 1, **asdict(interval)}
                for (first, end), interval in zip(spans(truth.shape[1]), angles, strict=True)
            ],
        }
    return found


def merged_scores(part: PartScores, *, seed: int) -> dict[BlockScore, list[Interval]]:
    """Mean each score over all datasets, which weigh the same: one interval a block, over samples."""
    return {score: _merged([values[score] for values in part.values.values()], seed=seed) for score in BlockScore}


def merged_json(parts: Sequence[PartScores], *, seed: int) -> dict[str, Any]:
    """Return what ``merged_scores.json`` holds: scores meaned over datasets, and what each took."""
    found: dict[str, Any] = {"model": parts[0].label, "dataset_names": list(parts[0].values), "parts": {}}
    for each in parts:
        merged = merged_scores(each, seed=seed)
        found["parts"][each.part] = {
            "num_samples_of_each_dataset": len(next(iter(each.values.values()))[BlockScore.RANDOM]),
            "scores": {score: [asdict(interval) for interval in intervals] for score, intervals in merged.items()},
            "costs": {score: asdict(cost) for score, cost in each.costs.items()},
        }
    return found


def correlation_json(found: Mapping[BlockScore, Consistency]) -> dict[str, Any]:
    """Return what ``cross_dataset_correlation.json`` holds."""
    return {score: each.to_json() for score, each in found.items()}


def importance_table(part: PartScores, *, seed: int) -> Table:
    """Lay out the merged scores, a row a block, and below them what each took."""
    merged = merged_scores(part, seed=seed)
    num_blocks = len(next(iter(merged.values())))
    rows = [(str(block), *(_short(merged[score][block]) for score in BlockScore)) for block in range(num_blocks)]
    rows.append(("forward passes", *(str(part.costs[score].forward_passes) for score in BlockScore)))
    rows.append(("backward passes", *(str(part.costs[score].backward_passes) for score in BlockScore)))
    rows.append(("seconds", *(f"{part.costs[score].seconds:.1f}" for score in BlockScore)))
    if any(cost.peak_memory_mib for cost in part.costs.values()):
        rows.append(("most memory (MiB)", *(f"{part.costs[score].peak_memory_mib:,.0f}" for score in BlockScore)))
    samples = len(next(iter(part.values.values()))[BlockScore.RANDOM])
    return Table(
        columns=("block", *BlockScore),
        rows=tuple(rows),
        caption=f"{part.label}. Mean over {len(part.values)} datasets ({', '.join(part.values)}), {samples} "
        f"{part.part} samples of each, with the 95 % interval over samples. The higher, the more a block is missed. "
        "Passes are of batches; scores of one measurement share its passes (nll_increase with kl, block_influence with "
        "angular_distance).",
    )


def correlation_table(found: Mapping[BlockScore, Consistency], *, label: str) -> Table:
    """Lay out the mean correlations of each score for each relation, and what can be concluded."""
    differences = ("splits - within", "within - between")
    rows = []
    for score, each in found.items():
        ranks, lines = (
            [_counted(means.get(relation)) for relation in RELATIONS] for means in (each.spearman, each.pearson)
        )
        rows.append((str(score), "Spearman", *ranks, _plain(each.data_effect), _plain(each.task_effect)))
        rows.append((str(score), "Pearson", *lines, "-", "-"))
    return Table(
        columns=("score", "correlation", *RELATIONS, *differences),
        rows=tuple(rows),
        caption=f"{label}. Mean correlation over blocks with the 95 % interval over samples, in brackets of how many "
        "pairs: "
        + "; ".join(f"{relation}: {words}" for relation, words in RELATIONS.items())
        + ". "
        + " ".join(found[score].sentence() for score in (BlockScore.ACCURACY_DROP, BlockScore.KL)),
    )


def _merged(values: Sequence[Array], *, seed: int) -> list[Interval]:
    draws_RK = np.mean([resampled_means(each, seed=seed + place) for place, each in enumerate(values)], axis=0)
    means_K = np.mean([each.mean(axis=0) for each in values], axis=0)
    intervals = [percentile_interval(mean, draws) for mean, draws in zip(means_K, draws_RK.T, strict=True)]
    return [interval for interval in intervals if interval is not None]


def _short(interval: Interval) -> str:
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


def _plain(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _counted(mean: PairMean | None) -> str:
    return "-" if mean is None else f"{_plain(mean.interval)} ({mean.num_pairs})"
