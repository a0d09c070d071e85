"""A trained controller as the few matrices that it comes down to, to be asked about one request at a time.

On one request torch takes longer to begin each small operation than to do it, and so does numpy, if not as long:
whatever can be multiplied out beforehand is.
"""

# Shape suffixes: F = features, I = inputs, H = units, R = settings of a tier.

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from models.controllers.heads import FactorisedHeads, JointHead
from models.controllers.llm_based import LLMBased
from models.controllers.request_decider import Vector
from models.controllers.trunk import Trunk
from models.knobs import KnobGrid

_MADE_1_BY_GELU: Final = 1.1444507183528787  # x * ndtr(x) is 1


class FrozenNetwork:
    """What a trunk and a head compute, as they are now; what they learn later does not show.

    To be asked by one thread at a time, since all inputs are put into the same vector.

    Args:
        trunk: Of a trained network, on the CPU.
        head: Its head.
        reads: How many numbers are read of each kind of features, in the order that the network knows.
        level: Which of the trunk's plain inputs is 1, the others being 0; if it has any.
    """

    def __init__(
        self,
        trunk: Trunk,
        head: JointHead | FactorisedHeads,
        reads: Mapping[str, int],
        *,
        level: int | None = None,
    ) -> None:
        self._encode = trunk.budget.frozen()
        ends = np.cumsum([trunk.budget.num_units, *reads.values()]).tolist()
        self._encoded = slice(ends[0])
        self._places = tuple(zip(reads, map(slice, ends, ends[1:]), strict=True))
        first, *others = [_affine(layer, layer.in_features) for layer in trunk.layers if isinstance(layer, nn.Linear)]
        weight_IH, bias_H = _after_standardizing(*first, trunk)
        assert (level is None) == (len(weight_IH) == ends[-1]), "a level is told to networks with plain inputs"
        if level is not None:
            bias_H = bias_H + weight_IH[ends[-1] + level]
        self._first_IH = _with_constant(weight_IH[: ends[-1]], bias_H)
        self._inputs_I = np.ones(len(self._first_IH), dtype=np.float32)
        weight, bias = _affine(head, others[-1][1].shape[0] if others else len(bias_H))
        self._behind = (*(_with_constant(*layer) for layer in others), np.vstack([weight, bias]))

    def __call__(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        """Return ``(choices,)`` logits.

        Args:
            budget_ms: Milliseconds.
            known: Features by kind, ``(features,)`` each.
        """
        inputs_I = self._inputs_I
        inputs_I[self._encoded] = self._encode(budget_ms)
        for kind, place in self._places:
            inputs_I[place] = known[kind]
        hidden: Vector = inputs_I.dot(self._first_IH)
        for weight in self._behind:
            hidden *= ndtr(hidden)  # GELU
            hidden = hidden.dot(weight)
        return hidden


class FrozenDecider:
    """A trained controller of one or two stages, as it is now; see ``RequestDecider``.

    Args:
        grid: The settings.
        feature_widths: How many numbers are read of each kind of feature.
        before: Decides before the image: gives a logit for each setting, or for each tier.
        after: Decide after it, if anything is left to decide: one for each tier, with a logit for each of its settings.
        first_blocks: Decides after it from a budget token's state instead.
    """

    def __init__(
        self,
        grid: KnobGrid,
        feature_widths: Mapping[str, int],
        *,
        before: FrozenNetwork,
        after: Sequence[FrozenNetwork] = (),
        first_blocks: LLMBased | None = None,
    ) -> None:
        self.grid = grid
        self.first_blocks = first_blocks
        self.feature_widths = feature_widths
        self._before = before
        self._after = after
        self._num_settings = len(grid.settings())

    @property
    def decides_twice(self) -> bool:
        """See ``RequestDecider``."""
        return bool(self._after) or self.first_blocks is not None

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
        return self._after[tier](remaining_ms, {**known, "vision": shown})


@torch.no_grad()
def _affine(layer: Callable[[Tensor], Tensor], num_inputs: int) -> tuple[Vector, Vector]:
    """Return matrix ``(inputs, outputs)`` and offset ``(outputs,)`` of what multiplies and adds, whatever its parts."""
    offset = layer(torch.zeros(1, num_inputs))
    return (layer(torch.eye(num_inputs)) - offset).numpy(), offset[0].numpy()


def _with_constant(weight_IH: Vector, bias_H: Vector) -> Vector:
    """Return matrix ``(inputs + 1, outputs + 1)`` for a last input of 1, whose last output GELU makes 1 again.

    So nothing need be added: what counts for one request is how many different operations there are.
    """
    constant_I = np.zeros(len(weight_IH))
    augmented = np.block([[weight_IH, constant_I[:, None]], [bias_H, _MADE_1_BY_GELU]])
    return augmented.astype(np.float32)


def _after_standardizing(weight_IH: Vector, bias_H: Vector, trunk: Trunk) -> tuple[Vector, Vector]:
    """Let the first layer take features as they are: their mean and scale become part of its matrix and offset."""
    scale = trunk.standardize
    before = trunk.budget.num_units
    around = (before, len(weight_IH) - before - len(scale.mean_F))  # what is no feature is taken as it is
    mean_I = np.pad(scale.mean_F.double().numpy(), around)
    scale_I = np.pad(scale.scale_F.double().numpy(), around, constant_values=1)
    scaled_IH = weight_IH / scale_I[:, None]
    return scaled_IH.astype(np.float32), (bias_H - mean_I @ scaled_IH).astype(np.float32)
