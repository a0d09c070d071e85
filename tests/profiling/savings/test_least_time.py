from itertools import product

import numpy as np
import pytest

from profiling.savings.least_time import least_time

TIME_MS = np.asarray([[10.0, 20.0, 40.0], [10.0, 20.0, 40.0]])
ACCURACY = np.asarray([[0.5, 0.9, 1.0], [0.2, 0.4, 1.0]])


@pytest.mark.parametrize(
    ("target", "chosen"),
    [(0.35, [0, 0]), (0.36, [1, 0]), (0.75, [0, 2]), (0.76, [1, 2]), (1.0, [2, 2])],
)
def test_the_least_time_that_reaches_a_target_is_found(target: float, chosen: list[int]) -> None:
    assert least_time(TIME_MS, ACCURACY, np.ones(2), target=target).tolist() == chosen


def test_groups_count_by_their_weights() -> None:
    # With nine questions of the first kind, 0.9 * 0.9 + 0.1 * 0.2 is enough.
    assert least_time(TIME_MS, ACCURACY, np.asarray([9.0, 1.0]), target=0.83).tolist() == [1, 0]


def test_a_target_out_of_reach_gets_the_most_there_is() -> None:
    assert least_time(TIME_MS, ACCURACY - 0.1, np.ones(2), target=1.0).tolist() == [2, 2]


def test_it_is_as_good_as_trying_everything() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        time_ms, accuracy = rng.uniform(1, 50, size=(4, 6)), rng.integers(0, 11, size=(4, 6)) / 10
        weight = rng.integers(1, 5, size=4).astype(float)
        target = 0.7 * float(weight @ accuracy.max(axis=1)) / weight.sum()
        groups = np.arange(4)
        enough = [
            float(weight @ time_ms[groups, choice])
            for choice in product(range(6), repeat=4)
            if weight @ accuracy[groups, choice] >= target * weight.sum() - 1e-9
        ]
        chosen = least_time(time_ms, accuracy, weight, target=target)
        assert weight @ accuracy[groups, chosen] >= target * weight.sum() - 1e-6
        assert weight @ time_ms[groups, chosen] == pytest.approx(min(enough))
