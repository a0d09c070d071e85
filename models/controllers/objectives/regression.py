"""Predict the reward of every setting."""

# Shape suffixes: B = requests, each under one budget; S = settings.

from dataclasses import dataclass

import torch
from torch import Tensor

from models.controllers.draw import Draw
from models.controllers.feedback import Feedback
from models.controllers.objectives.base import Objective, ObjectiveLoss


@dataclass(frozen=True, kw_only=True)
class QRegression(Objective):
    """Mean squared error of the logits as predicted rewards, over all measured settings."""

    @property
    def predicts_rewards(self) -> bool:
        """Whether logits become predicted rewards."""
        return True

    def loss(self, logits_BS: Tensor, feedback: Feedback, draw: Draw | None = None) -> ObjectiveLoss:
        """Compute the error, mean over measured cells. ``reward`` is that of the setting predicted best."""
        error_BS = (logits_BS - feedback.measured_reward) * feedback.is_measured
        loss = error_BS.square().sum() / feedback.is_measured.sum().clamp(min=1)
        with torch.no_grad():
            reward = feedback.reward_of_likeliest(logits_BS).mean()
        return ObjectiveLoss(loss, {"reward": reward})
