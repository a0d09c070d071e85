"""Each component of a profile against what drives it."""

from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from profiling.schema import Environment

STYLE: Final = str(Path(__file__).with_name("paper.mplstyle"))


def plot_components(records: pd.DataFrame, environment: Environment) -> Figure:
    """Draw the four components' times against their drivers: the median, and a band from the 5th to 95th percentile.

    Args:
        records: Columns of the record schema.
        environment: Named in the caption.

    Returns:
        A figure of four axes, in the order of the components.
    """
    records = records.assign(context_tokens=records["vision_tokens"] + records["text_tokens"])
    # Contexts are all different: bins of a few hundred tokens hold enough runs for a band.
    records["context_bin"] = (records["context_tokens"] // 200) * 200 + 100
    answers = records[records["output_tokens"] > 1]
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(8.5, 6.4))
        _draw(axes[0, 0], records, "num_crops", "vision_encoder_ms")
        axes[0, 0].set(title="Vision encoder", xlabel="crops, overview included", ylabel="ms")
        _draw(axes[0, 1], records, "num_crops", "projector_ms")
        axes[0, 1].set(title="Projector, with pooling", xlabel="crops, overview included", ylabel="ms")
        _draw(axes[1, 0], records, "context_bin", "prefill_ms", by="num_active_blocks")
        axes[1, 0].set(title="Prefill", xlabel="prompt tokens, vision tokens included", ylabel="ms")
        _draw(axes[1, 1], answers, "num_active_blocks", "decode_per_token_ms", by="top_k")
        axes[1, 1].set(title="Decode", xlabel="active blocks", ylabel="ms per token")
        band = "line: median, band: 5th to 95th percentile"
        figure.suptitle(f"{caption(environment, len(records))}\n{band}", fontsize=8)
    return figure


def caption(environment: Environment, num_rows: int) -> str:
    """Say what was measured where, in one line."""
    weights = ", random weights" if environment.random_weights else ""
    return (
        f"{environment.model}{weights}, {environment.dtype}, {environment.engine} engine, {environment.device}, "
        f"torch {environment.torch}, n = {num_rows}"
    )


def _draw(axes: Axes, records: pd.DataFrame, driver: str, value: str, by: str | None = None) -> None:
    groups = [(None, records)] if by is None else list(records.groupby(by))
    for level, group in groups:
        times_ms = group.groupby(driver)[value]
        median_ms = times_ms.median()
        (line,) = axes.plot(median_ms.index, median_ms, marker="o", label=str(level))
        axes.fill_between(
            median_ms.index, times_ms.quantile(0.05), times_ms.quantile(0.95), color=line.get_color(), alpha=0.15, lw=0
        )
    axes.set_ylim(bottom=0)
    if by is not None and groups:
        axes.legend(title=by.replace("_", " "), ncols=2)
