"""What pruning found: how right the chosen subsets are on other samples, and how far searches stay below the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from profiling.block_table import TableScore
from profiling.markup import Table
from profiling.profile_plots import STYLE
from profiling.subsets.change import accuracy_change
from profiling.subsets.job import Blocks, Outcome, whole

_CAPTION_WIDTH: Final = 90


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found for one number of blocks.

    Args:
        search: Its name.
        objective: What it maximised.
        count: Number of blocks.
        blocks: The best subset.
        score: The objective's value, the higher the better.
        is_exact: Whether no subset of that size scores higher.
    """

    search: str
    objective: str
    count: int
    blocks: Blocks
    score: float
    is_exact: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A subset for the block table.

    Args:
        blocks: The subset.
        found_by: The searches that found it.
        score: How right its answers are.
        even_score: How right those of as many blocks are that are spread evenly over the model.
    """

    blocks: Blocks
    found_by: str
    score: TableScore
    even_score: TableScore


def regret(result: SearchResult, results: Sequence[SearchResult]) -> float | None:
    """Say how far a search stayed below the best of all subsets; ``None`` where not all were scored."""
    for other in results:
        if other.is_exact and (other.count, other.objective) == (result.count, result.objective):
            return other.score - result.score
    return None


def table_score(full: Outcome, found: Outcome, *, seed: int = 42) -> TableScore:
    """Compare a subset's answers with the whole model's, sample by sample; every dataset weighs the same.

    The interval is over the samples of these datasets. It says nothing about other datasets: their spread does.
    """
    means = np.asarray([values["accuracy"].mean() for values in found.values.values()])
    interval = accuracy_change(found, full, seed=seed)
    return TableScore(
        accuracy_mean=float(means.mean()),
        accuracy_std=float(means.std(ddof=1)) if len(means) > 1 else 0.0,
        num_datasets=len(means),
        drop=interval.value,
        drop_low=interval.low,
        drop_high=interval.high,
    )


def recommendation_table(choices: Mapping[int, Choice], num_blocks: int, *, subject: str) -> Table:
    """Lay out the chosen subsets, most blocks first."""
    rows = []
    for count in sorted(choices, reverse=True):
        choice = choices[count]
        removed = [block for block in whole(num_blocks) if block not in choice.blocks]
        score = choice.score
        rows.append(
            (
                str(count),
                ", ".join(map(str, removed)) or "none",
                f"{score.accuracy_mean:.3f} +- {score.accuracy_std:.3f}",
                f"{score.drop:.3f} [{score.drop_low:.3f}, {score.drop_high:.3f}]",
                f"{choice.even_score.accuracy_mean:.3f} +- {choice.even_score.accuracy_std:.3f}",
                str(score.num_datasets),
                choice.found_by,
            )
        )
    return Table(
        columns=("blocks", "removed", "accuracy", "drop [95 %]", "evenly spread", "datasets", "found by"),
        rows=tuple(rows),
        caption=f"{subject}. Accuracy: mean +- standard deviation over datasets, on samples that no subset was "
        "chosen by. Drop: the whole model's accuracy minus the subset's on the same samples, interval over samples.",
    )


def search_table(results: Sequence[SearchResult], *, subject: str) -> Table:
    """Lay out what each search found, and its regret where it is known."""
    rows = []
    for result in sorted(results, key=lambda each: (-each.count, each.objective)):
        behind = regret(result, results)
        rows.append(
            (
                str(result.count),
                result.objective,
                result.search,
                ", ".join(map(str, result.blocks)),
                f"{result.score:.4g}",
                "unknown" if behind is None else f"{behind:.4g}",
            )
        )
    return Table(
        columns=("blocks", "objective", "search", "subset", "score", "regret"),
        rows=tuple(rows),
        caption=f"{subject}. Score: the higher the better, on the samples of the search. Regret: score of the best of "
        "all subsets of that size, minus this one; unknown where not all were scored.",
    )


def results_json(results: Sequence[SearchResult]) -> list[dict[str, Any]]:
    """Return what ``searches.json`` holds."""
    return [
        {
            "search": result.search,
            "objective": result.objective,
            "num_active_blocks": result.count,
            "active_blocks": list(result.blocks),
            "score": result.score,
            "is_exact": result.is_exact,
            "regret": regret(result, results),
        }
        for result in results
    ]


def plot_choices(choices: Mapping[int, Choice], caption: str) -> Figure:
    """Draw accuracy against the number of blocks: the chosen subsets, and as many blocks spread evenly."""
    counts = sorted(choices)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(figsize=(5.5, 3.6))
        for name, scores in (
            ("chosen", [choices[count].score for count in counts]),
            ("evenly spread", [choices[count].even_score for count in counts]),
        ):
            highest = [score.accuracy_mean + score.drop for score in scores]
            low = [top - score.drop_high for top, score in zip(highest, scores, strict=True)]
            high = [top - score.drop_low for top, score in zip(highest, scores, strict=True)]
            (line,) = axes.plot(counts, [score.accuracy_mean for score in scores], marker="o", label=name)
            axes.fill_between(counts, low, high, color=line.get_color(), alpha=0.15, lw=0)
        axes.set(xlabel="active blocks", ylabel="accuracy, mean of datasets", xticks=counts)
        axes.legend()
        figure.suptitle(
            f"{fill(caption, _CAPTION_WIDTH)}\nband: 95 % interval of the drop against the whole model", fontsize=8
        )
    return figure
