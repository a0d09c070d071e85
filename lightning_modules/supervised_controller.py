"""Train a controller that decides everything before the tier is cut: one network, one logit for every setting."""

# Shape suffixes: B = requests, F = free features, D = width of the language model, S = settings.

from collections.abc import Mapping, Sequence

from torch import Tensor

from lightning_modules.controller import ControllerModule, FeatureKind, join_early
from lightning_modules.lesson import Lesson
from models.controllers import Controller, Feedback, FrozenDecider, Reward, grid_shape
from models.controllers.budget_encoding import EncodingName
from models.controllers.heads import HeadName
from models.controllers.objectives import Objective
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.facts import ProfileFacts


class SupervisedControllerModule(ControllerModule):
    """Learn the best setting of each request and budget from the whole table, by any objective.

    A network that reads no feature knows the budget alone: it can do no better than the look-up table.

    Args:
        profile_facts: What the data tell of the profile.
        objective: How to learn; a checkpoint holds its class path and arguments.
        reward: What an answer is worth; likewise.
        reads: Kinds of features, of ``free``, ``question`` and ``glance``; none for a network that knows the budget
            alone.
        head: ``joint``: a logit of its own for every setting; ``factorised``: one head for each knob.
        hidden_dim: Units of a layer.
        num_layers: Layers before the head.
        encoding: How budgets are encoded.
        seed: Of what the objective draws.

    Raises:
        ValueError: If an argument is out of range, or ``vision`` is to be read, which is not known so early, or
            ``glance``, which the features lack.
    """

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
        if "vision" in reads:
            raise ValueError(f"reads: vision is not known before the tier is chosen, got {list(reads)}")
        self.reads = list(reads)
        self.network = Controller(
            grid_shape(self.grid),
            self.num_features(reads),
            fastest_ms=profile_facts["fastest_ms"],
            slowest_ms=profile_facts["slowest_ms"],
            head=head,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            encoding=encoding,
        )
        self.standardize(self.network.trunk.standardize, reads)

    @property
    def feature_widths(self) -> Mapping[str, int]:
        """How many numbers are read of each kind of feature."""
        return self.widths_read(self.reads)

    def before_image(self, budget_ms_B: Tensor, free_BF: Tensor, question_BD: Tensor, glance_BD: Tensor) -> Tensor:
        """Return ``(batch, settings)`` logits, see ``Decider``."""
        logits_BS: Tensor = self.network(budget_ms_B, join_early(self.reads, free_BF, question_BD, glance_BD))
        return logits_BS

    def after_image(
        self, remaining_ms_B: Tensor, tier_B: Tensor, free_BF: Tensor, question_BD: Tensor, vision_BD: Tensor
    ) -> None:
        """Return ``None``: all was decided before."""

    def frozen(self) -> FrozenDecider:
        """Return what decides as this does now, see ``ControllerModule``."""
        before = self.frozen_network(self.network.trunk, self.network.head, self.reads)
        return FrozenDecider(self.grid, self.feature_widths, before=before)

    def lessons(self, batch: ControllerBatch, feedback: Feedback) -> dict[str, Lesson]:
        """Teach all settings at once."""

        def logits() -> Tensor:
            return self.before_image(batch.budget_ms_B, batch.free_BF, batch.question_BD, batch.glance_BD)

        return {"objective": Lesson(self.objectives["objective"], feedback, logits)}
