"""Goodput accuracy against the budget, all policies in one picture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from profiling.controllers.baselines import BEST_STATIC_PER_BUDGET, ORACLES
from profiling.controllers.evaluation import Evaluation
from profiling.profile_plots import STYLE
from profiling.standing import Standing

_STATIC: Final = (
    *("random_feasible", "cheapest", "full", "lut_mean", "lut_p95", "tier_only", "top_k_only", "blocks_only"),
    *("best_static", "best_static_per_dataset"),
)
_MUTED: Final = "0.72"
_PALE: Final = "#b5cbe3"
_NUM_COLORS: Final = 5  # more curves cannot be told apart
_TICKS_MS: Final = np.outer(10.0 ** np.arange(-1, 6), [1, 1.5, 2, 3, 5, 7]).ravel()
_ORACLE_LOOKS: Final = dict(zip(ORACLES, (("0.2", "--"), ("0.4", "-."), ("0.6", ":")), strict=True))


def plot_goodput(evaluations: Sequence[Evaluation], standings: Mapping[str, Standing], *, caption: str) -> Figure:
    """Draw goodput by budget at the left, and its mean over budgets with its interval at the right.

    The best policies that know the request are coloured and the others pale, oracles are broken, static ones grey.

    Args:
        evaluations: Best first.
        standings: Their intervals, by name.
        caption: Which model, device and data.
    """
    with plt.style.context(STYLE):
        size = (9.6, max(4.6, 0.8 + 0.19 * len(evaluations)))
        figure, (curves, means) = plt.subplots(1, 2, figsize=size, width_ratios=[1.45, 1])
        colors = iter(plt.rcParams["axes.prop_cycle"].by_key()["color"][:_NUM_COLORS])
        for place, evaluation in enumerate(evaluations):
            look = _look(evaluation.name, colors)
            budgets_ms = [result.budget_ms for result in evaluation.budgets]
            curves.plot(budgets_ms, [result.goodput for result in evaluation.budgets], **look)
            _draw_mean(means, place, standings[evaluation.name], look)
        _dress_curves(curves, evaluations[0])
        means.set(
            yticks=range(len(evaluations)),
            yticklabels=[evaluation.name.replace("_", " ") for evaluation in evaluations],
            xlabel="mean over budgets, 95 % interval over images",
        )
        means.invert_yaxis()
        means.grid(visible=False, axis="y")
        means.tick_params(axis="y", length=0)
        means.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        for label, evaluation in zip(means.get_yticklabels(), evaluations, strict=True):
            label.set_color("0.35" if evaluation.name in _STATIC else "black")
        key = (
            "Coloured: the best that know the request, others pale. Black: best static per budget. "
            "Grey: other static choices. Broken: oracles"
        )
        figure.suptitle(f"{key}\n{caption}", fontsize=8)
    return figure


def _look(name: str, colors: Iterator[str]) -> dict[str, object]:
    if name in _STATIC:
        return {"color": _MUTED, "linewidth": 0.9, "zorder": 1}
    if name == BEST_STATIC_PER_BUDGET:
        return {"color": "black", "linewidth": 1.6, "zorder": 3}
    if name in ORACLES:
        shade, dashes = _ORACLE_LOOKS[name]
        return {"color": shade, "linewidth": 1.3, "linestyle": dashes, "zorder": 2}
    color = next(colors, None)
    if color is None:
        return {"color": _PALE, "linewidth": 1.1, "zorder": 1}
    return {"color": color, "linewidth": 1.8, "marker": "o", "zorder": 4}


def _draw_mean(axes: Axes, place: int, standing: Standing, look: Mapping[str, object]) -> None:
    goodput = standing.goodput
    axes.plot([goodput.low, goodput.high], [place, place], color=look["color"], linewidth=1.6)
    axes.plot(goodput.value, place, marker="o", markersize=4.5, color=look["color"])


def _dress_curves(axes: Axes, evaluation: Evaluation) -> None:
    budgets_ms = [result.budget_ms for result in evaluation.budgets]
    axes.set(xscale="log", xlabel="budget (ms)", ylabel="goodput accuracy: right and in time")
    low_ms, high_ms = min(budgets_ms) / 1.05, max(budgets_ms) * 1.05
    axes.set(xlim=(low_ms, high_ms), xticks=[tick for tick in _TICKS_MS if low_ms <= tick <= high_ms])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axes.set_ylim(bottom=0)
