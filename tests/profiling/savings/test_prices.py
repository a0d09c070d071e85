"""Settings that take the least time where a right answer is worth some of it."""

from itertools import product

import numpy as np
import pytest

from profiling.savings.prices import choose, least_time

LATENCY_MS = np.asarray([[10.0, 20.0, 40.0], [10.0, 20.0, 40.0]])
ACCURACY = np.asarray([[0.5, 0.9, 1.0], [0.2, 0.4, 1.0]])


@pytest.mark.parametrize(("price_ms", "chosen"), [(0, [0, 0]), (26, [1, 0]), (38, [1, 2]), (201, [2, 2])])
def test_what_an_answer_is_worth_decides(price_ms: float, chosen: list[int]) -> None:
    # From the first setting to the second: 10 ms for 0.4 or 0.2; from the second to the third 20 ms for 0.1 or 0.6.
    assert choose(LATENCY_MS, ACCURACY, price_ms).tolist() == chosen


@pytest.mark.parametrize(("target", "chosen"), [(0.35, [0, 0]), (0.36, [1, 0]), (0.6, [1, 2]), (1.0, [2, 2])])
def test_a_target_is_reached_at_the_lowest_price(target: float, chosen: list[int]) -> None:
    assert least_time(LATENCY_MS, ACCURACY, target=target).tolist() == chosen


def test_a_target_out_of_reach_gets_the_most_there_is() -> None:
    assert least_time(LATENCY_MS, ACCURACY - 0.1, target=1.0).tolist() == [2, 2]


def test_nothing_as_accurate_is_faster() -> None:
    rng = np.random.default_rng(0)
    questions = np.arange(4)
    for _ in range(20):
        latency_ms, accuracy = rng.uniform(1, 50, size=(4, 6)), rng.integers(0, 11, size=(4, 6)) / 10
        target = 0.7 * float(accuracy.max(axis=1).mean())
        chosen = least_time(latency_ms, accuracy, target=target)
        reached, took = accuracy[questions, chosen].mean(), latency_ms[questions, chosen].sum()
        assert reached >= target - 1e-9
        others = [np.asarray(other) for other in product(range(6), repeat=4)]
        as_accurate = [other for other in others if accuracy[questions, other].mean() >= reached - 1e-9]
        assert took == pytest.approx(min(latency_ms[questions, other].sum() for other in as_accurate))
