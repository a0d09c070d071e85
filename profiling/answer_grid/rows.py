"""Answers to a batch of questions as rows of a profile that have no times."""

# Shape suffixes: B = samples of a batch, S = settings, T = tiers, R = rows, one a sample and setting.

import numpy as np
import pyarrow as pa

from models.knobs import KnobGrid
from profiling.answer_grid.asking import Counts, GridAnswers
from profiling.columns import filled, native_columns
from profiling.schema import Environment
from profiling.table import ProfileTable
from profiling.vlm_batch import VLMBatch


def answer_table(
    batch: VLMBatch, answers: GridAnswers, grid: KnobGrid, environment: Environment, *, part: str
) -> ProfileTable:
    """Lay out the answers to a batch, a sample's settings one behind the other.

    Args:
        batch: The questions, with pictures of one size.
        answers: Their answers.
        grid: The settings.
        environment: What answered.
        part: What the rows name as their ``split``: the part of the profile.
    """
    columns = {**_of_samples(batch, len(grid.settings()), part), **_of_settings(grid, len(batch)), **_of_cells(answers)}
    return ProfileTable.from_columns(filled(native_columns(pa.table(columns))), environment)


def _of_samples(batch: VLMBatch, num_settings: int, part: str) -> dict[str, pa.Array]:
    row_R = pa.array(np.repeat(np.arange(len(batch)), num_settings))
    (pixels,) = batch.pixels
    height, width = pixels.shape[1:3]
    texts = {
        name: pa.array([getattr(sample, name) for sample in batch.samples]).take(row_R)
        for name in ("dataset", "sample_id", "image_id", "question")
    }
    same = {"split": part, "image_width": width, "image_height": height}
    return texts | {name: pa.repeat(value, len(row_R)) for name, value in same.items()}


def _of_settings(grid: KnobGrid, num_samples: int) -> dict[str, pa.Array]:
    settings = grid.settings()
    setting_R = pa.array(np.tile(np.arange(len(settings)), num_samples))
    return {
        name: pa.array([getattr(setting, name) for setting in settings]).take(setting_R)
        for name in ("tier", "top_k", "num_active_blocks", "active_blocks")
    }


def _of_cells(answers: GridAnswers) -> dict[str, pa.Array]:
    flat = [answer for row in answers.answers_BS for answer in row]
    num_settings = answers.output_tokens_BS.shape[1]
    return {
        "num_crops": _by_setting(answers.num_crops_BT, num_settings),
        "vision_tokens": _by_setting(answers.vision_tokens_BT, num_settings),
        "text_tokens": _by_setting(answers.text_tokens_BT, num_settings),
        "output_tokens": pa.array(answers.output_tokens_BS.ravel()),
        "accuracy": pa.array([answer.score.value for answer in flat]),
        "metric": pa.array([answer.score.name.value for answer in flat]),
        "prediction": pa.array([answer.text for answer in flat]),
    }


def _by_setting(counts_BT: Counts, num_settings: int) -> pa.Array:
    """Repeat what holds for a tier for each of its settings."""
    return pa.array(counts_BT.repeat(num_settings // counts_BT.shape[1], axis=1).ravel())
