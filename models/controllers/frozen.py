"""A trained controller as the few matrices that it comes down to, to be asked about one request at a time.

On one request torch takes longer to begin each small operation than to do it, and so does numpy, if not as long:
whatever can be multiplied out beforehand is.
"""

# Shape suffixes: E = numbers of an encoding, F = features, I = inputs, H = units, T = tiers, R = settings of a tier,
# S = settings.

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from models.controllers.heads import FactorisedHeads, JointHead
from models.controllers.llm_based import LLMBased
from models.controllers.request_decider import Vector
from models.controllers.trunk import Trunk
from models.knobs import KnobGrid


class FrozenNetwork:
    """What a trunk and a head compute, as they are now; what they learn later does not show.

    Args:
        trunk: Of a trained network, on the CPU.
        head: Its head.
        reads: Kinds of features, in the order that the network knows.
    """

    def __init__(self, trunk: Trunk, head: JointHead | FactorisedHeads, reads: Sequence[str]) -> None:
        self._encode = trunk.budget.frozen()
        self._reads = tuple(reads)
        first, *others = [_affine(layer, layer.in_features) for layer in trunk.layers if isinstance(layer, nn.Linear)]
        last_width = first[1].shape[0] if not others else others[-1][1].shape[0]
        self._layers = [_after_standardizing(*first, trunk), *others]
        self._head = _affine(head, last_width)

    def __call__(self, budget_ms: float, known: Mapping[str, Vector], *plain: Vector) -> Vector:
        """Return ``(choices,)`` logits.

        Args:
            budget_ms: Milliseconds.
            known: Features by kind, ``(features,)`` each.
            plain: Inputs that are taken as they are, ``(inputs,)``.
        """
        encoded_E = np.array(self._encode(budget_ms), dtype=np.float32)
        hidden = np.concatenate([encoded_E, *[known[kind] for kind in self._reads], *plain])
        for weight, bias in self._layers:
            hidden = hidden @ weight + bias
            hidden = hidden * ndtr(hidden)  # GELU
        weight, bias = self._head
        logits: Vector = hidden @ weight + bias
        return logits


class FrozenDecider:
    """A trained controller of one or two stages, as it is now; see ``RequestDecider``.

    Args:
        grid: The settings.
        feature_widths: How many numbers are read of each kind of feature.
        before: Decides before the image: gives a logit for each setting, or for each tier.
        after: Decides after it, if anything is left to decide: gives a logit for each setting of the tier.
        first_blocks: Decides after it from a budget token's state instead.
    """

    def __init__(
        self,
        grid: KnobGrid,
        feature_widths: Mapping[str, int],
        *,
        before: FrozenNetwork,
        after: FrozenNetwork | None = None,
        first_blocks: LLMBased | None = None,
    ) -> None:
        self.grid = grid
        self.first_blocks = first_blocks
        self.feature_widths = feature_widths
        self._before = before
        self._after = after
        self._num_settings = len(grid.settings())
        self._is_tier_TT = np.eye(len(grid.tiers), dtype=np.float32)

    @property
    def decides_twice(self) -> bool:
        """See ``RequestDecider``."""
        return self._after is not None or self.first_blocks is not None

    def before_image(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        """Return ``(settings,)`` logits, see ``RequestDecider``."""
        logits = self._before(budget_ms, known)
        num_each = self._num_settings // len(logits)
        return logits if num_each == 1 else logits.repeat(num_each)

    def after_image(self, remaining_ms: float, tier: int, known: Mapping[str, Vector], shown: Vector) -> Vector:
        """Return ``(settings of the tier,)`` logits, see ``RequestDecider``."""
        if self.first_blocks is not None:
            logits_R: Vector = self.first_blocks.decide(torch.from_numpy(shown)[None]).numpy()[0]
            return logits_R
        assert self._after is not None, "only a controller that decides twice is asked again"
        return self._after(remaining_ms, {**known, "vision": shown}, self._is_tier_TT[tier])


@torch.no_grad()
def _affine(layer: Callable[[Tensor], Tensor], num_inputs: int) -> tuple[Vector, Vector]:
    """Return matrix ``(inputs, outputs)`` and offset ``(outputs,)`` of what multiplies and adds, whatever its parts."""
    offset = layer(torch.zeros(1, num_inputs))
    return (layer(torch.eye(num_inputs)) - offset).numpy(), offset[0].numpy()


def _after_standardizing(weight_IH: Vector, bias_H: Vector, trunk: Trunk) -> tuple[Vector, Vector]:
    """Let the first layer take features as they are: their mean and scale become part of its matrix and offset."""
    scale = trunk.standardize
    before = trunk.budget.num_units
    around = (before, len(weight_IH) - before - len(scale.mean_F))  # what is no feature is taken as it is
    mean_I = np.pad(scale.mean_F.double().numpy(), around)
    scale_I = np.pad(scale.scale_F.double().numpy(), around, constant_values=1)
    scaled_IH = weight_IH / scale_I[:, None]
    return scaled_IH.astype(np.float32), (bias_H - mean_I @ scaled_IH).astype(np.float32)
