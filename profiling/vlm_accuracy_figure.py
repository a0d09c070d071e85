"""The ``plot-accuracy`` command: snapshots over their whole knob grids, in one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from profiling.files import written_whole
from profiling.profile_plots import STYLE
from profiling.vlm_accuracy import AccuracyReport

_Dash = Literal["-", "--", ":", "-."]
_Color = tuple[float, float, float, float]

_DASHES: Final[tuple[_Dash, ...]] = ("-", "--", ":", "-.")  # snapshots that can be told apart
_NORMAL_95: Final = 1.96


def plot_accuracy(reports: list[Path], output: Path) -> None:
    """Draw accuracy against active blocks by tier and top_k, for several snapshots in one picture.

    Args:
        reports: Files ``accuracy.json`` of ``evaluate-vlm``, each of another snapshot and all of the same datasets.
        output: Picture to write; its ending chooses the format.

    Raises:
        ValueError: If a file is not one of those, a snapshot comes twice, or datasets differ.
    """
    if not 1 <= len(reports) <= len(_DASHES):
        raise ValueError(f"reports: needs 1 to {len(_DASHES)}, got {len(reports)}")
    read: dict[str, AccuracyReport] = {}
    for path in reports:
        report = AccuracyReport.read(path)
        name = Path(report.environment.model or "unknown").name
        if name in read:
            raise ValueError(f"reports: {path} is of {name}, and so is one before it")
        read[name] = report
    families = {name: sorted({row.family for row in report.rows}) for name, report in read.items()}
    first, *others = families
    for name in others:
        if families[name] != families[first]:
            raise ValueError(f"reports: {first} answered {families[first]}, {name} answered {families[name]}")
    means = pd.concat([setting_means(report).assign(model=name) for name, report in read.items()])
    figure = draw_accuracy(means, caption="\n".join(_caption(name, report) for name, report in read.items()))
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as partial:
        figure.savefig(partial)
    plt.close(figure)


def setting_means(report: AccuracyReport) -> pd.DataFrame:
    """Average over families.

    Returns:
        A row for each setting that every family was answered with: ``tier``, ``top_k``, ``num_active_blocks``,
        ``accuracy`` (0 to 1) and ``half_width``, of its 95 % interval over samples.
    """
    rows = pd.DataFrame([row.model_dump() for row in report.rows if row.baseline is None])
    # No score between 0 and 1 varies more than one that is either.
    rows["variance"] = rows["accuracy"] * (1 - rows["accuracy"]) / rows["num_samples"]
    groups = rows.groupby(["tier", "top_k", "num_active_blocks"], sort=False)
    num_families = rows["family"].nunique()
    means = groups.agg(accuracy=("accuracy", "mean"), variance=("variance", "sum"), count=("family", "nunique"))
    means["half_width"] = _NORMAL_95 * np.sqrt(means.pop("variance")) / num_families
    means = means[means.pop("count") == num_families]
    return means.reset_index()


def draw_accuracy(means: pd.DataFrame, *, caption: str) -> Figure:
    """Draw a panel for each tier: a colour for each top_k, a dash for each snapshot.

    Args:
        means: Rows of ``setting_means`` with the snapshot's name as ``model``.
        caption: What was answered where.
    """
    tiers = means.groupby("tier")["accuracy"].max().sort_values().index
    top_k = sorted(means["top_k"].unique())
    colors = {level: plt.get_cmap("viridis")(0.9 * place / max(1, len(top_k) - 1)) for place, level in enumerate(top_k)}
    dashes: dict[str, _Dash] = dict(zip(means["model"].unique(), _DASHES, strict=False))
    with plt.style.context(STYLE):
        figure, panels = plt.subplots(1, len(tiers), figsize=(3.1 * len(tiers) + 1.2, 3.9), sharey=True, squeeze=False)
        for axes, tier in zip(panels[0], tiers, strict=True):
            _draw_tier(axes, means[means["tier"] == tier], colors, dashes)
            axes.set(title=f"{tier} tier", xlabel="active blocks", xticks=sorted(means["num_active_blocks"].unique()))
        panels[0, 0].set(ylabel="accuracy, mean over families", ylim=(0, 1))
        panels[0, 0].yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        keys = [Line2D([], [], color=color, label=f"top_k {level}") for level, color in colors.items()]
        keys += [Line2D([], [], color="0.3", linestyle=dash, label=model) for model, dash in dashes.items()]
        panels[0, -1].legend(handles=keys, loc="upper left", bbox_to_anchor=(1, 1))
        figure.suptitle(f"{caption}\nBars: 95 % interval over samples", fontsize=8)
    return figure


def _draw_tier(axes: Axes, means: pd.DataFrame, colors: Mapping[int, _Color], dashes: Mapping[str, _Dash]) -> None:
    for model, dash in dashes.items():
        for level, color in colors.items():
            line = means[(means["model"] == model) & (means["top_k"] == level)].sort_values("num_active_blocks")
            axes.errorbar(
                line["num_active_blocks"],
                line["accuracy"],
                yerr=line["half_width"],
                color=color,
                linestyle=dash,
                marker="o",
                elinewidth=0.8,
            )


def _caption(name: str, report: AccuracyReport) -> str:
    numbers = sorted({row.num_samples for row in report.rows})
    samples = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    num_families = len({row.family for row in report.rows})
    return (
        f"{name}: {samples} {report.split} samples of each of {num_families} families, "
        f"{report.environment.device}, {report.environment.dtype}"
    )
