"""Raise the expected reward: by its exact gradient, or by that of drawn groups without a clipped ratio."""

# Shape suffixes: B = requests, each under one budget; S = settings, G = settings drawn in a group.

from dataclasses import dataclass

import torch
from torch import Tensor

from models.controllers.advantage import leave_one_out
from models.controllers.draw import Draw, look_up
from models.controllers.feedback import Feedback
from models.controllers.objectives.base import Objective, ObjectiveLoss, check_range
from models.controllers.policy import entropy, masked_log_prob


@dataclass(frozen=True, kw_only=True)
class ExactPolicyGradient(Objective):
    """The expected reward itself: the table knows every outcome, so nothing needs to be drawn.

    Args:
        entropy_weight: Weight of the policy's entropy, in rewards a nat.

    Raises:
        ValueError: If the weight is negative.
    """

    entropy_weight: float = 0.02

    def __post_init__(self) -> None:
        check_range("ExactPolicyGradient", "entropy_weight", self.entropy_weight, at_least=0)

    def loss(self, logits_BS: Tensor, feedback: Feedback, draw: Draw | None = None) -> ObjectiveLoss:
        """Compute minus the expected reward. ``reward`` is the expected one."""
        log_prob_BS = masked_log_prob(logits_BS, feedback.is_measured)
        expected = (log_prob_BS.exp() * feedback.measured_reward).sum(dim=-1).mean()
        mean_entropy = entropy(log_prob_BS).mean()
        loss = -expected - self.entropy_weight * mean_entropy
        return ObjectiveLoss(loss, {"reward": expected.detach(), "entropy": mean_entropy.detach()})


class GroupObjective(Objective):
    """Learn from groups of settings drawn from the policy.

    Args:
        group_size: Settings drawn for each request.
    """

    group_size: int

    @torch.no_grad()
    def draw(
        self,
        logits_BS: Tensor,
        feedback: Feedback,
        *,
        reference_logits_BS: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Draw:
        """Draw a group of measured settings for each request, independently and with replacement."""
        log_prob_BS = masked_log_prob(logits_BS, feedback.is_measured)
        setting_BG = log_prob_BS.exp().multinomial(self.group_size, replacement=True, generator=generator)
        return look_up(setting_BG, log_prob_BS, feedback, reference_logits_BS=reference_logits_BS)


@dataclass(frozen=True, kw_only=True)
class Rloo(GroupObjective):
    """REINFORCE with the mean of the group's others as baseline (Ahmadian et al., 2024).

    Args:
        group_size: Settings drawn for each request.
        entropy_weight: Weight of the policy's entropy, in rewards a nat.

    Raises:
        ValueError: If a group is of one, or the weight is negative.
    """

    group_size: int = 5
    entropy_weight: float = 0.02

    def __post_init__(self) -> None:
        check_range("Rloo", "group_size", self.group_size, at_least=2)
        check_range("Rloo", "entropy_weight", self.entropy_weight, at_least=0)

    def loss(self, logits_BS: Tensor, feedback: Feedback, draw: Draw | None = None) -> ObjectiveLoss:
        """Compute minus the drawn log-probabilities weighted by their advantage. ``reward`` is the mean drawn one."""
        draw = self.draw(logits_BS, feedback) if draw is None else draw
        log_prob_BS = masked_log_prob(logits_BS, feedback.is_measured)
        drawn_BG = log_prob_BS.gather(1, draw.setting)
        mean_entropy = entropy(log_prob_BS).mean()
        loss = -(leave_one_out(draw.reward) * drawn_BG).mean() - self.entropy_weight * mean_entropy
        return ObjectiveLoss(loss, group_diagnostics(draw, log_prob_BS.detach(), mean_entropy))


@torch.no_grad()
def group_diagnostics(draw: Draw, log_prob_BS: Tensor, mean_entropy: Tensor) -> dict[str, Tensor]:
    """Describe a step on groups by scalars.

    Args:
        draw: The groups.
        log_prob_BS: ``(batch, settings)`` of the policy now.
        mean_entropy: Of the policy now, scalar.
    """
    return {
        "reward": draw.reward.mean(),
        "reward_std": draw.reward.std(dim=1).mean(),
        "frac_groups_zero_std": (draw.reward == draw.reward[:, :1]).all(dim=1).float().mean(),
        "entropy": mean_entropy.detach(),
        "kl": divergence(log_prob_BS, draw.reference_log_prob).mean(),
    }


def divergence(log_prob_BS: Tensor, reference_log_prob_BS: Tensor) -> Tensor:
    """Return the KL divergence of each request's distribution from its reference in nats, ``(batch,)``."""
    return (log_prob_BS.exp() * (log_prob_BS - reference_log_prob_BS)).sum(dim=-1)
