import pytest
from scipy.stats import beta

from profiling.adaptive.totals import totals_by_budget
from tests.served_rows import served_row


def test_totals_are_those_counted_by_hand() -> None:
    rows = [
        served_row(sample_id="a"),
        served_row(sample_id="b", latency_ms=60.0, tier="high"),  # right and late
        served_row(sample_id="c", is_truncated=True, accuracy=0.5, controller_ms=1.8),
        served_row(sample_id="d", is_infeasible=True, accuracy=0.0),
        served_row(sample_id="a", budget_ms=30.0),
    ]
    tight, loose, overall = totals_by_budget(rows)
    assert (tight.budget_ms, loose.budget_ms, overall.budget_ms) == (30.0, 50.0, None)
    assert (tight.goodput, tight.late, tight.adherence.value) == (0.0, 1.0, 0.0)
    assert (loose.accuracy, loose.goodput) == (2.5 / 4, 1.5 / 4)
    assert loose.adherence.value == 0.5  # the late one and the infeasible one are misses
    assert loose.adherence.low == pytest.approx(beta.ppf(0.025, 2, 3))
    assert loose.adherence.high == pytest.approx(beta.ppf(0.975, 3, 2))
    assert (loose.late, loose.truncated, loose.infeasible) == (0.25, 0.25, 0.25)
    assert loose.latency_to_budget_p50 == pytest.approx(0.8)
    assert loose.latency_to_budget_p99 == pytest.approx(0.8 + 0.97 * 0.4)
    assert loose.overhead_p50_ms == pytest.approx(0.5)
    assert loose.overhead_p99_ms == pytest.approx(0.5 + 0.97 * 1.5)
    assert loose.overhead_share == pytest.approx(0.5 / 40)
    assert loose.knob_shares["tier"] == {"low": 0.75, "high": 0.25}
    assert overall.num_requests == 5
    assert overall.goodput == pytest.approx(1.5 / 5)


def test_answers_without_a_known_right_one_count_for_time_alone() -> None:
    unknown = [served_row(sample_id=name, accuracy=None, latency_ms=60.0) for name in "ab"]
    _, overall = totals_by_budget([*unknown, served_row(sample_id="c", accuracy=0.5)])
    assert (overall.accuracy, overall.goodput) == (0.5, 0.5)
    assert overall.late == pytest.approx(2 / 3)
    assert overall.rightness() == ("0.500", "0.500")
    budget, _ = totals_by_budget(unknown)
    assert budget.rightness() == ("-", "-")
    content = budget.to_json()
    assert (content["accuracy"], content["goodput"], content["late"]) == (None, None, 1.0)


def test_budgets_of_the_requests_own_are_not_told_apart() -> None:
    assert len(totals_by_budget([served_row(budget_ms=float(ms)) for ms in range(50, 80)])) == 1


def test_nothing_answered_is_an_error() -> None:
    with pytest.raises(ValueError, match="no request was answered"):
        totals_by_budget([])
