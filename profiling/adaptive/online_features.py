"""What a controller is told of a request, made while the request waits: on the CPU, from few numbers."""

# Shape suffixes: F = free features, V = vocabulary, D = width of the language model, T = tiers.

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from models.controllers import Vector
from models.knobs import KnobGrid, Tiling
from models.molmo import Molmo
from models.tiling import CropGeometry, image_layout
from profiling.controllers.features import free_features

_SIZES_KEPT: Final = 4096


class Known(NamedTuple):
    """What is known of one request before its tier is chosen.

    Args:
        features: What the first decision reads, each ``(features,)`` float32: ``free`` as in
            ``profiling.controllers.features``, ``question`` and ``glance`` as in ``profiling.controllers.embeddings``.
        vision_tokens_T: Vision tokens at each tier.
    """

    features: Mapping[str, Vector]
    vision_tokens_T: tuple[int, ...]


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
        self._word_VD: Vector | None = None
        if widths["question"] > 0:
            self._word_VD = model.language_model.embedding.weight.detach().float().cpu().numpy()
        self._tokens = lru_cache(_SIZES_KEPT)(self._tokens_of)

    def describe(
        self,
        *,
        image_size: tuple[int, int],
        question: str,
        prompt_ids: Sequence[int],
        glance_D: Vector | None = None,
    ) -> Known:
        """Describe one request.

        Args:
            image_size: Width and height in pixels.
            question: The question alone.
            prompt_ids: Ids of the whole prompt, without those of the image.
            glance_D: ``(width,)`` mean vision token of the overview, for a controller that looks at it.
        """
        tokens = self._tokens(*image_size)
        features: dict[str, Vector] = {}
        if self._reads_free:
            free = free_features(
                image_width=image_size[0],
                image_height=image_size[1],
                vision_tokens_T=tokens.vision_tokens_T,
                text_tokens=1 + tokens.layout_tokens + len(prompt_ids),  # 1 is the begin id
                question=question,
            )
            features["free"] = np.array(free, dtype=np.float32)
        if self._word_VD is not None:
            # As ``question_embedding`` does it for many.
            features["question"] = np.add.reduce(self._word_VD.take(prompt_ids, axis=0)) / np.float32(len(prompt_ids))
        if glance_D is not None:
            features["glance"] = glance_D
        return Known(features, tokens.vision_tokens_T)

    def _tokens_of(self, width: int, height: int) -> _ImageTokens:
        layouts = [image_layout(height, width, self._geometry, tier=tier, tiling=self._tiling) for tier in self._tiers]
        return _ImageTokens(tuple(layout.num_vision_tokens for layout in layouts), layouts[0].num_layout_tokens)
