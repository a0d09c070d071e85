"""Groups of settings drawn from a policy, all requests at once."""

# Shape suffixes: B = groups (one request under one budget), S = settings, G = settings drawn in a group.

from typing import NamedTuple

import torch
from torch import Tensor

from models.controllers.feedback import Feedback
from models.controllers.policy import masked_log_prob


class Draw(NamedTuple):
    """One group for each request.

    Args:
        setting: ``(groups, drawn)`` int64 index of each drawn setting.
        reward: ``(groups, drawn)``: from the table; put measured ones in its place if the settings are really run.
        log_prob: ``(groups, drawn)`` under the policy at that time.
        reference_log_prob: ``(groups, settings)`` of the policy that the KL divergence is measured from.
    """

    setting: Tensor
    reward: Tensor
    log_prob: Tensor
    reference_log_prob: Tensor


def look_up(
    setting_BG: Tensor, log_prob_BS: Tensor, feedback: Feedback, *, reference_logits_BS: Tensor | None = None
) -> Draw:
    """Complete drawn settings by what the table and the policies say of them.

    Args:
        setting_BG: ``(groups, drawn)`` int64.
        log_prob_BS: ``(groups, settings)`` of the policy that drew them.
        feedback: Outcome of every setting.
        reference_logits_BS: Policy that the KL divergence is measured from; the drawing one if ``None``.
    """
    reference_BS = log_prob_BS
    if reference_logits_BS is not None:
        reference_BS = masked_log_prob(reference_logits_BS, feedback.is_measured)
    return Draw(
        setting=setting_BG,
        reward=feedback.measured_reward.gather(1, setting_BG),
        log_prob=log_prob_BS.gather(1, setting_BG),
        reference_log_prob=reference_BS,
    )


def sample_distinct(is_allowed_BS: Tensor, group_size: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw different indices uniformly: ``(groups, drawn)`` int64, no more than there are.

    Where fewer are allowed than asked for, the rest of the group are indices that are not.
    """
    order_BS = torch.rand(is_allowed_BS.shape, device=is_allowed_BS.device, generator=generator)
    group_size = min(group_size, is_allowed_BS.shape[1])
    return order_BS.masked_fill_(~is_allowed_BS, -1.0).topk(group_size, dim=1).indices
