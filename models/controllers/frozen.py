"""A trained controller as the few matrices that it comes down to.

On one request torch takes longer to begin each small operation than to do it, so the same is computed in numpy.
"""

# Shape suffixes: B = requests, E = numbers of an encoding, F = features, I = inputs, H = units, T = tiers,
# R = settings of a tier, S = settings.

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor, nn

from models.controllers.heads import FactorisedHeads, JointHead
from models.controllers.llm_based import LLMBased
from models.controllers.trunk import Trunk
from models.knobs import KnobGrid

Array = NDArray[np.float32]


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
        linear = [layer for layer in trunk.layers if isinstance(layer, nn.Linear)]
        scale = trunk.standardize
        # What is no feature is taken as it is.
        after = linear[0].in_features - trunk.budget.num_units - len(scale.mean_F)
        around = (trunk.budget.num_units, after)
        self._mean_I = np.pad(scale.mean_F.numpy(), around)
        self._scale_I = np.pad(scale.scale_F.numpy(), around, constant_values=1)
        self._layers = [_affine(layer, layer.in_features) for layer in linear]
        self._head = _affine(head, linear[-1].out_features)

    def __call__(self, budget_ms_B: Tensor, known: Mapping[str, Tensor], *plain: Array) -> Array:
        """Return ``(batch, choices)`` logits.

        Args:
            budget_ms_B: ``(batch,)`` milliseconds.
            known: Features by kind, ``(batch, features)`` each.
            plain: Inputs that are taken as they are, ``(batch, inputs)``.
        """
        encoded_BE = np.array([self._encode(budget_ms) for budget_ms in budget_ms_B.tolist()], dtype=np.float32)
        inputs_BI = np.concatenate([encoded_BE, *(known[kind].numpy() for kind in self._reads), *plain], axis=1)
        hidden = (inputs_BI - self._mean_I) / self._scale_I
        for weight, bias in self._layers:
            hidden = hidden @ weight + bias
            hidden = hidden * ndtr(hidden)  # GELU
        weight, bias = self._head
        logits: Array = hidden @ weight + bias
        return logits


class FrozenDecider:
    """A trained controller of one or two stages, as it is now; see ``Decider``.

    Args:
        grid: The settings.
        feature_widths: How many numbers are read of each kind of feature.
        before: Decides before the image: gives a logit for each setting, or for each tier.
        after: Decides after it, if anything is left to decide: gives a logit for each setting of the tier.
        first_blocks: Decides after it from a budget token's state instead, see ``Decider``.
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

    def before_image(self, budget_ms_B: Tensor, free_BF: Tensor, question_BD: Tensor, glance_BD: Tensor) -> Tensor:
        """Return ``(batch, settings)`` logits, see ``Decider``."""
        logits = self._before(budget_ms_B, {"free": free_BF, "question": question_BD, "glance": glance_BD})
        return torch.from_numpy(logits.repeat(self._num_settings // logits.shape[1], axis=1))

    def after_image(
        self, remaining_ms_B: Tensor, tier_B: Tensor, free_BF: Tensor, question_BD: Tensor, vision_BD: Tensor
    ) -> Tensor | None:
        """Return ``(batch, settings of the tier)`` logits or ``None``, see ``Decider``."""
        if self.first_blocks is not None:
            return self.first_blocks.decide(vision_BD)
        if self._after is None:
            return None
        known = {"free": free_BF, "question": question_BD, "vision": vision_BD}
        return torch.from_numpy(self._after(remaining_ms_B, known, self._is_tier_TT[tier_B.numpy()]))


@torch.no_grad()
def _affine(layer: Callable[[Tensor], Tensor], num_inputs: int) -> tuple[Array, Array]:
    """Return matrix ``(inputs, outputs)`` and offset of what multiplies and adds, however many parts it has."""
    offset = layer(torch.zeros(1, num_inputs))
    return (layer(torch.eye(num_inputs)) - offset).numpy(), offset.numpy()
