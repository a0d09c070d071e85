"""What the latency estimator expects of every setting, where a profile's own means are not to be taken."""

# Shape suffixes: N = samples, S = settings (of a tier), F = features, T = tiers, Q = targets.

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from models.config import MolmoConfig
from models.latency_estimator import TARGETS, LatencyEstimator
from models.latency_features import setting_features
from models.tiling import CropGeometry, image_layout
from profiling.controllers.outcomes import Array, Outcomes
from profiling.promises.latency_table import Times, expected_times


def estimated_times(estimator: LatencyEstimator, outcomes: Outcomes) -> tuple[Mapping[int, Times], ...]:
    """Estimate the times of each tier's settings, for each number of vision tokens that a profile has at it.

    A request of that size stands for all, with its own prompt and the profile's mean answer. Preprocessing, of which
    the estimator knows nothing, is left to kappa.

    Args:
        estimator: One that knows the profile's device.
        outcomes: The profile, or a part of it, with its model's shape.

    Raises:
        ValueError: If the estimator does not know the device, or the profile does not say which model it is of.
    """
    environment = outcomes.environment
    if environment.device not in estimator.devices:
        raise ValueError(
            f"estimator: knows {', '.join(estimator.devices)}, but the profile is of {environment.device}; "
            "calibrate-estimator makes a checkpoint for another device"
        )
    if environment.model_shape is None:
        raise ValueError("estimator: the profile does not say the shape of its model")
    geometry = CropGeometry.from_config(MolmoConfig.from_hf(environment.model_shape, source="environment.model_shape"))
    device = estimator.devices.index(environment.device)
    by_tokens: list[Mapping[int, Times]] = []
    for tier, tokens_N in enumerate(outcomes.vision_tokens_NT.T):
        counts, first_N = np.unique(tokens_N[np.isfinite(tokens_N)], return_index=True)
        rows = np.flatnonzero(np.isfinite(tokens_N))[first_N]
        by_tokens.append(
            {
                int(count): _times(estimator, device, outcomes, geometry, tier=tier, row=int(row))
                for count, row in zip(counts, rows, strict=True)
            }
        )
    return tuple(by_tokens)


def with_estimated_latency(outcomes: Outcomes, estimator: LatencyEstimator) -> Outcomes:
    """Put what is expected of every cell in the place of its runs, where it was measured and where not.

    An answer takes the time of its own length, and of the mean length where it is not known. Preprocessing, of which
    the estimator knows nothing, is added as measured, and as its mean where it was not. Times of stages stay as
    measured too.

    Args:
        outcomes: A profile, or a part of it, with its model's shape.
        estimator: One that knows the profile's device.

    Raises:
        ValueError: See ``estimated_times``.
    """
    expected = expected_times(estimated_times(estimator, outcomes), outcomes)
    num_tiers = len(outcomes.grid.tiers)
    preprocess_ms_NT = _filled(outcomes.preprocess_ms_NT, np.nanmean(outcomes.preprocess_ms_NT, axis=0))
    output_tokens_NS = _filled(outcomes.output_tokens_NS, np.nanmean(outcomes.output_tokens_NS))
    total_ms_NS = expected.first_token_ms + (output_tokens_NS - 1) * expected.token_ms
    total_ms_NS += preprocess_ms_NT.repeat(len(outcomes.settings) // num_tiers, axis=1)
    return replace(outcomes, latency_runs_NSR=total_ms_NS[:, :, None])


def _filled(values: Array, others: Array | np.floating) -> Array:
    """Put others where values are unknown."""
    filled: Array = np.where(np.isfinite(values), values, others)
    return filled


def _times(
    estimator: LatencyEstimator, device: int, outcomes: Outcomes, geometry: CropGeometry, *, tier: int, row: int
) -> Times:
    grid, sample = outcomes.grid, outcomes.samples.iloc[row]
    width, height = int(sample["image_width"]), int(sample["image_height"])
    layout = image_layout(height, width, geometry, tier=grid.tiers[tier])
    output_tokens = float(np.nanmean(outcomes.output_tokens_NS))
    features_SF = setting_features(
        [setting for setting in outcomes.settings if setting.tier == grid.tiers[tier].name],
        grid,
        geometry,
        image_size=(height, width),
        prompt_tokens=int(outcomes.text_tokens_NT[row, tier]) - layout.num_layout_tokens - 1,
        output_tokens=max(2, round(output_tokens)),
    )
    with torch.inference_mode():
        quantiles = estimator.quantiles_ms(features_SF, torch.full((len(features_SF),), device))
    median_ms_SQ = quantiles[:, :, estimator.median_index].double().numpy()
    expected = dict(zip(TARGETS, median_ms_SQ.T, strict=True))
    first_token_ms = expected["vision_encoder"] + expected["projector"] + expected["prefill"]
    return Times(
        first_token_ms=first_token_ms,
        prefill_ms=expected["prefill"],
        token_ms=expected["decode_per_token"],
        total_ms=first_token_ms + (output_tokens - 1) * expected["decode_per_token"],
    )
