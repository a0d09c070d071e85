"""What a controller is trained on: requests, their budgets, and the outcome of every setting."""

# Shape suffixes: N = samples, B = requests (a sample with a budget), S = settings, F = free features, D = width of the
# language model, T = tiers.

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.controllers.prompt_memory import TierPrompts
from profiling.controllers.features import Features
from profiling.controllers.online_answers import OnlineAnswers
from profiling.controllers.outcomes import Outcomes


@dataclass(frozen=True, kw_only=True, eq=False)
class ControllerBatch:
    """Requests with all that is known before they run, and what came of them under every setting.

    Args:
        free_BF: ``(batch, features)`` float32: what costs nothing, see ``features.free_features``; not standardised.
        question_BD: ``(batch, width)`` float32: mean embedding of the question's tokens; width 0 without features.
        glance_BD: ``(batch, width)`` float32: mean vision token of the overview; width 0 without it.
        vision_BTD: ``(batch, tiers, width)`` float32: mean vision token at each tier; width 0 without features.
        budget_ms_B: ``(batch,)`` float32: milliseconds from raw input to last token.
        accuracy_BS: ``(batch, settings)`` float32, 0 to 1; 0 where not measured.
        latency_ms_BS: ``(batch, settings)`` float32, mean over runs; 0 where not measured.
        is_measured_BS: ``(batch, settings)`` bool: which cells have an outcome.
        vision_done_ms_BT: ``(batch, tiers)`` float32: time until the vision tokens are there; 0 where not measured.
        sample_B: ``(batch,)`` int64: row of the outcomes that the batch was cut from.
        prompts: What the model's first blocks remember of each request's prompt; for a controller that looks at them.
        answers: Runs cells of these samples. Their accuracies are not known before, and ``is_measured_BS`` says which
            may be run.
    """

    free_BF: Tensor
    question_BD: Tensor
    glance_BD: Tensor
    vision_BTD: Tensor
    budget_ms_B: Tensor
    accuracy_BS: Tensor
    latency_ms_BS: Tensor
    is_measured_BS: Tensor
    vision_done_ms_BT: Tensor
    sample_B: Tensor
    prompts: TierPrompts | None = None
    answers: OnlineAnswers | None = None

    def __len__(self) -> int:
        return len(self.sample_B)

    @property
    def remaining_ms_BT(self) -> Tensor:
        """``(batch, tiers)``: what is left of the budget when each tier's vision tokens are there."""
        return self.budget_ms_B[:, None] - self.vision_done_ms_BT

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "ControllerBatch":
        """Return the batch on a device. Lightning moves batches with this."""
        moved: dict[str, Any] = {
            name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self._tensors().items()
        }
        return replace(self, **moved, prompts=None if self.prompts is None else self.prompts.to(device))

    def take(self, rows_B: Tensor, budget_ms_B: Tensor) -> "ControllerBatch":
        """Return some requests, each with a budget of its own.

        Args:
            rows_B: ``(requests,)`` int64 rows of this batch.
            budget_ms_B: ``(requests,)`` milliseconds.
        """
        taken: dict[str, Any] = {name: tensor.index_select(0, rows_B) for name, tensor in self._tensors().items()}
        prompts = None if self.prompts is None else self.prompts.take(rows_B)
        return replace(self, **{**taken, "budget_ms_B": budget_ms_B, "prompts": prompts})

    def after_running(self, is_wanted_BS: Tensor) -> "ControllerBatch":
        """Return the batch with the accuracies of all cells that were run by now, these included, as the measured ones.

        Args:
            is_wanted_BS: ``(batch, settings)`` bool, of cells that may be run.
        """
        assert self.answers is not None, "there is nothing to run"
        accuracy_BS = self.answers.run(self.sample_B, is_wanted_BS)
        return replace(self, accuracy_BS=accuracy_BS.nan_to_num(), is_measured_BS=accuracy_BS.isfinite())

    def _tensors(self) -> dict[str, Tensor]:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def whole_batch(outcomes: Outcomes, features: Features) -> ControllerBatch:
    """Turn all samples into one batch whose budgets are NaN, to take requests from.

    Args:
        outcomes: The samples' outcomes.
        features: What is known of the same samples, in the same order.
    """
    return ControllerBatch(
        free_BF=_floats(features.free_NF),
        question_BD=_floats(features.question_ND),
        glance_BD=_floats(features.glance_ND),
        vision_BTD=_floats(features.vision_NTD),
        budget_ms_B=torch.full((len(outcomes),), torch.nan),
        accuracy_BS=_floats(np.nan_to_num(outcomes.accuracy_NS)),
        latency_ms_BS=_floats(np.nan_to_num(outcomes.latency_ms_NS)),
        is_measured_BS=torch.from_numpy(outcomes.is_measured_NS),
        vision_done_ms_BT=_floats(np.nan_to_num(outcomes.vision_done_ms_NT)),
        sample_B=torch.arange(len(outcomes)),
        prompts=features.prompts,
    )


def unanswered(batch: ControllerBatch, answers: OnlineAnswers) -> ControllerBatch:
    """Forget a batch's accuracies, so that they must be run for wherever a latency is known.

    Args:
        batch: Requests with the latencies of the settings that may be run, 0 elsewhere.
        answers: Runs them.
    """
    return replace(
        batch,
        accuracy_BS=torch.zeros_like(batch.accuracy_BS),
        is_measured_BS=batch.latency_ms_BS > 0,
        answers=answers,
    )


def _floats(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
