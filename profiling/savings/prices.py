"""Settings that take the least time where a right answer is worth some of it."""

# Shape suffixes: N = samples, S = settings.

from typing import Final

import numpy as np

from profiling.controllers.outcomes import Array, Codes

_ROUNDING: Final = 1e-9  # of mean accuracies
_HALVINGS: Final = 40


def choose(latency_ms_NS: Array, accuracy_NS: Array, price_ms: float) -> Codes:
    """Choose for each question what is fastest if a right answer may take so many milliseconds: ``(samples,)``."""
    return np.asarray((latency_ms_NS - price_ms * accuracy_NS).argmin(axis=1))


def least_time(latency_ms_NS: Array, accuracy_NS: Array, *, target: float) -> Codes:
    """Choose so that all questions together reach an accuracy in little time: the lowest price at which they do.

    No other choice as accurate as this one is faster; one that is just accurate enough may be, by less than what one
    question's choice is worth.

    Args:
        latency_ms_NS: ``(samples, settings)``.
        accuracy_NS: ``(samples, settings)``.
        target: Mean accuracy to reach; more than can be reached asks for the most there is.

    Returns:
        ``(samples,)`` settings.
    """
    low, high = 0.0, 1e6 * float(latency_ms_NS.max())
    needed = min(target, float(accuracy_NS.max(axis=1).mean())) - _ROUNDING
    for _ in range(_HALVINGS):
        # Prices differ by orders of magnitude.
        middle = float(np.expm1((np.log1p(low) + np.log1p(high)) / 2))
        chosen_N = choose(latency_ms_NS, accuracy_NS, middle)
        is_enough = accuracy_NS[np.arange(len(chosen_N)), chosen_N].mean() >= needed
        low, high = (low, middle) if is_enough else (middle, high)
    return choose(latency_ms_NS, accuracy_NS, high)
