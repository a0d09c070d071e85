"""The figure of pruning: accuracy of the chosen and of evenly spread blocks, and their difference."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Final

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from profiling.block_table import TableScore
from profiling.profile_plots import STYLE
from profiling.pruning.results import Choice

_CAPTION_WIDTH: Final = 150
_LEGEND: Final = (
    "Left: thick, mean of datasets; band, 95 % interval of the drop against the whole model; thin, each dataset. "
    "Right: on the same samples; bar, 95 % interval over samples; grey, each dataset."
)


def plot_choices(choices: Mapping[int, Choice], caption: str) -> Figure:
    """Draw accuracy against the number of blocks, of the chosen subsets and as many blocks spread evenly, and the gain.

    Args:
        choices: The chosen subsets by their size.
        caption: What was measured, on what hardware and how many samples.
    """
    counts = sorted(choices)
    found = [choices[count] for count in counts]
    with plt.style.context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), width_ratios=(1.25, 1))
        scores = {"chosen": [each.score for each in found], "evenly spread": [each.even_score for each in found]}
        accuracies = [[each.accuracies for each in found], [each.even_accuracies for each in found]]
        for name, of_datasets in zip(scores, accuracies, strict=True):
            color = _draw_accuracy(left, counts, scores[name], label=name)
            for dataset in of_datasets[0]:
                left.plot(counts, [each[dataset] for each in of_datasets], color=color, lw=0.6, alpha=0.4)
        left.set(xlabel="active blocks", ylabel="accuracy", xticks=counts)
        left.legend()
        _draw_gain(right, counts, found)
        right.set(xlabel="active blocks", ylabel="accuracy, chosen minus evenly spread", xticks=counts)
        figure.suptitle("\n".join(fill(text, _CAPTION_WIDTH) for text in (f"{caption}.", _LEGEND)), fontsize=8)
    return figure


def _draw_accuracy(axes: Axes, counts: Sequence[int], scores: Sequence[TableScore], *, label: str) -> str:
    (line,) = axes.plot(counts, [score.accuracy_mean for score in scores], marker="o", label=label)
    color = str(line.get_color())
    highest = [score.accuracy_mean + score.drop for score in scores]
    low = [top - score.drop_high for top, score in zip(highest, scores, strict=True)]
    high = [top - score.drop_low for top, score in zip(highest, scores, strict=True)]
    axes.fill_between(counts, low, high, color=color, alpha=0.25, lw=0)
    return color


def _draw_gain(axes: Axes, counts: Sequence[int], found: Sequence[Choice]) -> None:
    for dataset in found[0].accuracies:
        gains = [each.accuracies[dataset] - each.even_accuracies[dataset] for each in found]
        axes.plot(counts, gains, "o", color="0.7", ms=2.5)
    axes.axhline(0, color="black", lw=0.6)
    (line,) = axes.plot(counts, [each.gain.value for each in found], "o")
    lows, highs = [each.gain.low for each in found], [each.gain.high for each in found]
    axes.vlines(counts, lows, highs, color=str(line.get_color()), lw=1.4)
