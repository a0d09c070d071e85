"""Figures of block importance."""

from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure

from profiling.importance.consistency import RELATIONS, Consistency
from profiling.importance.dataset_scores import DatasetScores
from profiling.importance.scores import BlockScore
from profiling.profile_plots import STYLE
from profiling.resampling import Array, Interval

_SHOWN: Final = tuple(score for score in BlockScore if score is not BlockScore.RANDOM)
_OF_REMOVALS: Final = (BlockScore.ACCURACY_DROP, BlockScore.NLL_INCREASE, BlockScore.KL)
_UNITS: Final[Mapping[BlockScore, str]] = {BlockScore.NLL_INCREASE: " (nats)", BlockScore.KL: " (nats)"}
_PANELS_IN_A_ROW: Final = 4
_NUM_NAMED: Final = 3


def plot_comparison(dataset: DatasetScores) -> Figure:
    """Draw every score of every block on each part of a dataset, with intervals.

    Scores of removed blocks are on a logarithmic axis with a linear middle: one block may hide all others.
    """
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), sharex=True)
        for axis, score in zip(axes.flat, _SHOWN, strict=True):
            for place, (part, scores) in enumerate(dataset.scores.items()):
                value, errors = _with_errors(scores[score])
                blocks = np.arange(len(value)) + 0.3 * (place - (len(dataset.scores) - 1) / 2)
                axis.errorbar(blocks, value, yerr=errors, fmt="o", lw=0.8, label=part)
            if score in _OF_REMOVALS:
                means = np.concatenate([_with_errors(scores[score])[0] for scores in dataset.scores.values()])
                axis.set_yscale("symlog", linthresh=_linear_to(means))
                axis.yaxis.set_major_formatter("{x:g}")
            axis.set(title=_words(score))
        for axis in axes[1]:
            axis.set_xlabel("block")
            axis.locator_params(axis="x", integer=True)
        axes[0, 0].legend()
        figure.suptitle(
            f"{dataset.dataset}; {dataset.samples}\n"
            "lines: 95 % interval over samples; upper row: logarithmic but around 0",
            fontsize=8,
        )
    return figure


def plot_heat_map(score: BlockScore, datasets: Sequence[DatasetScores]) -> Figure:
    """Draw a score of every block on each part of each dataset; hatched where its interval holds 0.

    Colours are logarithmic but around 0, since one block may be missed many times more than any other.
    """
    rows = {f"{each.dataset}, {part}": each.scores[part][score] for each in datasets for part in each.scores}
    values = np.array([[interval.value for interval in row] for row in rows.values()])
    holds_0 = np.array([[interval.low <= 0 <= interval.high for interval in row] for row in rows.values()])
    shown = np.ma.masked_array(values, mask=holds_0)
    most = float(np.abs(values).max()) or 1.0
    norm = SymLogNorm(_linear_to(shown.compressed()), vmin=-most, vmax=most)
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.4 + 0.28 * len(rows)))
        axis.patch.set(hatch="////", edgecolor="0.7", facecolor="white")
        image = axis.imshow(shown, cmap="RdBu_r", norm=norm, aspect="auto")
        axis.set(xlabel="block", xticks=range(values.shape[1]), yticks=range(len(rows)), yticklabels=list(rows))
        axis.grid(visible=False)
        figure.colorbar(image, label=f"{_words(score)}{_UNITS.get(score, '')}", format="{x:g}")
        figure.suptitle(
            f"{_words(score)} of each block, colours logarithmic but around 0\n{datasets[0].samples}\n"
            "hatched: the 95 % interval over samples holds 0",
            fontsize=8,
        )
    return figure


def plot_scatter(score: BlockScore, datasets: Sequence[DatasetScores]) -> Figure:
    """Draw each block's score on the first part against that on the last, a panel a dataset, with intervals.

    Colours tell blocks apart; those that are missed most are named.
    """
    num_blocks = len(next(iter(datasets[0].scores.values()))[score])
    with plt.style.context(STYLE):
        columns = min(_PANELS_IN_A_ROW, len(datasets))
        rows = -(-len(datasets) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(0.8 + 2.6 * columns, 0.6 + 2.4 * rows), squeeze=False)
        for axis in axes.flat[len(datasets) :]:
            axis.set_visible(False)
        for axis, dataset in zip(axes.flat, datasets, strict=False):
            _scatter(axis, dataset, score)
        colors = plt.cm.ScalarMappable(norm=Normalize(0, max(1, num_blocks - 1)), cmap="viridis")
        figure.colorbar(colors, ax=axes, label="block", fraction=0.03)
        figure.suptitle(
            f"{_words(score)}{_UNITS.get(score, '')} of each block, logarithmic but around 0\n{datasets[0].samples}\n"
            f"lines: 95 % intervals over samples; numbers: the {_NUM_NAMED} blocks that are missed most",
            fontsize=8,
        )
    return figure


