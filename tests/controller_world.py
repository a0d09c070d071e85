"""A world whose law is known: what a question needs shows in its words, what it costs shows in its picture's size."""

# Shape suffixes: N = samples, S = settings, R = runs.

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from models.knobs import KnobGrid, spread_grid
from profiling.columns import native_columns
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import Outcomes, outcomes_of
from profiling.controllers.requests import Requests, split_by_image
from profiling.datasets.image_split import Part, PartFractions
from profiling.records import write_profile
from profiling.schema import Environment
from profiling.table import ProfileTable

GRID = spread_grid(16, top_k=(4, 8), block_counts=(8, 12, 16))
ENVIRONMENT = Environment(device="a synthetic device", engine="eager", model="a synthetic model", dtype="float32")
# Kind of question: how much it gains from tiers, experts and blocks.
QUESTIONS = {
    "what color is it": (0.0, 0.1, 0.3),
    "what does the sign say": (1.0, 0.1, 0.3),
    "how many dogs are there": (0.5, 0.6, 0.2),
    "why is he happy": (0.1, 0.3, 1.0),
}
DATASETS = ("colors", "signs")


def world_rows(
    *, num_images: int = 150, per_image: int = 2, runs: int = 2, grid: KnobGrid = GRID, seed: int = 0
) -> pd.DataFrame:
    """Return a profile's columns: every sample at every setting, ``runs`` times."""
    rng = np.random.default_rng(seed)
    settings = grid.settings()
    num_samples, num_settings = num_images * per_image, len(settings)
    image_N = np.repeat(np.arange(num_images), per_image)
    side_N = rng.choice([200, 400, 800], size=num_images)[image_N]
    kind_N = rng.integers(len(QUESTIONS), size=num_samples)
    tier_S = np.asarray([[tier.name for tier in grid.tiers].index(s.tier) for s in settings])
    k_S = np.asarray([s.top_k for s in settings])
    blocks_S = np.asarray([s.num_active_blocks for s in settings])
    levels = (tier_S / max(1, tier_S.max()), k_S / k_S.max(), blocks_S / blocks_S.max())
    gains = np.asarray(list(QUESTIONS.values()))[kind_N]
    lost_NS = sum(gain[:, None] * (1 - level) for gain, level in zip(gains.T, levels, strict=True))
    chance_NS = 0.95 * np.exp(-1.5 * np.asarray(lost_NS))
    accuracy_NS = (rng.random((num_samples, num_settings)) < chance_NS).astype(float)
    output_N = 1 + rng.geometric(0.4, size=num_samples)
    crops_NS = 1 + (1 + tier_S) * (side_N[:, None] // 200)
    columns = pd.DataFrame(
        {
            "sample": np.repeat(np.arange(num_samples), num_settings * runs),
            "setting": np.tile(np.repeat(np.arange(num_settings), runs), num_samples),
            "run_id": np.tile(np.arange(runs), num_samples * num_settings),
        }
    )
    n, s = columns["sample"].to_numpy(), columns["setting"].to_numpy()
    noise = np.exp(rng.normal(0, 0.03, size=len(columns)))
    crops = crops_NS[n, s]
    return columns.assign(
        dataset=np.asarray(DATASETS)[kind_N % 2][n],
        split="val",
        sample_id=[f"s{i}" for i in n],
        image_id=[f"i{i}" for i in image_N[n]],
        question=np.asarray(list(QUESTIONS))[kind_N][n],
        image_width=side_N[n],
        image_height=side_N[n],
        tier=np.asarray([setting.tier for setting in settings])[s],
        top_k=k_S[s],
        num_active_blocks=blocks_S[s],
        active_blocks=pd.Series([list(settings[i].active_blocks) for i in s]),
        num_crops=crops,
        vision_tokens=20 * crops,
        text_tokens=10 + 2 * crops,
        output_tokens=output_N[n],
        preprocess_ms=1.0,
        vision_encoder_ms=2.0 * crops * noise,
        projector_ms=0.1 * crops,
        prefill_ms=blocks_S[s] * (0.3 + 0.02 * k_S[s] + 0.02 * crops) * noise,
        decode_ms=(output_N[n] - 1) * blocks_S[s] * (0.2 + 0.01 * k_S[s]) * noise,
        accuracy=accuracy_NS[n, s],
        metric="exact_match",
        prediction="yes",
    )


def world_table(
    rows: pd.DataFrame | None = None, *, environment: Environment = ENVIRONMENT, **law: Any
) -> ProfileTable:
    """Return the world, or given rows of it, as a checked profile."""
    rows = world_rows(**law) if rows is None else rows
    named = rows.drop(columns=["sample", "setting"])
    return ProfileTable.from_columns(native_columns(pa.Table.from_pandas(named, preserve_index=False)), environment)


def world(**law: Any) -> Outcomes:
    """Return the outcomes of the world."""
    return outcomes_of(world_table(**law))


def write_world(path: Path, **law: Any) -> Path:
    """Write the world as a profile file."""
    write_profile(world_table(**law), path)
    return path


def world_requests(**law: Any) -> Requests:
    """Return the world's samples with their free features."""
    outcomes = world(**law)
    return Requests(outcomes=outcomes, features=without_embeddings(outcomes))


def share_out(requests: Requests, *, seed: int = 0) -> dict[Part, Requests]:
    """Split by image: half trains, a tenth each validates and calibrates, the rest tests."""
    return split_by_image(requests, PartFractions(train=0.5, val=0.1, calibration=0.1), seed=seed)


def untimed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows as ``answer-grid`` writes them: without their times."""
    return rows.drop(columns=[name for name in rows.columns if name.endswith("_ms")])
