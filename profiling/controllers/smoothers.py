"""Guess a request's outcomes from those of training samples that resemble it."""

# Shape suffixes: M = training samples, N = samples asked about, S = settings, F = numbers known of a sample.

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from scipy import sparse
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder

from profiling.controllers.feature_scale import FeatureScale
from profiling.controllers.outcomes import Array, Codes, Outcomes
from profiling.controllers.requests import Policy, Requests, choose

Smoother = Callable[[Array], Array]
"""Averages values of training samples ``(training, settings)`` over those that resemble each sample asked about."""

KNN_COUNTS: Final = (8, 16, 32, 64, 128)
_NUM_TREES: Final = 100
_LEAF_SAMPLES: Final = 32  # fewer follow the noise, more blur what tells requests apart


def expected_goodput(smoother: Smoother, training: Outcomes, budget_ms: float) -> Array:
    """Guess the goodput accuracy of every setting: ``(samples, settings)``; cells not measured have no say.

    A hundredth of the share in time is added, so that where nothing is right something is in time.
    """
    in_time_MS = training.latency_ms_NS <= budget_ms  # not true of gaps
    return smoothed(smoother, training.goodput_NS(budget_ms) + 0.01 * in_time_MS)


def smoothed(smoother: Smoother, values_MS: Array) -> Array:
    """Average values over similar training samples, those left out that have none: ``(samples, settings)``."""
    is_there_MS = np.isfinite(values_MS)
    total_NS = smoother(np.where(is_there_MS, values_MS, 0.0))
    weight_NS = smoother(is_there_MS.astype(np.float64))
    return np.divide(total_NS, weight_NS, out=np.zeros_like(total_NS), where=weight_NS > 0)


def choose_by(smoother: Smoother, training: Outcomes, requests: Requests, budgets_ms: Sequence[float]) -> Codes:
    """Choose what has the best guessed goodput accuracy: ``(budgets, samples)``.

    Args:
        smoother: From the training samples to the requests.
        training: Outcomes of the training samples.
        requests: What to choose for.
        budgets_ms: Under which budgets.
    """
    guesses = (expected_goodput(smoother, training, budget_ms) for budget_ms in budgets_ms)
    return np.stack([choose(guess_NS, requests) for guess_NS in guesses])


def knn(training: Requests, validation: Requests, budgets_ms: Sequence[float]) -> Policy:
    """Choose what has the best goodput accuracy among the nearest training samples.

    Near in free features, question and overview. How many are asked is chosen by goodput accuracy on the validation
    part.
    """
    scale = FeatureScale(training.features, sees_picture=False)
    counts = sorted({min(count, len(training)) for count in KNN_COUNTS})
    index = NearestNeighbors().fit(scale(training.features))

    def policy_of_count(count: int) -> Policy:
        def policy(requests: Requests, asked_ms: Sequence[float]) -> Codes:
            weights = index.kneighbors_graph(scale(requests.features), n_neighbors=count) / count
            return choose_by(lambda values_MS: np.asarray(weights @ values_MS), training.outcomes, requests, asked_ms)

        return policy

    reached = [mean_goodput(policy_of_count(count), validation, budgets_ms) for count in counts]
    return policy_of_count(counts[int(np.argmax(reached))])


def mean_goodput(policy: Policy, requests: Requests, budgets_ms: Sequence[float]) -> float:
    """Return a policy's goodput accuracy over samples and budgets, all runs counted."""
    chosen_GN = policy(requests, budgets_ms)
    goodput_GN = [
        np.take_along_axis(requests.outcomes.goodput_NS(budget_ms), chosen_N[:, None], axis=1)[:, 0]
        for budget_ms, chosen_N in zip(budgets_ms, chosen_GN, strict=True)
    ]
    return float(np.mean(goodput_GN))


def forest_smoother(known_MF: Array, training: Outcomes, asked_NF: Array, *, seed: int) -> Smoother:
    """Grow trees that tell accuracies and latencies apart; samples in one leaf resemble each other.

    Args:
        known_MF: ``(training, numbers)`` what is known of the training samples.
        training: Their outcomes.
        asked_NF: ``(samples, numbers)`` what is known of the samples asked about.
        seed: Of the trees.
    """
    forest = ExtraTreesRegressor(
        n_estimators=_NUM_TREES, min_samples_leaf=_LEAF_SAMPLES, max_features=1 / 3, random_state=seed
    )
    forest.fit(known_MF, _targets(training))
    encoder = OneHotEncoder().fit(forest.apply(known_MF))
    known, asked = (sparse.csr_array(encoder.transform(forest.apply(numbers))) for numbers in (known_MF, asked_NF))
    sizes = np.asarray(known.sum(axis=0))

    def smoother(values_MS: Array) -> Array:
        return np.asarray(asked @ ((known.T @ values_MS) / sizes[:, None])) / _NUM_TREES

    return smoother


def _targets(training: Outcomes) -> Array:
    """Return what the trees are grown by: accuracies and logarithms of latencies, a gap being its column's mean."""
    return np.column_stack([_filled(training.accuracy_NS), _filled(np.log(training.latency_ms_NS))])


def _filled(values_MS: Array) -> Array:
    """Centre each column on its mean, put the mean in its gaps, and give the whole a spread of 1."""
    centered_MS = np.nan_to_num(values_MS - np.nanmean(values_MS, axis=0))
    scaled_MS: Array = centered_MS / max(float(centered_MS.std()), 1e-12)
    return scaled_MS
