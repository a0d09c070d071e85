"""How the accuracy of two outcomes differs, sample by sample."""

import numpy as np

from profiling.resampling import Interval, percentile_interval, resampled_means
from profiling.subsets.job import Outcome


def mean_accuracy(outcome: Outcome) -> float:
    """Return the mean of the datasets' mean accuracies."""
    return float(np.mean([values["accuracy"].mean() for values in outcome.values.values()]))


def accuracy_change(before: Outcome, after: Outcome, *, seed: int, tail_percent: float = 2.5) -> Interval:
    """Return the mean accuracy afterwards minus that before, on the same samples; every dataset weighs the same.

    The interval is over the samples of these datasets. It says nothing about other datasets: their spread does.

    Args:
        before: One outcome.
        after: Another one of the same samples.
        seed: Of the draws.
        tail_percent: What the interval leaves out on either side.
    """
    changes = [values["accuracy"] - before.values[name]["accuracy"] for name, values in after.values.items()]
    draws = [resampled_means(change[:, None], seed=seed + place)[:, 0] for place, change in enumerate(changes)]
    value = float(np.mean([change.mean() for change in changes]))
    interval = percentile_interval(value, np.mean(draws, axis=0), tail_percent=tail_percent)
    assert interval is not None, "results hold finite values only"
    return interval
