"""Compare a controller with every baseline and oracle when it is tested."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor, distributed

from profiling.controllers.baselines import choices_of, fit_baselines
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.by_budget import by_budget_table, falls_in_words
from profiling.controllers.choice_plots import (
    plot_levels,
    plot_tier_confusion,
    tier_confusion,
    tier_confusion_by_budget,
)
from profiling.controllers.outcomes import Codes
from profiling.controllers.report import Report, make_report
from profiling.controllers.requests import Requests
from profiling.datasets.image_split import Part
from profiling.files import written_whole

CONTROLLER: Final = "controller"


class ReportData(Protocol):
    """What the report needs of the Trainer's data module."""

    @property
    def parts(self) -> Mapping[Part, Requests]:
        """The samples of each part."""
        ...

    @property
    def trained(self) -> Requests:
        """All samples that train."""
        ...

    @property
    def budgets_ms(self) -> list[float]:
        """The budgets that test."""
        ...


class ControllerReport(Callback):
    """Collect the settings chosen in a test and report them beside those of baselines and oracles.

    All learn from the same training samples and are judged by the same runs of the same samples. Writes the report's
    files, ``by_budget.md`` and ``.tex``, and the figures ``tier_confusion``, ``tier_confusion_by_budget`` and
    ``levels`` into the folder ``report`` of the run, shows the figures in TensorBoard, and prints the table's main
    columns and the one by budget. The module must be a ``ControllerModule``, or log and return in its tests what one
    does.

    Args:
        seed: Of random choices, trees and resamplings.
    """

    def __init__(self, seed: int = 42) -> None:
        self._seed = seed
        self._chosen: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._chosen = []

    def on_test_batch_end(  # noqa: PLR0917 (Lightning's signature)
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: ControllerBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what was chosen."""
        chosen = cast("Tensor", outputs)
        self._chosen.append((batch.budget_ms_B.cpu(), batch.sample_B.cpu(), chosen.cpu()))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, in one process, what all of them have chosen."""
        chosen = self._gathered()
        # Asking for the log folder is a broadcast, so every process must.
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "report"
        if not trainer.is_global_zero:
            return
        data = cast("ReportData", trainer.datamodule)  # type: ignore[attr-defined]
        parts, budgets_ms = data.parts, data.budgets_ms
        chosen_GN = codes_of(chosen, budgets_ms)
        policies = fit_baselines(data.trained, parts["val"], budgets_ms, seed=self._seed)
        choices = {CONTROLLER: chosen_GN, **choices_of(policies, parts["test"], budgets_ms)}
        environment = parts["test"].outcomes.environment
        subject = f"{environment.model} on {environment.device}, {environment.engine} engine"
        report = make_report(
            choices, parts["test"].outcomes, budgets_ms, reference=CONTROLLER, subject=subject, seed=self._seed
        )
        report.write(folder)
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        falls = falls_in_words(chosen_GN, report.outcomes, budgets_ms, seed=self._seed)
        by_budget = by_budget_table(logged, budgets_ms, caption=falls)
        by_budget.write(folder / "by_budget")
        figures = _figures(report, chosen_GN, budgets_ms)
        _write_figures(figures, folder)
        _log_figures(figures, trainer)
        for figure in figures.values():
            plt.close(figure)
        console = Console()
        for table in (report.summary(), by_budget):
            table.show(console)
        console.print(f"report written to {folder}")

    def _gathered(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        if not (distributed.is_available() and distributed.is_initialized()):
            return self._chosen
        received: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(received, self._chosen)
        return [batch for part in received for batch in part]


def codes_of(chosen: Sequence[tuple[Tensor, Tensor, Tensor]], budgets_ms: Sequence[float]) -> Codes:
    """Sort choices by budget and sample: ``(budgets, samples)`` int64.

    Args:
        chosen: Batches of budget in milliseconds, row of the sample, and setting.
        budgets_ms: All budgets, in rising order.
    """
    budget_ms_B, sample_B, setting_B = (torch.cat(column).numpy() for column in zip(*chosen, strict=True))
    budget_B = np.abs(budget_ms_B[:, None] - np.asarray(budgets_ms)).argmin(axis=1)
    chosen_GN = np.full((len(budgets_ms), sample_B.max() + 1), -1, dtype=np.int64)
    chosen_GN[budget_B, sample_B] = setting_B
    return chosen_GN


def _figures(report: Report, chosen_GN: Codes, budgets_ms: Sequence[float]) -> dict[str, Figure]:
    outcomes, caption = report.outcomes, report.subject
    tiers = [tier.name for tier in outcomes.grid.tiers]
    by_dataset = tier_confusion(chosen_GN, outcomes, budgets_ms)
    by_budget = tier_confusion_by_budget(chosen_GN, outcomes, budgets_ms)
    return {
        "tier_confusion": plot_tier_confusion(by_dataset, tiers, caption=caption),
        "tier_confusion_by_budget": plot_tier_confusion(by_budget, tiers, caption=caption),
        "levels": plot_levels(chosen_GN, outcomes, budgets_ms, caption=caption),
    }


def _write_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    for name, figure in figures.items():
        with written_whole(folder / f"{name}.png") as partial:
            figure.savefig(partial)


def _log_figures(figures: Mapping[str, Figure], trainer: Trainer) -> None:
    """Show the figures in TensorBoard, where that is what logs."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, figure in figures.items():
                logger.experiment.add_figure(f"test/{name}", figure, trainer.global_step, close=False)
