"""Train the policy whose second stage is the language model itself, by GRPO or any other objective."""

# Shape suffixes: B = requests, F = free features, D = width of the language model, T = tiers, S = settings,
# R = settings of a tier.

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from lightning_modules.controller import FeatureKind
from lightning_modules.grpo_controller import check_trains_distribution, end_to_end_lesson
from lightning_modules.lesson import Lesson
from lightning_modules.two_stage_policy import TierFirstModule
from models.controllers import (
    Feedback,
    FrozenDecider,
    LLMBased,
    LLMTwoStage,
    Reward,
    TierPrompts,
    grid_shape,
)
from models.controllers.budget_encoding import EncodingName
from models.controllers.heads import HeadName
from models.controllers.objectives import Objective
from models.weights_digest import weights_digest
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.facts import ProfileFacts

_REQUESTS_AT_ONCE: Final = 256  # whose prompts' keys and values are gathered


class LLMBasedControllerModule(TierFirstModule):
    """Learn all knobs end to end: the tier by a network of its own, the rest by a budget token in the first blocks.

    The token is told the time that is left when the vision tokens are there. The model is frozen and comes with the
    data: a checkpoint holds the budget's embedding, the head and the first stage, and names the model's weights. The KL
    divergence is measured from the policy as it was when the epoch began.

    Args:
        profile_facts: What the data tell of the profile; the data must have prompts.
        objective: How to learn; one of a distribution, as the stages' product is one. A checkpoint holds its class path
            and arguments.
        reward: What an answer is worth; likewise.
        reads: Kinds of features that the first stage reads, of ``free``, ``question`` and ``glance``.
        head: Of the second stage: ``joint`` or ``factorised``.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head of the first stage.
        encoding: How budgets and remaining times are encoded.
        seed: Of what the objective draws.

    Raises:
        ValueError: If an argument is out of range, the data have no prompts, ``vision`` is to be read, or the objective
            predicts rewards.
    """

    network: LLMTwoStage

    def __init__(
        self,
        profile_facts: ProfileFacts,
        *,
        objective: Objective,
        reward: Reward,
        reads: Sequence[FeatureKind] = ("free", "question"),
        head: HeadName = "joint",
        hidden_dim: int = 64,
        num_layers: int = 2,
        encoding: EncodingName = "rbf",
        seed: int = 42,
    ) -> None:
        super().__init__(profile_facts, reward=reward, objectives={"objective": objective}, seed=seed)
        check_trains_distribution(self.objectives["objective"])
        if "first_blocks" not in profile_facts:
            raise ValueError("prompts: the language model decides from them, name the snapshot in the data's `prompts`")
        if "vision" in reads:
            raise ValueError(f"reads: the first stage does not know vision, the second sees it all, got {list(reads)}")
        self.early_reads = list(reads)
        self.first_blocks_facts = profile_facts["first_blocks"]
        self.network = LLMTwoStage(
            self.make_tier_network(hidden_dim=hidden_dim, num_layers=num_layers, encoding=encoding),
            LLMBased(
                grid_shape(self.grid)[1:],
                self.first_blocks_facts["model_dim"],
                num_first_blocks=self.first_blocks_facts["num_blocks"],
                fastest_ms=profile_facts["fastest_rest_ms"],
                slowest_ms=profile_facts["slowest_ms"],
                head=head,
                hidden_dim=hidden_dim,
                encoding=encoding,
            ),
        )
        self.reference = deepcopy(self.network).requires_grad_(False)

    @property
    def feature_widths(self) -> Mapping[str, int]:
        """How many numbers are read of each kind of feature; ``vision`` is the budget token's state."""
        return {**self.widths_read(self.early_reads), "vision": self.first_blocks_facts["model_dim"]}

    @property
    def first_blocks(self) -> LLMBased:
        """What runs the budget token."""
        return self.network.setting_network

    def check_model(self, snapshot: Path) -> None:
        """Check that a snapshot holds the model whose first blocks the controller was trained with.

        Raises:
            ValueError: If it does not.
        """
        trained, given = self.first_blocks_facts["model_digest"], weights_digest(snapshot)
        if given != trained:
            raise ValueError(
                f"controller: decides from the first blocks of other weights than those of {snapshot}: digest "
                f"{trained[:12]}, got {given[:12]}"
            )

    def on_train_epoch_start(self) -> None:
        """Take the policy as it is now for the reference."""
        self.reference.load_state_dict(self.network.state_dict())

    def after_image(
        self, remaining_ms_B: Tensor, tier_B: Tensor, free_BF: Tensor, question_BD: Tensor, vision_BD: Tensor
    ) -> Tensor:
        """Return ``(batch, settings of the tier)`` logits, see ``Decider``: the state knows all the rest."""
        return self.first_blocks.decide(vision_BD)

    def frozen(self) -> FrozenDecider:
        """Return what decides as this does now, see ``ControllerModule``; the token and its head stay with torch."""
        return FrozenDecider(
            self.grid,
            self.feature_widths,
            before=self.frozen_tier(),
            first_blocks=deepcopy(self.first_blocks),
        )

    def shown(self, batch: ControllerBatch) -> Tensor:
        """Return the budget tokens' states behind every tier's prompt, ``(batch, tiers, width)``."""
        prompts, remaining_ms_BT = _prompts(batch), batch.remaining_ms_BT
        parts = torch.arange(len(batch), device=self.device).split(_REQUESTS_AT_ONCE)
        states = [self.first_blocks.states_at_tiers(prompts.take(rows), remaining_ms_BT[rows]) for rows in parts]
        return torch.cat(states)

    def lessons(self, batch: ControllerBatch, feedback: Feedback) -> dict[str, Lesson]:
        """Teach all settings at once."""
        inputs = (
            batch.budget_ms_B,
            self.early_features(batch),
            batch.remaining_ms_BT,
            _prompts(batch),
        )
        return end_to_end_lesson(self.objectives["objective"], feedback, self.network, self.reference, inputs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another module, grid or model.

        Raises:
            ValueError: If the checkpoint is not this module's, is for other settings, reads other features, or looks at
                other blocks.
        """
        super().on_load_checkpoint(checkpoint)
        trained, given = checkpoint["hyper_parameters"]["profile_facts"]["first_blocks"], self.first_blocks_facts
        if trained != given:
            raise ValueError(
                f"checkpoint: decides from the first {trained['num_blocks']} blocks of the model of digest "
                f"{trained['model_digest'][:12]}, but the data have the first {given['num_blocks']} of "
                f"{given['model_digest'][:12]}"
            )


def _prompts(batch: ControllerBatch) -> TierPrompts:
    assert batch.prompts is not None, "data whose facts name first blocks have prompts"
    return batch.prompts
