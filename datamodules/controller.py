"""Profiles with answers as batches for controllers: requests, budgets, and the outcome of every setting."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from datamodules.processes import rank_and_world
from profiling.checkpoint_file import load_estimator
from profiling.controllers.answered import may_train, read_answered, with_borrowed_times
from profiling.controllers.batch import ControllerBatch, unanswered, whole_batch
from profiling.controllers.budgets import BudgetRange, budget_grid, budget_range, check_budgets
from profiling.controllers.facts import ProfileFacts
from profiling.controllers.feature_file import read_feature_files
from profiling.controllers.feature_scale import standard_scale
from profiling.controllers.features import Features, without_embeddings
from profiling.controllers.online_answers import AnswerSource, OnlineAnswers
from profiling.controllers.outcomes import Outcomes, read_outcomes
from profiling.controllers.prompts import PromptSource
from profiling.controllers.requests import Requests, join_requests, split_by_image, split_by_profile
from profiling.datasets.image_split import Part, PartFractions
from profiling.promises.estimated_times import with_estimated_latency

SplitBy = Literal["image", "profile"]


class TrainingRequests:
    """Every sample once an epoch, each time under a budget drawn anew.

    All processes share one permutation and one draw, so that N processes with batches of B do what one would do with
    N x B; an incomplete last batch is left out unless it is the only one.

    Args:
        whole: The samples.
        budgets: Where budgets are drawn from.
        batch_size: Requests in a process's batch.
        seed: Of order and budgets, with the epoch's number.
    """

    # Lightning looks for `set_epoch` behind these two names.
    batch_sampler = None

    def __init__(self, whole: ControllerBatch, budgets: BudgetRange, *, batch_size: int, seed: int) -> None:
        self._whole = whole
        self._budgets = budgets
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    @property
    def sampler(self) -> "TrainingRequests":
        """What chooses the requests of an epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose order and budgets."""
        self._epoch = epoch

    def __len__(self) -> int:
        return max(1, len(self._whole) // (self._batch_size * rank_and_world()[1]))

    def __iter__(self) -> Iterator[ControllerBatch]:
        rank, world = rank_and_world()
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(len(self._whole), generator=generator)
        budget_ms = self._budgets.sample(len(self._whole), generator)
        step = self._batch_size * world
        for rows, budgets_ms in list(zip(order.split(step), budget_ms.split(step), strict=True))[: len(self)]:
            yield self._whole.take(rows.tensor_split(world)[rank], budgets_ms.tensor_split(world)[rank])


class EveryRequest:
    """Every sample under every budget, once, budget by budget; each process gets its part.

    Args:
        whole: The samples.
        budgets_ms: The budgets.
        batch_size: Requests in a batch.
    """

    def __init__(self, whole: ControllerBatch, budgets_ms: list[float], *, batch_size: int) -> None:
        self._whole = whole
        self._budget_ms = torch.tensor(budgets_ms)
        self._batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._own_requests()) / self._batch_size)

    def __iter__(self) -> Iterator[ControllerBatch]:
        for requests in self._own_requests().split(self._batch_size):
            budget, sample = requests // len(self._whole), requests % len(self._whole)
            yield self._whole.take(sample, self._budget_ms[budget])

    def _own_requests(self) -> Tensor:
        rank, world = rank_and_world()
        return torch.arange(len(self._whole) * len(self._budget_ms)).tensor_split(world)[rank]


class ControllerDataModule(LightningDataModule):
    """Read a profile with answers, split it by image, hand out batches of ``ControllerBatch``.

    An image's samples, of all datasets together, all train, all validate, all calibrate or all test. Nothing is ever
    fitted to the calibration part but margins. Training draws a budget for each sample and epoch; the other parts hold
    every sample under every budget.

    Args:
        files: Profile files, folders or glob patterns, of one model on one device.
        features: File of ``controller-features`` for these profiles, or several that together have all samples, those
            of ``answers`` too; without one the embeddings have no width.
        prompts: Where the samples' prompts are found and how they are run, for a controller that decides from the
            model's first blocks; null for all others.
        estimator: Checkpoint of a latency estimator that knows the device. Training is then told what it expects of
            each setting, not what was measured; all else, and every test, is by measured latencies as ever.
        answers: Files of ``answer-grid`` by the profiled model. Their samples train beside the profile's, but for those
            whose image is in another part. Each is lent the times of a training sample of its dataset.
        online: Forget the training part's accuracies: what is drawn is really run by this model. Settings that were not
            measured may be drawn where an estimator knows their latencies. Only objectives that draw groups from the
            policy find anything out.
        dataset_names: Keep these datasets only; all if null.
        split_by: What says an image's part: its id and ``split_seed`` (``image``), so that each of those tests on other
            images; or the profile's own parts (``profile``), validation being drawn from its training part.
        train_fraction: Share of images that train; of no use by profile.
        val_fraction: Share of images that stop the training and choose hyper-parameters; by profile, of its training
            part, unless it names a part ``val``.
        calibration_fraction: Share of images that margins are set on; the rest test. Of no use by profile.
        budgets_ms: What to validate and test under; if null, the budgets of the device by its training part.
        split_seed: Of the split.
        seed: Of the order of training batches and their budgets.
        batch_size: Requests in a training batch of each process.

    Raises:
        ValueError: If an argument is out of range, or answers come with prompts or ``online``; when reading, if a file
            is bad, the features are not of the profile, the answers of another model or grid, or a part gets no image.
    """

    def __init__(
        self,
        files: list[str],
        *,
        features: str | list[str] | None = None,
        prompts: PromptSource | None = None,
        estimator: str | None = None,
        answers: list[str] | None = None,
        online: AnswerSource | None = None,
        dataset_names: list[str] | None = None,
        split_by: SplitBy = "image",
        train_fraction: float = 0.6,
        val_fraction: float = 0.1,
        calibration_fraction: float = 0.1,
        budgets_ms: list[float] | None = None,
        split_seed: int = 42,
        seed: int = 42,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size: must be 1 or more, got {batch_size}")
        if split_by not in get_args(SplitBy):
            raise ValueError(f"split_by: must be one of {', '.join(get_args(SplitBy))}, got {split_by!r}")
        self.answers = answers or []
        if self.answers and (prompts is not None or online is not None):
            raise ValueError(
                "answers: go neither with prompts nor with online, which are made for the profile's samples"
            )
        self.fractions = PartFractions(train=train_fraction, val=val_fraction, calibration=calibration_fraction)
        self.split_by = split_by
        self.files = files
        self.features = features
        self.prompts = prompts
        self.estimator = estimator
        self.online = online
        self.dataset_names = dataset_names or []
        self.given_budgets_ms = None if budgets_ms is None else check_budgets(budgets_ms)
        self.split_seed = split_seed
        self.seed = seed
        self.batch_size = batch_size

    def __str__(self) -> str:
        """Name the files, as errors do. Lightning would size the loaders, which it can only of its own kind."""
        return f"{type(self).__name__}({', '.join(map(str, self.files))})"

    @property
    def knob_grid(self) -> dict[str, Any]:
        """The settings that tables have columns for, as ``KnobGrid.to_json`` writes them."""
        return self.requests.outcomes.grid.to_json()

    @property
    def levels(self) -> list[int]:
        """How many levels each knob has: tiers, top_k, numbers of active blocks."""
        grid = self.requests.outcomes.grid
        return [len(grid.tiers), len(grid.top_k), len(grid.blocks_by_count)]

    @property
    def feature_widths(self) -> dict[str, int]:
        """How many numbers there are in ``free``, ``question``, ``glance``, and in ``vision`` at one tier."""
        return {kind: values.shape[1] for kind, values in _by_kind(self.requests.features).items()}

    @cached_property
    def feature_scale(self) -> dict[str, list[list[float]]]:
        """Mean and standard deviation of each feature over all that trains, by kind; of ``vision`` over all tiers."""
        kinds = _by_kind(self.trained.features)
        scales = {kind: standard_scale(values.astype(np.float64)) for kind, values in kinds.items()}
        return {kind: [mean.tolist(), spread.tolist()] for kind, (mean, spread) in scales.items()}

    @cached_property
    def budget_range(self) -> BudgetRange:
        """Where training draws budgets from: the feasible range of the device by what was measured to train on."""
        return budget_range(self.parts["train"].outcomes)

    @property
    def fastest_ms(self) -> float:
        """Smallest budget that training draws."""
        return self.budget_range.low_ms

    @property
    def slowest_ms(self) -> float:
        """Largest budget that training draws."""
        return self.budget_range.high_ms

    @cached_property
    def budgets_ms(self) -> list[float]:
        """The budgets that validation, calibration and test are under, in milliseconds."""
        return self.given_budgets_ms or budget_grid(self.parts["train"].outcomes)

    @property
    def profile_facts(self) -> ProfileFacts:
        """What a controller is told of the profile, in plain values.

        Times and budgets are by its training part, accuracies and the features' scale by all that trains.
        """
        accuracy_NS = self.trained.outcomes.accuracy_NS
        facts = ProfileFacts(
            knob_grid=self.knob_grid,
            feature_widths=self.feature_widths,
            feature_scale=self.feature_scale,
            fastest_ms=self.fastest_ms,
            slowest_ms=self.slowest_ms,
            fastest_rest_ms=self._fastest_rest_ms(),
            budgets_ms=self.budgets_ms,
            population_accuracy=np.nan_to_num(np.nanmean(accuracy_NS, axis=0)).tolist(),
        )
        if self.prompts is not None:
            facts["first_blocks"] = self.prompts.facts()
        return facts

    @cached_property
    def requests(self) -> Requests:
        """All samples; reads the files when first asked."""
        outcomes = read_outcomes(self.files, dataset_names=self.dataset_names)
        features = self._features(outcomes)
        if self.prompts is not None:
            features = replace(features, prompts=self.prompts.read(outcomes))
        return Requests(outcomes=outcomes, features=features)

    @cached_property
    def parts(self) -> Mapping[Part, Requests]:
        """The samples of each part."""
        if self.split_by == "profile":
            return split_by_profile(self.requests, val_fraction=self.fractions.val, seed=self.split_seed)
        return split_by_image(self.requests, self.fractions, seed=self.split_seed)

    @cached_property
    def trained(self) -> Requests:
        """All samples that train: the training part, and those that were answered but not timed."""
        measured = self.parts["train"]
        if not self.answers:
            return measured
        answered = read_answered(self.answers, self.requests.outcomes, dataset_names=self.dataset_names)
        answered = answered.take(may_train(answered, self.parts))
        answered = with_borrowed_times(answered, measured.outcomes, seed=self.split_seed)
        return join_requests([measured, Requests(outcomes=answered, features=self._features(answered))])

    @cached_property
    def taught(self) -> Requests:
        """The training samples as training is told of them."""
        if self.estimator is None:
            return self.trained
        outcomes = with_estimated_latency(self.trained.outcomes, load_estimator(self.estimator))
        return replace(self.trained, outcomes=outcomes)

    @cached_property
    def online_answers(self) -> OnlineAnswers | None:
        """What runs settings on the training samples, if their accuracies are not to be taken from the profile."""
        return None if self.online is None else self.online.load(self.parts["train"].outcomes)

    def setup(self, stage: str) -> None:
        """Read and split, once whatever the stages."""
        _ = self.parts
        if stage == "fit":
            _ = self.taught, self.online_answers

    def teardown(self, stage: str) -> None:
        """Say what an online training has cost."""
        if stage == "fit" and self.online_answers is not None:
            ran, remembered = self.online_answers.num_run, self.online_answers.num_remembered
            rank_zero_info(f"online: {ran} answers were run, {remembered} remembered")

    def train_dataloader(self) -> TrainingRequests:
        """Return shuffled training batches."""
        whole = self._whole(self.taught)
        if self.online_answers is not None:
            whole = unanswered(whole, self.online_answers)
        return TrainingRequests(whole, self.budget_range, batch_size=self.batch_size, seed=self.seed)

    def val_dataloader(self) -> EveryRequest:
        """Return the requests that stop the training, in large batches."""
        return self._every("val")

    def calibration_dataloader(self) -> EveryRequest:
        """Return the requests that margins are set on, in large batches."""
        return self._every("calibration")

    def test_dataloader(self) -> EveryRequest:
        """Return the requests that test, in large batches."""
        return self._every("test")

    def predict_dataloader(self) -> EveryRequest:
        """Return the requests that test, in large batches: predictions are the settings chosen for them."""
        return self._every("test")

    def _features(self, outcomes: Outcomes) -> Features:
        """Look up what is known of samples beforehand."""
        if self.features is None:
            return without_embeddings(outcomes)
        paths = [self.features] if isinstance(self.features, str) else self.features
        return read_feature_files(paths).features_of(outcomes, source=", ".join(paths))

    def _fastest_rest_ms(self) -> float:
        """Return the time that hardly any setting is faster than once its vision tokens are there."""
        outcomes = self.parts["train"].outcomes
        settings_of_tier = len(outcomes.settings) // len(outcomes.grid.tiers)
        rest_ms_NS = outcomes.latency_ms_NS - outcomes.vision_done_ms_NT.repeat(settings_of_tier, axis=1)
        # Two means of different runs: their difference may be anything.
        return max(float(np.nanpercentile(rest_ms_NS, 1)), self.fastest_ms / 100)

    def _whole(self, requests: Requests) -> ControllerBatch:
        """Return samples as one batch, without budgets."""
        return whole_batch(requests.outcomes, requests.features)

    def _every(self, part: Part) -> EveryRequest:
        return EveryRequest(self._whole(self.parts[part]), self.budgets_ms, batch_size=max(self.batch_size, 1024))


def _by_kind(features: Features) -> dict[str, NDArray[np.floating]]:
    """Return each kind of feature as ``(rows, numbers)``; a row of ``vision`` is one sample at one tier."""
    vision = np.concatenate(np.moveaxis(features.vision_NTD, 1, 0))
    return {
        "free": features.free_NF,
        "question": features.question_ND,
        "glance": features.glance_ND,
        "vision": vision,
    }
