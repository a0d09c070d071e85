import numpy as np
import pytest

from profiling.baselines import BASELINES, nonnegative_coefficients


def test_nonnegative_coefficients_recover_a_known_law() -> None:
    rng = np.random.default_rng(0)
    terms = rng.uniform(0.1, 5, size=(500, 3))
    target_ms = terms @ [2.0, 0.0, 0.5] * np.exp(rng.normal(0, 0.01, size=500))
    np.testing.assert_allclose(nonnegative_coefficients(terms, target_ms), [2.0, 0.0, 0.5], atol=0.02)


def test_a_term_that_never_occurs_gets_no_coefficient() -> None:
    terms = np.column_stack([np.arange(1.0, 6), np.zeros(5)])
    np.testing.assert_allclose(nonnegative_coefficients(terms, 3 * terms[:, 0]), [3, 0], atol=1e-9)


def test_a_coefficient_that_would_be_negative_is_zero() -> None:
    terms = np.column_stack([np.ones(4), [1.0, 2, 3, 4]])
    slope = nonnegative_coefficients(terms, np.array([8.0, 6, 4, 2]))[1]
    assert slope == 0


@pytest.mark.parametrize(("name", "worst"), [("mean", 1.0), ("linear", 0.05), ("nnls", 1e-6), ("boosting", 0.05)])
def test_every_baseline_predicts_new_rows_of_a_linear_law(name: str, worst: float) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.uniform(1, 3, size=(400, 2))
    target_ms = inputs @ [1.0, 2.0]
    predict = BASELINES[name].fit(inputs[:300], target_ms[:300])
    error = np.abs(predict(inputs[300:]) - target_ms[300:]) / target_ms[300:]
    assert error.mean() < worst
