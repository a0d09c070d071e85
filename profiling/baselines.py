"""Simple predictors of a component's latency, to judge the trained estimator by."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

Array = npt.NDArray[np.float64]
Predictor = Callable[[Array, Array], Array]
"""Maps features ``(rows, features)`` and terms ``(rows, terms)`` to milliseconds ``(rows,)``."""


def nonnegative_coefficients(terms: Array, target_ms: Array) -> Array:
    """Fit ``target = terms @ coefficients`` with no coefficient below zero, minimizing the relative error.

    Args:
        terms: ``(rows, terms)``; columns may be all zero.
        target_ms: ``(rows,)`` positive.

    Returns:
        Coefficients, ``(terms,)``.
    """
    weighted = terms / target_ms[:, None]
    scale = np.sqrt((weighted**2).mean(axis=0))
    scale[scale == 0] = 1.0
    # The triangle of a QR factorization poses the same problem in as many rows as there are terms.
    triangle = np.linalg.qr(np.column_stack([weighted / scale, np.ones(len(target_ms))]), mode="r")
    coefficients, _ = nnls(triangle[:, :-1], triangle[:, -1])
    return np.asarray(coefficients / scale, dtype=np.float64)


def fit_mean(features: Array, terms: Array, target_ms: Array) -> Predictor:
    """Predict the mean of the training rows."""
    mean_ms = float(target_ms.mean())
    return lambda features, terms: np.full(len(features), mean_ms)


def fit_linear(features: Array, terms: Array, target_ms: Array) -> Predictor:
    """Regress milliseconds linearly on the features."""
    model = LinearRegression().fit(features, target_ms)
    return lambda features, terms: np.asarray(model.predict(features))


def fit_nonnegative(features: Array, terms: Array, target_ms: Array) -> Predictor:
    """Fit non-negative least squares on the physical terms."""
    coefficients = nonnegative_coefficients(terms, target_ms)
    return lambda features, terms: terms @ coefficients


def fit_boosting(features: Array, terms: Array, target_ms: Array) -> Predictor:
    """Boost trees on the logarithm, which favours relative error as the estimator does."""
    model = HistGradientBoostingRegressor(max_iter=200, random_state=0).fit(features, np.log(target_ms))
    return lambda features, terms: np.exp(model.predict(features))


BASELINES: Final[Mapping[str, Callable[[Array, Array, Array], Predictor]]] = {
    "mean": fit_mean,
    "linear regression": fit_linear,
    "non-negative least squares": fit_nonnegative,
    "gradient boosting": fit_boosting,
}
