"""Controllers' modules on the synthetic world, as the command line would build them."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from datamodules.controller import ControllerDataModule
from lightning_modules.controller import ControllerModule
from lightning_modules.grpo_controller import GRPOControllerModule
from lightning_modules.supervised_controller import SupervisedControllerModule
from lightning_modules.two_stage_controller import TwoStageControllerModule
from models.controllers import Goodput
from models.controllers.objectives import ExactPolicyGradient, Grpo, QRegression
from tests.controller_world import write_world

KINDS: dict[str, partial[Any]] = {
    "supervised": partial(SupervisedControllerModule, objective=ExactPolicyGradient(), reward=Goodput()),
    "two_stage": partial(
        TwoStageControllerModule,
        tier_objective=QRegression(),
        setting_objective=ExactPolicyGradient(),
        reward=Goodput(),
    ),
    "grpo": partial(GRPOControllerModule, objective=Grpo(updates_per_draw=2, kl_weight=0.01), reward=Goodput()),
}


def world_data(*, num_images: int = 100, **changes: Any) -> ControllerDataModule:
    """Write the world into the working folder, unless it is there, and return its data."""
    path = Path(f"world_{num_images}.parquet")
    if not path.exists():
        write_world(path, num_images=num_images)
    arguments = {"train_fraction": 0.5, "val_fraction": 0.1, "calibration_fraction": 0.1, **changes}
    return ControllerDataModule([str(path)], **arguments)


def trainer_of(*, max_epochs: int, **changes: Any) -> Trainer:
    """Return a quiet Trainer."""
    arguments: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": max_epochs,
        **changes,
    }
    return Trainer(
        accelerator="cpu", max_epochs=max_epochs, enable_progress_bar=False, enable_model_summary=False, **arguments
    )


def optimized(module: ControllerModule, *, lr: float = 0.005, weight_decay: float = 0.01) -> ControllerModule:
    """Give a module the optimizer and schedule that the command line would give it."""

    def configure_optimizers() -> dict[str, Any]:
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=weight_decay)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10, gamma=0.5)}

    module.configure_optimizers = configure_optimizers  # type: ignore[method-assign,assignment]
    return module
