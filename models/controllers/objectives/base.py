"""What every objective of a controller offers."""

# Shape suffixes: B = requests, each under one budget; S = settings.

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from models.controllers.draw import Draw
from models.controllers.feedback import Feedback


class ObjectiveLoss(NamedTuple):
    """What a step is told.

    Args:
        loss: Scalar to minimise.
        diagnostics: Detached scalars by name: ``reward`` for all; ``entropy`` in nats for all that train a
            distribution; ``reward_std``, ``frac_groups_zero_std`` and ``kl`` for those that draw groups.
    """

    loss: Tensor
    diagnostics: dict[str, Tensor]


class Objective(ABC):
    """How a controller learns from the outcome of every setting.

    A step of a plain objective is ``loss(network(x), feedback)``. One that draws groups may use them for several
    updates: ``draw`` once, then ``loss`` with that draw ``num_updates`` times, each on the network's new logits.
    """

    @property
    def num_updates(self) -> int:
        """Updates that one draw is good for."""
        return 1

    @property
    def predicts_rewards(self) -> bool:
        """Whether logits become predicted rewards; else they are those of a distribution over settings."""
        return False

    def draw(
        self,
        logits_BS: Tensor,
        feedback: Feedback,
        *,
        reference_logits_BS: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Draw | None:
        """Draw a group of settings for each request, if the objective works on groups.

        Args:
            logits_BS: ``(batch, settings)``.
            feedback: Outcome of every setting.
            reference_logits_BS: Policy that a KL divergence is measured from; the drawing one if ``None``, and then the
                divergence is zero until the first update.
            generator: Source of randomness; torch's own if ``None``.
        """
        return None

    @abstractmethod
    def loss(self, logits_BS: Tensor, feedback: Feedback, draw: Draw | None = None) -> ObjectiveLoss:
        """Compute the loss of a batch. Settings that were not measured get no gradient.

        Args:
            logits_BS: ``(batch, settings)``.
            feedback: Outcome of every setting.
            draw: What ``draw`` returned; drawn anew from these logits if ``None``.
        """


def check_range(where: str, field: str, value: float, *, at_least: float) -> None:
    """Refuse a number below its limit.

    Raises:
        ValueError: If it is below, or not a number.
    """
    if not value >= at_least:
        raise ValueError(f"{where}: {field}: must be {at_least} or more, got {value}")
