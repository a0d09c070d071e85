"""Imitate a label: the best setting, the set of best settings, or a soft maximum of the rewards."""

# Shape suffixes: B = requests, each under one budget; S = settings.

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.controllers.draw import Draw
from models.controllers.feedback import Feedback
from models.controllers.objectives.base import Objective, ObjectiveLoss
from models.controllers.policy import choose, entropy, masked_log_prob


class _CrossEntropy(Objective):
    """Cross-entropy with a label distribution. ``reward`` is that of the likeliest setting."""

    @abstractmethod
    def labels(self, feedback: Feedback) -> Tensor:
        """Return the label of each request, ``(batch, settings)``: a distribution, or zeros if none was measured."""

    def loss(self, logits_BS: Tensor, feedback: Feedback, draw: Draw | None = None) -> ObjectiveLoss:
        """Compute the cross-entropy, mean over requests."""
        log_prob_BS = masked_log_prob(logits_BS, feedback.is_measured)
        loss = -(self.labels(feedback) * log_prob_BS).sum(dim=-1).mean()
        with torch.no_grad():
            diagnostics = {
                "reward": feedback.reward_of_likeliest(logits_BS).mean(),
                "entropy": entropy(log_prob_BS).mean(),
            }
        return ObjectiveLoss(loss, diagnostics)


@dataclass(frozen=True, kw_only=True)
class HardCrossEntropy(_CrossEntropy):
    """One label: the best setting. With the goodput reward, the most accurate one within the budget.

    Args:
        tie: Which of equally good settings: the ``cheapest`` takes the least time, the ``best_population`` is the most
            accurate over the training samples.

    Raises:
        ValueError: If the rule is unknown.
    """

    tie: Literal["best_population", "cheapest"] = "best_population"

    def __post_init__(self) -> None:
        if self.tie not in ("best_population", "cheapest"):
            raise ValueError(f"HardCrossEntropy: tie: must be best_population or cheapest, got {self.tie!r}")

    def labels(self, feedback: Feedback) -> Tensor:
        """Return one-hot labels.

        Raises:
            ValueError: If ties go to the population's best and the feedback does not know it.
        """
        preference = -feedback.latency_ms
        if self.tie == "best_population":
            if feedback.population_accuracy is None:
                raise ValueError("HardCrossEntropy: tie: best_population needs feedback with population_accuracy")
            preference = feedback.population_accuracy.expand_as(feedback.reward)
        is_best_BS = feedback.is_best
        label_B = choose(preference, is_best_BS)
        return torch.zeros_like(feedback.reward).scatter_(1, label_B[:, None], 1.0) * is_best_BS


@dataclass(frozen=True, kw_only=True)
class ArgmaxSetCrossEntropy(_CrossEntropy):
    """All best settings are labels of equal weight."""

    def labels(self, feedback: Feedback) -> Tensor:
        """Return labels uniform over the best settings."""
        is_best_BS = feedback.is_best.to(feedback.reward.dtype)
        return is_best_BS / is_best_BS.sum(dim=-1, keepdim=True).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class SoftCrossEntropy(_CrossEntropy):
    """Labels are the softmax of the rewards.

    Where every reward is 0 or 1, a low temperature makes it ``ArgmaxSetCrossEntropy``: at 0.1 a wrong setting weighs
    exp(-10) of a right one.

    Args:
        temperature: Divides the rewards; the lower, the closer to the set of best settings.

    Raises:
        ValueError: If the temperature is not above 0.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"SoftCrossEntropy: temperature: must be above 0, got {self.temperature}")

    def labels(self, feedback: Feedback) -> Tensor:
        """Return softened labels."""
        label_BS = masked_log_prob(feedback.reward / self.temperature, feedback.is_measured).exp()
        return label_BS * feedback.is_measured
