"""A small model, a profile that could be its own, and controllers for it: what tests of adaptive inference run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.controller import ControllerDataModule
from models.checkpoint import read_hf_config
from models.controllers import Vector
from models.knobs import KnobGrid, own_grid
from profiling.records import write_profile
from profiling.schema import Environment
from tests.controller_modules import KINDS, trainer_of
from tests.controller_world import world_rows, world_table
from tests.small_vlm import write_small_snapshot

SNAPSHOT, PROFILE = "model", "profile.parquet"


def write_world_of_small_model(*, num_images: int = 60) -> KnobGrid:
    """Write the small model, unless it is there, and a profile of its grid with three parts by the synthetic law."""
    if not Path(SNAPSHOT).exists():
        write_small_snapshot(Path(SNAPSHOT))
    shape = read_hf_config(Path(SNAPSHOT))
    grid = own_grid(shape)
    assert grid is not None
    rows = world_rows(num_images=num_images, per_image=1, runs=1, grid=grid)
    part = np.asarray(["train", "calibration", "test"])[rows["sample"] % 3]
    environment = Environment(device="a synthetic device", model=SNAPSHOT, model_shape=shape)
    write_profile(world_table(rows.assign(split=part), environment=environment), Path(PROFILE))
    return grid


def write_controller(kind: str, **changes: Any) -> str:
    """Write an untrained controller of one of ``tests.controller_modules.KINDS`` for that profile."""
    data = ControllerDataModule([PROFILE])
    module = KINDS[kind](data.profile_facts, **changes)
    trainer = trainer_of(max_epochs=1)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("controller.ckpt")
    return "controller.ckpt"


class LooksTwice:
    """Likes the highest tier, then whatever setting the time left stands for: its own record of what it was told."""

    first_blocks = None
    decides_twice = True

    def __init__(self, grid: KnobGrid, *, width: int, glance_width: int = 0) -> None:
        self.grid = grid
        self.feature_widths = {"free": 22, "question": width, "glance": glance_width, "vision": width}
        self.told_before: list[tuple[float, Mapping[str, Vector]]] = []
        self.told_after: list[tuple[float, int, Vector]] = []

    def before_image(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        self.told_before.append((budget_ms, known))
        return np.arange(len(self.grid.settings()), dtype=np.float32)

    def after_image(self, remaining_ms: float, tier: int, known: Mapping[str, Vector], shown: Vector) -> Vector:
        self.told_after.append((remaining_ms, tier, shown))
        num_settings = len(self.grid.settings()) // len(self.grid.tiers)
        return np.arange(num_settings, 0, -1, dtype=np.float32)
