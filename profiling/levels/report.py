"""What the comparison of levels' meanings found: a table, JSON and a figure."""

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import fill
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from profiling.levels.candidates import Candidate, Kind
from profiling.levels.comparison import Compared
from profiling.levels.measurement import MassChanges
from profiling.markup import Table
from profiling.profile_plots import STYLE
from profiling.subsets.job import run_lengths

_CAPTION_WIDTH: Final = 150
_WORDS: Final = {
    Kind.UNIFORM: "plain number",
    Kind.MODALITY: "by modality",
    Kind.LAYER_WEIGHTS: "by block, from weights",
    Kind.LAYER_SENSITIVITY: "by block, from samples",
}


def levels_table(found: Sequence[Compared], *, vision_share: float, subject: str) -> Table:
    """Lay out every candidate beside the plain number of its level."""
    rows = [
        (
            str(each.candidate.top_k),
            _words(each.candidate),
            run_lengths(each.candidate.experts.text),
            run_lengths(each.candidate.experts.vision),
            f"{each.candidate.mean_experts(vision_share):.2f}",
            f"{each.accuracy:.3f}",
            "" if _is_plain(each) else str(each.train_change),
            "" if _is_plain(each) else str(each.change),
            f"{each.time_ms:.2f}",
            "" if _is_plain(each) else f"{each.time_change_ms.value:+.2f} (noise {each.noise_ms:.2f})",
            _verdict(each),
        )
        for each in found
    ]
    return Table(
        columns=(
            "level",
            "kind",
            "text",
            "vision",
            "mean",
            "accuracy",
            "change, train",
            "change, validation",
            "ms",
            "change, ms",
            "verdict",
        ),
        rows=tuple(rows),
        caption=f"{subject}. Text, vision: experts by block, 3x4 for 3 in four blocks; mean: over the tokens of "
        f"prompts ({vision_share:.0%} vision tokens) and blocks. Change: against the plain number of the level on the "
        "same samples; intervals over samples, 95 %, on validation corrected for the number of levels. Noise: what two "
        "measurements of the plain number may be apart. Adopted: the level's best on train, if the interval on "
        "validation is above zero and the time's change within noise.",
    )


def matched_mass_table(changes: MassChanges, *, subject: str) -> Table:
    """Lay out what scaling router weights to the mass of the trained top_k changes.

    Args:
        changes: Accuracy and its change by level.
        subject: What was measured.
    """
    return Table(
        columns=("level", "accuracy", "change"),
        rows=tuple((str(top_k), f"{accuracy:.3f}", str(change)) for top_k, (accuracy, change) in changes.items()),
        caption=f"{subject}. Router weights scaled to the sum that the trained top_k's would have "
        "(model.match_router_mass), against not doing so; 95 % intervals over samples.",
    )


def levels_json(found: Sequence[Compared], changes: MassChanges, *, vision_share: float) -> dict[str, Any]:
    """Return what ``levels.json`` holds."""
    return {
        "vision_share": vision_share,
        "candidates": [
            asdict(each) | {"mean_experts": each.candidate.mean_experts(vision_share), "is_adopted": each.is_adopted}
            for each in found
        ],
        "matched_router_mass": {
            str(top_k): {"accuracy": accuracy, "change": asdict(change)}
            for top_k, (accuracy, change) in changes.items()
        },
    }


def plot_levels(found: Sequence[Compared], caption: str) -> Figure:
    """Draw accuracy against time, and the change of each candidate against the plain number of its level."""
    others = [each for each in found if not _is_plain(each)]
    with plt.style.context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, max(3.6, 1.6 + 0.2 * len(others))), width_ratios=(1, 1.1), layout="constrained"
        )
        for place, kind in enumerate(Kind):
            _draw_accuracy(left, [each for each in found if each.candidate.kind is kind], f"C{place}")
            rows = [(row, each) for row, each in enumerate(others) if each.candidate.kind is kind]
            _draw_changes(right, rows, f"C{place}")
        left.set(xlabel="time of a request [ms]", ylabel="accuracy, mean of datasets")
        left.legend()
        right.axvline(0, color="black", lw=0.6)
        right.set(
            xlabel="accuracy minus that of the plain number",
            yticks=range(len(others)),
            ylim=(len(others) - 0.5, -0.5),
        )
        right.set_yticklabels([_label(each.candidate) for each in others], fontsize=6)
        how = "line: interval over samples, 95 % corrected for the number of levels; filled: adopted"
        figure.suptitle(f"{fill(caption, _CAPTION_WIDTH)}\n{how}", fontsize=8)
    return figure


def _draw_accuracy(axes: Axes, members: Sequence[Compared], color: str) -> None:
    if not members:
        return
    style = "-" if _is_plain(members[0]) else ""
    axes.plot(
        [each.time_ms for each in members],
        [each.accuracy for each in members],
        marker="o",
        ls=style,
        ms=4,
        color=color,
        label=_words(members[0].candidate),
    )
    if _is_plain(members[0]):
        for each in members:
            axes.annotate(
                str(each.candidate.top_k), (each.time_ms, each.accuracy), xytext=(3, -9), textcoords="offset points"
            )


def _draw_changes(axes: Axes, rows: Sequence[tuple[int, Compared]], color: str) -> None:
    for row, each in rows:
        axes.hlines(row, each.change.low, each.change.high, color=color, lw=1.2)
        face = color if each.is_adopted else "white"
        axes.plot(each.change.value, row, "o", ms=4, color=color, markerfacecolor=face)


def _is_plain(each: Compared) -> bool:
    return each.candidate.kind is Kind.UNIFORM


def _words(candidate: Candidate) -> str:
    return _WORDS[candidate.kind]


def _label(candidate: Candidate) -> str:
    if candidate.kind is Kind.MODALITY:
        return f"{candidate.top_k}: text {candidate.experts.text[0]}, vision {candidate.experts.vision[0]}"
    low, high = np.min(candidate.experts.text), np.max(candidate.experts.text)
    return f"{candidate.top_k}: {_words(candidate)}, {low} to {high}"


def _verdict(each: Compared) -> str:
    if _is_plain(each):
        return ""
    if each.is_adopted:
        return "adopted"
    if not each.is_as_fast:
        return "slower"
    return "chosen, not shown better" if each.is_chosen else ""
