"""Splitting by image: an image's part depends on its id and the seed alone.

So datasets that share images are split jointly, and neither reading another dataset nor fewer samples of one moves an
image from one part to another.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

Part = Literal["train", "val", "calibration", "test"]

_RESOLUTION_BITS: Final = 53  # of a float, so that the largest stays below 1


@dataclass(frozen=True, kw_only=True)
class PartFractions:
    """Share of images in each part; the rest test.

    Args:
        train: Share that trains.
        val: Share that stops the training.
        calibration: Share that margins are set on.

    Raises:
        ValueError: If a share is negative or they are more than all.
    """

    train: float
    val: float
    calibration: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}_fraction: must be between 0 and 1, got {value}")
        total = self.train + self.val + self.calibration
        if total > 1 + 1e-9:
            raise ValueError(f"train_fraction + val_fraction + calibration_fraction: must be at most 1, got {total:g}")


def part_of_image(image_id: str, fractions: PartFractions, *, seed: int) -> Part:
    """Draw the part of an image."""
    digest = blake2b(f"{seed}/{image_id}".encode(), digest_size=8).digest()
    position = (int.from_bytes(digest) >> (64 - _RESOLUTION_BITS)) / 2**_RESOLUTION_BITS
    if position < fractions.train:
        return "train"
    if position < fractions.train + fractions.val:
        return "val"
    if position < fractions.train + fractions.val + fractions.calibration:
        return "calibration"
    return "test"
