"""What every setting would have given each request."""

# Shape suffixes: B = requests, each under one budget; S = settings, T = tiers, R = settings of a tier.

from typing import Final, NamedTuple

import torch
from torch import Tensor

from models.controllers.policy import choose

# Rewards this close are ties: equal sums, added up in another order.
TIE: Final = 1e-6


class Feedback(NamedTuple):
    """Outcome of every setting for each request of a batch. Cells that were not measured are never read.

    Args:
        reward: ``(batch, settings)`` float.
        latency_ms: ``(batch, settings)`` float.
        is_measured: ``(batch, settings)`` bool. A request without a measured setting teaches nothing.
        population_accuracy: ``(settings,)`` or ``(batch, settings)`` float: mean over the training samples; only the
            tie rule ``best_population`` reads it.
    """

    reward: Tensor
    latency_ms: Tensor
    is_measured: Tensor
    population_accuracy: Tensor | None = None

    @property
    def measured_reward(self) -> Tensor:
        """The rewards, 0 where nothing was measured: ``(batch, settings)``."""
        return self.reward.masked_fill(~self.is_measured, 0.0)

    @property
    def is_best(self) -> Tensor:
        """Which measured settings have the highest reward, ties included: ``(batch, settings)`` bool."""
        reward_BS = self.reward.masked_fill(~self.is_measured, -torch.inf)
        return self.is_measured & (reward_BS >= reward_BS.amax(dim=-1, keepdim=True) - TIE)

    def reward_of_likeliest(self, logits_BS: Tensor) -> Tensor:
        """Return the reward of each request's measured setting of the highest logit, ``(batch,)``."""
        chosen_B = choose(logits_BS, self.is_measured)
        return self.measured_reward.gather(1, chosen_B[:, None]).squeeze(1)

    def best_of_tiers(self, num_tiers: int) -> "Feedback":
        """Return what each tier gives when the setting within it is chosen best: ``(batch, tiers)``.

        A tier's latency is that of its best setting, the fastest one where several are equally good.

        Args:
            num_tiers: Tiers, the outermost knob of the settings.
        """
        is_measured_BTR = _by_tier(self.is_measured, num_tiers)
        reward_BTR = _by_tier(self.reward, num_tiers).masked_fill(~is_measured_BTR, -torch.inf)
        best_BT = reward_BTR.amax(dim=-1)
        is_best_BTR = is_measured_BTR & (reward_BTR >= best_BT[..., None] - TIE)
        latency_BTR = _by_tier(self.latency_ms, num_tiers).masked_fill(~is_best_BTR, torch.inf)
        population = self.population_accuracy
        return Feedback(
            reward=best_BT,
            latency_ms=latency_BTR.amin(dim=-1),
            is_measured=is_measured_BTR.any(dim=-1),
            population_accuracy=None if population is None else _by_tier(population, num_tiers).amax(dim=-1),
        )

    def by_tier(self, num_tiers: int) -> "Feedback":
        """Return what the settings of each tier give, tier after tier: ``(batch * tiers, settings of a tier)``.

        Args:
            num_tiers: Tiers, the outermost knob of the settings.
        """

        def cut(x_BS: Tensor) -> Tensor:
            return _by_tier(x_BS, num_tiers).flatten(0, 1)

        population = self.population_accuracy
        return Feedback(
            reward=cut(self.reward),
            latency_ms=cut(self.latency_ms),
            is_measured=cut(self.is_measured),
            population_accuracy=None if population is None else cut(population.expand_as(self.reward)),
        )


def _by_tier(x_BS: Tensor, num_tiers: int) -> Tensor:
    x_BTR: Tensor = x_BS.unflatten(-1, (num_tiers, -1))
    return x_BTR
