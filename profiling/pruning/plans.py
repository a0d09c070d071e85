"""Searches as a config names them, run for several sizes of subsets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from profiling.pruning.searches import Fitness, Found, Space, beam, evolutionary, exhaustive, halved, one_shot
from profiling.subsets.job import Blocks, Measure, Outcome

Method = Literal["one_shot", "greedy", "beam", "evolutionary", "exhaustive"]
Objective = Literal["accuracy", "kl", "nll"]
"""What a search maximises: mean accuracy, or minus the mean divergence or negative log-likelihood."""

FitnessAt = Callable[[Sequence[Blocks], int], list[float]]
"""Scores subsets on a number of samples of each dataset."""


def measure_of(objective: Objective) -> Measure:
    """Return what has to be measured for an objective."""
    return Measure.ANSWERS if objective == "accuracy" else Measure.LIKELIHOOD


def objective_score(objective: Objective, outcome: Outcome) -> float:
    """Reduce an outcome to one number, the higher the better: the mean of the datasets' means."""
    mean = float(np.mean([values[objective].mean() for values in outcome.values.values()]))
    return mean if objective == "accuracy" else -mean


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Successive halving over samples, see ``searches.halved``.

    Args:
        first_samples: Samples of each dataset that every subset is scored on; doubled until all are used.
        fewest: Subsets that are always scored on all samples.

    Raises:
        ValueError: If a number is below 1.
    """

    first_samples: int = 16
    fewest: int = 8

    def __post_init__(self) -> None:
        for name, count in {"first_samples": self.first_samples, "fewest": self.fewest}.items():
            if count < 1:
                raise ValueError(f"halving.{name}: must be 1 or more, got {count}")

    def sizes(self, num_samples: int) -> list[int]:
        """Return the numbers of samples, ascending."""
        sizes = []
        size = self.first_samples
        while size < num_samples:
            sizes.append(size)
            size *= 2
        return [*sizes, num_samples]


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search.

    Args:
        method: ``one_shot`` removes the blocks together that are missed least one by one; ``greedy`` scores anew after
            each removal; ``beam`` follows the best few; ``evolutionary`` changes subsets at random; ``exhaustive``
            scores all.
        objective: What it maximises.
        counts: Numbers of blocks to search subsets for; all of the block table if null.
        pinned: Blocks that it never removes; those of the block table if null.
        width: Subsets that a beam keeps.
        generations: Rounds of an evolution.
        offspring: Children in a round.
        halving: Score on few samples first; on all at once if null.
        seed: Of an evolution.

    Raises:
        ValueError: If a number is below 1, or halving scores too few subsets for the search.
    """

    method: Method
    objective: Objective = "kl"
    counts: tuple[int, ...] | None = None
    pinned: tuple[int, ...] | None = None
    width: int = 3
    generations: int = 20
    offspring: int = 16
    halving: Halving | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("width", "generations", "offspring"):
            if getattr(self, name) < 1:
                raise ValueError(f"searches.{name}: must be 1 or more, got {getattr(self, name)}")
        if self.halving is not None:
            self._check_halving(self.halving)

    @property
    def name(self) -> str:
        """What tables call it; pinned blocks are named where they are its own."""
        width = f" {self.width}" if self.method == "beam" else ""
        halved_over = ", halving" if self.halving else ""
        pinned = ""
        if self.pinned is not None:
            pinned = f", pinned {'-'.join(map(str, self.pinned)) or 'none'}"
        return f"{self.method}{width} ({self.objective}{halved_over}{pinned})"

    def space(self, usual: Space) -> Space:
        """Return the subsets that it looks at, given those that may become the block table's."""
        return usual if self.pinned is None else replace(usual, pinned=tuple(sorted(self.pinned)))

    def wanted(self, counts: Sequence[int]) -> list[int]:
        """Return those of the block table's numbers of blocks that it looks for."""
        return [count for count in counts if self.counts is None or count in self.counts]

    def sizes(self, num_samples: int) -> list[int]:
        """Return the numbers of samples that subsets are scored on, ascending."""
        return [num_samples] if self.halving is None else self.halving.sizes(num_samples)

    def run(self, fitness_at: FitnessAt, space: Space, counts: Sequence[int], num_samples: int) -> dict[int, Found]:
        """Search the best subset of each size.

        Args:
            fitness_at: What to maximise.
            space: The subsets.
            counts: Sizes of the block table below the whole model.
            num_samples: Samples of each dataset.
        """
        wanted = self.wanted(counts)
        if not wanted:
            return {}
        fitness = self._fitness(fitness_at, num_samples)
        if self.method == "one_shot":
            return one_shot(fitness, space, wanted)
        if self.method in ("greedy", "beam"):
            by_count = beam(fitness, space, fewest=min(wanted), width=self._beam_width)
            return {count: by_count[count] for count in wanted}
        if self.method == "exhaustive":
            return {count: exhaustive(fitness, space, count) for count in wanted}
        evolve = partial(evolutionary, generations=self.generations, offspring=self.offspring, seed=self.seed)
        return {count: evolve(fitness, space, count) for count in wanted}

    def most_subsets(self, space: Space, counts: Sequence[int]) -> int:
        """Say how many subsets a search asks for at most, on all numbers of samples but the last of halving."""
        wanted = self.wanted(counts)
        if not wanted:
            return 0
        if self.method == "one_shot":
            return len(space.free) + len(wanted)
        if self.method == "exhaustive":
            return sum(space.num_subsets(count) for count in wanted)
        if self.method == "evolutionary":
            return len(wanted) * self.offspring * (1 + self.generations)
        steps = range(space.num_blocks - min(wanted))
        return sum((self._beam_width if step else 1) * (len(space.free) - step) for step in steps)

    @property
    def _beam_width(self) -> int:
        return 1 if self.method == "greedy" else self.width

    def _check_halving(self, halving: Halving) -> None:
        if self.method == "one_shot":
            raise ValueError("searches.halving: one_shot needs the order of all removals, so every sample of each")
        if self.method in ("greedy", "beam") and halving.fewest < self._beam_width:
            raise ValueError(
                f"searches.halving.fewest: must be {self._beam_width} or more, the subsets that a beam keeps, "
                f"got {halving.fewest}"
            )

    def _fitness(self, fitness_at: FitnessAt, num_samples: int) -> Fitness:
        sizes = self.sizes(num_samples)
        if self.halving is None:
            return lambda subsets: fitness_at(subsets, num_samples)
        return halved(fitness_at, sizes, fewest=self.halving.fewest)
