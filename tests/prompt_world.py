"""A profile by the synthetic law whose samples are real ones, so that a small model can be shown their prompts."""

from pathlib import Path
from typing import Any

from datamodules.controller import ControllerDataModule
from models.checkpoint import read_hf_config
from models.knobs import own_grid
from profiling.controllers.prompts import PromptSource
from profiling.datasets.catalogue import read_dataset
from profiling.records import write_profile
from profiling.schema import Environment
from tests.controller_world import world_rows, world_table
from tests.small_vlm import write_small_snapshot

SNAPSHOT, PROFILE = "model", "prompts.parquet"
DATASETS = ("suite_scenes", "suite_text")


def write_prompt_world(*, num_each: int = 12) -> None:
    """Write the small model, unless it is there, and a profile of its grid with samples of two families."""
    if not Path(SNAPSHOT).exists():
        write_small_snapshot(Path(SNAPSHOT))
    shape = read_hf_config(Path(SNAPSHOT))
    grid = own_grid(shape)
    assert grid is not None
    samples = [sample for name in DATASETS for sample in read_dataset(name, "val", num_samples=num_each)]
    rows = world_rows(num_images=len(samples), per_image=1, runs=1, grid=grid)
    of_row = [samples[place] for place in rows["sample"]]
    named = rows.assign(
        split=[("train", "train", "calibration", "test")[place % 4] for place in rows["sample"]],
        **{name: [getattr(sample, name) for sample in of_row] for name in ("dataset", "sample_id", "image_id")},
        question=[sample.question for sample in of_row],
    )
    environment = Environment(device="a synthetic device", model=SNAPSHOT, model_shape=shape)
    write_profile(world_table(named, environment=environment), Path(PROFILE))


def prompt_data(**changes: Any) -> ControllerDataModule:
    """Return the data of that profile with the prompts of its samples."""
    arguments: dict[str, Any] = {
        "prompts": PromptSource(snapshot=SNAPSHOT),
        "train_fraction": 0.5,
        "val_fraction": 0.2,
        "calibration_fraction": 0.1,
        "batch_size": 8,
        **changes,
    }
    return ControllerDataModule([PROFILE], **arguments)
