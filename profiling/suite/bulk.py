"""Many puzzles at once, as arrays: what training reads. Each picture is the one that its sample opens."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from profiling.suite.canvas import draw_picture
from profiling.suite.draws import Draws
from profiling.suite.families import FAMILIES
from profiling.suite.labels import label_cells
from profiling.suite.puzzle import Puzzle
from profiling.suite.suite import PuzzleKey


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How often each family comes.

    Args:
        weights: By family; they need not add up to one.

    Raises:
        ValueError: If a family is unknown, a weight is negative, or none is positive.
    """

    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        for family, weight in self.weights.items():
            if family not in FAMILIES:
                raise ValueError(f"weights: families are {', '.join(FAMILIES)}, got {family!r}")
            if weight < 0:
                raise ValueError(f"weights[{family}]: must be 0 or more, got {weight}")
        if sum(self.weights.values()) <= 0:
            raise ValueError(f"weights: at least one must be above 0, got {dict(self.weights)}")

    def keys(self, split: str, indices: Sequence[int], *, seed: int = 0) -> list[PuzzleKey]:
        """Choose a puzzle for each index; an index always gets the same one."""
        families, totals = list(self.weights), list(accumulate(self.weights.values()))
        chosen = (
            bisect(totals, Draws(f"mixture/{split}/{seed}/{index}", may_be_unseen=True).between(0, totals[-1]))
            for index in indices
        )
        return [
            PuzzleKey(family=families[place], split=split, index=index, seed=seed)
            for place, index in zip(chosen, indices, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class PuzzleBatch:
    """Puzzles with their pictures drawn.

    Args:
        keys: Which puzzles.
        puzzles: Questions and answers; ``tokenize`` takes each as it is.
        pixels: ``(puzzles, height, width, 3)``, uint8, RGB.
        labels: ``(puzzles, rows, columns)``, uint8: what each cell shows, see ``label_cells``.
    """

    keys: list[PuzzleKey]
    puzzles: list[Puzzle]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def draw_batch(keys: Sequence[PuzzleKey], *, canvas_pixels: int = 192, cell_pixels: int = 8) -> PuzzleBatch:
    """Make puzzles and draw them, in one process.

    Args:
        keys: Which puzzles.
        canvas_pixels: Width and height of each picture.
        cell_pixels: Width and height of a cell of the labels.
    """
    puzzles = [key.make() for key in keys]
    pixels = np.empty((len(keys), canvas_pixels, canvas_pixels, 3), dtype=np.uint8)
    num_cells = -(-canvas_pixels // cell_pixels)
    labels = np.empty((len(keys), num_cells, num_cells), dtype=np.uint8)
    for i, puzzle in enumerate(puzzles):
        pixels[i] = np.asarray(draw_picture(puzzle.picture, canvas_pixels))
        labels[i] = label_cells(puzzle.picture, pixels=canvas_pixels, cell_pixels=cell_pixels)
    return PuzzleBatch(keys=list(keys), puzzles=puzzles, pixels=pixels, labels=labels)
