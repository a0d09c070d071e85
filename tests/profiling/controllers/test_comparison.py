import numpy as np
import pytest

from profiling.controllers.comparison import compare
from profiling.controllers.evaluation import Evaluation
from profiling.controllers.outcomes import Array


def evaluation(name: str, goodput_N: Array) -> Evaluation:
    return Evaluation(name=name, budgets=(), goodput_N=goodput_N, setting_share_S=np.zeros(1))


def names_of(groups: np.ndarray) -> list[str]:
    return [f"i{group}" for group in groups]


def test_intervals_of_differences_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        common = rng.normal(size=40).repeat(2)
        one = common + rng.normal(0, 0.5, size=80)
        two = common + rng.normal(0.2, 0.5, size=80)
        standings = compare(
            [evaluation("one", one), evaluation("two", two)], names_of(np.arange(40).repeat(2)), reference="one", seed=0
        )
        difference = standings["two"].difference
        held += difference.low <= 0.2 <= difference.high
        assert difference.high - difference.low < 0.45  # far less than unpaired: each mean alone has 0.6
    assert 52 <= held <= 60


def test_equals_are_ties_and_a_clear_winner_is_none() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(300)
    rows = [
        evaluation("reference", base),
        evaluation("same", base + rng.normal(0, 0.05, size=300)),
        evaluation("better", base + rng.normal(0.05, 0.05, size=300)),
    ]
    standings = compare(rows, names_of(np.arange(300)), reference="reference", seed=0)
    assert [standings[row.name].is_tie for row in rows] == [True, True, False]
    assert standings["better"].difference.value == pytest.approx(0.05, abs=0.01)
    assert standings["reference"].difference.value == 0
    assert standings["reference"].p_value == 1
    assert compare(rows, names_of(np.arange(300)), reference="reference", seed=0) == standings


def test_the_share_of_the_gap_is_counted_from_the_best_static_table() -> None:
    rng = np.random.default_rng(0)
    low = rng.random(200) * 0.2
    rows = [
        evaluation("best_static_per_budget", low),
        evaluation("half", low + 0.2),
        evaluation("oracle_feature_limited", low + 0.4),
        evaluation("oracle_realised", low + rng.normal(0, 0.1, size=200)),
    ]
    standings = compare(rows, names_of(np.arange(200)), reference="half", seed=0)
    gap = standings["half"].gap_closed["oracle_feature_limited"]
    assert gap is not None
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.5, 0.5, 0.5))
    assert standings["half"].gap_closed["oracle_realised"] is None
    assert compare(rows[1:], names_of(np.arange(200)), reference="half", seed=0)["half"].gap_closed == {}


def test_oracles_leave_the_correction_to_the_others() -> None:
    base = np.random.default_rng(0).random(50)
    rows = [evaluation(name, base + 0.1) for name in ("one", "two", "oracle_realised", "oracle_noise_free")]
    standings = compare([evaluation("base", base), *rows], names_of(np.arange(50)), reference="base", seed=0)
    assert standings["one"].p_value == pytest.approx(2 * 2 / 20001)
    assert standings["oracle_realised"].p_value == pytest.approx(2 / 20001)


def test_a_reference_that_is_not_there_is_refused() -> None:
    rows = [evaluation("one", np.ones(3)), evaluation("two", np.ones(3))]
    with pytest.raises(ValueError, match="reference: must be one of the policies one, two, all different, got 'three'"):
        compare(rows, names_of(np.arange(3)), reference="three", seed=0)
    with pytest.raises(ValueError, match="all different"):
        compare([rows[0], rows[0]], names_of(np.arange(3)), reference="one", seed=0)
