"""A latency estimator for the synthetic world: untrained, so the physical base as it is fitted to a profile."""

from pathlib import Path

from lightning_modules.latency_estimator import LatencyEstimatorModule
from profiling.latency_rows import base_coefficients, latency_rows, model_shape
from profiling.records import read_profiles, write_profile
from tests.block_models import block_hf_config
from tests.controller_modules import trainer_of
from tests.controller_world import ENVIRONMENT, world_rows, world_table


def write_estimator(profile: str, *, device: str = "a synthetic device") -> str:
    """Write an estimator for a profile that says its model's shape, under any device's name."""
    table = read_profiles([profile])
    shapes = [model_shape(table.environment).to_mapping()]
    module = LatencyEstimatorModule([device], shapes, base_coefficients(latency_rows(table), shapes))
    trainer = trainer_of(max_epochs=1)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("estimator.ckpt")
    return "estimator.ckpt"


def write_shaped_world(path: Path, *, num_images: int) -> Path:
    """Write the world as the profile of a model whose shape it tells."""
    environment = ENVIRONMENT.model_copy(update={"model_shape": block_hf_config(16)})
    write_profile(world_table(world_rows(num_images=num_images), environment=environment), path)
    return path
