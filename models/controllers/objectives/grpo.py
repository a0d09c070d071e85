"""Group relative policy optimisation: drawn settings compared with their group, under a clipped ratio."""

# Shape suffixes: B = groups (one request under one budget), G = settings drawn in a group.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from models.controllers.advantage import center, rank, zscore
from models.controllers.draw import Draw
from models.controllers.feedback import Feedback
from models.controllers.objectives.base import ObjectiveLoss, check_range
from models.controllers.objectives.policy_gradient import GroupObjective, divergence, group_diagnostics
from models.controllers.policy import entropy, masked_log_prob

AdvantageName = Literal["zscore", "center", "rank"]
_ADVANTAGES: Final[dict[AdvantageName, Callable[[Tensor], Tensor]]] = {"zscore": zscore, "center": center, "rank": rank}


@dataclass(frozen=True, kw_only=True)
class Grpo(GroupObjective):
    """GRPO (Shao et al., 2024): the clipped ratio of PPO, with the group in place of a critic.

    Args:
        group_size: Settings drawn for each request.
        advantage: What a reward is compared by: ``zscore`` as published, which weighs a group of hardly different
            rewards like any other; ``center`` without the division (Dr. GRPO, Liu et al., 2025); ``rank`` by order.
        clip_fraction: How far the ratio to the drawing policy may move from 1 before it earns nothing more.
        kl_weight: Weight of the exact KL divergence from the reference policy, in rewards a nat.
        entropy_weight: Weight of the policy's entropy, in rewards a nat.
        updates_per_draw: Updates on one draw; the ratio is 1, and nothing is clipped, in the first.

    Raises:
        ValueError: If a number is out of its range, or the advantage is unknown.
    """

    group_size: int = 5
    advantage: AdvantageName = "zscore"
    clip_fraction: float = 0.2
    kl_weight: float = 0.0
    entropy_weight: float = 0.02
    updates_per_draw: int = 1

    def __post_init__(self) -> None:
        if self.advantage not in _ADVANTAGES:
            raise ValueError(f"Grpo: advantage: must be one of {', '.join(_ADVANTAGES)}, got {self.advantage!r}")
        check_range("Grpo", "group_size", self.group_size, at_least=2)
        check_range("Grpo", "updates_per_draw", self.updates_per_draw, at_least=1)
        for field in ("kl_weight", "entropy_weight"):
            check_range("Grpo", field, getattr(self, field), at_least=0)
        if not 0 < self.clip_fraction < 1:
            raise ValueError(f"Grpo: clip_fraction: must be in (0, 1), got {self.clip_fraction}")

    @property
    def num_updates(self) -> int:
        """Updates that one draw is good for."""
        return self.updates_per_draw

    def loss(self, logits_BS: Tensor, feedback: Feedback, draw: Draw | None = None) -> ObjectiveLoss:
        """Compute minus the clipped surrogate. ``reward`` is the mean drawn one; ``clipped_fraction`` is added."""
        draw = self.draw(logits_BS, feedback) if draw is None else draw
        log_prob_BS = masked_log_prob(logits_BS, feedback.is_measured)
        ratio_BG = (log_prob_BS.gather(1, draw.setting) - draw.log_prob).exp()
        advantage_BG = _ADVANTAGES[self.advantage](draw.reward)
        clipped_BG = ratio_BG.clamp(1 - self.clip_fraction, 1 + self.clip_fraction)
        surrogate = torch.minimum(ratio_BG * advantage_BG, clipped_BG * advantage_BG).mean()
        mean_entropy = entropy(log_prob_BS).mean()
        loss = -surrogate - self.entropy_weight * mean_entropy
        if self.kl_weight > 0:
            loss = loss + self.kl_weight * divergence(log_prob_BS, draw.reference_log_prob).mean()
        diagnostics = group_diagnostics(draw, log_prob_BS.detach(), mean_entropy)
        return ObjectiveLoss(loss, {**diagnostics, "clipped_fraction": (ratio_BG != clipped_BG).float().mean()})
