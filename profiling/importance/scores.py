"""The scores of blocks, sample by sample, from what was measured."""

# Shape suffixes: S = samples, K = blocks.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, get_args

import numpy as np

from profiling.resampling import Array
from profiling.subsets.job import NO_COST, Cost, Job, Measure, Outcome, Part, whole, without


class BlockScore(StrEnum):
    """How a block's importance is measured: the higher, the more it is missed.

    * ``accuracy_drop``: accuracy of the whole model minus that without the block.
    * ``nll_increase``: negative log-likelihood of the reference answer without the block minus that of the whole model.
    * ``kl``: divergence of the whole model's distributions from those without the block, at the reference answer.
    * ``block_influence``, ``angular_distance``: how far the block turns the hidden states, see ``measures``.
    * ``taylor``: size of gradient times weight, see ``measures``.
    * ``random``: noise, as a floor.
    """

    ACCURACY_DROP = "accuracy_drop"
    NLL_INCREASE = "nll_increase"
    KL = "kl"
    BLOCK_INFLUENCE = "block_influence"
    ANGULAR_DISTANCE = "angular_distance"
    TAYLOR = "taylor"
    RANDOM = "random"


PROBES: Final = (Measure.HIDDEN_STATES, Measure.GRADIENTS)
"""Measured on the whole model alone."""

REMOVALS: Final = (Measure.ANSWERS, Measure.LIKELIHOOD)
"""Measured on the whole model and without each block."""

_MEASURE_OF: Final[Mapping[BlockScore, Measure]] = {
    BlockScore.ACCURACY_DROP: Measure.ANSWERS,
    BlockScore.NLL_INCREASE: Measure.LIKELIHOOD,
    BlockScore.KL: Measure.LIKELIHOOD,
    BlockScore.BLOCK_INFLUENCE: Measure.HIDDEN_STATES,
    BlockScore.ANGULAR_DISTANCE: Measure.HIDDEN_STATES,
    BlockScore.TAYLOR: Measure.GRADIENTS,
}


@dataclass(frozen=True, kw_only=True)
class PartScores:
    """Scores of every block on a part of every dataset.

    Args:
        label: What captions call the model and where it ran.
        part: The part.
        values: By dataset and score, ``(samples, blocks)``; ``taylor`` has a row for every few samples.
        costs: What each score took, for all datasets together. Scores of one measurement share it.
        span_angles: By dataset, ``(samples, spans)``, in the order of ``measures.spans``.
    """

    label: str
    part: Part
    values: Mapping[str, Mapping[BlockScore, Array]]
    costs: Mapping[BlockScore, Cost]
    span_angles: Mapping[str, Array]


def importance_jobs(part: Part, *, num_blocks: int, num_samples: int) -> list[Job]:
    """List what has to be measured on a part: the whole model, it without each block, and what it does inside."""
    full = whole(num_blocks)
    subsets = {measure: [full, *(without(full, block) for block in full)] for measure in REMOVALS}
    subsets |= {measure: [full] for measure in PROBES}
    return [
        Job(blocks=blocks, measure=measure, part=part, num_samples=num_samples)
        for measure, members in subsets.items()
        for blocks in members
    ]


def part_scores(
    jobs: Sequence[Job], outcomes: Sequence[Outcome], *, label: str, num_blocks: int, seed: int
) -> PartScores:
    """Turn the outcomes of ``importance_jobs`` into scores.

    Args:
        jobs: The jobs, of one part.
        outcomes: Their outcomes, in order.
        label: What captions call the model and where it ran.
        num_blocks: Blocks of the model.
        seed: Of the random score.
    """
    by_measure: dict[Measure, list[Outcome]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_measure.setdefault(job.measure, []).append(outcome)
    cost_by_measure = {measure: sum((each.cost for each in found), NO_COST) for measure, found in by_measure.items()}
    random = np.random.default_rng([seed, get_args(Part).index(jobs[0].part)])
    values: dict[str, dict[BlockScore, Array]] = {}
    for name in outcomes[0].values:
        answers = _stacked(by_measure[Measure.ANSWERS], name, "accuracy")
        nll = _stacked(by_measure[Measure.LIKELIHOOD], name, "nll")
        hidden = by_measure[Measure.HIDDEN_STATES][0].values[name]
        values[name] = {
            BlockScore.ACCURACY_DROP: answers[:, :1] - answers[:, 1:],
            BlockScore.NLL_INCREASE: nll[:, 1:] - nll[:, :1],
            BlockScore.KL: _stacked(by_measure[Measure.LIKELIHOOD], name, "kl")[:, 1:],
            BlockScore.BLOCK_INFLUENCE: hidden["block_influence"],
            BlockScore.ANGULAR_DISTANCE: hidden["angular_distance"],
            BlockScore.TAYLOR: by_measure[Measure.GRADIENTS][0].values[name]["taylor"],
            BlockScore.RANDOM: random.random((len(answers), num_blocks)),
        }
    return PartScores(
        label=label,
        part=jobs[0].part,
        values=values,
        costs={score: cost_by_measure[_MEASURE_OF[score]] if score in _MEASURE_OF else NO_COST for score in BlockScore},
        span_angles={
            name: found["angular_spans"] for name, found in by_measure[Measure.HIDDEN_STATES][0].values.items()
        },
    )


def _stacked(outcomes: Sequence[Outcome], name: str, quantity: str) -> Array:
    """Put the outcomes of the whole model and of each removal side by side: ``(samples, 1 + blocks)``."""
    stacked: Array = np.stack([outcome.values[name][quantity] for outcome in outcomes], axis=1)
    return stacked
