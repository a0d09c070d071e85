"""Questions whose needs are known: easy ones are right at any setting, hard ones where tier and blocks are highest."""

from pathlib import Path

import numpy as np
import pandas as pd

from models.knobs import KnobSetting, spread_grid
from profiling.controllers.outcomes import Outcomes, outcomes_of
from profiling.records import write_profile
from tests.controller_world import world_table

GRID = spread_grid(4, top_k=(1, 2), block_counts=(2, 4))
TIERS = [tier.name for tier in GRID.tiers]
QUESTIONS = {"easy": "is it red?", "hard": "what does the small sign say?"}
EASY_FRACTION = 0.6


def latency_ms(setting: KnobSetting) -> float:
    """10 ms a tier, 5 ms a block, 1 ms an expert of a block: 14 ms to 58 ms."""
    return 10.0 * TIERS.index(setting.tier) + setting.num_active_blocks * (5.0 + setting.top_k) + 2.0


def rows(*, num_images: int = 100) -> pd.DataFrame:
    """A row for each question and setting; one question about each picture."""
    found = []
    for number in range(num_images):
        kind = "easy" if number % 10 < EASY_FRACTION * 10 else "hard"
        for setting in GRID.settings():
            has_all = setting.tier == TIERS[-1] and setting.num_active_blocks == 4
            found.append(
                {
                    "dataset": kind,
                    "split": "test",
                    "sample_id": f"s{number}",
                    "image_id": f"i{number}",
                    "question": QUESTIONS[kind],
                    "image_width": 100.0,
                    "image_height": 100.0,
                    "tier": setting.tier,
                    "top_k": setting.top_k,
                    "num_active_blocks": setting.num_active_blocks,
                    "active_blocks": list(setting.active_blocks),
                    "num_crops": 1,
                    "vision_tokens": 10,
                    "text_tokens": 10,
                    "output_tokens": 1,
                    "run_id": 0,
                    "preprocess_ms": 2.0,
                    "vision_encoder_ms": 0.0,
                    "projector_ms": 0.0,
                    "prefill_ms": latency_ms(setting) - 2.0,
                    "decode_ms": 0.0,
                    "accuracy": float(kind == "easy" or has_all),
                    "metric": "exact_match",
                    "prediction": "yes",
                    "sample": number,
                    "setting": 0,
                }
            )
    return pd.DataFrame(found)


def world(frame: pd.DataFrame | None = None) -> Outcomes:
    """Return the outcomes of the world, or of given rows of it."""
    return outcomes_of(world_table(rows() if frame is None else frame), GRID)


def write_world(path: Path, frame: pd.DataFrame | None = None) -> Path:
    """Write the world as a profile file."""
    write_profile(world_table(rows() if frame is None else frame), path)
    return path


def noisy_accuracy(frame: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Let every answer be right by a chance that falls with each knob, alike for all kinds of questions."""
    tier = frame["tier"].map(TIERS.index)
    chance = 0.5 + 0.1 * tier + 0.05 * frame["top_k"] + 0.05 * frame["num_active_blocks"]
    drawn = np.random.default_rng(seed).random(len(frame)) < chance - 0.1
    return frame.assign(accuracy=drawn.astype(float))


def with_slips(frame: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Turn a quarter of the answers around, whatever the setting."""
    slips = np.random.default_rng(seed).random(len(frame)) < 0.25
    return frame.assign(accuracy=np.where(slips, 1 - frame["accuracy"], frame["accuracy"]))


def others(frame: pd.DataFrame) -> pd.DataFrame:
    """Ask about other pictures."""
    return frame.assign(image_id="other " + frame["image_id"])
