"""Elastic training: every step runs with other knobs, so that one checkpoint serves every setting."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from models.knobs import KnobGrid, KnobSetting

LevelDraw = Literal["mostly_high", "even"]


@dataclass(frozen=True, kw_only=True)
class ElasticDraw:
    """Draw the setting of a training step. Every process draws the same, and so does a run that goes on later.

    Tiers come equally often. Some draws run the grid's own blocks, which are those that are served; the others run
    random ones, block 0 always among them, so that no choice of blocks by importance is strange to the model.

    Args:
        grid: Levels to draw from.
        full: The setting with everything on.
        full_fraction: Share of steps with that setting.
        levels: How often each level of top_k and of the number of blocks comes. ``mostly_high``: in the ratio 1 : 2 : 3
            and so on, from the lowest up, for a model that has never missed a block: the more a step leaves out, the
            more it disturbs what several blocks work out together. ``even``: equally often, for one that has.
        own_blocks_fraction: Share of the other steps that run the grid's own blocks.
        seed: Of the draws.

    Raises:
        ValueError: If a share is none, or there is no such way to draw levels.
    """

    grid: KnobGrid
    full: KnobSetting
    full_fraction: float
    levels: LevelDraw
    own_blocks_fraction: float
    seed: int

    def __post_init__(self) -> None:
        for field in ("full_fraction", "own_blocks_fraction"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}: must be between 0 and 1, got {getattr(self, field)}")
        if self.levels not in get_args(LevelDraw):
            raise ValueError(f"levels: must be one of {', '.join(get_args(LevelDraw))}, got {self.levels!r}")

    def setting(self, step: int) -> KnobSetting:
        """Draw for a step."""
        random = Random(f"{self.seed}/{step}")  # noqa: S311 - no secret
        if random.random() < self.full_fraction:
            return self.full
        tier = random.choice(self.grid.tiers).name
        top_k = self._level(random, self.grid.top_k)
        num_active_blocks = self._level(random, self.grid.blocks_by_count)
        if random.random() < self.own_blocks_fraction:
            return self.grid.setting(tier=tier, top_k=top_k, num_active_blocks=num_active_blocks)
        first, *others = self.full.active_blocks
        blocks = (first, *sorted(random.sample(others, num_active_blocks - 1)))
        return KnobSetting(tier=tier, top_k=top_k, active_blocks=blocks)

    def _level(self, random: Random, levels: Iterable[int]) -> int:
        ordered = sorted(levels)
        weights = range(1, len(ordered) + 1) if self.levels == "mostly_high" else [1] * len(ordered)
        return random.choices(ordered, weights=weights)[0]
