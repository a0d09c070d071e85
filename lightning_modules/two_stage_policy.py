"""How controllers of two stages choose: the tier before the image is cut, the rest once the vision encoder is done."""

# Shape suffixes: B = requests, F = free features, D = width of the language model, T = tiers, S = settings,
# R = settings of a tier.

from collections.abc import Mapping, Sequence

from torch import Tensor

from lightning_modules.controller import ControllerModule, FeatureKind, join_early, join_features
from models.controllers import (
    FrozenDecider,
    FrozenNetwork,
    LLMTwoStage,
    Reward,
    SettingNetwork,
    TierNetwork,
    TwoStage,
    grid_shape,
)
from models.controllers.budget_encoding import EncodingName
from models.controllers.heads import HeadName
from models.controllers.objectives import Objective
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.facts import ProfileFacts


class TierFirstModule(ControllerModule):
    """Chooses the tier before the image is cut, by a network of its own; how the rest is chosen is up to subclasses.

    Subclasses set ``early_reads``, the kinds of features that the tier is chosen by, and then ``network``, whose
    ``tier_network`` is what ``make_tier_network`` returns.
    """

    early_reads: list[FeatureKind]
    network: TwoStage | LLMTwoStage

    @property
    def num_tiers(self) -> int:
        """How many tiers there are to choose from."""
        return grid_shape(self.grid)[0]

    def make_tier_network(self, *, hidden_dim: int, num_layers: int, encoding: EncodingName) -> TierNetwork:
        """Return what chooses the tier, told means and spreads of what it reads."""
        tier_network = TierNetwork(
            self.num_tiers,
            self.num_features(self.early_reads),
            fastest_ms=self._facts["fastest_ms"],
            slowest_ms=self._facts["slowest_ms"],
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            encoding=encoding,
        )
        self.standardize(tier_network.trunk.standardize, self.early_reads)
        return tier_network

    def before_image(self, budget_ms_B: Tensor, free_BF: Tensor, question_BD: Tensor, glance_BD: Tensor) -> Tensor:
        """Return ``(batch, settings)`` logits, the same for all settings of a tier, see ``Decider``."""
        features = join_early(self.early_reads, free_BF, question_BD, glance_BD)
        tier_BT: Tensor = self.network.tier_network(budget_ms_B, features)
        return tier_BT.repeat_interleave(len(self.grid.settings()) // self.num_tiers, dim=1)

    def early_features(self, batch: ControllerBatch) -> Tensor:
        """Return what the first stage reads, ``(batch, features)``."""
        return join_early(self.early_reads, batch.free_BF, batch.question_BD, batch.glance_BD)

    def frozen_tier(self) -> FrozenNetwork:
        """Return what chooses the tier as this does now."""
        tier_network = self.network.tier_network
        return self.frozen_network(tier_network.trunk, tier_network.head, self.early_reads)


class TwoStagePolicyModule(TierFirstModule):
    """Holds the networks of both stages and asks them; how they learn is up to subclasses.

    The first stage alone reads ``glance``, the second alone ``vision``. The second is told the tier and the time that
    is left.

    Args:
        profile_facts: What the data tell of the profile.
        reward: What an answer is worth.
        objectives: How to learn, by the argument that holds each.
        reads: Kinds of features.
        head: Of the second stage: ``joint`` or ``factorised``.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head of each stage.
        encoding: How budgets and remaining times are encoded.
        seed: Of what objectives draw.

    Raises:
        ValueError: If an argument is out of range.
    """

    network: TwoStage

    def __init__(
        self,
        profile_facts: ProfileFacts,
        *,
        reward: Reward,
        objectives: Mapping[str, Objective],
        reads: Sequence[FeatureKind],
        head: HeadName,
        hidden_dim: int,
        num_layers: int,
        encoding: EncodingName,
        seed: int,
    ) -> None:
        super().__init__(profile_facts, reward=reward, objectives=objectives, seed=seed)
        self.early_reads = [kind for kind in reads if kind != "vision"]
        self.late_reads = [kind for kind in reads if kind != "glance"]
        self.network = TwoStage(
            self.make_tier_network(hidden_dim=hidden_dim, num_layers=num_layers, encoding=encoding),
            SettingNetwork(
                grid_shape(self.grid)[1:],
                self.num_tiers,
                self.num_features(self.late_reads),
                fastest_ms=profile_facts["fastest_rest_ms"],
                slowest_ms=profile_facts["slowest_ms"],
                head=head,
                hidden_dim=hidden_dim,
                num_layers=num_layers,
                encoding=encoding,
            ),
        )
        self.standardize(self.network.setting_network.trunk.standardize, self.late_reads)

    @property
    def feature_widths(self) -> Mapping[str, int]:
        """How many numbers are read of each kind of feature."""
        return self.widths_read([*self.early_reads, *self.late_reads])

    def after_image(
        self, remaining_ms_B: Tensor, tier_B: Tensor, free_BF: Tensor, question_BD: Tensor, vision_BD: Tensor
    ) -> Tensor:
        """Return ``(batch, settings of the tier)`` logits, see ``Decider``."""
        features = join_features(self.late_reads, {"free": free_BF, "question": question_BD, "vision": vision_BD})
        logits_BR: Tensor = self.network.setting_network(remaining_ms_B, tier_B, features)
        return logits_BR

    def frozen(self) -> FrozenDecider:
        """Return what decides as this does now, see ``ControllerModule``."""
        setting, reads = self.network.setting_network, self.late_reads
        after = [self.frozen_network(setting.trunk, setting.head, reads, level=tier) for tier in range(self.num_tiers)]
        return FrozenDecider(self.grid, self.feature_widths, before=self.frozen_tier(), after=after)

    def late_features(self, batch: ControllerBatch) -> Tensor:
        """Return what the second stage would read behind each tier, ``(batch, tiers, features)``."""

        def at_every_tier(x_BF: Tensor) -> Tensor:
            return x_BF[:, None].expand(-1, self.num_tiers, -1)

        free_BTF, question_BTD = at_every_tier(batch.free_BF), at_every_tier(batch.question_BD)
        return join_features(self.late_reads, {"free": free_BTF, "question": question_BTD, "vision": batch.vision_BTD})
