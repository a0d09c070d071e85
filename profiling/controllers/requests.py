"""Samples with what is known of them beforehand and what came of them, as choosers without gradients take them."""

# Shape suffixes: G = budgets, N = samples, S = settings.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from profiling.controllers.features import Features, join_features
from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes, join_outcomes
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


def join_requests(parts: Sequence[Requests]) -> Requests:
    """Put samples behind one another."""
    return Requests(
        outcomes=join_outcomes([part.outcomes for part in parts]),
        features=join_features([part.features for part in parts]),
    )


Policy = Callable[[Requests, Sequence[float]], Codes]
"""Chooses a setting for each sample under each budget, in milliseconds: ``(budgets, samples)`` int64."""


def split_by_image(requests: Requests, fractions: PartFractions, *, seed: int) -> dict[Part, Requests]:
    """Deal the images out anew, whatever parts the profile names.

    Raises:
        ValueError: If a part gets no image.
    """
    part_N = [part_of_image(image, fractions, seed=seed) for image in requests.image_ids]
    return _parts(requests, part_N, how=str(fractions))


def split_by_profile(requests: Requests, *, val_fraction: float, seed: int) -> dict[Part, Requests]:
    """Keep the parts that the profile names; where it names no ``val``, draw it from the images of ``train``.

    Args:
        requests: All samples.
        val_fraction: Share of the images of ``train``.
        seed: Of the draw.

    Raises:
        ValueError: If the profile names another part, an image is in two, or a part has no image.
    """
    named_N: list[str] = requests.outcomes.samples["split"].tolist()
    part_of: dict[str, str] = {}
    for image, name in zip(requests.image_ids, named_N, strict=True):
        if name not in PARTS:
            raise ValueError(f"split: the profile's parts must be of {', '.join(PARTS)}, got {name!r}; split by image")
        if part_of.setdefault(image, name) != name:
            raise ValueError(f"split: the image {image} is in the parts {part_of[image]} and {name}; split by image")
    if "val" not in named_N:
        drawn = PartFractions(train=1 - val_fraction, val=val_fraction, calibration=0)
        part_of |= {i: part_of_image(i, drawn, seed=seed) for i, name in part_of.items() if name == "train"}
    return _parts(requests, [part_of[image] for image in requests.image_ids], how="the profile's parts")


def _parts(requests: Requests, part_N: Sequence[str], *, how: str) -> dict[Part, Requests]:
    parts = {part: requests.take(np.asarray(part_N) == part) for part in PARTS}
    for part, members in parts.items():
        if len(members) == 0:
            num_images = len(set(requests.image_ids))
            raise ValueError(f"split: no image is in the part {part!r}, got {num_images} images and {how}")
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
