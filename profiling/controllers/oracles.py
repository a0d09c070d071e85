"""Choosers that know what they could not: how much of the gap to them is luck, and how much could be learned."""

# Shape suffixes: G = budgets, N = samples, M = samples of other folds, S = settings.

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from profiling.controllers.feature_scale import FeatureScale
from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes, join_outcomes
from profiling.controllers.requests import Requests, policy_of
from profiling.controllers.smoothers import Smoother, choose_by, forest_smoother, smoothed
from profiling.splits import image_folds

NUM_FOLDS: Final = 5
_RIDGE_FRACTION: Final = 0.1  # of the mean variance of a setting's accuracy


def realised(requests: Requests, budgets_ms: Sequence[float]) -> Codes:
    """Choose by what really came out, luck included: no policy can do better.

    Of equally right answers in time the fastest, and the fastest of all where none is right in time.
    """
    outcomes = requests.outcomes
    ms_NS = outcomes.realised_ms_NS
    speed_NS = -np.nan_to_num(ms_NS) / np.nanmax(ms_NS)

    def values(_requests: Requests, budget_ms: float) -> Array:
        return np.nan_to_num(outcomes.realised_goodput_NS(budget_ms)) + 1e-9 * speed_NS

    return policy_of(values)(requests, budgets_ms)


def feature_limited(training: Requests, requests: Requests, budgets_ms: Sequence[float], *, seed: int) -> Codes:
    """Choose by a large model of all features, pictures included, that is also taught the other folds of the test.

    About the most that a controller with these features can reach, from below.
    """
    chosen_GN = np.zeros((len(budgets_ms), len(requests)), dtype=np.int64)
    for fold in _cross_fit(training, requests, seed=seed):
        asked = requests.take(fold.is_asked_N)
        chosen_GN[:, fold.is_asked_N] = choose_by(fold.smoother, fold.teachers, asked, budgets_ms)
    return chosen_GN


def noise_free(training: Requests, requests: Requests, budgets_ms: Sequence[float], *, seed: int) -> Codes:
    """Choose as ``realised`` does, but without the luck of the cell that is chosen.

    How right a setting is, is guessed by the large model, and from how much better or worse than its guesses the same
    sample's *other* settings did, by a law that other folds of images teach. How long it takes is known from other runs
    of the cell; where there is one run the time is the realised one.
    """
    outcomes = requests.outcomes
    guess_NS = np.zeros(outcomes.accuracy_NS.shape)
    cross_fit = _cross_fit(training, requests, seed=seed)
    for fold in cross_fit:
        guess_NS[fold.is_asked_N] = smoothed(fold.smoother, fold.teachers.accuracy_NS)
    surprise_NS = np.nan_to_num(outcomes.accuracy_NS - guess_NS)
    for fold in cross_fit:
        guess_NS[fold.is_asked_N] += expected_surprise(surprise_NS[~fold.is_asked_N], surprise_NS[fold.is_asked_N])
    known_ms_NS = np.nan_to_num(outcomes.repeated_ms_NS)
    speed_NS = -known_ms_NS / known_ms_NS.max()

    def values(_requests: Requests, budget_ms: float) -> Array:
        in_time_NS = known_ms_NS <= budget_ms
        values_NS: Array = np.where(in_time_NS, 0.01 + guess_NS.clip(0, 1), 0.0) + 1e-6 * speed_NS
        return values_NS

    return policy_of(values)(requests, budgets_ms)


def expected_surprise(taught_MS: Array, asked_NS: Array) -> Array:
    """Guess each cell's surprise from the same sample's other cells: ``(samples, settings)``.

    A surprise is an accuracy minus its guess, 0 where nothing was measured. Taken is the conditional mean of a normal
    law of mean 0 whose covariance the samples of other folds have.
    """
    num_settings = taught_MS.shape[1]
    covariance_SS = taught_MS.T @ taught_MS / len(taught_MS)
    ridge = _RIDGE_FRACTION * max(float(np.trace(covariance_SS)) / num_settings, 1e-6)
    precision_SS = np.linalg.inv(covariance_SS + ridge * np.eye(num_settings))
    expected_NS: Array = asked_NS - asked_NS @ precision_SS / np.diag(precision_SS)
    return expected_NS


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """A fold of the samples asked about, and what the others teach of it."""

    is_asked_N: Mask
    teachers: Outcomes
    smoother: Smoother


@lru_cache(maxsize=1)  # both oracles ask it of the same samples, and it takes most of their time
def _cross_fit(training: Requests, requests: Requests, *, seed: int) -> list[_Fold]:
    scale = FeatureScale(training.features, sees_picture=True)
    known_MF, asked_NF = scale(training.features), scale(requests.features)
    found = []
    for number, is_asked_N in enumerate(folds(requests, seed=seed)):
        teachers = join_outcomes([training.outcomes, requests.outcomes.take(~is_asked_N)])
        taught_MF = np.concatenate([known_MF, asked_NF[~is_asked_N]])
        smoother = forest_smoother(taught_MF, teachers, asked_NF[is_asked_N], seed=seed + number)
        found.append(_Fold(is_asked_N=is_asked_N, teachers=teachers, smoother=smoother))
    return found


def folds(requests: Requests, *, seed: int) -> list[Mask]:
    """Deal the images into folds: a mask of samples for each.

    Raises:
        ValueError: If there are fewer than two images.
    """
    num_images = len(set(requests.image_ids))
    if num_images < 2:
        raise ValueError(f"oracle: needs samples of 2 images or more to learn from others, got {num_images}")
    return image_folds(requests.image_ids, min(NUM_FOLDS, num_images), seed=seed)
