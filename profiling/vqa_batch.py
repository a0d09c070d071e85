"""Questions with their pictures, not yet cut: how is for whoever answers them to choose."""

from dataclasses import dataclass

import torch
from PIL import Image

from profiling.datasets.sample import Sample


@dataclass(frozen=True, kw_only=True)
class VQABatch:
    """Questions and their images.

    Args:
        samples: The questions.
        images: Their images, in the same order: RGB, upright.
        bad_images: What is wrong with each image that is missing here, and with it its question.
    """

    samples: tuple[Sample, ...]
    images: tuple[Image.Image, ...]
    bad_images: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device | str, **options: object) -> "VQABatch":
        """Return the batch as it is: pictures and words live on no device. Lightning moves batches with this."""
        return self
