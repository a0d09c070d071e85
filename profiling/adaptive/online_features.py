"""What a controller is told of a request, made while the request waits: on the CPU, from few numbers."""

# Shape suffixes: B = requests (one), F = free features, V = vocabulary, D = width of the language model, T = tiers.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.knobs import KnobGrid, Tiling
from models.molmo import Molmo
from models.tiling import CropGeometry, image_layout
from profiling.controllers.features import free_features

_SIZES_KEPT: Final = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What is known of one request before its tier is chosen.

    Args:
        free_BF: ``(1, features)`` float32, see ``profiling.controllers.features``; width 0 if nobody reads it.
        question_BD: ``(1, width)`` float32; width 0 if nobody reads it.
        vision_tokens_T: Vision tokens at each tier.
        glance_BD: ``(1, width)`` float32: mean vision token of the overview; width 0 if nobody reads it.
    """

    free_BF: Tensor
    question_BD: Tensor
    vision_tokens_T: tuple[int, ...]
    glance_BD: Tensor = field(default_factory=lambda: torch.zeros(1, 0))


class _ImageTokens(NamedTuple):
    """Tokens of pictures of one size.

    Args:
        vision_tokens_T: Vision tokens at each tier.
        layout_tokens: Tokens around them at the first tier.
    """

    vision_tokens_T: tuple[int, ...]
    layout_tokens: int


class OnlineFeatures:
    """Describe requests as the tables that controllers are trained on do.

    Embeddings of words are looked up on the CPU, in a float32 copy unless the model is there and of that type, so that
    nothing waits for a device. What follows from a picture's size is kept: many pictures are of the same size.

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
        self._word_VD: NDArray[np.float32] | None = None
        if widths["question"] > 0:
            self._word_VD = model.language_model.embedding.weight.detach().float().cpu().numpy()
        self._tokens = lru_cache(_SIZES_KEPT)(self._tokens_of)

    def describe(self, *, image_size: tuple[int, int], question: str, prompt_ids: Sequence[int]) -> Known:
        """Describe one request.

        Args:
            image_size: Width and height in pixels.
            question: The question alone.
            prompt_ids: Ids of the whole prompt, without those of the image.
        """
        tokens = self._tokens(*image_size)
        free: list[float] = []
        if self._reads_free:
            free = free_features(
                image_width=image_size[0],
                image_height=image_size[1],
                vision_tokens_T=tokens.vision_tokens_T,
                text_tokens=1 + tokens.layout_tokens + len(prompt_ids),  # 1 is the begin id
                question=question,
            )
        return Known(
            free_BF=torch.from_numpy(np.array([free], dtype=np.float32)),
            question_BD=self._mean_word(prompt_ids),
            vision_tokens_T=tokens.vision_tokens_T,
        )

    def _tokens_of(self, width: int, height: int) -> _ImageTokens:
        layouts = [image_layout(height, width, self._geometry, tier=tier, tiling=self._tiling) for tier in self._tiers]
        return _ImageTokens(tuple(layout.num_vision_tokens for layout in layouts), layouts[0].num_layout_tokens)

    def _mean_word(self, prompt_ids: Sequence[int]) -> Tensor:
        """As ``question_embedding`` does it for many."""
        if self._word_VD is None:
            return torch.zeros(1, 0)
        mean_BD = self._word_VD.take(prompt_ids, axis=0).sum(axis=0, keepdims=True) / np.float32(len(prompt_ids))
        return torch.from_numpy(mean_BD)
