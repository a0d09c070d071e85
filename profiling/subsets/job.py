"""One thing to measure about a subset of blocks, what comes out, and who can measure it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.knobs import ExpertCounts

Blocks = tuple[int, ...]
Part = Literal["train", "validation"]


class Measure(StrEnum):
    """What is measured, and the quantities that it gives for each sample, or for a few together.

    * ``answers``: ``accuracy``, how right the generated answer is.
    * ``likelihood``: ``nll``, mean negative log-likelihood of a token of the reference answer, and ``kl``, mean
      divergence of the whole model's distribution over tokens from the subset's, both at the reference answer's places.
    * ``hidden_states``: ``block_influence`` and ``angular_distance`` of each block, ``angular_spans`` of each span.
    * ``gradients``: ``taylor`` of each block, for several samples together.
    """

    ANSWERS = "answers"
    LIKELIHOOD = "likelihood"
    HIDDEN_STATES = "hidden_states"
    GRADIENTS = "gradients"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something to measure on the same samples of every dataset.

    Args:
        blocks: The blocks that run, sorted.
        measure: What is measured.
        part: Part of the datasets.
        num_samples: Samples of each dataset.
        experts: Experts per token; those of the evaluated model if ``None``.
    """

    blocks: Blocks
    measure: Measure
    part: Part
    num_samples: int
    experts: ExpertCounts | None = None

    @property
    def name(self) -> str:
        """What runs, as file names say it."""
        blocks = "-".join(map(str, self.blocks))
        if self.experts is None:
            return blocks
        return f"{blocks}_text-{run_lengths(self.experts.text)}_vision-{run_lengths(self.experts.vision)}"

    def __str__(self) -> str:
        return f"{self.measure} of blocks {self.name} on {self.num_samples} {self.part} samples of each dataset"


def run_lengths(counts: tuple[int, ...]) -> str:
    """Shorten runs of equal numbers: ``3x14-2-3`` is 3 fourteen times, 2, 3."""
    runs = ((count, len(list(members))) for count, members in groupby(counts))
    return "-".join(f"{count}x{length}" if length > 1 else str(count) for count, length in runs)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a job took.

    Args:
        forward_passes: Calls of the language model with a batch; each generated token is one more.
        backward_passes: Gradients of such calls.
        seconds: Time of the job alone; loading the model, encoding images and the whole model's own distributions are
            done once for all jobs and not counted.
        peak_memory_mib: Most memory of a GPU that tensors took, weights and kept samples included; 0 on a CPU.
    """

    forward_passes: int
    backward_passes: int
    seconds: float
    peak_memory_mib: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            forward_passes=self.forward_passes + other.forward_passes,
            backward_passes=self.backward_passes + other.backward_passes,
            seconds=self.seconds + other.seconds,
            peak_memory_mib=max(self.peak_memory_mib, other.peak_memory_mib),
        )


NO_COST = Cost(forward_passes=0, backward_passes=0, seconds=0.0)

Values = Mapping[str, NDArray[np.float64]]
"""Values by quantity: ``(samples,)`` or ``(samples, blocks or spans)``; of gradients a row for eight samples."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job gave.

    Args:
        values: Values by dataset and quantity, samples in the order of the dataset.
        cost: What it took.
    """

    values: Mapping[str, Values]
    cost: Cost


class SubsetEvaluator(Protocol):
    """Who can do jobs."""

    def evaluate(self, job: Job) -> Outcome:
        """Do a job.

        Raises:
            ValueError: If the job or what it needs is a user's mistake.
        """


class EvaluatorSource(Protocol):
    """Makes evaluators; can be sent to another process."""

    def evaluator(self, device: str) -> SubsetEvaluator:
        """Make one that works on a device.

        Raises:
            ValueError: If what it needs is missing or broken.
        """


def whole(num_blocks: int) -> Blocks:
    """Return all blocks of a model."""
    return tuple(range(num_blocks))


def without(blocks: Blocks, removed: int) -> Blocks:
    """Return the blocks but one."""
    return tuple(block for block in blocks if block != removed)


def check_pinned(pinned: Blocks, num_blocks: int) -> None:
    """Check blocks that a user named.

    Raises:
        ValueError: If one does not exist or is named twice.
    """
    for block in pinned:
        if not 0 <= block < num_blocks:
            raise ValueError(f"pinned: the model has blocks 0 to {num_blocks - 1}, got {block}")
    if len(set(pinned)) != len(pinned):
        raise ValueError(f"pinned: names a block twice, got {list(pinned)}")
