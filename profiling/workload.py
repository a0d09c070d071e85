"""What a profile asks of a model, and requests drawn at random: pictures of given sizes, texts of spread lengths."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from profiling.scoring.result import Score


class Request(Protocol):
    """One picture and prompt to measure; dataset, split and sample id together tell it from all others."""

    @property
    def dataset(self) -> str:
        """Name of the dataset."""

    @property
    def split(self) -> str:
        """Part of the profile."""

    @property
    def sample_id(self) -> str:
        """Its name in that part."""

    @property
    def image_id(self) -> str:
        """Equal where two requests show the same picture."""

    @property
    def max_new_tokens(self) -> int:
        """Most tokens of its answer."""

    @property
    def question(self) -> str | None:
        """What is asked; if nothing is, there is no answer: so many tokens are made, whatever they say."""

    def open_image(self) -> Image.Image:
        """Draw or decode the picture."""

    def prompt(self, vocab_size: int) -> str | list[int]:
        """Return the words of the prompt, or ids below ``vocab_size`` that stand for words."""

    def score(self, answer: str) -> Score | None:
        """Say how right an answer to the question is, if a right one is known."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Which requests to make. Each is drawn anew from the seed, so a profile needs no image files.

    Args:
        image_sizes: Width and height in pixels of each size to measure.
        images_per_size: Requests of each size, with lengths of their own.
        text_tokens: Fewest and most ids of a prompt; spread evenly on a logarithmic scale.
        output_tokens: Fewest and most tokens of an answer; spread in the same way.
        split: Name of this part of the data, kept in the records.
        seed: Of pictures, prompts and lengths.

    Raises:
        ValueError: If there is no size, a size has no pixels, or a range is empty or starts below 1.
    """

    image_sizes: tuple[tuple[int, int], ...]
    images_per_size: int = 1
    text_tokens: tuple[int, int] = (10, 600)
    output_tokens: tuple[int, int] = (1, 64)
    split: str = "train"
    seed: int = 42

    def __post_init__(self) -> None:
        if not self.image_sizes or min(min(size) for size in self.image_sizes) < 1:
            raise ValueError(f"image_sizes: needs pairs of width and height of at least 1, got {self.image_sizes}")
        if self.images_per_size < 1:
            raise ValueError(f"images_per_size: must be 1 or more, got {self.images_per_size}")
        for field, (fewest, most) in {"text_tokens": self.text_tokens, "output_tokens": self.output_tokens}.items():
            if not 1 <= fewest <= most:
                raise ValueError(f"{field}: needs 1 <= fewest <= most, got {fewest} and {most}")


@dataclass(frozen=True, kw_only=True)
class SyntheticRequest:
    """One request of a workload.

    Args:
        sample_id: Its name, which tells workloads apart by their seed.
        width: Of the image in pixels.
        height: Of the image in pixels.
        text_tokens: Ids of the prompt.
        max_new_tokens: Tokens that are generated, whatever the model says.
        seed: Of picture and prompt.
        split: Part of the profile.
    """

    dataset: ClassVar[str] = "synthetic"
    question: ClassVar[None] = None

    sample_id: str
    width: int
    height: int
    text_tokens: int
    max_new_tokens: int
    seed: int
    split: str = "train"

    @property
    def image_id(self) -> str:
        """See ``Request``; each has a picture of its own."""
        return self.sample_id

    def open_image(self) -> Image.Image:
        """Draw a smooth picture. What it shows does not change how long it takes."""
        rng = np.random.default_rng(self.seed)
        coarse = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((self.width, self.height), Image.Resampling.BICUBIC)

    def prompt(self, vocab_size: int) -> list[int]:
        """Draw the ids of the prompt."""
        ids: list[int] = np.random.default_rng([self.seed, 1]).integers(0, vocab_size, self.text_tokens).tolist()
        return ids

    def score(self, answer: str) -> None:
        """See ``Request``; nothing is asked."""


def make_requests(workload: Workload) -> list[SyntheticRequest]:
    """Draw the requests of a workload, in a fixed order."""
    sizes = [size for size in workload.image_sizes for _ in range(workload.images_per_size)]
    rng = np.random.default_rng(workload.seed)
    text_tokens = _spread(*workload.text_tokens, len(sizes), rng)
    output_tokens = _spread(*workload.output_tokens, len(sizes), rng)
    return [
        SyntheticRequest(
            sample_id=f"seed{workload.seed}-{index:04}",
            width=width,
            height=height,
            text_tokens=int(text_tokens[index]),
            max_new_tokens=int(output_tokens[index]),
            seed=workload.seed * 100_003 + index,
            split=workload.split,
        )
        for index, (width, height) in enumerate(sizes)
    ]


def _spread(fewest: int, most: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``count`` lengths whose logarithms fill the range evenly, in random order."""
    fraction = (np.arange(count) + rng.random(count)) / count
    lengths = np.floor(fewest * ((most + 1) / fewest) ** fraction)
    return rng.permutation(lengths).clip(fewest, most).astype(np.int64)
