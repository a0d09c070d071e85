"""Order settings by reward, pair by pair."""

# Shape suffixes: B = groups (one request under one budget), G = settings of a group.

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.controllers.draw import Draw, look_up, sample_distinct
from models.controllers.feedback import TIE, Feedback
from models.controllers.objectives.base import Objective, ObjectiveLoss, check_range
from models.controllers.policy import masked_log_prob


@dataclass(frozen=True, kw_only=True)
class PairwiseRank(Objective):
    """Logistic loss of each pair of a group whose rewards differ: the better one shall have the higher logit.

    A group holds different measured settings, drawn uniformly; ties teach nothing.

    Args:
        group_size: Settings drawn for each request.

    Raises:
        ValueError: If a group is of one.
    """

    group_size: int = 5

    def __post_init__(self) -> None:
        check_range("PairwiseRank", "group_size", self.group_size, at_least=2)

    @torch.no_grad()
    def draw(
        self,
        logits_BS: Tensor,
        feedback: Feedback,
        *,
        reference_logits_BS: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Draw:
        """Draw a group for each request; where fewer are measured than a group holds, all of them."""
        setting_BG = sample_distinct(feedback.is_measured, self.group_size, generator=generator)
        log_prob_BS = masked_log_prob(logits_BS, feedback.is_measured)
        return look_up(setting_BG, log_prob_BS, feedback, reference_logits_BS=reference_logits_BS)

    def loss(self, logits_BS: Tensor, feedback: Feedback, draw: Draw | None = None) -> ObjectiveLoss:
        """Compute the logistic loss, mean over pairs. ``reward`` is that of the settings of highest logit."""
        draw = self.draw(logits_BS, feedback) if draw is None else draw
        logit_BG = logits_BS.gather(1, draw.setting)
        is_measured_BG = feedback.is_measured.gather(1, draw.setting)
        gain_BGG = _differences(draw.reward)
        is_pair_BGG = (gain_BGG > TIE) & is_measured_BG[:, :, None] & is_measured_BG[:, None, :]
        loss_BGG = F.softplus(-_differences(logit_BG)) * is_pair_BGG
        loss = loss_BGG.sum() / is_pair_BGG.sum().clamp(min=1)
        with torch.no_grad():
            reward = feedback.reward_of_likeliest(logits_BS).mean()
        return ObjectiveLoss(loss, {"reward": reward})


def _differences(x_BG: Tensor) -> Tensor:
    return x_BG[:, :, None] - x_BG[:, None, :]
