import numpy as np
import pytest
from scipy.stats import binom

from profiling.controllers.evaluation import adherence_interval, evaluate, knob_shares
from profiling.controllers.outcomes import Outcomes, outcomes_of
from tests.controller_world import GRID, world, world_rows, world_table


@pytest.fixture
def outcomes() -> Outcomes:
    """Four samples; of the last run, setting 0 takes 10 ms and is right for two, setting 1 takes 30 ms and is right."""
    whole = world(num_images=2)
    accuracy, runs = np.zeros((4, 18)), np.full((4, 18, 2), 99.0)
    accuracy[:2, 0] = 1
    accuracy[:, 1] = 1
    runs[:, 0, 1] = 10
    runs[:, 1, 1] = [30, 30, 30, 36]
    return Outcomes(**{**vars(whole), "accuracy_NS": accuracy, "latency_runs_NSR": runs})


def test_results_are_those_counted_by_hand(outcomes: Outcomes) -> None:
    chosen = np.asarray([[0, 0, 0, 1], [1, 1, 1, 1]])
    tight, loose = evaluate("p", chosen, outcomes, [20.0, 30.0]).budgets
    assert (tight.accuracy, tight.goodput) == (0.75, 0.5)
    assert tight.adherence.value == 0.75
    assert tight.mean_excess == pytest.approx(36 / 20 - 1)
    assert tight.utilisation == pytest.approx(0.5)
    assert tight.latency_to_budget_p50 == pytest.approx(0.5)
    assert tight.latency_to_budget_p99 == pytest.approx(0.5 + 0.97 * 1.3)
    assert (tight.infeasible_fraction, tight.regret) == (0.0, 0.0)
    assert (loose.accuracy, loose.goodput, loose.regret) == (1.0, 0.75, 0.0)
    assert loose.adherence.value == 0.75


def test_what_no_setting_can_do_in_time_is_infeasible_and_no_regret(outcomes: Outcomes) -> None:
    result = evaluate("p", np.zeros((1, 4), dtype=np.int64), outcomes, [9.0]).budgets[0]
    assert (result.infeasible_fraction, result.goodput, result.regret) == (1.0, 0.0, 0.0)
    assert result.utilisation is None
    assert evaluate("p", np.zeros((1, 4), dtype=np.int64), outcomes, [10.0]).budgets[0].mean_excess is None


def test_sums_over_budgets_weigh_them_alike(outcomes: Outcomes) -> None:
    evaluation = evaluate("p", np.asarray([[0, 0, 0, 1], [1, 1, 1, 1]]), outcomes, [20.0, 30.0])
    assert evaluation.goodput_N.tolist() == [1, 1, 0.5, 0]
    assert evaluation.goodput == evaluation.goodput_N.mean() == 0.625
    assert evaluation.accuracy == 0.875
    assert evaluation.adherence == 0.75
    assert evaluation.setting_share_S[:2].tolist() == [3 / 8, 5 / 8]


def test_levels_of_a_knob_are_counted_over_its_settings(outcomes: Outcomes) -> None:
    settings = GRID.settings()
    chosen = np.asarray([[0, 1, 2, 17]])
    shares = knob_shares(evaluate("p", chosen, outcomes, [20.0]), outcomes)
    assert shares["tier"] == {"low": 0.75, "medium": 0.0, "high": 0.25}
    assert shares["num_active_blocks"] == {"8": 0.25, "12": 0.25, "16": 0.5}
    assert settings[17].top_k == 8
    assert shares["top_k"] == {"4": 0.75, "8": 0.25}


@pytest.mark.parametrize(("num_in_time", "num_samples"), [(0, 20), (19, 20), (20, 20), (950, 1000)])
def test_the_interval_of_adherence_is_clopper_and_pearsons(num_in_time: int, num_samples: int) -> None:
    interval = adherence_interval(num_in_time, num_samples)
    if num_in_time > 0:
        assert binom.sf(num_in_time - 1, num_samples, interval.low) == pytest.approx(0.025)
    else:
        assert interval.low == 0
    if num_in_time < num_samples:
        assert binom.cdf(num_in_time, num_samples, interval.high) == pytest.approx(0.025)
    else:
        assert interval.high == 1


def test_the_interval_of_adherence_holds_the_truth_at_least_as_often_as_it_says() -> None:
    intervals = [adherence_interval(count, 40) for count in range(41)]
    for truth in (0.5, 0.8, 0.95, 0.99):
        holds = np.asarray([interval.low <= truth <= interval.high for interval in intervals])
        assert (binom.pmf(np.arange(41), 40, truth) * holds).sum() >= 0.95


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (np.zeros((1, 4), dtype=np.int64), r"p: choices: expected shape \(2, 4\) \(budgets, samples\), got \(1, 4\)"),
        (np.full((2, 4), 18), "p: choices: settings are 0 to 17, got 18"),
        (np.full((2, 4), -1), "p: choices: settings are 0 to 17, got -1"),
    ],
)
def test_choices_that_do_not_fit_are_refused(outcomes: Outcomes, chosen: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate("p", chosen, outcomes, [20.0, 30.0])


def test_a_choice_that_was_not_measured_is_refused_with_its_sample() -> None:
    rows = world_rows(num_images=2)
    holed = outcomes_of(world_table(rows[(rows["sample"] != 1) | (rows["setting"] != 5)]))
    with pytest.raises(
        ValueError, match=r"p: choices: setting 5 was not measured for sample 's1', chosen under 7.0 ms"
    ):
        evaluate("p", np.full((1, 4), 5), holed, [7.0])
