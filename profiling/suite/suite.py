"""Puzzles by family, split and number, as samples of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from profiling.datasets.sample import Sample
from profiling.suite.canvas import draw_picture
from profiling.suite.draws import Draws
from profiling.suite.families import FAMILIES
from profiling.suite.puzzle import Puzzle

# Only ``train`` leaves out what is held out. The others are drawn alike, so that what one of them promises holds for
# the next; whether a sample shows something that training never did is in its tags.
SPLITS: Final = ("train", "val", "calibration", "test")
NUM_SAMPLES: Final = 1000  # of a family in a fixed split, unless asked otherwise


@dataclass(frozen=True, kw_only=True)
class PuzzleKey:
    """Which puzzle to make. Equal keys make equal puzzles, in any process.

    Args:
        family: One of ``FAMILIES``.
        split: One of ``SPLITS``; each has puzzles of its own.
        index: Number in the split, from 0; there is no last one.
        seed: Of a whole suite; all results that are compared must have the same.

    Raises:
        ValueError: If there is no such family or split, or the index is negative.
    """

    family: str
    split: str
    index: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family: must be one of {', '.join(FAMILIES)}, got {self.family!r}")
        if self.split not in SPLITS:
            raise ValueError(f"split: must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.index < 0:
            raise ValueError(f"index: must be 0 or more, got {self.index}")

    def __str__(self) -> str:
        return f"{self.family}/{self.split}/{self.seed}/{self.index}"

    def make(self) -> Puzzle:
        """Make the puzzle."""
        return FAMILIES[self.family](Draws(str(self), may_be_unseen=self.split != "train"))


@dataclass(frozen=True, kw_only=True)
class PuzzleImage:
    """The picture of a puzzle, drawn when it is opened.

    Args:
        key: Which puzzle.
        canvas_pixels: Width and height.
    """

    key: PuzzleKey
    canvas_pixels: int

    def open(self) -> Image.Image:
        """See ``ImageSource``."""
        return draw_picture(self.key.make().picture, self.canvas_pixels)


def dataset_name(family: str) -> str:
    """Return what a family is called among datasets."""
    return f"suite_{family}"


def suite_sample(key: PuzzleKey, *, canvas_pixels: int = 192) -> Sample:
    """Make a sample of a dataset. Results can be told apart by family, kind, difficulty and combination."""
    puzzle = key.make()
    return Sample(
        dataset=dataset_name(key.family),
        split=key.split,
        sample_id=str(key),
        image_id=f"suite/{key}",
        image=PuzzleImage(key=key, canvas_pixels=canvas_pixels),
        question=puzzle.question,
        answers=puzzle.answers,
        options=puzzle.options,
        question_has_options=bool(puzzle.options),
        tags={
            "family": key.family,
            "kind": puzzle.kind,
            "difficulty": "hard" if puzzle.is_hard else "easy",
            "combination": "unseen" if puzzle.is_unseen else "seen",
        },
    )


def suite_samples(
    families: Sequence[str], split: str, *, num_samples: int = NUM_SAMPLES, seed: int = 0, canvas_pixels: int = 192
) -> list[Sample]:
    """Make the first samples of each family in a split.

    Raises:
        ValueError: If there is no such family or split.
    """
    return [
        suite_sample(PuzzleKey(family=family, split=split, index=index, seed=seed), canvas_pixels=canvas_pixels)
        for family in families
        for index in range(num_samples)
    ]
