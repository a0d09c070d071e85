"""How right and how punctual answers were, against the time that they were given."""

from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from profiling.adaptive.totals import Totals
from profiling.profile_plots import STYLE
from profiling.resampling import Interval

ORACLE: Final = "oracle_realised"
_STATIC: Final = "best_static_per_budget"
_STATIC_DASHES: Final = {"cheapest": ":", "full": "-."}


def plot_by_budget(
    totals: Sequence[Totals], references: Mapping[str, Sequence[float]], *, policy: str, caption: str
) -> Figure:
    """Draw accuracy and goodput by budget at the left, what became of the requests at the right.

    Args:
        totals: Of each budget, in rising order.
        references: Goodput of other choosers at the same budgets, from the profile.
        policy: What the policy is called.
        caption: Which model, device and data.
    """
    budgets_ms = [float(each.budget_ms or np.nan) for each in totals]
    with plt.style.context(STYLE):
        figure, (rightness, prompt) = plt.subplots(1, 2, figsize=(9.6, 4.2))
        for name, goodput in references.items():
            rightness.plot(budgets_ms, goodput, label=f"{_words(name)} (profile)", **_look(name))
        rightness.plot(budgets_ms, [each.accuracy for each in totals], color="C0", ls=":", label=f"{policy}: accuracy")
        rightness.plot(
            budgets_ms, [each.goodput for each in totals], color="C0", marker="o", label=f"{policy}: goodput"
        )
        rightness.set(ylabel="share of answers right", ylim=(0, 1.02))
        _draw_promptness(prompt, budgets_ms, totals)
        for axes in (rightness, prompt):
            _mark_budgets(axes, budgets_ms)
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
            axes.legend(fontsize=7)
        figure.suptitle(caption, fontsize=8)
    return figure


def plot_runs(
    budgets_ms: Sequence[float],
    goodput: Mapping[str, Sequence[Interval]],
    in_time: Mapping[str, Sequence[Interval]],
    *,
    caption: str,
) -> Figure:
    """Draw runs by budget: goodput above and the share in time below, a line and a band for each run.

    Args:
        budgets_ms: In rising order.
        goodput: By name of the run, at each budget; intervals over images.
        in_time: The same of the share in time; Clopper-Pearson intervals.
        caption: What ran on what, and how many requests.
    """
    with plt.style.context(STYLE):
        figure, (right, prompt) = plt.subplots(2, 1, figsize=(7.2, 6.4), height_ratios=[1.7, 1], sharex=True)
        for axes, by_run in ((right, goodput), (prompt, in_time)):
            for name, intervals in by_run.items():
                _draw_band(axes, budgets_ms, intervals, name=name)
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        right.set(ylabel="goodput: right and in time")
        right.legend()
        prompt.set(ylabel="in time")
        _mark_budgets(prompt, budgets_ms)
        bands = "Bands: 95 % intervals, of goodput over images by bootstrap, of the share in time Clopper-Pearson"
        figure.suptitle(f"{caption}\n{bands}", fontsize=8)
    return figure


def _draw_band(axes: Axes, budgets_ms: Sequence[float], intervals: Sequence[Interval], *, name: str) -> None:
    (line,) = axes.plot(budgets_ms, [each.value for each in intervals], marker="o", label=name)
    low, high = [each.low for each in intervals], [each.high for each in intervals]
    axes.fill_between(budgets_ms, low, high, color=line.get_color(), alpha=0.15, lw=0)


def _mark_budgets(axes: Axes, budgets_ms: Sequence[float]) -> None:
    axes.set(xscale="log" if max(budgets_ms) > 3 * min(budgets_ms) else "linear", xlabel="budget (ms)")
    axes.set_xticks(budgets_ms, [f"{budget:g}" for budget in budgets_ms], rotation=45)
    axes.minorticks_off()


def _draw_promptness(axes: Axes, budgets_ms: Sequence[float], totals: Sequence[Totals]) -> None:
    value = np.asarray([each.adherence.value for each in totals])
    spread = [
        value - [each.adherence.low for each in totals],
        np.asarray([each.adherence.high for each in totals]) - value,
    ]
    axes.errorbar(budgets_ms, value, yerr=spread, color="C0", marker="o", capsize=2, label="in time, 95 % interval")
    for name, color in (("late", "C3"), ("truncated", "C1"), ("infeasible", "0.5")):
        axes.plot(budgets_ms, [getattr(each, name) for each in totals], color=color, marker=".", label=name)
    axes.set(ylabel="share of requests", ylim=(-0.02, 1.02))


def _look(name: str) -> dict[str, object]:
    if name == ORACLE:
        return {"color": "0.3", "linestyle": "--", "linewidth": 1.3}
    if name == _STATIC:
        return {"color": "black", "linewidth": 1.4}
    return {"color": "0.65", "linewidth": 1.0, "linestyle": _STATIC_DASHES.get(name, "-")}


def _words(name: str) -> str:
    return name.replace("_", " ")
