import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from models.controllers import Vector
from models.knobs import spread_grid
from profiling.adaptive.chooser import Chooser
from profiling.adaptive.online_features import Known
from profiling.adaptive.pace import Pace
from profiling.promises.latency_table import PARTS, LatencyTable, Times

GRID = spread_grid(4, top_k=(1, 2), block_counts=(4,))  # three tiers of two settings
FIRST_MS = np.asarray([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
KNOWN = Known(features={}, vision_tokens_T=(20, 40, 80))
PICTURE = np.zeros(3, dtype=np.float32)


class Likes:
    """Likes later settings more; asked again, it likes the ones of few experts."""

    first_blocks = None

    def __init__(self, *, asks_again: bool = False, width: int = 3) -> None:
        self.grid = GRID
        self.feature_widths: Mapping[str, int] = {"free": 0, "question": 0, "glance": 0, "vision": width}
        self.decides_twice = asks_again
        self.asked: list[tuple[float, int]] = []
        self.shown: list[Mapping[str, Vector]] = []
        self.budgets_ms: list[float] = []

    def before_image(self, budget_ms: float, known: Mapping[str, Vector]) -> Vector:
        self.shown.append(known)
        self.budgets_ms.append(budget_ms)
        return np.arange(6, dtype=np.float32)

    def after_image(self, remaining_ms: float, tier: int, known: Mapping[str, Vector], shown: Vector) -> Vector:
        self.asked.append((remaining_ms, tier))
        return np.asarray([1, 0], dtype=np.float32)


def table(*, kappa: float = 1.0) -> LatencyTable:
    by_tokens = tuple(
        {
            count: Times(
                first_token_ms=FIRST_MS[2 * tier : 2 * tier + 2],
                prefill_ms=FIRST_MS[2 * tier : 2 * tier + 2] / 2,
                token_ms=np.full(2, 4.0),
                total_ms=FIRST_MS[2 * tier : 2 * tier + 2] + 8.0,
            )
        }
        for tier, count in enumerate(KNOWN.vision_tokens_T)
    )
    factors = Times(**dict.fromkeys(PARTS, np.full(6, kappa)))
    return LatencyTable(grid=GRID, by_tokens=by_tokens, kappa=factors, alpha=0.1)


def chosen(budget_ms: float, *, kappa: float = 1.0, elapsed_ms: float = 0.0, stops: bool = True) -> tuple[int, bool]:
    chooser = Chooser(Likes(), table(kappa=kappa), stops_at_deadline=stops)
    choice = chooser.before_image(KNOWN, budget_ms=budget_ms, elapsed_ms=elapsed_ms)
    return choice.setting, choice.is_infeasible


def test_the_best_setting_whose_first_token_is_bounded_by_the_budget_is_chosen() -> None:
    assert chosen(100.0) == (5, False)
    assert chosen(60.0) == (5, False)
    assert chosen(59.9) == (4, False)
    assert chosen(60.0, elapsed_ms=0.1) == (4, False)
    assert chosen(60.0, kappa=1.2) == (4, False)


def test_requests_are_bounded_by_the_times_of_their_own_vision_tokens() -> None:
    few, twice = table(), Times(**dict.fromkeys(PARTS, np.asarray(2.0)))
    by_tokens = tuple({**known, 1000: times.scaled(twice)} for known in few.by_tokens for times in known.values())
    chooser = Chooser(Likes(), replace(few, by_tokens=by_tokens), stops_at_deadline=True)
    for _ in range(2):
        assert chooser.before_image(KNOWN, budget_ms=60.0, elapsed_ms=0.0).setting == 5
        many = chooser.before_image(KNOWN._replace(vision_tokens_T=(1000,) * 3), budget_ms=60.0, elapsed_ms=0.0)
        assert many.setting == 2  # 30 ms, twice
        assert many.expected is not None
        assert many.expected.total_ms[2] == 2 * 38.0


def test_without_stopping_the_last_token_is_what_counts() -> None:
    assert chosen(60.0, stops=False) == (4, False)
    assert chosen(58.0, stops=False) == (4, False)
    assert chosen(57.9, stops=False) == (3, False)


def test_where_nothing_is_feasible_the_cheapest_is_chosen_and_flagged() -> None:
    assert chosen(10.0) == (0, False)
    assert chosen(9.9) == (0, True)
    assert chosen(1000.0, kappa=math.inf) == (0, True)  # too few were measured to bound anything


def test_where_the_whole_answer_of_the_full_setting_fits_there_is_nothing_to_choose() -> None:
    factors = replace(table().kappa, total_ms=np.full(6, 2.0))
    chooser = Chooser(Likes(), replace(table(), kappa=factors), stops_at_deadline=True, full_setting=0)
    found = [chooser.before_image(KNOWN, budget_ms=budget_ms, elapsed_ms=5.0) for budget_ms in (14.9, 40.9, 41.0, 99.0)]
    assert [choice.setting for choice in found] == [0, 2, 0, 0]
    assert [choice.is_infeasible for choice in found] == [True, False, False, False]
    assert [choice.is_overruled for choice in found] == [False, False, True, True]
    free = Chooser(Likes(), table(), stops_at_deadline=True, full_setting=0, checks_time=False)
    assert free.before_image(KNOWN, budget_ms=99.0, elapsed_ms=5.0).setting == 5


def test_the_second_decision_takes_the_full_setting_too_if_it_is_of_the_tier() -> None:
    chooser = Chooser(Likes(asks_again=True), table(), stops_at_deadline=True, full_setting=5)
    before = chooser.before_image(KNOWN, budget_ms=62.0, elapsed_ms=0.0)
    found = [chooser.after_image(before, PICTURE, remaining_ms=left_ms).setting for left_ms in (37.9, 38.0)]
    assert (before.setting, found) == (5, [4, 5])
    low = chooser.before_image(KNOWN, budget_ms=15.0, elapsed_ms=0.0)
    assert chooser.after_image(low, PICTURE, remaining_ms=99.0).setting == 0


def test_a_controller_that_is_not_to_be_ruled_out_anything_has_its_way() -> None:
    chooser = Chooser(Likes(), table(), stops_at_deadline=True, checks_time=False)
    choice = chooser.before_image(KNOWN, budget_ms=1.0, elapsed_ms=0.0)
    assert (choice.setting, choice.is_infeasible) == (5, False)
    assert (
        Chooser(Likes(), None, stops_at_deadline=False).before_image(KNOWN, budget_ms=1.0, elapsed_ms=9.0).setting == 5
    )


def test_the_second_decision_is_among_the_tier_and_by_the_time_that_is_left() -> None:
    decider = Likes(asks_again=True)
    chooser = Chooser(decider, table(), stops_at_deadline=True)
    assert chooser.decides_twice
    assert chooser.reads_picture
    first = chooser.before_image(KNOWN, budget_ms=100.0, elapsed_ms=0.0)
    second = chooser.after_image(first, PICTURE, remaining_ms=25.0)  # its prefill is expected to take 25
    assert decider.asked == [(25.0, 2)]
    assert (second.setting, second.is_infeasible) == (4, False)
    late = chooser.after_image(first, PICTURE, remaining_ms=24.9)
    assert (late.setting, late.is_infeasible) == (4, True)


def test_what_nothing_was_feasible_for_before_the_image_stays_flagged_behind_it() -> None:
    chooser = Chooser(Likes(asks_again=True), table(kappa=1.5), stops_at_deadline=True)
    first = chooser.before_image(KNOWN, budget_ms=14.9, elapsed_ms=0.0)
    assert first.is_infeasible
    assert chooser.after_image(first, PICTURE, remaining_ms=14.0).is_infeasible  # its prefill takes 7.5 at most


def test_a_controller_is_asked_again_if_it_would_answer_and_shown_the_picture_if_it_would_look() -> None:
    once = Chooser(Likes(), table(), stops_at_deadline=True)
    assert (once.decides_twice, once.reads_picture) == (False, False)
    blind = Chooser(Likes(asks_again=True, width=0), table(), stops_at_deadline=True)
    assert (blind.decides_twice, blind.reads_picture) == (True, False)
    first = blind.before_image(KNOWN, budget_ms=100.0, elapsed_ms=0.0)
    assert blind.after_image(first, PICTURE[:0], remaining_ms=90.0).setting == 4


def test_a_controller_is_shown_the_overview_if_it_would_look() -> None:
    decider = Likes()
    chooser = Chooser(decider, table(), stops_at_deadline=True)
    assert not chooser.reads_glance
    decider.feature_widths = {**decider.feature_widths, "glance": 3}
    assert chooser.reads_glance
    known = KNOWN._replace(features={"glance": PICTURE})
    chooser.before_image(known, budget_ms=100.0, elapsed_ms=0.0)
    assert decider.shown[-1] is known.features


def test_runners_up_are_feasible_and_best_first() -> None:
    chooser = Chooser(Likes(), table(), stops_at_deadline=True)
    assert chooser.before_image(KNOWN, budget_ms=45.0, elapsed_ms=0.0).runners_up() == [2, 1, 0]
    assert chooser.before_image(KNOWN, budget_ms=100.0, elapsed_ms=0.0).runners_up() == [4, 3, 2, 1]
    assert chooser.before_image(KNOWN, budget_ms=5.0, elapsed_ms=0.0).runners_up() == []


@pytest.mark.parametrize("checks_time", [True, False])
def test_runners_up_of_the_second_decision_are_of_its_tier(checks_time: bool) -> None:
    chooser = Chooser(Likes(asks_again=True), table(), stops_at_deadline=True, checks_time=checks_time)
    first = chooser.before_image(KNOWN, budget_ms=100.0, elapsed_ms=0.0)
    second = chooser.after_image(first, PICTURE, remaining_ms=90.0)
    assert (second.setting, second.runners_up()) == (4, [5])


def test_a_token_is_bounded_by_kappa() -> None:
    chooser = Chooser(Likes(), table(kappa=1.5), stops_at_deadline=True)
    assert chooser.token_bound_ms(chooser.before_image(KNOWN, budget_ms=100.0, elapsed_ms=0.0)) == 6.0
    free = Chooser(Likes(), None, stops_at_deadline=False)
    assert free.token_bound_ms(free.before_image(KNOWN, budget_ms=100.0, elapsed_ms=0.0)) == 0.0


def test_a_table_of_another_grid_is_refused() -> None:
    other = LatencyTable(
        grid=spread_grid(4, top_k=(1, 4), block_counts=(4,)), by_tokens=(), kappa=table().kappa, alpha=0.1
    )
    with pytest.raises(ValueError, match="promise: its latency table is of another grid"):
        Chooser(Likes(), other, stops_at_deadline=True)


def test_on_a_machine_that_takes_longer_there_is_less_time_to_choose_by() -> None:
    decider, pace = Likes(asks_again=True), Pace(weight=1.0)
    chooser = Chooser(decider, table(), stops_at_deadline=True, pace=pace)
    first = chooser.before_image(KNOWN, budget_ms=100.0, elapsed_ms=20.0)
    assert (first.setting, chooser.token_bound_ms(first)) == (5, 4.0)
    chooser.learn(measured_ms=60.0, expected_ms=40.0)
    busy = chooser.before_image(KNOWN, budget_ms=100.0, elapsed_ms=20.0)  # 80 ms are left, and 60 take 90
    assert busy.setting == 4
    assert chooser.token_bound_ms(busy) == pytest.approx(6.0)
    assert decider.budgets_ms == pytest.approx([100.0, 100.0 / 1.5])
    again = chooser.after_image(busy, PICTURE, remaining_ms=37.4)  # a prefill of 25 takes 37.5
    assert decider.asked[0] == pytest.approx((37.4 / 1.5, 2))
    assert again.is_infeasible
    chooser.forget()
    assert chooser.before_image(KNOWN, budget_ms=60.0, elapsed_ms=0.0).setting == 5


def test_on_a_slower_device_the_controller_is_told_budgets_as_on_its_own() -> None:
    decider = Likes(asks_again=True)
    chooser = Chooser(decider, table().rescaled(2.0), stops_at_deadline=True)
    first = chooser.before_image(KNOWN, budget_ms=100.0, elapsed_ms=0.0)
    assert (first.setting, decider.budgets_ms) == (4, [50.0])  # the last one takes 120 here
    assert chooser.after_image(first, PICTURE, remaining_ms=50.0).setting == 4
    assert decider.asked == [(25.0, 2)]


def test_a_pace_needs_to_know_what_is_expected() -> None:
    with pytest.raises(ValueError, match="tracks_pace: how long requests take must be expected; name a promise"):
        Chooser(Likes(), None, stops_at_deadline=False, pace=Pace())
