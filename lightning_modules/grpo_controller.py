"""Train both stages as one policy over all settings, by GRPO or any other objective."""

# Shape suffixes: B = requests, S = settings.

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from lightning_modules.controller import FeatureKind
from lightning_modules.lesson import Lesson
from lightning_modules.two_stage_policy import TwoStagePolicyModule
from models.controllers import Feedback, Reward
from models.controllers.budget_encoding import EncodingName
from models.controllers.heads import HeadName
from models.controllers.objectives import Objective
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.facts import ProfileFacts


class GRPOControllerModule(TwoStagePolicyModule):
    """Learn all knobs end to end: settings are drawn from the product of both stages.

    The KL divergence is measured from the policy as it was when the epoch began.

    Args:
        profile_facts: What the data tell of the profile.
        objective: How to learn; one of a distribution, as the stages' product is one. A checkpoint holds its class path
            and arguments.
        reward: What an answer is worth; likewise.
        reads: Kinds of features; ``glance`` is for the first stage, ``vision`` for the second.
        head: Of the second stage: ``joint`` or ``factorised``.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head of each stage.
        encoding: How budgets and remaining times are encoded.
        seed: Of what the objective draws.

    Raises:
        ValueError: If an argument is out of range, or the objective predicts rewards.
    """

    def __init__(
        self,
        profile_facts: ProfileFacts,
        *,
        objective: Objective,
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
            objectives={"objective": objective},
            reads=reads,
            head=head,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            encoding=encoding,
            seed=seed,
        )
        check_trains_distribution(self.objectives["objective"])
        self.reference = deepcopy(self.network).requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Take the policy as it is now for the reference."""
        self.reference.load_state_dict(self.network.state_dict())

    def lessons(self, batch: ControllerBatch, feedback: Feedback) -> dict[str, Lesson]:
        """Teach all settings at once."""
        inputs = (
            batch.budget_ms_B,
            self.early_features(batch),
            batch.remaining_ms_BT,
            self.late_features(batch),
        )
        return end_to_end_lesson(self.objectives["objective"], feedback, self.network, self.reference, inputs)


def check_trains_distribution(objective: Objective) -> None:
    """Check that an objective can train two stages as one policy.

    Raises:
        ValueError: If it predicts rewards.
    """
    if objective.predicts_rewards:
        raise ValueError(
            "objective: must train a distribution over settings, as two stages have no other value in common, "
            f"got {type(objective).__name__}"
        )


def end_to_end_lesson(
    objective: Objective, feedback: Feedback, policy: nn.Module, reference: nn.Module, inputs: tuple[object, ...]
) -> dict[str, Lesson]:
    """Return the lesson that teaches both stages of a policy at once.

    Args:
        objective: How.
        feedback: What every setting would have given.
        policy: Gives log-probabilities of all settings, ``(batch, settings)``.
        reference: The policy that a KL divergence is measured from.
        inputs: What both are given.
    """

    def logits() -> Tensor:
        log_prob_BS: Tensor = policy(*inputs)
        return log_prob_BS

    with torch.no_grad():
        reference_BS = reference(*inputs)
    return {"objective": Lesson(objective, feedback, logits, reference_BS)}
