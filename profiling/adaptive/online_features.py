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
from profiling.controllers.features import free_features, size_features

_SIZES_KEPT: Final = 4096
_LENGTHS_KEPT: Final = 4096


class Known(NamedTuple):
    """What is known of one request before its tier is chosen.

    Args:
        features: What the first decision reads, each ``(features,)`` float32: ``free`` as in
            ``profiling.controllers.features``, ``question`` and ``glance`` as in ``profiling.controllers.embeddings``.
        vision_tokens_T: Vision tokens at each tier.
    """

    features: Mapping[str, Vector]
    vision_tokens_T: tuple[int, ...]


class _OfSize(NamedTuple):
    """What follows from a picture's size.

    Args:
        vision_tokens_T: Vision tokens at each tier.
        layout_tokens: Tokens around them at the first tier.
        features: See ``size_features``.
    """

    vision_tokens_T: tuple[int, ...]
    layout_tokens: int
    features: list[float]


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
        self._of_size = lru_cache(_SIZES_KEPT)(self._describe_size)

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
        of_size = self._of_size(*image_size)
        features: dict[str, Vector] = {}
        if self._reads_free:
            text_tokens = 1 + of_size.layout_tokens + len(prompt_ids)  # 1 is the begin id
            free = free_features(of_size.features, text_tokens=text_tokens, question=question)
            features["free"] = np.array(free, dtype=np.float32)
        if self._word_VD is not None:
            # As ``question_embedding`` does it for many.
            shares = _shares(len(prompt_ids))
            features["question"] = shares.dot(self._word_VD.take(prompt_ids, axis=0))
        if glance_D is not None:
            features["glance"] = glance_D
        return Known(features, of_size.vision_tokens_T)

    def _describe_size(self, width: int, height: int) -> _OfSize:
        layouts = [image_layout(height, width, self._geometry, tier=tier, tiling=self._tiling) for tier in self._tiers]
        vision_tokens_T = tuple(layout.num_vision_tokens for layout in layouts)
        features = size_features(image_width=width, image_height=height, vision_tokens_T=vision_tokens_T)
        return _OfSize(vision_tokens_T, layouts[0].num_layout_tokens, features)


@lru_cache(_LENGTHS_KEPT)
def _shares(num_ids: int) -> Vector:
    """Return the weight of each of so many numbers in their mean."""
    return np.full(num_ids, 1 / num_ids, dtype=np.float32)
