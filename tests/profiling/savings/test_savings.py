"""Savings in worlds where they are known."""

import json
from pathlib import Path

import numpy as np
import pytest

import main
from models.knobs import KnobSetting
from profiling.controllers.outcomes import Outcomes
from profiling.savings.command import oracle_by_question
from profiling.savings.kinds import Kinds, by_family, by_words
from profiling.savings.needs import choose, learn_needs, rising
from profiling.savings.report import measure_saving, setting_words, weighted_medians
from profiling.savings.two_folds import TwoFolds, choose_in_two_folds
from tests.savings_world import EASY_FRACTION, GRID, latency_ms, noisy_accuracy, rows, world, write_world

STATIC = GRID.setting(tier="high", top_k=1, num_active_blocks=4)  # the fastest of those that are always right
FASTEST = GRID.setting(tier="low", top_k=1, num_active_blocks=2)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return world()


def halves(outcomes: Outcomes, kinds: Kinds) -> TwoFolds:
    (found,) = choose_in_two_folds(outcomes, kinds, slacks=[0.0], seed=0)
    return found


def place(setting: KnobSetting) -> int:
    return GRID.settings().index(setting)


def test_the_best_static_setting_is_the_fastest_of_the_most_accurate_and_slack_lets_faster_ones_in(
    outcomes: Outcomes,
) -> None:
    needs = learn_needs(outcomes, by_family(outcomes))
    assert [needs.best_static(slack) for slack in (0.0, 0.39, 0.4)] == [place(STATIC), place(STATIC), place(FASTEST)]


@pytest.mark.parametrize("kinds_of", [by_family, by_words])
def test_easy_kinds_get_the_fastest_setting_and_hard_ones_the_static(kinds_of: object, outcomes: Outcomes) -> None:
    assert callable(kinds_of)
    folds = halves(outcomes, kinds_of(outcomes))
    is_easy = (outcomes.samples["dataset"] == "easy").to_numpy()
    assert set(folds.static_N) == {place(STATIC)}
    assert set(folds.chosen_N[is_easy]) == {place(FASTEST)}
    assert set(folds.chosen_N[~is_easy]) == {place(STATIC)}
    assert [lesson.margin for lesson in folds.lessons] == [0.0, 0.0]


def test_what_is_saved_is_what_the_world_allows(outcomes: Outcomes) -> None:
    folds = halves(outcomes, by_family(outcomes))
    saving = measure_saving(outcomes, [folds, folds], [folds.chosen_N, folds.chosen_N], policy="by family", seed=0)
    share = 1 - latency_ms(FASTEST) / latency_ms(STATIC)
    assert saving.median_saved.value == pytest.approx(share)  # more than half of the questions are easy
    assert saving.mean_saved.value == pytest.approx(EASY_FRACTION * share)
    assert saving.mean_saved.low < EASY_FRACTION * share < saving.mean_saved.high
    assert saving.accuracy_gained.value == saving.accuracy_gained.low == 0.0
    assert saving.static_settings == ("high/1/4",)


def test_halvings_are_averaged(outcomes: Outcomes) -> None:
    folds = halves(outcomes, by_family(outcomes))
    saving = measure_saving(outcomes, [folds, folds], [folds.chosen_N, folds.static_N], policy="by family", seed=0)
    assert saving.median_saved.value == pytest.approx((1 - latency_ms(FASTEST) / latency_ms(STATIC)) / 2)
    assert saving.median_ms == pytest.approx((latency_ms(FASTEST) + latency_ms(STATIC)) / 2)


def test_kinds_that_few_questions_teach_get_the_static_setting(outcomes: Outcomes) -> None:
    kinds = by_family(outcomes)
    few = outcomes.take(np.flatnonzero(kinds == "easy")[:15])
    needs = learn_needs(few, by_family(few))
    assert needs.kinds == []
    assert needs.by_kind(place(FASTEST), 0.0) == {}
    assert choose({"easy": 3}, 7, np.asarray(["easy", "unheard of"])).tolist() == [3, 7]


def test_words_tell_what_is_asked_and_how_long_it_is(outcomes: Outcomes) -> None:
    assert set(by_words(outcomes)) == {"asks_yes_or_no, 3 words", "asks_text, asks_what, 6 words"}


