"""Train the two stages side by side: the tier by what the best setting behind it gives, the rest within every tier."""

# Shape suffixes: B = requests, T = tiers, R = settings of a tier.

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.controller import FeatureKind
from lightning_modules.lesson import Lesson
from lightning_modules.two_stage_policy import TwoStagePolicyModule
from models.controllers import Feedback, Reward
from models.controllers.budget_encoding import EncodingName
from models.controllers.heads import HeadName
from models.controllers.objectives import Objective
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.facts import ProfileFacts


class TwoStageControllerModule(TwoStagePolicyModule):
    """Learn each stage by an objective of its own.

    A tier is worth what the best setting behind it gives. The second stage learns behind every tier, wherever the first
    would send the request, so that neither waits for the other.

    Args:
        profile_facts: What the data tell of the profile.
        tier_objective: How the first stage learns; a checkpoint holds its class path and arguments.
        setting_objective: How the second stage learns; likewise.
        reward: What an answer is worth; likewise.
        reads: Kinds of features; ``glance`` is for the first stage, ``vision`` for the second.
        head: Of the second stage: ``joint`` or ``factorised``.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head of each stage.
        encoding: How budgets and remaining times are encoded.
        seed: Of what objectives draw.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        profile_facts: ProfileFacts,
        *,
        tier_objective: Objective,
        setting_objective: Objective,
        reward: Reward,
        reads: Sequence[FeatureKind] = ("free", "question", "vision"),
        head: HeadName = "joint",
        hidden_dim: int = 64,
        num_layers: int = 2,
        encoding: EncodingName = "rbf",
        seed: int = 42,
    ) -> None:
        super().__init__(
            profile_facts,
            reward=reward,
            objectives={"tier_objective": tier_objective, "setting_objective": setting_objective},
            reads=reads,
            head=head,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            encoding=encoding,
            seed=seed,
        )

    def lessons(self, batch: ControllerBatch, feedback: Feedback) -> dict[str, Lesson]:
        """Teach the tiers of all requests, and the settings behind every tier."""
        early = self.early_features(batch)
        late = self.late_features(batch).flatten(0, 1)
        remaining_ms = batch.remaining_ms_BT.flatten()
        tier = torch.arange(self.num_tiers, device=self.device).repeat(len(batch))

        def tier_logits() -> Tensor:
            logits_BT: Tensor = self.network.tier_network(batch.budget_ms_B, early)
            return logits_BT

        def setting_logits() -> Tensor:
            logits: Tensor = self.network.setting_network(remaining_ms, tier, late)
            return logits

        of_tiers, of_settings = feedback.best_of_tiers(self.num_tiers), feedback.by_tier(self.num_tiers)
        return {
            "tier_objective": Lesson(self.objectives["tier_objective"], of_tiers, tier_logits, is_of_settings=False),
            "setting_objective": Lesson(self.objectives["setting_objective"], of_settings, setting_logits),
        }
