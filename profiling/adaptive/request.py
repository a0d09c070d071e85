"""A question with the time that its answer may take."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from profiling.questions import QuestionRequest

Key = tuple[str, str, str, float]
"""Dataset, split, id of the sample, and budget: what names a request of a run."""


Asked = TypeVar("Asked")


@dataclass(frozen=True, kw_only=True)
class BudgetedRequest:
    """A question and its budget.

    Args:
        question: Question, picture, and how the answer is scored.
        budget_ms: Milliseconds from raw input to last token.

    Raises:
        ValueError: If the budget is not a positive number.
    """

    question: QuestionRequest
    budget_ms: float

    def __post_init__(self) -> None:
        check_budget(self.budget_ms)

    @property
    def key(self) -> Key:
        """What names the request."""
        return self.question.dataset, self.question.split, self.question.sample_id, self.budget_ms

    def to(self, device: torch.device | str, **options: object) -> "BudgetedRequest":
        """Return the request as it is: raw input lives on no device. Lightning moves batches with this."""
        return self


def check_budget(budget_ms: float, *, where: str = "latency_budget") -> float:
    """Return a budget that means something.

    Raises:
        ValueError: If it is not a positive number of milliseconds.
    """
    if isinstance(budget_ms, bool) or not isinstance(budget_ms, int | float) or not 0 < budget_ms < math.inf:
        raise ValueError(f"{where}: must be a positive number of milliseconds, got {budget_ms!r}")
    return float(budget_ms)


def in_random_order(requests: Sequence[Asked], *, seed: int) -> list[Asked]:
    """Shuffle requests, so that drift of the device meets all alike."""
    return random.Random(seed).sample(list(requests), len(requests))  # noqa: S311 - no secret
