"""What the controllers' modules have in common: what they are told, how they step, and how their choices are judged."""

# Shape suffixes: B = requests, S = settings.

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast, get_args

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from lightning_modules.checkpoints import check_sizes, stamp
from lightning_modules.choice_metrics import ChoiceMetrics, keyed, without_budgets
from lightning_modules.lesson import Lesson, run_what_is_drawn
from lightning_modules.plain_arguments import described, rebuilt
from models.controllers import (
    Draw,
    FactorisedHeads,
    Feedback,
    FrozenDecider,
    FrozenNetwork,
    JointHead,
    Reward,
    decide,
)
from models.controllers.objectives import Objective
from models.controllers.trunk import Standardize, Trunk
from models.knobs import GRID_KEY, KnobGrid, own_grid
from profiling.checkpoint_file import check_maker
from profiling.controllers.batch import ControllerBatch
from profiling.controllers.facts import ProfileFacts

FeatureKind = Literal["free", "question", "glance", "vision"]
_KINDS: Final = get_args(FeatureKind)


class ControllerModule(LightningModule, ABC):
    """Learn to choose settings from the outcome of every setting.

    Subclasses say what a step teaches (``lessons``) and how they choose (``before_image`` and ``after_image``, as a
    ``models.controllers.Decider``). Logs the ``train``, ``val`` and ``test`` keys of docs/metrics.md; ``test_step`` and
    ``predict_step`` return the chosen settings, ``(batch,)``.

    Args:
        profile_facts: What the data tell of the profile.
        reward: What an answer is worth.
        objectives: How to learn, by the argument that holds each.
        seed: Of what objectives draw.

    Raises:
        ValueError: If the facts are of no grid.
    """

    def __init__(
        self, profile_facts: ProfileFacts, *, reward: Reward, objectives: Mapping[str, Objective], seed: int
    ) -> None:
        super().__init__()
        # Objectives that draw groups may make several updates of one batch.
        self.automatic_optimization = False
        self.save_hyperparameters(ignore=["reward", "objectives", *objectives])
        self.objectives = {name: rebuilt(objective, Objective) for name, objective in objectives.items()}  # type: ignore[type-abstract]
        self.reward = rebuilt(reward, Reward)  # type: ignore[type-abstract]
        given = {"reward": self.reward, **self.objectives}
        self.save_hyperparameters({name: described(instance) for name, instance in given.items()})
        self._grid = _grid_of(profile_facts)
        self._facts = profile_facts
        self.seed = seed
        self.register_buffer("_population_S", torch.tensor(profile_facts["population_accuracy"]), persistent=False)
        self._told: dict[str, list[Tensor]] = {}
        self.val_metrics = self._choice_metrics()
        self.test_metrics = self._choice_metrics()

    @property
    def grid(self) -> KnobGrid:
        """The settings that logits are of."""
        return self._grid

    @property
    @abstractmethod
    def feature_widths(self) -> Mapping[str, int]:
        """How many numbers are read of each kind of feature."""

    @abstractmethod
    def lessons(self, batch: ControllerBatch, feedback: Feedback) -> dict[str, Lesson]:
        """Return what a step teaches, by the name of the argument that holds its objective."""

    @abstractmethod
    def before_image(self, budget_ms_B: Tensor, free_BF: Tensor, question_BD: Tensor, glance_BD: Tensor) -> Tensor:
        """Return ``(batch, settings)`` logits, see ``Decider``."""

    @abstractmethod
    def after_image(
        self, remaining_ms_B: Tensor, tier_B: Tensor, free_BF: Tensor, question_BD: Tensor, vision_BD: Tensor
    ) -> Tensor | None:
        """Return ``(batch, settings of the tier)`` logits or ``None``, see ``Decider``."""

    def shown(self, batch: ControllerBatch) -> Tensor:
        """Return what the second decision would be shown behind each tier, ``(batch, tiers, width)``."""
        return batch.vision_BTD

    @abstractmethod
    def frozen(self) -> FrozenDecider:
        """Return what decides as this does now, one request at a time at a fraction of the cost."""

    def forward(self, batch: ControllerBatch) -> Tensor:
        """Return the chosen settings, ``(batch,)`` int64."""
        return decide(
            self,
            budget_ms_B=batch.budget_ms_B,
            free_BF=batch.free_BF,
            question_BD=batch.question_BD,
            glance_BD=batch.glance_BD,
            vision_BTD=self.shown(batch),
            vision_done_ms_BT=batch.vision_done_ms_BT,
            is_allowed_BS=batch.is_measured_BS,
        )

    def training_step(self, batch: ControllerBatch, batch_idx: int) -> None:
        """Update on a batch, as often as its draws are good for."""
        generator = self._generator()
        lessons, draws = self._lessons_and_draws(batch, generator)
        for update in range(max(lesson.objective.num_updates for lesson in lessons.values())):
            losses = [
                self._loss(name, lesson, draws, generator)
                for name, lesson in lessons.items()
                if update < lesson.objective.num_updates
            ]
            self._step(torch.stack(losses).sum())
        if self.reward.is_learning:
            with torch.no_grad():
                chosen_BS = F.one_hot(self(batch), batch.is_measured_BS.shape[1]).float()
            self.reward.update(chosen_BS, batch.latency_ms_BS, batch.budget_ms_B)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means, and move the schedule on, which Lightning leaves to modules that step themselves."""
        means = {name: torch.stack(values).mean() for name, values in self._told.items()}
        self._told = {}
        self.log_dict(keyed("train", means | self.reward.diagnostics()), sync_dist=True)
        schedulers = self.lr_schedulers() or []
        scheduler: LRScheduler
        for scheduler in schedulers if isinstance(schedulers, Sequence) else [schedulers]:
            scheduler.step()

    def validation_step(self, batch: ControllerBatch, batch_idx: int) -> None:
        """Judge the settings that would be chosen."""
        self.val_metrics.update(self(batch), batch)

    def on_validation_epoch_end(self) -> None:
        """Log how good they were. Every process holds the sums of all."""
        values = self.val_metrics.compute()
        self.log_dict(keyed("val", without_budgets(values)), rank_zero_only=False, sync_dist=True)
        self.val_metrics.reset()

    def test_step(self, batch: ControllerBatch, batch_idx: int) -> Tensor:
        """Return the chosen settings, ``(batch,)``, for whoever observes the test."""
        chosen_B: Tensor = self(batch)
        self.test_metrics.update(chosen_B, batch)
        return chosen_B

    def on_test_epoch_end(self) -> None:
        """Log how good they were, and budget by budget."""
        self.log_dict(keyed("test", self.test_metrics.compute()), rank_zero_only=False, sync_dist=True)
        self.test_metrics.reset()

    def predict_step(self, batch: ControllerBatch, batch_idx: int) -> Tensor:
        """Return the chosen settings, ``(batch,)`` int64."""
        chosen_B: Tensor = self(batch)
        return chosen_B

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down which recipe made the checkpoint."""
        stamp(checkpoint, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another module or grid.

        Raises:
            ValueError: If the checkpoint is not this module's, is for other settings, or reads other features.
        """
        check_maker(checkpoint, type(self).__name__)
        trained = _grid_of(checkpoint["hyper_parameters"]["profile_facts"])
        if trained != self.grid:
            raise ValueError(
                f"checkpoint: chooses among {_words(trained)}, but the profile has {_words(self.grid)}; "
                "a controller is of one grid"
            )
        check_sizes(checkpoint, self)

    def standardize(self, target: Standardize, kinds: Sequence[str]) -> None:
        """Give a network the means and spreads of the features that it reads.

        The numbers of an embedding are divided by the root of their count besides, so that an embedding of any width
        weighs as much as one free feature: hundreds that say little each would drown the few that say much.
        """
        scales = [torch.zeros(2, 0)]
        for kind in kinds:
            mean, spread = torch.tensor(self._facts["feature_scale"][kind])
            scales.append(torch.stack([mean, spread if kind == "free" else spread * len(spread) ** 0.5]))
        target.use(*torch.cat(scales, dim=1))

    def num_features(self, kinds: Sequence[str]) -> int:
        """Return how many numbers there are in these kinds of features together.

        Raises:
            ValueError: If there is no such kind, one comes twice, or the features hold no glance.
        """
        if len(set(kinds)) < len(kinds) or not set(kinds) <= set(_KINDS):
            raise ValueError(f"reads: must be of {', '.join(_KINDS)}, each once, got {list(kinds)}")
        widths = self.widths_read(kinds)
        is_old = self._facts["feature_widths"]["question"] and not widths["glance"]
        if "glance" in kinds and is_old:  # without any file of features all embeddings are empty
            raise ValueError("reads: the features hold no glance, make them anew with `controller-features`")
        return sum(widths.values())

    def widths_read(self, kinds: Sequence[str]) -> dict[str, int]:
        """Return how many numbers are read of each kind, 0 of the others."""
        widths = self._facts["feature_widths"]  # those in older checkpoints know of no glance
        return {kind: widths.get(kind, 0) if kind in kinds else 0 for kind in _KINDS}

    def frozen_network(
        self,
        trunk: Trunk,
        head: JointHead | FactorisedHeads,
        reads: Sequence[str],
        *,
        level: int | None = None,
    ) -> FrozenNetwork:
        """Freeze a network that reads so many kinds of features; those of no number are not asked for."""
        widths = {kind: width for kind in reads if (width := self.widths_read(reads)[kind])}
        return FrozenNetwork(trunk, head, widths, level=level)

    def _lessons_and_draws(
        self, batch: ControllerBatch, generator: torch.Generator
    ) -> tuple[dict[str, Lesson], dict[str, Draw | None]]:
        """Return what a step teaches, with those draws that had to be run before."""

        def lessons_of(batch: ControllerBatch) -> dict[str, Lesson]:
            return self.lessons(batch, self._feedback(batch))

        if batch.answers is None:
            return lessons_of(batch), {}
        return run_what_is_drawn(batch, lessons_of, generator)

    def _feedback(self, batch: ControllerBatch) -> Feedback:
        reward_BS = self.reward(batch.accuracy_BS, batch.latency_ms_BS, batch.budget_ms_B)
        population_S = cast("Tensor", self._population_S)
        return Feedback(reward_BS, batch.latency_ms_BS, batch.is_measured_BS, population_S)

    def _generator(self) -> torch.Generator:
        """Return a source of randomness that a resumed training finds again."""
        place = (self.seed * 1_000_003 + self.global_step) * 1_009 + self.global_rank
        return torch.Generator(self.device).manual_seed(place % 2**63)

    def _step(self, loss: Tensor) -> None:
        optimizer = cast("LightningOptimizer", self.optimizers())
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def _loss(self, name: str, lesson: Lesson, draws: dict[str, Draw | None], generator: torch.Generator) -> Tensor:
        """Return a lesson's loss; draw first, if that was not done yet, and keep what is told until the epoch ends."""
        logits = lesson.logits()
        if name not in draws:
            draws[name] = lesson.draw(logits, generator)
        told = lesson.objective.loss(logits, lesson.feedback, draws[name])
        part = name.removesuffix("objective").removesuffix("_")
        for key, value in {"loss": told.loss.detach(), **told.diagnostics}.items():
            # Not logged in each step: that takes longer than the step.
            self._told.setdefault(f"{key}/{part}" if part else key, []).append(value)
        return told.loss

    def _choice_metrics(self) -> ChoiceMetrics:
        return ChoiceMetrics(self.grid, self._facts["budgets_ms"], self._facts["population_accuracy"])


def join_features(kinds: Sequence[str], known: Mapping[str, Tensor]) -> Tensor:
    """Return features of these kinds as one, ``(..., features)``."""
    nothing = known["free"][..., :0]
    return torch.cat([nothing, *(known[kind] for kind in kinds)], dim=-1)


def join_early(kinds: Sequence[str], free_BF: Tensor, question_BD: Tensor, glance_BD: Tensor) -> Tensor:
    """Return what is read before the image is cut, ``(batch, features)``."""
    return join_features(kinds, {"free": free_BF, "question": question_BD, "glance": glance_BD})


def _grid_of(facts: ProfileFacts) -> KnobGrid:
    grid = own_grid({GRID_KEY: facts["knob_grid"]}, source="profile_facts")
    assert grid is not None, "the key is there"
    return grid


def _words(grid: KnobGrid) -> str:
    tiers = ", ".join(tier.name for tier in grid.tiers)
    return f"tiers {tiers}, top_k {list(grid.top_k)} and blocks {[list(b) for b in grid.blocks_by_count.values()]}"
