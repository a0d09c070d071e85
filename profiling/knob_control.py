"""The ``knob-control`` command: how much of a request's latency each knob can save, profile by profile."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from profiling.files import written_whole
from profiling.profile_plots import STYLE, caption
from profiling.records import read_profile

PARTS: Final = {"total_ms": "Request", "prefill_ms": "Prefill", "decode_per_token_ms": "Decode, a token"}
KNOBS: Final = ("tier", "top_k", "num_active_blocks")
ALL_KNOBS: Final = "all three"


def knob_control(profiles: list[Path], output_dir: Path) -> None:
    """Say how much of the latency each knob controls, and draw it for several profiles side by side.

    Every request is compared with itself: all knobs at their highest levels against one knob at its lowest, and against
    all of them there. Prints the shares saved and writes ``knob_control.csv`` and ``knob_control.png``.

    Args:
        profiles: Measured profiles, .json, .jsonl or .parquet, of one grid or several.
        output_dir: Folder of the results.

    Raises:
        ValueError: If a profile lacks a knob's highest or lowest level, or there is no profile.
    """
    if not profiles:
        raise ValueError("profiles: needs at least one")
    shares: list[pd.DataFrame] = []
    captions: dict[str, str] = {}
    for path in profiles:
        table = read_profile(path)
        label = f"{table.environment.engine} engine, {table.environment.device}"
        if label in captions:
            raise ValueError(f"profiles: {path} is of the {label}, and so is one before it")
        captions[label] = caption(table.environment, len(table))
        shares.append(saved_shares(table.to_pandas(), source=str(path)).assign(profile=label))
    summary = summarize_shares(pd.concat(shares, ignore_index=True))
    output_dir.mkdir(parents=True, exist_ok=True)
    with written_whole(output_dir / "knob_control.csv") as partial:
        summary.to_csv(partial, index=False, float_format="%.4f")
    figure = plot_knob_control(summary, captions)
    with written_whole(output_dir / "knob_control.png") as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
    console = Console()
    _print(summary, console)
    console.print(f"wrote {output_dir / 'knob_control.csv'} and {output_dir / 'knob_control.png'}")


def saved_shares(records: pd.DataFrame, *, source: str) -> pd.DataFrame:
    """Compare every request at the highest levels with itself at lower ones.

    Args:
        records: Columns of the record schema.
        source: What errors call it.

    Returns:
        A row for each request, knob and part: columns ``sample_id``, ``knob``, ``part``, ``saved`` (a share of the time
        at the highest levels).

    Raises:
        ValueError: If no request was measured at all the settings compared.
    """
    records = records.assign(tier=records["tier"].map(_tier_order(records)))
    highest = {knob: records[knob].max() for knob in KNOBS}
    lowest = {knob: records[knob].min() for knob in KNOBS}
    settings = {knob: {**highest, knob: lowest[knob]} for knob in KNOBS} | {ALL_KNOBS: lowest}
    reference_ms = _times_ms(records, highest)
    found = []
    for knob, setting in settings.items():
        saved = 1 - _times_ms(records, setting) / reference_ms
        found.append(saved.melt(ignore_index=False, var_name="part", value_name="saved").assign(knob=knob))
    shares = pd.concat(found).dropna(subset="saved").reset_index()
    if set(shares["knob"]) != set(settings):
        raise ValueError(f"{source}: no request was measured with each knob at its highest and its lowest level")
    return shares


def summarize_shares(shares: pd.DataFrame) -> pd.DataFrame:
    """Reduce shares to their spread over requests: columns ``profile, part, knob, num_requests, p10, p50, p90``."""
    groups = shares.groupby(["profile", "part", "knob"], sort=False)["saved"]
    shares_of = {"num_requests": groups.size()}
    shares_of |= {f"p{percent}": groups.quantile(percent / 100) for percent in (10, 50, 90)}
    return pd.DataFrame(shares_of).reset_index()


def plot_knob_control(summary: pd.DataFrame, captions: Mapping[str, str]) -> Figure:
    """Draw bars of the median share, with the 10th to 90th percentile over requests.

    Args:
        summary: What ``summarize_shares`` returns.
        captions: What each profile is, by its name in the summary.
    """
    knobs = [*KNOBS, ALL_KNOBS]
    ticks = [_words(knob).replace(" ", "\n") for knob in knobs]
    width = 0.8 / len(captions)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, len(PARTS), figsize=(10, 3.6), sharey=True)
        for axis, (part, title) in zip(axes, PARTS.items(), strict=True):
            for place, profile in enumerate(captions):
                rows = summary[(summary["part"] == part) & (summary["profile"] == profile)]
                rows = rows.set_index("knob").reindex(knobs)
                at = np.arange(len(knobs)) + (place - (len(captions) - 1) / 2) * width
                spread = np.abs(rows[["p10", "p90"]].to_numpy() - rows[["p50"]].to_numpy()).T * 100
                axis.bar(at, rows["p50"] * 100, width, yerr=spread, label=profile, error_kw={"lw": 0.8})
            axis.set(title=title, xticks=range(len(knobs)), xticklabels=ticks)
            axis.axhline(0, color="black", lw=0.6)
        axes[0].set_ylabel("time saved, %")
        axes[0].legend()
        compared = "Highest level to lowest, other knobs at their highest. Bar: median request, line: p10 to p90"
        figure.suptitle("\n".join([compared, *captions.values()]), fontsize=8)
    return figure


def _tier_order(records: pd.DataFrame) -> dict[str, int]:
    """Number the tiers by the crops that they make."""
    crops = records.groupby("tier")["num_crops"].mean().sort_values()
    return {str(tier): place for place, tier in enumerate(crops.index)}


def _times_ms(records: pd.DataFrame, setting: Mapping[str, object]) -> pd.DataFrame:
    """Take the median of a setting's runs: a row a request, a column a part."""
    at_setting = records[np.logical_and.reduce([records[knob] == level for knob, level in setting.items()])]
    medians_ms: pd.DataFrame = at_setting.groupby("sample_id")[list(PARTS)].median()
    return medians_ms


def _words(knob: str) -> str:
    return knob.removeprefix("num_").replace("active_blocks", "active blocks")


def _print(summary: pd.DataFrame, console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, title="Time saved by a knob at its lowest level, %: median request (p10 to p90)")
    table.add_column("part", no_wrap=True)
    table.add_column("knob", no_wrap=True)
    profiles = list(summary["profile"].unique())
    for profile in profiles:
        table.add_column(profile, justify="right")
    for part, title in PARTS.items():
        for knob in (*KNOBS, ALL_KNOBS):
            rows = summary[(summary["part"] == part) & (summary["knob"] == knob)].set_index("profile")
            spreads = [
                f"{100 * rows.p50[profile]:.1f} ({100 * rows.p10[profile]:.1f} to {100 * rows.p90[profile]:.1f})"
                if profile in rows.index
                else "-"
                for profile in profiles
            ]
            table.add_row(title.lower(), _words(knob), *spreads)
    console.print(table)
