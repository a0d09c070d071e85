"""Split-conformal quantiles: what the next score stays below, whatever its law, if it comes as those before it."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[float] | NDArray[np.float64]


def conformal_quantile(scores: Scores, alpha: float) -> float:
    """Return a bound that the next score exceeds with probability ``alpha`` at most, over scores and the next one.

    It is the ``ceil((n + 1) * (1 - alpha))``-th smallest of n scores, and infinite where that is more than n: so few
    scores bound nothing.

    Args:
        scores: Exchangeable with the next one; NaN where nothing was measured.
        alpha: Share of misses allowed, in (0, 1).

    Raises:
        ValueError: If alpha is out of range.
    """
    check_share("alpha", alpha)
    known = np.asarray(scores, dtype=np.float64)
    known = np.sort(known[np.isfinite(known)])
    # Floating point would make 19.000000000000004 of 20 * 0.95, and a rank too many.
    rank = math.ceil(round((len(known) + 1) * (1 - alpha), 9))
    return float(known[rank - 1]) if rank <= len(known) else math.inf


def needed_scores(alpha: float) -> int:
    """Return the fewest scores that bound anything, see ``conformal_quantile``."""
    check_share("alpha", alpha)
    return math.ceil(round(1 / alpha - 1, 9))


def check_share(name: str, share: float) -> None:
    """Check that a number is a share strictly between none and all.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < share < 1:
        raise ValueError(f"{name}: must be between 0 and 1, got {share}")
