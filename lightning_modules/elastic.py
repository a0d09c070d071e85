"""Elastic training: every step runs with other knobs, so that one checkpoint serves every setting."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from models.knobs import KnobGrid, KnobSetting

_SPREAD_FRACTION: Final = 0.5  # of the draws: the grid's own blocks


@dataclass(frozen=True, kw_only=True)
class ElasticDraw:
    """Draw the setting of a training step. Every process draws the same, and so does a run that goes on later.

    Tiers come equally often. Levels of top_k and of the number of blocks come in the ratio 1 : 2 : 3 and so on, from
    the lowest up: the more a step leaves out, the more it disturbs what several blocks work out together.

    Half of the draws run the grid's own blocks, which are those that are served; the others run random ones, block 0
    always among them, so that no choice of blocks by importance is strange to the model.

    Args:
        grid: Levels to draw from.
        full: The setting with everything on.
        full_fraction: Share of steps with that setting.
        seed: Of the draws.

    Raises:
        ValueError: If the share is none.
    """

    grid: KnobGrid
    full: KnobSetting
    full_fraction: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.full_fraction <= 1:
            raise ValueError(f"full_fraction: must be between 0 and 1, got {self.full_fraction}")

    def setting(self, step: int) -> KnobSetting:
        """Draw for a step."""
        random = Random(f"{self.seed}/{step}")  # noqa: S311 - no secret
        if random.random() < self.full_fraction:
            return self.full
        tier = random.choice(self.grid.tiers).name
        top_k = _mostly_high(random, self.grid.top_k)
        num_active_blocks = _mostly_high(random, self.grid.blocks_by_count)
        if random.random() < _SPREAD_FRACTION:
            return self.grid.setting(tier=tier, top_k=top_k, num_active_blocks=num_active_blocks)
        first, *others = self.full.active_blocks
        blocks = (first, *sorted(random.sample(others, num_active_blocks - 1)))
        return KnobSetting(tier=tier, top_k=top_k, active_blocks=blocks)


def _mostly_high(random: Random, levels: Iterable[int]) -> int:
    """Choose a level; the lowest has weight 1, the next 2."""
    ordered = sorted(levels)
    return random.choices(ordered, weights=range(1, len(ordered) + 1))[0]
