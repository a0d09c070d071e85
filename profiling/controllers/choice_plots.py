"""What a controller chooses: tiers against the best ones, and levels of each knob by budget."""

# Shape suffixes: G = budgets, N = samples, S = settings, T = tiers.

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes
from profiling.profile_plots import STYLE


def tier_confusion(chosen_GN: Codes, outcomes: Outcomes, budgets_ms: Sequence[float]) -> dict[str, Array]:
    """Count chosen tiers against best ones, by dataset and for ``all``: ``(tiers, tiers)``, the best one first.

    Best is the tier of the most goodput accuracy; among equals the chosen one if it is of them, else the cheapest.
    Samples that no setting answers right in time are left out.

    Args:
        chosen_GN: ``(budgets, samples)`` settings.
        outcomes: What came of all settings.
        budgets_ms: The budgets in milliseconds.
    """
    dataset_N = outcomes.samples["dataset"].to_numpy()
    members = {name: dataset_N == name for name in sorted(set(dataset_N))} | {"all": np.ones(len(dataset_N), bool)}
    return {
        name: np.sum(
            [
                _confusion(chosen_N, outcomes, budget_ms, member_N)
                for budget_ms, chosen_N in zip(budgets_ms, chosen_GN, strict=True)
            ],
            axis=0,
        )
        for name, member_N in members.items()
    }


def tier_confusion_by_budget(chosen_GN: Codes, outcomes: Outcomes, budgets_ms: Sequence[float]) -> dict[str, Array]:
    """Count as ``tier_confusion`` does, by budget and over all datasets."""
    everyone_N = np.ones(len(outcomes), bool)
    return {
        f"{budget_ms:.3g} ms": _confusion(chosen_N, outcomes, budget_ms, everyone_N)
        for budget_ms, chosen_N in zip(budgets_ms, chosen_GN, strict=True)
    }


def plot_tier_confusion(counts: Mapping[str, Array], tiers: Sequence[str], *, caption: str) -> Figure:
    """Draw a confusion matrix for each dataset or budget, as shares of the requests of each best tier.

    Args:
        counts: Of ``tier_confusion`` or ``tier_confusion_by_budget``.
        tiers: Their names.
        caption: Which controller, device and data.
    """
    num_columns = min(4, len(counts))
    num_rows = -(-len(counts) // num_columns)
    with plt.style.context(STYLE):
        size = (2.1 * num_columns + 0.6, 2.2 * num_rows + 0.7)
        figure, axes = plt.subplots(num_rows, num_columns, figsize=size, squeeze=False)
        for panel in axes.flat[len(counts) :]:
            panel.set_visible(False)
        for panel, (name, matrix) in zip(axes.flat, counts.items(), strict=False):
            _draw_matrix(panel, matrix, tiers)
            panel.set_title(f"{name.replace('_', ' ')}, n = {int(matrix.sum())}", fontsize=8)
        figure.suptitle(
            "Row: tier of the most goodput; of equals the chosen one, so that ties count as right. "
            f"Column: chosen tier.\nShares of each row. {caption}",
            fontsize=8,
        )
    return figure


def plot_levels(chosen_GN: Codes, outcomes: Outcomes, budgets_ms: Sequence[float], *, caption: str) -> Figure:
    """Draw how often each level of each knob is chosen, budget by budget.

    Args:
        chosen_GN: ``(budgets, samples)`` settings.
        outcomes: Knows the settings.
        budgets_ms: The budgets in milliseconds.
        caption: Which controller, device and data.
    """
    names = [f"{budget_ms:.3g}" for budget_ms in budgets_ms]
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), sharey=True)
        for panel, knob in zip(axes, ("tier", "top_k", "num_active_blocks"), strict=True):
            level_of_S = [getattr(setting, knob) for setting in outcomes.settings]
            levels = list(dict.fromkeys(level_of_S))
            place_S = np.asarray([levels.index(level) for level in level_of_S])
            below_G = np.zeros(len(names))
            for place, level in enumerate(levels):
                share_G = (place_S[chosen_GN] == place).mean(axis=1)
                shade = plt.get_cmap("viridis")(place / max(1, len(levels) - 1))
                panel.bar(names, share_G, bottom=below_G, color=shade, width=0.9, label=str(level))
                below_G += share_G
            panel.set(xlabel="budget (ms)", title=knob.removeprefix("num_").replace("_", " "), ylim=(0, 1))
            panel.grid(visible=False)
            panel.tick_params(axis="x", rotation=90)
            panel.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
        axes[0].set_ylabel("share of requests")
        figure.suptitle(caption, fontsize=8)
    return figure


def _confusion(chosen_N: Codes, outcomes: Outcomes, budget_ms: float, member_N: Mask) -> Array:
    """Count chosen tiers of some samples under one budget against best ones: ``(tiers, tiers)``."""
    num_tiers = len(outcomes.grid.tiers)
    settings_of_tier = len(outcomes.settings) // num_tiers
    tier_N = chosen_N // settings_of_tier
    goodput_NS = np.nan_to_num(outcomes.realised_goodput_NS(budget_ms))
    best_NT = goodput_NS.reshape(-1, num_tiers, settings_of_tier).max(axis=2)
    is_best_NT = best_NT >= best_NT.max(axis=1, keepdims=True)
    is_right_N = np.take_along_axis(is_best_NT, tier_N[:, None], axis=1)[:, 0]
    best_N = np.where(is_right_N, tier_N, is_best_NT.argmax(axis=1))
    counted_N = member_N & (best_NT.max(axis=1) > 0)
    matrix = np.zeros((num_tiers, num_tiers))
    np.add.at(matrix, (best_N[counted_N], tier_N[counted_N]), 1)
    return matrix


def _draw_matrix(axes: Axes, matrix: Array, tiers: Sequence[str]) -> None:
    rows_T = matrix.sum(axis=1, keepdims=True)
    share_TT = np.divide(matrix, rows_T, out=np.zeros_like(matrix), where=rows_T > 0)
    axes.imshow(share_TT, vmin=0, vmax=1, cmap="Blues")
    axes.set(xticks=range(len(tiers)), xticklabels=tiers, yticks=range(len(tiers)), yticklabels=tiers)
    axes.grid(visible=False)
    for row, column in np.ndindex(*share_TT.shape):
        share = share_TT[row, column]
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", color="white" if share > 0.5 else "black")
