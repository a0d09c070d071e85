"""Write an error table and figures when a latency estimator is tested."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from matplotlib import pyplot as plt
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, distributed

from models.latency_estimator import TARGETS, LatencyRows, interval_pairs
from models.latency_terms import FEATURES
from profiling.estimator_plots import error_by_setting, error_by_tokens, predicted_against_measured
from profiling.files import write_json, written_whole
from profiling.prediction_errors import (
    ESTIMATOR,
    Predictions,
    baseline_predictions,
    compact_table,
    error_table,
    markdown,
)

_LOGGER = logging.getLogger(__name__)


class ReportData(Protocol):
    """What the report needs of the Trainer's data module."""

    @property
    def devices(self) -> list[str]:
        """Labels of the devices."""
        ...

    @property
    def shapes(self) -> list[dict[str, int]]:
        """Numbers of the model measured on each device."""
        ...

    @property
    def training_rows(self) -> LatencyRows:
        """Rows that trained, for the baselines to train on."""
        ...


class EstimatorReport(Callback):
    """Collect the predictions of a test and report their errors beside those of baselines.

    Baselines are fitted on the same training rows. Writes ``errors.md``, ``errors.json`` and three figures into the
    folder ``report`` of the run, and prints the table. The module's ``test_step`` must return calibrated quantiles in
    milliseconds, ``(rows, targets, levels)``.

    Args:
        plots: Whether to draw the figures.
    """

    def __init__(self, plots: bool = True) -> None:
        self._plots = plots
        self._batches: list[LatencyRows] = []
        self._quantiles_ms: list[Tensor] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._batches, self._quantiles_ms = [], []

    def on_test_batch_end(  # noqa: PLR0917 (Lightning's signature)
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: LatencyRows,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what was predicted."""
        self._batches.append(LatencyRows(*(column.cpu() for column in batch)))
        self._quantiles_ms.append(cast("Tensor", outputs).cpu())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, in one process, what all of them have predicted."""
        rows, quantiles_ms = self._gathered()
        # Asking for the log folder is a broadcast, so every process must.
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "report"
        if not trainer.is_global_zero:
            return
        data = cast("ReportData", trainer.datamodule)  # type: ignore[attr-defined]
        levels = cast("list[float]", list(pl_module.hparams["quantiles"]))
        low, high = next(iter(interval_pairs(levels)), (0, len(levels) - 1))
        predictions = Predictions(
            rows=rows,
            median_ms={
                ESTIMATOR: quantiles_ms[..., levels.index(0.5)].double().numpy(),
                **baseline_predictions(data.training_rows, rows, data.shapes),
            },
            interval_ms=quantiles_ms[..., [low, high]].double().numpy(),
            levels=(levels[low], levels[high]),
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._write_table(predictions, data.devices, folder)
        if self._plots:
            _write_figures(predictions, data.devices, folder)
        _LOGGER.info("report written to %s", folder)

    def _gathered(self) -> tuple[LatencyRows, Tensor]:
        own = (self._batches, self._quantiles_ms)
        parts = [own]
        if distributed.is_available() and distributed.is_initialized():
            received: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(received, own)
            parts = received
        batches = [batch for part, _ in parts for batch in part]
        quantiles_ms = [batch for _, part in parts for batch in part]
        rows = LatencyRows(*(torch.cat(column) for column in zip(*batches, strict=True)))
        return rows, torch.cat(quantiles_ms)

    def _write_table(self, predictions: Predictions, devices: list[str], folder: Path) -> None:
        errors = error_table(predictions, devices)
        compact = compact_table(errors)
        with written_whole(folder / "errors.md") as partial:
            partial.write_text(markdown(compact))
        write_json(folder / "errors.json", json.loads(errors.to_json(orient="records")))
        _print_table(compact, folder)


def _print_table(compact: pd.DataFrame, folder: Path) -> None:
    for (device, group), rows in compact.groupby(["device", "group"], sort=False):
        table = Table(
            title=f"{device}, {group}: MAPE % of each predictor, errors of the estimator",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        shown = rows.drop(columns=["device", "group"])
        for name in shown.columns:
            table.add_column(str(name), no_wrap=True)
        for row in shown.itertuples(index=False):
            table.add_row(*map(str, row))
        # A log file has no width of its own, and the console's default would cut the numbers off.
        console = Console()
        console.width = max(console.width, 150)
        console.print(table)
    notes = (
        "MAPE against single runs. noise: how far these lie from the median of the runs of one request and setting, "
        "which no predictor can know. typical: the estimator against that median. cover: runs inside its interval."
    )
    Console().print(notes, soft_wrap=True)
    Console().print(f"report: {folder}", soft_wrap=True)


def _write_figures(predictions: Predictions, devices: list[str], folder: Path) -> None:
    for d, device in enumerate(devices):
        chosen = (predictions.rows.device == d).numpy()
        if not chosen.any():
            continue
        frame = _long_frame(predictions, chosen)
        low, high = predictions.levels
        caption = f"{device}, {int(chosen.sum())} held-out rows; interval from quantile {low:g} to {high:g}"
        for draw in (predicted_against_measured, error_by_setting, error_by_tokens):
            figure = draw(frame, caption=caption)
            suffix = f"_{d}" if len(devices) > 1 else ""
            with written_whole(folder / f"{draw.__name__}{suffix}.png") as partial:
                figure.savefig(partial, dpi=120)
            plt.close(figure)


def _long_frame(predictions: Predictions, chosen: np.ndarray) -> pd.DataFrame:
    features = pd.DataFrame(predictions.rows.features.numpy()[chosen], columns=list(FEATURES))
    features["tokens"] = features["vision_tokens"] + features["text_tokens"]
    frames: list[pd.DataFrame] = []
    for t, target in enumerate(TARGETS):
        measured_ms = predictions.rows.target_ms.double().numpy()[chosen, t]
        predicted_ms = predictions.median_ms[ESTIMATOR][chosen, t]
        low_ms, high_ms = predictions.interval_ms[chosen, t].T
        frame: pd.DataFrame = features.assign(
            target=target,
            measured_ms=measured_ms,
            predicted_ms=predicted_ms,
            low_ms=low_ms,
            high_ms=high_ms,
            error_pct=100 * (predicted_ms - measured_ms) / measured_ms,
        )
        frames.append(frame[~np.isnan(measured_ms)])
    return pd.concat(frames, ignore_index=True)
