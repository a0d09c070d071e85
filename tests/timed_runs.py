"""Quiet runs of small modules, and what a patched clock must say of them.

Mark number n of the patched clock lies at n * n ms, so a time tells between which two marks it was taken.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, Final

import numpy as np
import pytest
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from models.stages import COMPONENTS, PREFILL, TOTAL, stage
from tests.patched_clock import Squares
from tests.timed_modules import Batches, Marked

WHOLE: Final = COMPONENTS
"""A batch of ``Marked`` with ten marks: its own begin and end, between them begin and end of each component."""

LEVELS: Final = (50, 95, 99)


def quiet_trainer(*callbacks: Callback, **options: Any) -> Trainer:
    return Trainer(
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
        **{"logger": False, "max_epochs": 1, **options},
    )


def log_of_validating(callback: Callback, batches: Batches, module: LightningModule | None = None) -> dict[str, float]:
    """Return what validating logs."""
    trainer = quiet_trainer(callback)
    trainer.validate(Marked() if module is None else module, batches, verbose=False)
    return logged_by(trainer)


def log_of_training(
    callback: Callback, batches: Batches, *, module: LightningModule | None = None, **options: Any
) -> dict[str, float]:
    """Return what training without validation logs."""
    trainer = quiet_trainer(callback, limit_val_batches=0, **options)
    trainer.fit(Marked() if module is None else module, batches, batches)
    return logged_by(trainer)


def logged_by(trainer: Trainer) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def batch_times_ms(
    first_mark: int, num_batches: int, components: Sequence[str] = WHOLE, *, num_around: int = 1
) -> dict[str, list[float]]:
    """Raw times of successive batches that run each component once.

    Args:
        first_mark: Number of the mark that begins the first batch.
        num_batches: Number of batches.
        components: In the order in which a batch runs them.
        num_around: Stages around the components, the batch itself included.
    """
    num_marks = 2 * (len(components) + num_around)
    starts = range(first_mark, first_mark + num_batches * num_marks, num_marks)
    samples_ms: dict[str, list[float]] = {}
    for i, name in enumerate(components):
        begins = [start + num_around + 2 * i for start in starts]
        samples_ms[name] = [float((begin + 1) ** 2 - begin**2) for begin in begins]
    samples_ms[TOTAL] = [float((start + num_marks - 1) ** 2 - start**2) for start in starts]
    return samples_ms


def expected_log(of_stage: str, samples_ms: dict[str, list[float]]) -> dict[str, Any]:
    """Keys and values to expect; Lightning rounds what it logs to single precision."""
    return {
        f"{of_stage}/latency_p{level}_ms/{name}": pytest.approx(np.percentile(values_ms, level), rel=1e-6)
        for (name, values_ms), level in product(samples_ms.items(), LEVELS)
    }


def is_anyone_listening(clock: Squares) -> bool:
    num_marks = clock.num_marks
    with stage(PREFILL):
        pass
    return clock.num_marks > num_marks
