"""Medians of values that count differently."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.savings.medians import weighted_medians

COUNTS = st.lists(st.integers(0, 4), min_size=5, max_size=5).filter(any)


def test_columns_have_medians_of_their_own_and_weights_may_be_fractions() -> None:
    values = np.asarray([[5.0, 1.0], [1.0, 2.0], [3.0, 9.0]])
    weights = np.asarray([[1, 1, 1], [0, 3, 0], [0.3, 0.0, 0.1], [0.5, 0.0, 0.5]])
    assert weighted_medians(values, weights).tolist() == [[3.0, 2.0], [1.0, 2.0], [5.0, 1.0], [3.0, 1.0]]


@given(COUNTS)
def test_a_weight_is_as_good_as_repeating(counts: list[int]) -> None:
    values = np.asarray([4.0, 8.0, 15.0, 16.0, 23.0])
    repeated = np.repeat(values, counts)
    lower = repeated[(len(repeated) - 1) // 2]
    assert weighted_medians(values[:, None], np.asarray([counts]))[0, 0] == pytest.approx(lower)
