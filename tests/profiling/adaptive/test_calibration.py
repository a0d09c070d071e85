from typing import Any

import numpy as np
import pytest

from profiling.adaptive.calibration import find_margins
from profiling.adaptive.request import BudgetedRequest
from profiling.adaptive.served import Served
from profiling.promises.guarantee import Level
from profiling.promises.promise import Terms
from tests.served_rows import questions, served_row

QUESTIONS = questions(60)


def terms(**changes: Any) -> Terms:
    usual: dict[str, Any] = {
        "budgets_ms": (50.0,),
        "margins": (0.2, 0.1, 0.0),
        "level": Level(),
        "denominator": "all",
    }
    return Terms(**{**usual, **changes})


def policy(*, uses: float = 1.0, infeasible_below_ms: float = 0.0) -> Any:
    """A policy that takes what it is given, times a share of its own and noise of 5 %."""
    rng = np.random.default_rng(0)

    def serve(request: BudgetedRequest, margin: float) -> Served:
        given_ms = request.budget_ms * (1 - margin)
        return served_row(
            sample_id=request.question.sample_id,
            budget_ms=request.budget_ms,
            margin=margin,
            latency_ms=given_ms * uses * np.exp(rng.normal(0, 0.05)),
            expected_ms=given_ms,
            is_infeasible=given_ms < infeasible_below_ms,
        )

    return serve


def test_the_margin_is_the_smallest_that_keeps_the_promise() -> None:
    findings = find_margins(policy(), QUESTIONS, terms(), seed=0)
    (promise,) = findings.budgets
    assert (promise.margin, promise.num_requests, promise.num_misses) == (0.1, 60, 0)  # without, half of them are late
    assert {row.margin for row in findings.rows} == {0.2, 0.1, 0.0}
    assert find_margins(policy(uses=0.8), QUESTIONS, terms(), seed=0).budgets[0].margin == 0.0
    assert find_margins(policy(uses=1.3), QUESTIONS, terms(), seed=0).budgets[0].margin is None


def test_the_ratio_to_drift_from_is_a_median() -> None:
    assert find_margins(policy(uses=0.8), QUESTIONS, terms(), seed=0).expected_ratio == pytest.approx(0.8, rel=0.02)


def test_requests_without_a_feasible_setting_are_misses_of_all_requests() -> None:
    serve = policy(uses=0.5, infeasible_below_ms=45.5)
    (promise,) = find_margins(serve, QUESTIONS, terms(), seed=0).budgets
    assert (promise.margin, promise.num_misses, promise.num_infeasible) == (None, 60, 60)


def test_of_those_served_the_sequence_begins_where_enough_are() -> None:
    serve = policy(uses=0.5, infeasible_below_ms=44.5)
    (promise,) = find_margins(serve, QUESTIONS, terms(denominator="served"), seed=0).budgets
    assert (promise.margin, promise.num_requests, promise.num_misses) == (0.0, 60, 0)


def test_too_few_questions_are_refused_before_anything_runs() -> None:
    def never(_request: BudgetedRequest, _margin: float) -> Served:
        raise AssertionError

    with pytest.raises(ValueError, match=r"num_requests: 59 or more are needed .* got 58"):
        find_margins(never, QUESTIONS[:58], terms(), seed=0)
    with pytest.raises(ValueError, match=r"num_requests: 299 or more are needed .* got 60"):
        find_margins(never, QUESTIONS, terms(level=Level(alpha=0.01)), seed=0)


def test_a_strange_denominator_is_refused() -> None:
    with pytest.raises(ValueError, match="denominator: must be one of all, served, got 'some'"):
        terms(denominator="some")


def test_budgets_that_are_still_open_are_run_in_one_random_order_margin_after_margin() -> None:
    asked: list[tuple[float, float]] = []

    def serve(request: BudgetedRequest, margin: float) -> Served:
        asked.append((request.budget_ms, margin))
        return served_row(budget_ms=request.budget_ms, margin=margin, latency_ms=45.0)

    questions_ = questions(99)
    findings = find_margins(serve, questions_, terms(budgets_ms=(40.0, 50.0, 60.0)), seed=7)
    assert [promise.margin for promise in findings.budgets] == [None, 0.0, 0.0]  # 45 ms are late for the first
    first, rest = asked[: 3 * 99], asked[3 * 99 :]
    assert {margin for _, margin in first} == {0.2}
    assert {budget_ms for budget_ms, _ in rest} == {50.0, 60.0}
    assert [margin for _, margin in rest] == [0.1] * 2 * 99 + [0.0] * 2 * 99
    for budget_ms in (40.0, 50.0, 60.0):  # each has its share of every third of an hour
        assert 20 < sum(budget == budget_ms for budget, _ in first[:99]) < 50
    again, asked = asked, []
    find_margins(serve, questions_, terms(budgets_ms=(40.0, 50.0, 60.0)), seed=7)
    assert asked == again