def plot_correlations(found: Mapping[BlockScore, Consistency], datasets: Sequence[DatasetScores]) -> Figure:
    """Draw the mean rank correlation of each score for each relation, with intervals and numbers of pairs."""
    width = 0.8 / len(RELATIONS)
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 3.9))
        for place, (relation, words) in enumerate(RELATIONS.items()):
            shown = [
                (at, each.spearman[relation]) for at, each in enumerate(found.values()) if relation in each.spearman
            ]
            if not shown:
                continue
            at = np.asarray([at for at, _ in shown]) + (place - 1) * width
            means = [mean.interval for _, mean in shown]
            axis.bar(at, [mean.value for mean in means], width, label=words, color=f"C{place}")
            # Both ends of an interval of resampled ranks may lie on one side of the value.
            axis.vlines(at, [mean.low for mean in means], [mean.high for mean in means], color="black", lw=0.8)
            for x, (_, mean) in zip(at, shown, strict=True):
                axis.text(x, -1.02, str(mean.num_pairs), fontsize=6, ha="center", va="bottom")
        detectable = next(iter(found.values())).smallest_detectable
        axis.axhline(detectable, color="black", lw=0.6, ls="--")
        axis.set(
            ylabel="Spearman correlation over blocks",
            xticks=range(len(found)),
            xticklabels=[_words(score).replace(" ", "\n") for score in found],
            ylim=(-1.05, 1.05),
        )
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(RELATIONS))
        figure.suptitle(
            f"Mean of pairs, line: 95 % interval over samples, number below: pairs\n{datasets[0].samples}\n"
            f"Dashed: {detectable:.2f}, found in 80 % of tests with so many blocks",
            fontsize=8,
        )
    return figure


def plot_correlation_matrix(found: Consistency, datasets: Sequence[DatasetScores]) -> Figure:
    """Draw the rank correlation of every two datasets, and on the diagonal that of a dataset's parts."""
    place = {each.dataset: number for number, each in enumerate(datasets)}
    matrix = np.full((len(place), len(place)), np.nan)
    for pair in found.correlations:
        if pair.spearman is not None:
            first, second = place[pair.first[0]], place[pair.second[0]]
            matrix[first, second] = matrix[second, first] = pair.spearman.value
    part = list(datasets[0].scores)[-1]
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(2.8 + 0.5 * len(place), 2.0 + 0.42 * len(place)))
        image = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 else "black"
                axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
        axis.set(xticks=range(len(place)), yticks=range(len(place)), yticklabels=list(place))
        axis.set_xticklabels(list(place), rotation=45, ha="right")
        axis.grid(visible=False)
        figure.colorbar(image, label="Spearman correlation over blocks")
        figure.suptitle(
            f"{_words(found.score)} of {found.num_blocks} blocks, {part} parts; diagonal: the parts of a dataset\n"
            + datasets[0].samples.replace("; ", "\n"),
            fontsize=7,
        )
    return figure


def _scatter(axis: Axes, dataset: DatasetScores, score: BlockScore) -> None:
    parts = list(dataset.scores)
    first, last = (_with_errors(dataset.scores[part][score]) for part in (parts[0], parts[-1]))
    x, y = first[0], last[0]
    linear_to = _linear_to(np.concatenate([x, y]))
    for scale, formatted in ((axis.set_xscale, axis.xaxis), (axis.set_yscale, axis.yaxis)):
        scale("symlog", linthresh=linear_to)
        formatted.set_major_formatter("{x:g}")
    axis.tick_params(labelsize=6)
    axis.errorbar(x, y, xerr=first[1], yerr=last[1], fmt="none", ecolor="0.7", lw=0.6)
    axis.scatter(x, y, c=np.arange(len(x)), cmap="viridis", s=14, zorder=3)
    for block in np.argsort(-(x + y))[:_NUM_NAMED]:
        axis.annotate(str(block), (x[block], y[block]), fontsize=7, xytext=(3, 3), textcoords="offset points")
    ends = [min(*x, *y), max(*x, *y)]
    axis.plot(ends, ends, color="black", lw=0.6)
    axis.set(title=dataset.dataset, xlabel=parts[0], ylabel=parts[-1])


def _with_errors(intervals: Sequence[Interval]) -> tuple[Array, Array]:
    """Return values and how far below and above them their intervals go: ``(blocks,)`` and ``(2, blocks)``."""
    value, low, high = (np.array([getattr(each, end) for each in intervals]) for end in ("value", "low", "high"))
    return value, np.stack([value - low, high - value]).clip(min=0)  # rounding may go below


def _linear_to(values: Array) -> float:
    """Return where an axis turns logarithmic: the power of ten below the median of what is not zero."""
    sizes = np.abs(values[values != 0])
    return float(10.0 ** np.floor(np.log10(np.median(sizes)))) if len(sizes) else 1.0


def _words(score: BlockScore) -> str:
    return score.replace("_", " ")
