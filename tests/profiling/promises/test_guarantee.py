from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.stats import binom

from profiling.promises.guarantee import Level, Pair, Trial, smallest_margins


@pytest.mark.parametrize(
    ("alpha", "num_budgets", "needed"), [(0.05, 1, 59), (0.01, 1, 299), (0.05, 8, 99), (0.01, 8, 505)]
)
def test_too_few_requests_are_refused_and_the_error_says_how_many_are_needed(
    alpha: float, num_budgets: int, needed: int
) -> None:
    level = Level(alpha=alpha)
    level.check_requests(needed, num_budgets)
    assert Trial(num_requests=needed, num_misses=0).p_value(alpha) <= 0.05 / num_budgets
    assert Trial(num_requests=needed - 1, num_misses=0).p_value(alpha) > 0.05 / num_budgets
    with pytest.raises(ValueError, match=f"num_requests: {needed} or more are needed .* got {needed - 1}"):
        level.check_requests(needed - 1, num_budgets)


def test_a_p_value_is_the_binomial_tail() -> None:
    assert Trial(num_requests=3, num_misses=1).p_value(0.1) == pytest.approx(0.9**3 + 3 * 0.1 * 0.9**2)
    assert Trial(num_requests=0, num_misses=0).p_value(0.1) == 1.0


def each(run: Callable[[float, float], Trial]) -> Callable[[Sequence[Pair]], list[Trial]]:
    """Run pairs one by one."""
    return lambda pairs: [run(budget_ms, margin) for budget_ms, margin in pairs]


def misses(table: dict[tuple[float, float], int], asked: list[tuple[float, float]]) -> dict[float, float | None]:
    def run(budget_ms: float, margin: float) -> Trial:
        asked.append((budget_ms, margin))
        return Trial(num_requests=100, num_misses=table[budget_ms, margin])

    budgets_ms = sorted({budget_ms for budget_ms, _ in table})
    return smallest_margins(each(run), budgets_ms, [0.2, 0.1, 0.0], Level(alpha=0.1, correction="bonferroni"))


def test_the_sequence_ends_at_the_first_margin_that_is_not_shown_and_runs_no_more() -> None:
    asked: list[tuple[float, float]] = []
    # With 100 requests and delta 0.05, 4 misses show at most 10 %, and 5 do not.
    assert binom.cdf(4, 100, 0.1) < 0.05 < binom.cdf(5, 100, 0.1)
    assert misses({(50.0, 0.2): 0, (50.0, 0.1): 5, (50.0, 0.0): 0}, asked) == {50.0: 0.2}
    assert asked == [(50.0, 0.2), (50.0, 0.1)]
    assert misses({(50.0, 0.2): 0, (50.0, 0.1): 4, (50.0, 0.0): 4}, []) == {50.0: 0.0}
    assert misses({(50.0, 0.2): 5}, []) == {50.0: None}


def test_a_budget_that_is_done_hands_its_share_of_delta_on() -> None:
    def run(budget_ms: float, _margin: float) -> Trial:
        return Trial(num_requests=100, num_misses=0 if budget_ms == 90.0 else 4)

    assert 0.05 / 2 > binom.cdf(4, 100, 0.1) > 0.05 / 3
    budgets_ms, margins = [50.0, 70.0, 90.0], [0.1, 0.0]
    kept = smallest_margins(each(run), budgets_ms, margins, Level(alpha=0.1, correction="bonferroni"))
    assert kept == {50.0: None, 70.0: None, 90.0: 0.0}
    assert set(smallest_margins(each(run), budgets_ms, margins, Level(alpha=0.1)).values()) == {0.0}


def test_all_budgets_that_are_still_open_are_run_together() -> None:
    together: list[list[Pair]] = []

    def run(pairs: Sequence[Pair]) -> list[Trial]:
        together.append(list(pairs))
        return [Trial(num_requests=100, num_misses=0 if budget_ms == 90.0 else 4) for budget_ms, _ in pairs]

    # The others' first margin is shown, and not run anew, once the last budget is done and has handed its share on.
    assert set(smallest_margins(run, [50.0, 70.0, 90.0], [0.1, 0.0], Level(alpha=0.1)).values()) == {0.0}
    assert together == [[(50.0, 0.1), (70.0, 0.1), (90.0, 0.1)], [(90.0, 0.0)], [(50.0, 0.0), (70.0, 0.0)]]


def test_margins_that_serve_too_few_are_passed_over() -> None:
    served = {0.2: 10, 0.1: 200, 0.0: 300}

    def run(_budget_ms: float, margin: float) -> Trial:
        return Trial(num_requests=served[margin], num_misses=0 if margin else 300)

    assert smallest_margins(each(run), [50.0], [0.2, 0.1, 0.0], Level()) == {50.0: 0.1}


def test_promises_are_broken_no_more_often_than_said() -> None:
    """Draw calibrations of a policy whose rate of misses is known; count those that promise what is not true."""
    rng = np.random.default_rng(0)
    margins, budgets_ms = [0.3, 0.2, 0.1, 0.0], [30.0, 60.0, 90.0]
    true_rate = {0.3: 0.01, 0.2: 0.04, 0.1: 0.051, 0.0: 0.2}  # the last two break a promise of 5 %
    replications, broken = 2000, 0

    def run(_budget_ms: float, margin: float) -> Trial:
        return Trial(num_requests=400, num_misses=int(rng.binomial(400, true_rate[margin])))

    for _ in range(replications):
        found = smallest_margins(each(run), budgets_ms, margins, Level())
        broken += any(margin is not None and true_rate[margin] > 0.05 for margin in found.values())
    # At most 5 % of calibrations; four standard errors above are allowed.
    assert broken / replications <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / replications)
    assert broken > 0  # the test would notice


@pytest.mark.parametrize("margins", [[], [0.0, 0.1], [0.1, 0.1], [1.0, 0.0], [0.1, -0.1]])
def test_margins_that_do_not_fall_are_refused(margins: list[float]) -> None:
    with pytest.raises(ValueError, match="margins: need shares of a budget"):
        smallest_margins(each(lambda _b, _m: Trial(num_requests=1, num_misses=0)), [50.0], margins, Level())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, r"alpha: must be between 0 and 1, got 0\.0"),
        ({"delta": 1.0}, r"delta: must be between 0 and 1, got 1\.0"),
        ({"correction": "none"}, "correction: must be one of bonferroni, holm, got 'none'"),
    ],
)
def test_levels_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Level(**changes)  # type: ignore[arg-type]
