"""Simple predictors of a component's latency, to judge the trained estimator by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

Array = npt.NDArray[np.float64]
Predictor = Callable[[Array], Array]
"""Maps inputs ``(rows, inputs)`` to milliseconds ``(rows,)``."""


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
    problem = np.column_stack([weighted / scale, np.ones(len(target_ms))])
    triangle: Array = np.asarray(np.linalg.qr(problem, mode="r"))
    coefficients, _ = nnls(triangle[:, :-1], triangle[:, -1])
    return np.asarray(coefficients / scale, dtype=np.float64)


def fit_mean(features: Array, target_ms: Array) -> Predictor:
    """Predict the mean of the training rows."""
    return _predictor(DummyRegressor().fit(features, target_ms))


def fit_linear(features: Array, target_ms: Array) -> Predictor:
    """Regress milliseconds linearly."""
    return _predictor(LinearRegression().fit(features, target_ms))


def fit_nonnegative(terms: Array, target_ms: Array) -> Predictor:
    """Fit non-negative least squares."""
    coefficients = nonnegative_coefficients(terms, target_ms)
    return lambda terms: terms @ coefficients


def fit_boosting(features: Array, target_ms: Array) -> Predictor:
    """Boost trees on the logarithm, which favours relative error as the estimator does."""
    model = HistGradientBoostingRegressor(max_iter=200, random_state=0).fit(features, np.log(target_ms))
    return lambda features: np.asarray(np.exp(model.predict(features)))


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A simple predictor.

    Args:
        reads: Whether it is given the features of a request or its physical terms.
        fit: From ``(rows, inputs)`` and milliseconds ``(rows,)`` to a predictor.
    """

    reads: Literal["features", "terms"]
    fit: Callable[[Array, Array], Predictor]


BASELINES: Final[Mapping[str, Baseline]] = {
    "mean": Baseline(reads="features", fit=fit_mean),
    "linear": Baseline(reads="features", fit=fit_linear),
    "nnls": Baseline(reads="terms", fit=fit_nonnegative),
    "boosting": Baseline(reads="features", fit=fit_boosting),
}


def _predictor(model: DummyRegressor | LinearRegression) -> Predictor:
    return lambda features: np.asarray(model.predict(features))
