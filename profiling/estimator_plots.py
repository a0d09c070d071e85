"""Figures about a latency estimator's errors. They take a data frame and save nothing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.latency_estimator import TARGETS

_MOST_POINTS = 4000
_NUM_BINS = 12


def predicted_against_measured(frame: pd.DataFrame, *, caption: str) -> Figure:
    """Scatter medians against measurements, with the interval as vertical lines and the diagonal.

    Args:
        frame: Columns ``target, measured_ms, predicted_ms, low_ms, high_ms``.
        caption: Hardware and where the interval comes from.
    """
    figure, axes = _panels("measured (ms)", "predicted (ms)", caption)
    for target, axis in axes.items():
        rows = _thinned(frame[frame["target"] == target])
        axis.vlines(rows["measured_ms"], rows["low_ms"], rows["high_ms"], color="C0", alpha=0.15, label="interval")
        axis.plot(rows["measured_ms"], rows["predicted_ms"], ".", markersize=2, color="C0", label="median")
        limits = [rows["measured_ms"].min(), rows["measured_ms"].max()]
        axis.plot(limits, limits, color="black", linewidth=0.7)
    axes[TARGETS[0]].legend(loc="upper left")
    return figure


def error_by_setting(frame: pd.DataFrame, *, caption: str) -> Figure:
    """Draw the mean absolute percentage error of each knob level, with its 95 % interval over rows.

    Args:
        frame: Columns ``target, error_pct, num_crops, top_k, num_active_blocks``; errors are signed.
        caption: Hardware and rows.
    """
    knobs = {"num_crops": "crops", "top_k": "top_k", "num_active_blocks": "blocks"}
    figure, axes = _panels("knob level", "absolute error (%)", caption)
    for target, axis in axes.items():
        rows = frame[frame["target"] == target]
        for knob, label in knobs.items():
            grouped = rows["error_pct"].abs().groupby(rows[knob])
            mean_pct = grouped.mean()
            half_pct = 1.96 * grouped.std().to_numpy() / np.sqrt(grouped.count().to_numpy())
            axis.errorbar(mean_pct.index, mean_pct, yerr=half_pct, marker="o", markersize=3, label=label)
    axes[TARGETS[0]].legend(title="by")
    return figure


def error_by_tokens(frame: pd.DataFrame, *, caption: str) -> Figure:
    """Draw median and 5-95 % band of the signed error over the context's length.

    Args:
        frame: Columns ``target, error_pct, tokens``.
        caption: Hardware and rows.
    """
    figure, axes = _panels("vision + text tokens", "error (%)", caption)
    for target, axis in axes.items():
        rows = frame[frame["target"] == target]
        if rows.empty:
            continue
        edges = np.unique(np.quantile(rows["tokens"], np.linspace(0, 1, _NUM_BINS + 1)))
        grouped = rows.groupby(np.searchsorted(edges[1:-1], rows["tokens"]))
        tokens, error_pct = grouped["tokens"].mean(), grouped["error_pct"]
        axis.fill_between(tokens, error_pct.quantile(0.05), error_pct.quantile(0.95), alpha=0.3, label="5-95 % of rows")
        axis.plot(tokens, error_pct.median(), marker="o", markersize=3, label="median")
        axis.axhline(0, color="black", linewidth=0.7)
    axes[TARGETS[0]].legend()
    return figure


def _panels(x_label: str, y_label: str, caption: str) -> tuple[Figure, dict[str, Axes]]:
    figure, axes = plt.subplots(1, len(TARGETS), figsize=(3.2 * len(TARGETS), 3.4), layout="constrained")
    for axis, target in zip(axes, TARGETS, strict=True):
        axis.set(title=target.replace("_", " "), xlabel=x_label)
    axes[0].set_ylabel(y_label)
    figure.supxlabel(caption, fontsize="small")
    return figure, dict(zip(TARGETS, axes, strict=True))


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    return rows if len(rows) <= _MOST_POINTS else rows.sample(_MOST_POINTS, random_state=0)
