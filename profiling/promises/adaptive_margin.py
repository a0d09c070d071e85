"""A margin that follows what happens (adaptive conformal inference, Gibbs and Candes, 2021)."""

from dataclasses import dataclass

from profiling.promises.conformal import check_share


@dataclass(kw_only=True)
class AdaptiveMargin:
    """Keep more back after a miss, a little less after each answer in time.

    In the long run the share of misses tends to ``alpha`` whatever the device does, as long as a margin within the
    limits can bring it there. That is about the average over time, and no promise of Learn-then-Test.

    Args:
        margin: Share of the budget that is kept back; where it starts.
        alpha: Share of misses aimed at.
        step: How far a miss moves the margin.
        largest: Largest margin.

    Raises:
        ValueError: If a number is out of range.
    """

    margin: float
    alpha: float
    step: float = 0.05
    largest: float = 0.5

    def __post_init__(self) -> None:
        check_share("alpha", self.alpha)
        check_share("step", self.step)
        if not 0 <= self.margin <= self.largest < 1:
            raise ValueError(f"margin: needs 0 <= margin <= largest < 1, got {self.margin} and {self.largest}")

    def update(self, *, is_miss: bool) -> None:
        """Learn from a request."""
        moved = self.margin + self.step * (is_miss - self.alpha)
        self.margin = min(max(moved, 0.0), self.largest)
