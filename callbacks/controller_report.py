"""Compare a controller with every baseline and oracle when it is tested."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor, distributed

from profiling.controllers.baselines import choices_of, fit_baselines
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.choice_plots import plot_levels, plot_tier_confusion, tier_confusion
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
    files, ``tier_confusion.png`` and ``levels.png`` into the folder ``report`` of the run, and prints the table's
    main columns. The module's ``test_step`` must return the chosen settings.

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
        _write_figures(report, chosen_GN, budgets_ms, folder)
        console = Console()
        report.summary().show(console)
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


def _write_figures(report: Report, chosen_GN: Codes, budgets_ms: Sequence[float], folder: Path) -> None:
    tiers = [tier.name for tier in report.outcomes.grid.tiers]
    counts = tier_confusion(chosen_GN, report.outcomes, budgets_ms)
    figures: dict[str, Figure] = {
        "tier_confusion": plot_tier_confusion(counts, tiers, caption=report.subject),
        "levels": plot_levels(chosen_GN, report.outcomes, budgets_ms, caption=report.subject),
    }
    for name, figure in figures.items():
        with written_whole(folder / f"{name}.png") as partial:
            figure.savefig(partial)
        plt.close(figure)
