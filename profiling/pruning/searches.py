"""Searches for the best subset of blocks of a size. What "best" means is their first argument."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from profiling.subsets.job import Blocks, whole, without

Fitness = Callable[[Sequence[Blocks]], list[float]]
"""Scores subsets, the higher the better. Asked for many at once, so that devices can share them."""

_MOST_SWAPS = 3


@dataclass(frozen=True, kw_only=True)
class Found:
    """A subset and its score."""

    blocks: Blocks
    score: float


@dataclass(frozen=True, kw_only=True)
class Space:
    """The subsets that there are.

    Args:
        num_blocks: Blocks of the model.
        pinned: Blocks that always run.
    """

    num_blocks: int
    pinned: Blocks = ()

    @property
    def free(self) -> Blocks:
        """Blocks that may be removed."""
        return tuple(block for block in range(self.num_blocks) if block not in self.pinned)

    def subsets(self, count: int) -> list[Blocks]:
        """Return every subset of a size."""
        chosen = combinations(self.free, count - len(self.pinned))
        return [tuple(sorted({*self.pinned, *blocks})) for blocks in chosen]

    def num_subsets(self, count: int) -> int:
        """Count the subsets of a size."""
        return comb(len(self.free), count - len(self.pinned))

    def removals(self, blocks: Blocks) -> list[Blocks]:
        """Return what is left when one more block is removed."""
        return [without(blocks, block) for block in blocks if block not in self.pinned]


def exhaustive(fitness: Fitness, space: Space, count: int) -> Found:
    """Score every subset of a size."""
    return _best(_scored(fitness, space.subsets(count)), 1)[0]


def beam(fitness: Fitness, space: Space, *, fewest: int, width: int) -> dict[int, Found]:
    """Remove one block after another from the best few subsets of each size.

    The first step removes each block by itself; each next step removes one more block from each of the subsets kept.
    A subset that is reached from two of them is scored once. With ``width`` 1 this is the greedy search that scores
    anew after each removal (Song et al., 2024).

    Args:
        fitness: What to maximise.
        space: The subsets.
        fewest: Size to end at.
        width: Subsets kept at each size.

    Returns:
        The best subset of each size from one block removed downwards.
    """
    kept = [whole(space.num_blocks)]
    best: dict[int, Found] = {}
    for count in range(space.num_blocks - 1, fewest - 1, -1):
        candidates = dict.fromkeys(left for blocks in kept for left in space.removals(blocks))
        found = _best(_scored(fitness, list(candidates)), width)
        best[count] = found[0]
        kept = [each.blocks for each in found]
    return best


def one_shot(fitness: Fitness, space: Space, counts: Sequence[int]) -> dict[int, Found]:
    """Score each block's removal once, and remove those together that are missed least."""
    full = whole(space.num_blocks)
    scores = fitness([without(full, block) for block in space.free])
    # Among equals the later block goes first: it touches fewer others.
    by_worth = [block for _, block in sorted(zip(scores, space.free, strict=True), reverse=True)]
    sets = []
    for count in counts:
        removed = set(by_worth[: space.num_blocks - count])
        sets.append(tuple(block for block in full if block not in removed))
    return {len(found.blocks): found for found in _scored(fitness, sets)}


def evolutionary(fitness: Fitness, space: Space, count: int, *, generations: int, offspring: int, seed: int) -> Found:
    """Change the best subset at random and keep what is better (after EvoPress, Sieberling et al., 2024).

    Starts from the best of ``offspring`` random subsets. A child swaps one to three blocks that run for others, small
    changes more often than large ones.

    Args:
        fitness: What to maximise.
        space: The subsets.
        count: Size of the subset.
        generations: Rounds of children.
        offspring: Children in a round.
        seed: Of the draws.
    """
    draws = random.Random(seed)  # noqa: S311
    first = [_drawn(space, count, draws) for _ in range(offspring)]
    best = _best(_scored(fitness, list(dict.fromkeys(first))), 1)[0]
    for _ in range(generations):
        children = dict.fromkeys(_child(best.blocks, space, draws) for _ in range(offspring))
        children.pop(best.blocks, None)
        best = _best([best, *_scored(fitness, list(children))], 1)[0]
    return best


def halved(fitness_at: Callable[[Sequence[Blocks], int], list[float]], sizes: Sequence[int], *, fewest: int) -> Fitness:
    """Score many subsets on few samples and ever fewer subsets on more (successive halving).

    Each time only the better half goes on, ``fewest`` at least. Only scores on the same samples are compared.

    Args:
        fitness_at: Scores subsets on a number of samples.
        sizes: Numbers of samples, ascending.
        fewest: Subsets that go on at least.

    Returns:
        A fitness whose scores are those on the most samples, minus infinity for subsets that did not get so far.
    """

    def fitness(subsets: Sequence[Blocks]) -> list[float]:
        left = list(subsets)
        for size in sizes[:-1]:
            if len(left) <= fewest:
                break
            scored = _paired(left, fitness_at(left, size))
            left = [found.blocks for found in _best(scored, max(fewest, (len(left) + 1) // 2))]
        final = dict(zip(left, fitness_at(left, sizes[-1]), strict=True))
        return [final.get(blocks, float("-inf")) for blocks in subsets]

    return fitness


def _scored(fitness: Fitness, subsets: Sequence[Blocks]) -> list[Found]:
    return _paired(subsets, fitness(subsets))


def _paired(subsets: Sequence[Blocks], scores: Sequence[float]) -> list[Found]:
    return [Found(blocks=blocks, score=score) for blocks, score in zip(subsets, scores, strict=True)]


def _best(found: Sequence[Found], number: int) -> list[Found]:
    """Return the best, best first; of equals those that come first."""
    return sorted(found, key=lambda each: -each.score)[:number]


def _drawn(space: Space, count: int, draws: random.Random) -> Blocks:
    return tuple(sorted([*space.pinned, *draws.sample(space.free, count - len(space.pinned))]))


def _child(blocks: Blocks, space: Space, draws: random.Random) -> Blocks:
    running = [block for block in blocks if block not in space.pinned]
    resting = [block for block in space.free if block not in blocks]
    swaps = min(draws.randint(1, _MOST_SWAPS), draws.randint(1, _MOST_SWAPS), len(running), len(resting))
    leaving = set(draws.sample(running, swaps))
    return tuple(sorted([block for block in blocks if block not in leaving] + draws.sample(resting, swaps)))
