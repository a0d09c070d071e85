"""Elastic training: every step runs with other knobs, so that one checkpoint serves every setting."""

from dataclasses import dataclass
from random import Random

from models.knobs import KnobGrid, KnobSetting


@dataclass(frozen=True, kw_only=True)
class ElasticDraw:
    """Draw the setting of a training step. Every process draws the same, and so does a run that goes on later.

    Args:
        grid: Levels to draw from, each as often as the others. The blocks that run are drawn afresh, block 0 always
            among them, so that no choice of blocks by importance is strange to the model.
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
        others = random.sample(self.full.active_blocks[1:], random.choice(list(self.grid.blocks_by_count)) - 1)
        return KnobSetting(
            tier=random.choice(self.grid.tiers).name,
            top_k=random.choice(self.grid.top_k),
            active_blocks=(self.full.active_blocks[0], *sorted(others)),
        )
