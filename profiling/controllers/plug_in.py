"""Choose by a model of each part: how right every setting is likely to be, and how likely it is to be in time."""

# Shape suffixes: M = training samples, V = validation samples, N = samples asked about, S = settings, F = numbers.

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import RidgeCV

from profiling.controllers.feature_scale import FeatureScale
from profiling.controllers.outcomes import Array, Codes
from profiling.controllers.requests import Policy, Requests, choose

_PENALTIES = np.logspace(-3, 4, 15)


def plug_in(training: Requests, validation: Requests) -> Policy:
    """Choose what has the highest product of predicted accuracy and predicted chance to be in time.

    Both come from linear models of free features, question and overview, one for accuracy and one for the logarithm of
    latency. The chance is the share of the validation part's errors, setting by setting, that would keep the budget.
    """
    scale = FeatureScale(training.features, sees_picture=False)
    known_MF = scale(training.features)
    accuracy = _fitted(known_MF, training.outcomes.accuracy_NS)
    log_latency = _fitted(known_MF, np.log(training.outcomes.latency_ms_NS))
    expected_VS = np.asarray(log_latency.predict(scale(validation.features)))
    error_VS = np.log(validation.outcomes.latency_ms_NS) - expected_VS

    def policy(requests: Requests, budgets_ms: Sequence[float]) -> Codes:
        asked_NF = scale(requests.features)
        accuracy_NS = np.asarray(accuracy.predict(asked_NF)).clip(1e-3, 1)
        log_ms_NS = np.asarray(log_latency.predict(asked_NF))
        return np.stack(
            [
                choose(accuracy_NS * _chance(np.log(budget_ms) - log_ms_NS, error_VS), requests)
                for budget_ms in budgets_ms
            ]
        )

    return policy


def _fitted(known_MF: Array, values_MS: Array) -> RidgeCV:
    """Fit a linear model of each column; gaps take the column's mean, so that they say nothing of the features."""
    filled_MS = np.where(np.isfinite(values_MS), values_MS, np.nanmean(values_MS, axis=0))
    return RidgeCV(alphas=_PENALTIES).fit(known_MF, filled_MS)


def _chance(allowed_NS: Array, error_VS: Array) -> Array:
    """Return the share of each setting's errors that are at most what is allowed: ``(samples, settings)``."""
    chance_NS = np.empty_like(allowed_NS)
    for s, error_V in enumerate(error_VS.T):
        known_V = np.sort(error_V[np.isfinite(error_V)])
        # As if one more error were half a step away on either side, so that no chance is quite 0.
        below_N = np.searchsorted(known_V, allowed_NS[:, s], side="right")
        chance_NS[:, s] = (below_N + 0.5) / (len(known_V) + 1)
    return chance_NS
