"""Figures of block importance."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from profiling.importance.consistency import RELATIONS, Consistency
from profiling.importance.scores import BlockScore, PartScores
from profiling.profile_plots import STYLE
from profiling.resampling import Array, mean_intervals

_SHOWN = tuple(score for score in BlockScore if score is not BlockScore.RANDOM)
_OF_REMOVALS = (BlockScore.ACCURACY_DROP, BlockScore.NLL_INCREASE, BlockScore.KL)
_PANELS_IN_A_ROW = 4


def plot_comparison(name: str, parts: Sequence[PartScores], *, seed: int) -> Figure:
    """Draw every score of every block on each part of a dataset, with intervals.

    Scores of removed blocks are on a logarithmic axis with a linear middle: one block may hide all others.
    """
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), sharex=True)
        for axis, score in zip(axes.flat, _SHOWN, strict=True):
            for each in parts:
                intervals = mean_intervals(each.values[name][score], seed=seed)
                blocks = np.arange(len(intervals))
                (line,) = axis.plot(blocks, [interval.value for interval in intervals], marker="o", label=each.part)
                low, high = ([interval.low for interval in intervals], [interval.high for interval in intervals])
                axis.fill_between(blocks, low, high, color=line.get_color(), alpha=0.15, lw=0)
            if score in _OF_REMOVALS:
                means = np.concatenate([each.values[name][score].mean(axis=0) for each in parts])
                axis.set_yscale("symlog", linthresh=_linear_to(means))
                axis.yaxis.set_major_formatter("{x:g}")
            axis.set(title=_words(score))
        for axis in axes[1]:
            axis.set_xlabel("block")
            axis.locator_params(axis="x", integer=True)
        axes[0, 0].legend()
        figure.suptitle(
            f"{name}; {_samples(parts)}\nband: 95 % interval over samples; upper row: logarithmic but around 0",
            fontsize=8,
        )
    return figure


def plot_heat_map(score: BlockScore, parts: Sequence[PartScores]) -> Figure:
    """Draw a score of every block on each part of each dataset, each row scaled to its second largest.

    A model whose training never skips a block misses that one many times more than any other.
    """
    rows = {f"{name}, {each.part}": each.values[name][score].mean(axis=0) for name in parts[0].values for each in parts}
    scaled = np.stack([row / (np.sort(np.abs(row))[-2:][0] or 1.0) for row in rows.values()])
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 1.2 + 0.28 * len(rows)))
        image = axis.imshow(scaled, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axis.set(xlabel="block", xticks=range(scaled.shape[1]), yticks=range(len(rows)), yticklabels=list(rows))
        axis.grid(visible=False)
        figure.colorbar(image, label="share of the row's second largest", extend="both")
        figure.suptitle(f"{_words(score)}\n{_samples(parts)}", fontsize=8)
    return figure


def plot_scatter(score: BlockScore, parts: Sequence[PartScores]) -> Figure:
    """Draw each block's score on the first part against that on the last, a panel a dataset."""
    first, last = parts[0], parts[-1]
    with plt.style.context(STYLE):
        columns = min(_PANELS_IN_A_ROW, len(first.values))
        rows = -(-len(first.values) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 0.4 + 2.4 * rows), squeeze=False)
        for axis in axes.flat[len(first.values) :]:
            axis.set_visible(False)
        for axis, name in zip(axes.flat, first.values, strict=False):
            x, y = (each.values[name][score].mean(axis=0) for each in (first, last))
            linear_to = _linear_to(np.concatenate([x, y]))
            axis.set_xscale("symlog", linthresh=linear_to)
            axis.set_yscale("symlog", linthresh=linear_to)
            axis.xaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.tick_params(labelsize=6)
            axis.plot(x, y, "o")
            for block, (at_x, at_y) in enumerate(zip(x, y, strict=True)):
                axis.annotate(str(block), (at_x, at_y), fontsize=6, xytext=(2, 2), textcoords="offset points")
            ends = [min(*x, *y), max(*x, *y)]
            axis.plot(ends, ends, color="black", lw=0.6)
            axis.set(title=name, xlabel=first.part, ylabel=last.part)
        figure.suptitle(f"{_words(score)} of each block, logarithmic but around 0\n{_samples(parts)}", fontsize=8)
    return figure


def plot_correlations(found: Mapping[BlockScore, Consistency], parts: Sequence[PartScores]) -> Figure:
    """Draw the mean rank correlation of each score, for each relation, with intervals."""
    width = 0.8 / len(RELATIONS)
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 3.6))
        for place, (relation, words) in enumerate(RELATIONS.items()):
            bars = [(at, each.means.get(relation)) for at, each in enumerate(found.values())]
            shown = [(at, mean) for at, mean in bars if mean is not None]
            if not shown:
                continue
            at = np.asarray([at for at, _ in shown]) + (place - 1) * width
            axis.bar(at, [mean.value for _, mean in shown], width, label=words, color=f"C{place}")
            axis.vlines(at, [mean.low for _, mean in shown], [mean.high for _, mean in shown], color="black", lw=0.8)
        detectable = next(iter(found.values())).smallest_detectable
        axis.axhline(detectable, color="black", lw=0.6, ls="--")
        axis.set(
            ylabel="Spearman correlation over blocks",
            xticks=range(len(found)),
            xticklabels=[_words(score).replace(" ", "\n") for score in found],
            ylim=(-1.05, 1.05),
        )
        axis.legend()
        figure.suptitle(
            f"Mean of pairs, line: 95 % interval over samples\n{_samples(parts)}\n"
            f"Dashed: {detectable:.2f}, found in 80 % of tests with so many blocks",
            fontsize=8,
        )
    return figure


def _linear_to(values: Array) -> float:
    """Return where an axis turns logarithmic: the power of ten below the median of what is not zero."""
    sizes = np.abs(values[values != 0])
    return float(10.0 ** np.floor(np.log10(np.median(sizes)))) if len(sizes) else 1.0


def _words(score: BlockScore) -> str:
    return score.replace("_", " ")


def _samples(parts: Sequence[PartScores]) -> str:
    counts = [f"{len(next(iter(each.values.values()))[BlockScore.RANDOM])} {each.part}" for each in parts]
    return f"{parts[0].label}; {' and '.join(counts)} samples of each dataset"
