"""The figure of levels: accuracy against time, and how each candidate changes the plain number's accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from profiling.levels.candidates import Candidate, Kind
from profiling.levels.comparison import MOST_SLOWER_SHARE, Compared
from profiling.levels.report import is_plain, words
from profiling.profile_plots import STYLE
from profiling.resampling import Interval

_CAPTION_WIDTH: Final = 170
_REACH: Final = 2.0
_LEGEND: Final = (
    "Left: line, 95 % interval over samples. Right: on the same samples, line, 95 % interval corrected for the number "
    "of levels; filled, adopted; grey, not shown to be as fast as the plain number but for "
    f"{100 * MOST_SLOWER_SHARE:.0f} %. A triangle stands for what lies outside, with its number."
)


@dataclass(frozen=True, kw_only=True)
class _Fences:
    """What an axis shows: the middle of the values and twice its width to either side, so far as there are any.

    Args:
        low: Lower end.
        high: Upper end.
    """

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float], ends: Sequence[float]) -> "_Fences":
        """Fence values in; ends of intervals may widen what is shown, up to the fences."""
        first, third = np.percentile(values, [25, 75])
        reach = _REACH * max(third - first, 1e-3)
        room = 0.05 * (third - first + 2 * reach)
        inside = [each for each in (*values, *ends) if first - reach <= each <= third + reach]
        return cls(low=float(min(inside) - room / 2), high=float(max(inside) + room / 2))

    def holds(self, value: float) -> bool:
        """Tell whether a value is shown."""
        return self.low <= value <= self.high

    def clipped(self, value: float) -> float:
        """Return the nearest value that is shown."""
        return min(max(value, self.low), self.high)


def plot_levels(found: Sequence[Compared], caption: str) -> Figure:
    """Draw accuracy against time, and the change of each candidate against the plain number of its level.

    Args:
        found: Every candidate, plain numbers among them.
        caption: What was measured, on what hardware and how many samples.
    """
    others = [each for each in found if not is_plain(each)]
    with plt.style.context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, max(4.2, 1.6 + 0.2 * len(others))), width_ratios=(1, 1.1)
        )
        colors = dict(zip(Kind, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
        _draw_accuracies(left, found, colors)
        _draw_changes(right, others, colors)
        figure.suptitle("\n".join(fill(text, _CAPTION_WIDTH) for text in (f"{caption}.", _LEGEND)), fontsize=8)
    return figure


def _draw_accuracies(axes: Axes, found: Sequence[Compared], colors: dict[Kind, str]) -> None:
    fences = _fences([each.accuracy for each in found])
    axes.set(xlabel="time of a request [ms]", ylabel="accuracy, mean of datasets", ylim=(fences.low, fences.high))
    for kind, color in colors.items():
        members = [each for each in found if each.candidate.kind is kind]
        if not members:
            continue
        label = words(members[0].candidate)
        times_ms, values = [each.time_ms for each in members], [each.accuracy.value for each in members]
        axes.plot(times_ms, values, "o-" if kind is Kind.UNIFORM else "o", color=color, label=label)
        lows, highs = [each.accuracy.low for each in members], [each.accuracy.high for each in members]
        axes.vlines(times_ms, lows, highs, color=color, lw=0.8, alpha=0.6)
    for each in found:
        if is_plain(each) and fences.holds(each.accuracy.value):
            at = (each.time_ms, each.accuracy.value)
            axes.annotate(str(each.candidate.top_k), at, (4, -9), textcoords="offset points", fontsize=7)
    _draw_outside(axes, [each for each in found if not fences.holds(each.accuracy.value)], fences, colors)
    axes.legend(loc="lower right")


def _draw_outside(axes: Axes, outside: Sequence[Compared], fences: _Fences, colors: dict[Kind, str]) -> None:
    """Mark at the edge what the panel of accuracies does not show; numbers stand above one another."""
    for place, each in enumerate(outside):
        value, color = each.accuracy.value, colors[each.candidate.kind]
        edge, is_above = fences.clipped(value), value > fences.high
        axes.plot([each.time_ms], [edge], "^" if is_above else "v", color=color, clip_on=False)
        axes.annotate(
            f"{each.candidate.top_k}: {value:.3f}",
            (each.time_ms, edge),
            (4, (-12 - 9 * place) if is_above else (4 + 9 * place)),
            textcoords="offset points",
            fontsize=7,
            color=color,
        )


def _draw_changes(axes: Axes, others: Sequence[Compared], colors: dict[Kind, str]) -> None:
    axes.axvline(0, color="black", lw=0.6)
    axes.set(xlabel="accuracy minus that of the plain number", yticks=range(len(others)))
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.set_yticklabels([_label(each.candidate) for each in others], fontsize=6.5)
    if not others:
        return
    fences = _fences([each.change for each in others])
    axes.set_xlim(fences.low, fences.high)
    for row, each in enumerate(others):
        color = colors[each.candidate.kind] if each.is_as_fast else "0.6"
        if fences.holds(each.change.value):
            axes.hlines(row, each.change.low, each.change.high, color=color, lw=1.2)
            face = color if each.is_adopted else "white"
            axes.plot(each.change.value, row, "o", color=color, markerfacecolor=face)
        else:
            _point_outside(axes, row, each.change.value, fences, color)


def _point_outside(axes: Axes, row: int, value: float, fences: _Fences, color: str) -> None:
    is_below = value < fences.low
    edge = fences.clipped(value)
    axes.plot(edge, row, "<" if is_below else ">", color=color, clip_on=False)
    axes.annotate(
        f"{value:.3f}",
        (edge, row),
        (6 if is_below else -6, 0),
        textcoords="offset points",
        ha="left" if is_below else "right",
        va="center",
        fontsize=6.5,
        color=color,
    )


def _fences(intervals: Sequence[Interval]) -> _Fences:
    ends = [end for each in intervals for end in (each.low, each.high)]
    return _Fences.around([each.value for each in intervals], ends)


def _label(candidate: Candidate) -> str:
    if candidate.kind is Kind.MODALITY:
        return f"{candidate.top_k}: text {candidate.experts.text[0]}, vision {candidate.experts.vision[0]}"
    ends = sorted({min(candidate.experts.text), max(candidate.experts.text)})
    return f"{candidate.top_k}: {words(candidate)}, {' to '.join(map(str, ends))}"
