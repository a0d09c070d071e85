"""What searches found and what it is worth: regret, judgements by other quantities, the subsets chosen in the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiling.block_table import TableScore
from profiling.resampling import Interval
from profiling.subsets.change import accuracy_change
from profiling.subsets.job import Blocks, Outcome


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found for one number of blocks.

    Args:
        search: Its name.
        objective: What it maximised.
        pinned: Blocks that it never removed.
        count: Number of blocks.
        blocks: The best subset.
        score: The objective's value, the higher the better.
        is_exact: Whether no subset of that size with the pinned blocks scores higher.
    """

    search: str
    objective: str
    pinned: Blocks
    count: int
    blocks: Blocks
    score: float
    is_exact: bool


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a subset is worth on the samples of the searches, whatever it was searched by.

    Args:
        accuracy: Mean accuracy over datasets.
        kl: Mean divergence from the whole model, the lower the better.
    """

    accuracy: float
    kl: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A subset for the block table, scored on samples that it was not chosen by.

    Args:
        blocks: The subset.
        found_by: The searches that found it, or what it is known as.
        score: How right its answers are.
        even_score: How right those of as many blocks are that are spread evenly over the model.
        gain: Mean accuracy minus that of the evenly spread blocks, on the same samples.
        accuracies: Mean accuracy on each dataset.
        even_accuracies: The same of the evenly spread blocks.
    """

    blocks: Blocks
    found_by: str
    score: TableScore
    even_score: TableScore
    gain: Interval
    accuracies: Mapping[str, float]
    even_accuracies: Mapping[str, float]


def regret(result: SearchResult, results: Sequence[SearchResult]) -> float | None:
    """Say how far a search stayed below the best of all subsets that it may find; ``None`` where not all were scored.

    Only an exhaustive search of the same objective with the same blocks pinned says that.
    """
    for other in results:
        if other.is_exact and (other.count, other.objective, other.pinned) == (
            result.count,
            result.objective,
            result.pinned,
        ):
            return other.score - result.score
    return None


def kl_regret(
    result: SearchResult, results: Sequence[SearchResult], judged: Mapping[Blocks, Judgement]
) -> float | None:
    """Say how far a subset, whatever it was searched by, diverges more than the best of all that hold the same pins.

    Args:
        result: What the search found.
        results: What all searches found.
        judged: What each subset found is worth.

    Returns:
        Its divergence minus the least of all subsets of an exhaustive search by divergence, the one with the fewest
        pinned blocks; ``None`` where there is none, or where the subset lacks a pinned block of it.
    """
    exact = [
        other
        for other in results
        if other.is_exact
        and (other.count, other.objective) == (result.count, "kl")
        and set(other.pinned) <= set(result.blocks)
    ]
    if not exact:
        return None
    best = min(exact, key=lambda each: len(each.pinned))
    return judged[result.blocks].kl - judged[best.blocks].kl


def scored_choice(full: Outcome, found: Outcome, even: Outcome, *, blocks: Blocks, found_by: str) -> Choice:
    """Score a chosen subset beside the whole model and as many evenly spread blocks, on the same samples."""
    return Choice(
        blocks=blocks,
        found_by=found_by,
        score=table_score(full, found),
        even_score=table_score(full, even),
        gain=accuracy_change(even, found, seed=42),
        accuracies=_accuracies(found),
        even_accuracies=_accuracies(even),
    )


def table_score(full: Outcome, found: Outcome, *, seed: int = 42) -> TableScore:
    """Compare a subset's answers with the whole model's, sample by sample; every dataset weighs the same.

    The interval is over the samples of these datasets. It says nothing about other datasets: their spread does.
    """
    means = np.asarray(list(_accuracies(found).values()))
    interval = accuracy_change(found, full, seed=seed)
    return TableScore(
        accuracy_mean=float(means.mean()),
        accuracy_std=float(means.std(ddof=1)) if len(means) > 1 else 0.0,
        num_datasets=len(means),
        drop=interval.value,
        drop_low=interval.low,
        drop_high=interval.high,
    )


def _accuracies(outcome: Outcome) -> dict[str, float]:
    return {name: float(values["accuracy"].mean()) for name, values in outcome.values.items()}
