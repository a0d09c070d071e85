"""How a controller is asked about a batch: before the tier is chosen, and again when the vision encoder is done."""

# Shape suffixes: B = requests, F = free features, D = width of the language model, T = tiers, S = settings in the order
# of `KnobGrid.settings`, R = settings of a tier (S / T).

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from models.controllers.policy import choose
from models.knobs import KnobGrid


class Decider(Protocol):
    """A controller, whatever it has learned by. Logits are of its own scale: the higher, the better.

    Features come as they are, not standardised, and float32: ``free`` as in ``profiling.controllers.features``,
    ``question``, ``glance`` and ``vision`` as in ``profiling.controllers.embeddings``.
    """

    @property
    def grid(self) -> KnobGrid:
        """The settings that logits are of."""
        ...

    @property
    def feature_widths(self) -> Mapping[str, int]:
        """How many numbers are read of each kind of feature; 0 for what need not be computed."""
        ...

    def before_image(self, budget_ms_B: Tensor, free_BF: Tensor, question_BD: Tensor, glance_BD: Tensor) -> Tensor:
        """Return ``(batch, settings)`` logits. The tier of the best allowed setting is the tier to cut the image at.

        A controller that decides in two stages gives all settings of a tier the same logit.

        Args:
            budget_ms_B: ``(batch,)`` milliseconds from raw input to last token.
            free_BF: ``(batch, features)``.
            question_BD: ``(batch, width)``; not looked at where its width is 0.
            glance_BD: ``(batch, width)`` mean vision token of the overview; likewise.
        """
        ...

    def after_image(
        self, remaining_ms_B: Tensor, tier_B: Tensor, free_BF: Tensor, question_BD: Tensor, vision_BD: Tensor
    ) -> Tensor | None:
        """Return ``(batch, settings of the tier)`` logits, or ``None`` if all was decided before.

        Args:
            remaining_ms_B: ``(batch,)`` budget less the time that has passed; may be negative.
            tier_B: ``(batch,)`` int64: place of the tier that the image was cut at.
            free_BF: ``(batch, features)``.
            question_BD: ``(batch, width)``.
            vision_BD: ``(batch, width)`` mean vision token at that tier, or the budget token's state; not looked at
                where its width is 0.
        """
        ...


def decide(
    decider: Decider,
    *,
    budget_ms_B: Tensor,
    free_BF: Tensor,
    question_BD: Tensor,
    glance_BD: Tensor,
    vision_BTD: Tensor,
    vision_done_ms_BT: Tensor,
    is_allowed_BS: Tensor,
) -> Tensor:
    """Choose a setting for each request of a table, where what each tier would show and take is known.

    Args:
        decider: The controller.
        budget_ms_B: ``(batch,)``.
        free_BF: ``(batch, features)``.
        question_BD: ``(batch, width)``.
        glance_BD: ``(batch, width)``.
        vision_BTD: ``(batch, tiers, width)`` what the second decision would be shown.
        vision_done_ms_BT: ``(batch, tiers)``: what has passed when the vision tokens are there.
        is_allowed_BS: ``(batch, settings)`` bool, at least one of each request.

    Returns:
        ``(batch,)`` int64.
    """
    first_B = choose(decider.before_image(budget_ms_B, free_BF, question_BD, glance_BD), is_allowed_BS)
    num_settings = is_allowed_BS.shape[1] // vision_done_ms_BT.shape[1]
    tier_B = first_B // num_settings
    request_B = torch.arange(len(tier_B), device=tier_B.device)
    within_BR = decider.after_image(
        budget_ms_B - vision_done_ms_BT[request_B, tier_B],
        tier_B,
        free_BF,
        question_BD,
        vision_BTD[request_B, tier_B],
    )
    if within_BR is None:
        return first_B
    is_allowed_BR = is_allowed_BS.unflatten(1, (-1, num_settings))[request_B, tier_B]
    return tier_B * num_settings + choose(within_BR, is_allowed_BR)
