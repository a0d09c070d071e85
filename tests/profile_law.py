"""A synthetic profile whose law is known: launch-bound floors, smooth growth, a few percent of noise."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from profiling.columns import native_columns
from profiling.schema import Environment
from profiling.table import ProfileTable

TIER_CROPS = {"low": 3, "medium": 8, "high": 12}
TOP_K = (4, 6, 8, 10, 12)
BLOCKS = (8, 10, 12, 14, 16)


def law_ms(columns: pd.DataFrame, *, slowdown: float = 1.0) -> pd.DataFrame:
    """Return each component's true milliseconds for columns of ``profile_rows``."""
    crops, k, blocks = columns["num_crops"], columns["top_k"], columns["num_active_blocks"]
    tokens = columns["vision_tokens"] + columns["text_tokens"]
    context = tokens + columns["output_tokens"] / 2
    vision = np.hypot(4.4, 0.95 * crops)
    projector = 0.3 + 0.06 * crops
    prefill = 0.4 + np.hypot(0.55 * blocks, blocks * (0.2 + tokens * (2.5e-4 + 5e-5 * k)))
    decode = 0.4 + blocks * (0.6 + 2e-6 * context) + 0.3 / (columns["output_tokens"] - 1).clip(lower=1)
    table = {"vision_encoder": vision, "projector": projector, "prefill": prefill, "decode_per_token": decode}
    return pd.DataFrame(table) * slowdown


def profile_rows(
    *, num_images: int = 100, settings_per_image: int = 20, noise: float = 0.02, slowdown: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """Return a profile's columns: random images and prompts, each at random knob settings."""
    rng = np.random.default_rng(seed)
    num_rows = num_images * settings_per_image
    image = np.repeat(np.arange(num_images), settings_per_image)
    natural_crops = rng.integers(1, 13, size=num_images)[image]
    tier = rng.choice(list(TIER_CROPS), size=num_rows)
    crops = 1 + np.minimum(natural_crops, np.vectorize(TIER_CROPS.__getitem__)(tier))
    output = rng.integers(1, 65, size=num_rows)
    columns = pd.DataFrame(
        {
            "image": image,
            "tier": tier,
            "top_k": rng.choice(TOP_K, size=num_rows),
            "num_active_blocks": rng.choice(BLOCKS, size=num_rows),
            "num_crops": crops,
            "vision_tokens": 144 * crops - 24 * (crops - 1),
            "text_tokens": rng.integers(10, 601, size=num_images)[image],
            "output_tokens": output,
        }
    )
    for name, true_ms in law_ms(columns, slowdown=slowdown).items():
        columns[f"{name}_ms"] = true_ms * np.exp(rng.normal(0, noise, size=num_rows))
    columns["decode_ms"] = columns["decode_per_token_ms"] * (output - 1)
    parts = [f"{name}_ms" for name in ("vision_encoder", "projector", "prefill", "decode")]
    columns["total_ms"] = columns[parts].sum(axis=1) * 1.002
    columns.loc[output == 1, "decode_per_token_ms"] = np.nan
    return columns


def profile_table(device: str = "synthetic", **options: Any) -> ProfileTable:
    """Return ``profile_rows`` as a checked profile."""
    columns = profile_rows(**options)
    image = columns.pop("image")
    named = columns.assign(
        sample_id=[f"s{i}" for i in image], image_id=[f"i{i}" for i in image], run_id=0, dataset="synthetic"
    )
    rows = native_columns(pa.Table.from_pandas(named, preserve_index=False))
    return ProfileTable.from_columns(rows, Environment(device=device))
