"""What the latency estimator needs to know of a request, for every knob setting, before anything has run."""

# Shape suffixes: S = settings, F = features.

from collections.abc import Sequence

import torch
from torch import Tensor

from models.knobs import KnobGrid, KnobSetting, Tiling
from models.latency_terms import FEATURES
from models.tiling import CropGeometry, image_layout


def setting_features(
    settings: Sequence[KnobSetting],
    grid: KnobGrid,
    geometry: CropGeometry,
    *,
    image_size: tuple[int, int],
    prompt_tokens: int,
    output_tokens: int,
    tiling: Tiling = "target",
) -> Tensor:
    """Describe one request under several settings.

    Crops and tokens follow from the image's size alone, so no pixel is looked at.

    Args:
        settings: The settings to describe.
        grid: Where their tiers are defined.
        geometry: Sizes of the model's crops.
        image_size: Height and width in pixels.
        prompt_tokens: Ids of the prompt's words, without those of the image.
        output_tokens: Tokens of the answer.
        tiling: How tiers are applied.

    Returns:
        ``(settings, len(FEATURES))`` float, in the order of ``FEATURES``.

    Raises:
        ValueError: If the image has no pixels or a tier is not in the grid.
    """
    height, width = image_size
    layouts = {tier.name: image_layout(height, width, geometry, tier=tier, tiling=tiling) for tier in grid.tiers}
    rows_SF = []
    for setting in settings:
        layout = layouts[grid.tier(setting.tier).name]
        described = {
            "num_crops": layout.num_crops,
            "vision_tokens": layout.num_vision_tokens,
            "text_tokens": 1 + layout.num_layout_tokens + prompt_tokens,  # one for the begin id
            "top_k": setting.top_k,
            "num_active_blocks": setting.num_active_blocks,
            "output_tokens": output_tokens,
        }
        rows_SF.append([float(described[name]) for name in FEATURES])
    return torch.tensor(rows_SF)