def _gained(noisy: Outcomes) -> float:
    """Return the accuracy gained where kinds of questions mean nothing."""
    kinds = np.asarray([f"kind {number % 6}" for number in range(len(noisy))])
    folds = halves(noisy, kinds)
    questions = np.arange(len(noisy))
    gained = noisy.accuracy_NS[questions, folds.chosen_N] - noisy.accuracy_NS[questions, folds.static_N]
    return float(gained.mean())


def test_a_margin_keeps_settings_out_that_only_luck_made_accurate(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = [world(noisy_accuracy(rows(num_images=240), seed=seed)) for seed in range(2)]
    gained = [_gained(one) for one in noisy]
    monkeypatch.setattr("profiling.savings.two_folds._MARGINS", (0.0,))
    monkeypatch.setattr("profiling.savings.two_folds._Fold.gained", lambda *_: 0.0)
    monkeypatch.setattr("profiling.savings.needs.rising", lambda accuracy, _: accuracy)
    without = [_gained(one) for one in noisy]
    assert np.mean(without) < -0.05
    assert np.mean(gained) > -0.03


def test_every_kind_keeps_the_static_setting_where_no_margin_is_enough(
    outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiling.savings.two_folds._Fold.gained", lambda *_: -1.0)
    folds = halves(outcomes, by_family(outcomes))
    assert [lesson.margin for lesson in folds.lessons] == [None, None]
    assert np.array_equal(folds.chosen_N, folds.static_N)


def test_a_margin_that_takes_more_time_than_the_static_setting_changes_nothing(outcomes: Outcomes) -> None:
    needs = learn_needs(outcomes, by_family(outcomes))
    slower = place(GRID.setting(tier="low", top_k=2, num_active_blocks=2))
    assert needs.by_kind(slower, 0.0) == {"easy": place(FASTEST), "hard": place(FASTEST)}
    assert needs.by_kind(slower, 0.1) == {}  # only hard questions can get better, and they need 46 ms


def test_a_setting_that_looks_better_than_one_with_more_is_smoothed() -> None:
    has_no_more = np.tri(4, dtype=bool)  # settings in a row, each with more than the one before it
    smoothed = rising(np.asarray([[0.2, 0.8, 0.6, 0.9], [0.1, 0.2, 0.3, 0.4]]), has_no_more)
    np.testing.assert_allclose(smoothed, [[0.2, 0.7, 0.7, 0.9], [0.1, 0.2, 0.3, 0.4]])


def test_the_oracle_takes_the_fastest_right_setting_of_each_question(outcomes: Outcomes) -> None:
    chosen = oracle_by_question(outcomes, np.full(len(outcomes), place(STATIC)))
    is_easy = (outcomes.samples["dataset"] == "easy").to_numpy()
    assert set(chosen[is_easy]) == {place(FASTEST)}
    assert set(chosen[~is_easy]) == {place(STATIC)}


def test_medians_count_each_value_as_often_as_it_was_drawn() -> None:
    counts = np.asarray([[1, 1, 1], [0, 3, 0], [3, 0, 1], [1, 0, 1]])
    assert weighted_medians(np.asarray([5.0, 1.0, 3.0]), counts).tolist() == [3.0, 1.0, 5.0, 3.0]


def test_the_command_writes_every_comparison_and_what_was_learned(tmp_path: Path) -> None:
    profile = write_world(tmp_path / "profile.parquet")
    main.cli_main(["savings", "--profile", str(profile), "--output_dir", "out", "--num_halvings", "2"])
    written = json.loads(Path("out/savings.json").read_text())
    assert [(row["policy"], row["slack"]) for row in written["savings"]] == [
        (policy, slack) for slack in (0.0, 0.01, 0.02) for policy in ("by family", "by words", "oracle by question")
    ]
    assert written["lessons"][0]["by_kind"] == {"easy": "low/1/2", "hard": "high/1/4"}
    text = Path("out/savings.md").read_text()
    assert "| 0 | by family | high/1/4 | 46.0 -> 14.0 | 1.000 -> 1.000 | 69.6% [69.6%, 69.6%] |" in text


def test_a_question_without_one_of_the_settings_is_refused(tmp_path: Path) -> None:
    profile = write_world(tmp_path / "profile.parquet", rows().drop(index=7))
    with pytest.raises(ValueError, match="sample 's0' lacks medium/2/4"):
        main.cli_main(["savings", "--profile", str(profile), "--output_dir", "out"])
    assert setting_words(world(), 7) == "medium/2/4"
