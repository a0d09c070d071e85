"""Two decisions: the tier before the image is cut, top_k and active blocks once the vision encoder has seen it."""

# Shape suffixes: B = requests, F = features, T = tiers, R = settings of a tier, S = all settings (T * R).

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.controllers.budget_encoding import EncodingName
from models.controllers.controller import Controller
from models.controllers.heads import HeadName, make_head
from models.controllers.trunk import Trunk


class TierNetwork(Controller):
    """Stage 1: budget and what is known before the image is cut, to a logit or value for each tier.

    Trained on ``Feedback.best_of_tiers``: a tier is worth what the best setting within it gives.

    Args:
        num_tiers: Tiers.
        num_features: Features of a request: free ones and the question's embedding.
        fastest_ms: Time below which hardly any setting of the device is in time.
        slowest_ms: Time above which nearly every setting is in time.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head.
        encoding: How budgets are encoded.
    """

    def __init__(
        self,
        num_tiers: int,
        num_features: int,
        *,
        fastest_ms: float,
        slowest_ms: float,
        hidden_dim: int = 64,
        num_layers: int = 2,
        encoding: EncodingName = "rbf",
    ) -> None:
        super().__init__(
            [num_tiers],
            num_features,
            fastest_ms=fastest_ms,
            slowest_ms=slowest_ms,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            encoding=encoding,
        )
        self.num_tiers = num_tiers


class SettingNetwork(nn.Module):
    """Stage 2: the time that is left and what the vision encoder saw, to logits over top_k and active blocks.

    Trained on ``Feedback.by_tier``: behind every tier, wherever stage 1 would send the request.

    Args:
        levels: ``(levels of top_k, counts of active blocks)``.
        num_tiers: Tiers.
        num_features: Features of a request: free ones, the question's and the vision embedding.
        fastest_ms: Remaining time below which hardly any setting is in time.
        slowest_ms: Remaining time above which nearly every setting is in time.
        head: ``joint`` or ``factorised``.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head.
        encoding: How remaining times are encoded.
    """

    def __init__(
        self,
        levels: Sequence[int],
        num_tiers: int,
        num_features: int,
        *,
        fastest_ms: float,
        slowest_ms: float,
        head: HeadName = "joint",
        hidden_dim: int = 64,
        num_layers: int = 2,
        encoding: EncodingName = "rbf",
    ) -> None:
        super().__init__()
        self.num_tiers = num_tiers
        self.trunk = Trunk(
            num_features,
            fastest_ms=fastest_ms,
            slowest_ms=slowest_ms,
            num_plain=num_tiers,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            encoding=encoding,
        )
        self.head = make_head(head, hidden_dim, levels)

    def forward(self, remaining_ms_B: Tensor, tier_B: Tensor, features_BF: Tensor) -> Tensor:
        """Return ``(batch, settings of a tier)`` logits.

        Args:
            remaining_ms_B: ``(batch,)`` budget less what has passed when the vision encoder is done; may be negative.
            tier_B: ``(batch,)`` int64: the tier that stage 1 chose.
            features_BF: ``(batch, num_features)``.

        Raises:
            ValueError: If there are more or fewer features than the network reads.
        """
        tier_BT = F.one_hot(tier_B, self.num_tiers).to(features_BF.dtype)
        logits_BR: Tensor = self.head(self.trunk(remaining_ms_B, features_BF, tier_BT))
        return logits_BR


class TwoStage(nn.Module):
    """Both stages as one policy over all settings, so that objectives may train them end to end.

    Args:
        tier_network: Stage 1.
        setting_network: Stage 2.
    """

    def __init__(self, tier_network: TierNetwork, setting_network: SettingNetwork) -> None:
        super().__init__()
        self.tier_network = tier_network
        self.setting_network = setting_network

    def forward(
        self, budget_ms_B: Tensor, features_BF: Tensor, remaining_ms_BT: Tensor, tier_features_BTF: Tensor
    ) -> Tensor:
        """Return the joint log-probabilities, ``(batch, settings)`` in the order of ``KnobGrid.settings``.

        Args:
            budget_ms_B: ``(batch,)``.
            features_BF: ``(batch, features)`` of stage 1.
            remaining_ms_BT: ``(batch, tiers)`` budget less what has passed when each tier's vision encoding is done.
            tier_features_BTF: ``(batch, tiers, features)`` of stage 2.
        """
        batch, num_tiers = remaining_ms_BT.shape
        every_tier = torch.arange(num_tiers, device=remaining_ms_BT.device).repeat(batch)
        logits = self.setting_network(remaining_ms_BT.flatten(), every_tier, tier_features_BTF.flatten(0, 1))
        return joint_log_prob(self.tier_network(budget_ms_B, features_BF), logits.unflatten(0, (batch, num_tiers)))


def joint_log_prob(tier_BT: Tensor, setting_BTR: Tensor) -> Tensor:
    """Return the log-probabilities of all settings, ``(batch, settings)`` in the order of ``KnobGrid.settings``.

    Args:
        tier_BT: ``(batch, tiers)`` logits of stage 1.
        setting_BTR: ``(batch, tiers, settings of a tier)`` logits of stage 2 behind each tier.
    """
    joint_BTR = tier_BT.log_softmax(dim=-1)[:, :, None] + setting_BTR.log_softmax(dim=-1)
    return joint_BTR.flatten(1)
