import numpy as np
import pytest

from profiling.standing import bootstrap_p_value, holm, standings

IMAGES = [f"i{place // 2}" for place in range(40)]


def test_holms_correction_is_that_of_the_textbook() -> None:
    corrected = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9})
    assert corrected == pytest.approx({"b": 0.04, "c": 0.09, "a": 0.09, "d": 0.9})
    assert holm({"a": 0.8, "b": 0.7}) == {"b": 1.0, "a": 1.0}


def test_a_p_value_is_twice_the_smaller_tail() -> None:
    draws = np.concatenate([np.full(1950, 1.0), np.full(50, -1.0)])
    assert bootstrap_p_value(draws) == pytest.approx(2 * 51 / 2001)
    assert bootstrap_p_value(-draws) == pytest.approx(2 * 51 / 2001)
    assert bootstrap_p_value(np.zeros(2000)) == 1.0


def test_a_p_value_is_as_small_as_so_many_draws_can_say() -> None:
    base = np.random.default_rng(0).random(40)
    found = standings({"base": base, "ahead": base + 0.1}, IMAGES, reference="base", seed=0)
    assert found["ahead"].p_value == pytest.approx(2 / 20001)
    many = {f"ahead{place}": base + 0.1 for place in range(40)}
    found = standings({"base": base, **many}, IMAGES, reference="base", seed=0)
    assert found["ahead7"].p_value == pytest.approx(40 * 2 / 20001)
    assert found["ahead7"].verdict == "better"


def test_who_does_the_same_differs_by_nothing_at_all() -> None:
    base = np.random.default_rng(0).random(40) / 3  # sums of thirds round
    found = standings({"base": base, "worse": base - 0.1, "same": base.copy()}, IMAGES, reference="base", seed=0)
    same = found["same"]
    assert (same.difference.value, same.difference.low, same.difference.high) == (0.0, 0.0, 0.0)
    assert (same.p_value, same.verdict) == (1.0, "tie")
    assert found["worse"].verdict == "worse"
    assert found["worse"].cells(is_reference=False) == ("-0.100 [-0.100, -0.100]", "0.0002", "worse")
    assert found["base"].cells(is_reference=True) == ("reference", "-", "-")
    assert found["worse"].goodput.value == pytest.approx(base.mean() - 0.1)


def test_policies_without_doubt_cost_the_others_nothing() -> None:
    base = np.random.default_rng(0).random(40)
    rows = {"base": base, "ahead": base + 0.1, "oracle": base + 0.2}
    found = standings(rows, IMAGES, reference="base", seed=0, uncorrected=("oracle",))
    assert found["ahead"].p_value == found["oracle"].p_value == pytest.approx(2 / 20001)
