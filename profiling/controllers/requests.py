"""Samples with what is known of them beforehand and what came of them, as choosers without gradients take them."""

# Shape suffixes: G = budgets, N = samples, S = settings.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from profiling.controllers.features import Features
from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes
from profiling.datasets.image_split import Part, PartFractions, part_of_image

PARTS: Final[tuple[Part, ...]] = ("train", "val", "calibration", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """Samples to learn from or to choose for.

    Args:
        outcomes: What came of every setting.
        features: What is known before anything runs, and of the picture.
    """

    outcomes: Outcomes
    features: Features

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def image_ids(self) -> list[str]:
        """The image of each sample."""
        ids: list[str] = self.outcomes.samples["image_id"].tolist()
        return ids

    def take(self, rows: Codes | Mask) -> "Requests":
        """Return some samples, given by index or by a mask."""
        return replace(self, outcomes=self.outcomes.take(rows), features=self.features.take(rows))


Policy = Callable[[Requests, Sequence[float]], Codes]
"""Chooses a setting for each sample under each budget, in milliseconds: ``(budgets, samples)`` int64."""


def split_requests(requests: Requests, fractions: PartFractions, *, seed: int) -> dict[Part, Requests]:
    """Split by image.

    Raises:
        ValueError: If a part gets no image.
    """
    part_N = np.asarray([part_of_image(image, fractions, seed=seed) for image in requests.image_ids])
    parts = {part: requests.take(part_N == part) for part in PARTS}
    for part, members in parts.items():
        if len(members) == 0:
            num_images = len(set(requests.image_ids))
            raise ValueError(f"split: no image is in the part {part!r}, got {num_images} images and {fractions}")
    return parts


def choose(values: Array, requests: Requests) -> Codes:
    """Choose the most valued of the settings that were measured.

    Args:
        values: ``(settings,)`` or ``(samples, settings)``, the higher the better, finite.
        requests: The samples.

    Returns:
        ``(samples,)``; of equals the first.
    """
    is_measured_NS = requests.outcomes.is_measured_NS
    chosen_N: Codes = np.where(is_measured_NS, np.broadcast_to(values, is_measured_NS.shape), -np.inf).argmax(axis=1)
    return chosen_N


def policy_of(values: Callable[[Requests, float], Array]) -> Policy:
    """Make a policy of what tells the value of each setting under one budget."""

    def policy(requests: Requests, budgets_ms: Sequence[float]) -> Codes:
        return np.stack([choose(values(requests, budget_ms), requests) for budget_ms in budgets_ms])

    return policy
