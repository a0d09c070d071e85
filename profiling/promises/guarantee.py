"""Learn-then-Test (Angelopoulos et al., 2021): the smallest margin with which a finished policy keeps its promise.

The promise for a budget: with probability ``1 - delta`` over the calibration runs, at most a share ``alpha`` of
requests like those of the calibration is missed. It is about the policy as a whole, its choices and its stopping
included.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


Pair = tuple[float, float]
"""A budget and a margin."""


def smallest_margins(
    run: Callable[[Sequence[Pair]], Sequence[Trial]],
    budgets_ms: Sequence[float],
    margins: Sequence[float],
    level: Level,
) -> dict[float, float | None]:
    """Find for each budget the smallest margin for which the promise is shown.

    Margins are tested from the largest down, a fixed sequence: each budget stops at the first that is not shown, so
    that only the budgets share delta. With ``holm``, a budget for which every margin was shown hands its part on.
    Where only requests that were served count, the sequence begins at the first margin that serves enough of them.

    Args:
        run: Runs the policy under budgets with a margin each: all budgets that are to be tested next, so that they may
            be run together. Each pair is run at most once.
        budgets_ms: The budgets.
        margins: Shares of the budget to keep back, safest first.
        level: What to promise.

    Returns:
        The margin of each budget; ``None`` where nothing can be promised.

    Raises:
        ValueError: If margins do not fall, or one is not in [0, 1).
    """
    _check_margins(margins)
    chains = [_Chain(budget_ms, margins, level) for budget_ms in budgets_ms]
    left = chains
    while left:
        num_sharing = len(left)
        _advance(left, run, num_sharing)
        left = [chain for chain in left if not chain.is_over]
        if level.correction == "bonferroni" or len(left) == num_sharing:
            break
    return {chain.budget_ms: chain.shown for chain in chains}


def _advance(chains: Sequence["_Chain"], run: Callable[[Sequence[Pair]], Sequence[Trial]], num_sharing: int) -> None:
    """Test margin after margin, all budgets side by side, until none is shown at a share of delta."""
    while chains:
        untried = [chain for chain in chains if chain.trial is None]
        if untried:
            for chain, trial in zip(untried, run([chain.pair for chain in untried]), strict=True):
                chain.trial = trial
        chains = [chain for chain in chains if chain.goes_on(num_sharing)]


class _Chain:
    """The tests of one budget; ``trial`` is that of the margin it has come to, once it was run."""

    def __init__(self, budget_ms: float, margins: Sequence[float], level: Level) -> None:
        self.budget_ms = budget_ms
        self.shown: float | None = None
        self.trial: Trial | None = None
        self._margins = margins
        self._level = level
        self._place = 0

    @property
    def is_over(self) -> bool:
        return self._place == len(self._margins)

    @property
    def pair(self) -> Pair:
        return self.budget_ms, self._margins[self._place]

    def goes_on(self, num_sharing: int) -> bool:
        """Test a margin at a share of delta; say whether the next one is to be tested."""
        assert self.trial is not None
        is_too_small = self.shown is None and self.trial.num_requests < self._level.needed_requests(num_sharing)
        if not is_too_small:
            if self.trial.p_value(self._level.alpha) > self._level.delta / num_sharing:
                return False
            self.shown = self._margins[self._place]
        self._place, self.trial = self._place + 1, None
        return not self.is_over


def _check_margins(margins: Sequence[float]) -> None:
    if not margins or list(margins) != sorted(set(margins), reverse=True) or not 0 <= margins[-1] <= margins[0] < 1:
        raise ValueError(
            f"margins: need shares of a budget in [0, 1), each smaller than the one before, got {list(margins)}"
        )
