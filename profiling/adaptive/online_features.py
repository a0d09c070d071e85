"""What a controller is told of a request, made while the request waits: on the CPU, from few numbers."""

# Shape suffixes: B = requests (one), F = free features, D = width of the language model, T = tiers.

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.knobs import KnobGrid, Tiling
from models.molmo import Molmo
from models.tiling import CropGeometry, image_layout
from profiling.controllers.features import free_features


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What is known of one request before anything runs.

    Args:
        free_BF: ``(1, features)`` float32, see ``profiling.controllers.features``; width 0 if nobody reads it.
        question_BD: ``(1, width)`` float32; width 0 if nobody reads it.
        vision_tokens_T: Vision tokens at each tier.
    """

    free_BF: Tensor
    question_BD: Tensor
    vision_tokens_T: tuple[int, ...]


class OnlineFeatures:
    """Describe requests as the tables that controllers are trained on do.

    Embeddings of words are looked up on the CPU, in a copy where the model is elsewhere, so that nothing waits for a
    device.

    Args:
        model: The model.
        grid: Its tiers.
        widths: How many numbers the controller reads of ``free`` and ``question``; 0 for what need not be computed.
        tiling: How tiers are applied to images.
    """

    def __init__(self, model: Molmo, grid: KnobGrid, widths: Mapping[str, int], *, tiling: Tiling = "target") -> None:
        self._geometry = CropGeometry.from_config(model.config)
        self._tiers = grid.tiers
        self._tiling: Tiling = tiling
        self._reads_free = widths["free"] > 0
        self._embedding = None
        if widths["question"] > 0:
            words = model.language_model.embedding
            self._embedding = words if words.weight.device.type == "cpu" else deepcopy(words).cpu()

    def describe(self, *, image_size: tuple[int, int], question: str, prompt_ids: Sequence[int]) -> Known:
        """Describe one request.

        Args:
            image_size: Width and height in pixels.
            question: The question alone.
            prompt_ids: Ids of the whole prompt, without those of the image.
        """
        width, height = image_size
        layouts = [image_layout(height, width, self._geometry, tier=tier, tiling=self._tiling) for tier in self._tiers]
        vision_tokens_T = tuple(layout.num_vision_tokens for layout in layouts)
        free_BF = torch.zeros(1, 0)
        if self._reads_free:
            free = free_features(
                image_width=np.asarray([float(width)]),
                image_height=np.asarray([float(height)]),
                vision_tokens_NT=np.asarray([vision_tokens_T], dtype=np.float64),
                text_tokens=np.asarray([1.0 + layouts[0].num_layout_tokens + len(prompt_ids)]),  # 1 is the begin id
                questions=[question],
            )
            free_BF = torch.from_numpy(free.astype(np.float32))
        return Known(free_BF=free_BF, question_BD=self._mean_word(prompt_ids), vision_tokens_T=vision_tokens_T)

    def _mean_word(self, prompt_ids: Sequence[int]) -> Tensor:
        """As ``question_embedding`` does it for many."""
        if self._embedding is None:
            return torch.zeros(1, 0)
        mean_BD: Tensor = self._embedding(torch.tensor([list(prompt_ids)])).float().mean(dim=1)
        return mean_BD
