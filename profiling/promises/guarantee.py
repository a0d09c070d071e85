"""Learn-then-Test (Angelopoulos et al., 2021): the smallest margin with which a finished policy keeps its promise.

The promise for a budget: with probability ``1 - delta`` over the calibration runs, at most a share ``alpha`` of
requests like those of the calibration is missed. It is about the policy as a whole, its choices and its stopping
included.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, get_args

from scipy.stats import binom

from profiling.promises.conformal import check_share

Correction = Literal["bonferroni", "holm"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Fresh runs of the policy under one budget with one margin.

    Args:
        num_requests: Runs that count.
        num_misses: Those of them that broke the promise.
    """

    num_requests: int
    num_misses: int

    def p_value(self, alpha: float) -> float:
        """Return the chance of so few misses, were the share of misses just above ``alpha``; exact binomial."""
        return float(binom.cdf(self.num_misses, self.num_requests, alpha)) if self.num_requests else 1.0


@dataclass(frozen=True, kw_only=True)
class Level:
    """How much is promised, and how surely.

    Args:
        alpha: Share of misses allowed.
        delta: Chance that a promise of any budget is not kept, over calibration runs.
        correction: How delta is shared among budgets: evenly for good, or also handed on by budgets that are done.

    Raises:
        ValueError: If a share is not between 0 and 1, or there is no such correction.
    """

    alpha: float = 0.05
    delta: float = 0.05
    correction: Correction = "holm"

    def __post_init__(self) -> None:
        check_share("alpha", self.alpha)
        check_share("delta", self.delta)
        if self.correction not in get_args(Correction):
            raise ValueError(f"correction: must be one of {', '.join(get_args(Correction))}, got {self.correction!r}")

    def needed_requests(self, num_budgets: int = 1) -> int:
        """Return the fewest requests of a budget that could show the promise, with no miss among them."""
        return math.ceil(round(math.log(self.delta / num_budgets) / math.log1p(-self.alpha), 9))

    def check_requests(self, num_requests: int, num_budgets: int) -> None:
        """Check that there are enough requests to promise anything.

        Raises:
            ValueError: If not; the message says how many are needed.
        """
        needed = self.needed_requests(num_budgets)
        if num_requests < needed:
            raise ValueError(
                f"num_requests: {needed} or more are needed to promise at most {self.alpha:.3g} misses with confidence "
                f"{1 - self.delta:.3g} for {num_budgets} budgets, even if none of them is missed; got {num_requests}"
            )


def smallest_margins(
    run: Callable[[float, float], Trial],
    budgets_ms: Sequence[float],
    margins: Sequence[float],
    level: Level,
) -> dict[float, float | None]:
    """Find for each budget the smallest margin for which the promise is shown.

    Margins are tested from the largest down, a fixed sequence: each budget stops at the first that is not shown, so
    that only the budgets share delta. With ``holm``, a budget for which every margin was shown hands its part on.
    Where only requests that were served count, the sequence begins at the first margin that serves enough of them.

    Args:
        run: Runs the policy under a budget with a margin; called once for each pair that is reached.
        budgets_ms: The budgets.
        margins: Shares of the budget to keep back, safest first.
        level: What to promise.

    Returns:
        The margin of each budget; ``None`` where nothing can be promised.

    Raises:
        ValueError: If margins do not fall, or one is not in [0, 1).
    """
    _check_margins(margins)
    chains = [_Chain(partial(run, budget_ms), margins, level) for budget_ms in budgets_ms]
    active = chains
    while active:
        num_sharing = len(active) if level.correction == "holm" else len(chains)
        for chain in active:
            chain.advance(num_sharing)
        left = [chain for chain in active if not chain.is_over]
        if len(left) == len(active) or level.correction == "bonferroni":
            break
        active = left
    return {budget_ms: chain.shown for budget_ms, chain in zip(budgets_ms, chains, strict=True)}


class _Chain:
    """The tests of one budget."""

    def __init__(self, run: Callable[[float], Trial], margins: Sequence[float], level: Level) -> None:
        self._run = lru_cache(maxsize=None)(run)
        self._margins = margins
        self._level = level
        self._place = 0
        self.shown: float | None = None

    @property
    def is_over(self) -> bool:
        return self._place == len(self._margins)

    def advance(self, num_sharing: int) -> None:
        """Test on until a margin is not shown at a share of delta."""
        needed = self._level.needed_requests(num_sharing)
        while not self.is_over:
            trial = self._run(self._margins[self._place])
            is_too_small = self.shown is None and trial.num_requests < needed
            if not is_too_small:
                if trial.p_value(self._level.alpha) > self._level.delta / num_sharing:
                    return
                self.shown = self._margins[self._place]
            self._place += 1


def _check_margins(margins: Sequence[float]) -> None:
    if not margins or list(margins) != sorted(set(margins), reverse=True) or not 0 <= margins[-1] <= margins[0] < 1:
        raise ValueError(
            f"margins: need shares of a budget in [0, 1), each smaller than the one before, got {list(margins)}"
        )
