"""Savings in worlds where they are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import main
from models.knobs import KnobSetting
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import Outcomes
from profiling.controllers.requests import Requests
from profiling.savings.command import oracle_by_question
from profiling.savings.forecasts import TEACHINGS, Teaching, by_kind, by_question, rising
from profiling.savings.kinds import Kinds, by_family, by_words
from profiling.savings.questions import questions_of
from profiling.savings.report import measure_saving, setting_words
from profiling.savings.two_folds import TwoFolds, choose_in_two_folds, standing_of
from tests.controller_world import untimed
from tests.savings_world import (
    EASY_FRACTION,
    GRID,
    latency_ms,
    noisy_accuracy,
    others,
    rows,
    with_slips,
    world,
    write_world,
)

STATIC = GRID.setting(tier="high", top_k=1, num_active_blocks=4)  # the fastest of those that are always right
FASTEST = GRID.setting(tier="low", top_k=1, num_active_blocks=2)


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return world()


def asked(outcomes: Outcomes) -> Requests:
    return Requests(outcomes=outcomes, features=without_embeddings(outcomes))


def halves(outcomes: Outcomes, teach: Teaching, *, answered: Outcomes | None = None) -> TwoFolds:
    more = None if answered is None else asked(answered)
    (found,) = choose_in_two_folds(asked(outcomes), more, teach, slacks=[0.0], seed=0)
    return found


def place(setting: KnobSetting) -> int:
    return GRID.settings().index(setting)


def test_the_best_static_setting_is_the_fastest_of_the_most_accurate_and_slack_lets_faster_ones_in(
    outcomes: Outcomes,
) -> None:
    standing = standing_of(questions_of(asked(outcomes)))
    assert [standing.best_static(slack) for slack in (0.0, 0.39, 0.4)] == [place(STATIC), place(STATIC), place(FASTEST)]


@pytest.mark.parametrize("way", TEACHINGS)
def test_easy_questions_get_the_fastest_setting_and_hard_ones_the_static(way: str, outcomes: Outcomes) -> None:
    folds = halves(outcomes, TEACHINGS[way])
    is_easy = (outcomes.samples["dataset"] == "easy").to_numpy()
    assert set(folds.static_N) == {place(STATIC)}
    assert set(folds.chosen_N[is_easy]) == {place(FASTEST)}
    assert set(folds.chosen_N[~is_easy]) == {place(STATIC)}
    # An answer that is right at the highest tier with all blocks and nowhere else takes 32 ms more.
    assert all(lesson.price_ms is not None and lesson.price_ms > 32 for lesson in folds.lessons)


def test_what_is_saved_is_what_the_world_allows(outcomes: Outcomes) -> None:
    folds = halves(outcomes, by_kind(by_family))
    saving = measure_saving(outcomes, [folds, folds], [folds.chosen_N, folds.chosen_N], policy="by family", seed=0)
    share = 1 - latency_ms(FASTEST) / latency_ms(STATIC)
    assert saving.median_saved.value == pytest.approx(share)  # more than half of the questions are easy
    assert saving.mean_saved.value == pytest.approx(EASY_FRACTION * share)
    assert saving.mean_saved.low < EASY_FRACTION * share < saving.mean_saved.high
    assert saving.accuracy_gained.value == saving.accuracy_gained.low == 0.0
    assert saving.static_settings == ("high/1/4",)


def test_halvings_are_averaged(outcomes: Outcomes) -> None:
    folds = halves(outcomes, by_kind(by_family))
    saving = measure_saving(outcomes, [folds, folds], [folds.chosen_N, folds.static_N], policy="by family", seed=0)
    assert saving.median_saved.value == pytest.approx((1 - latency_ms(FASTEST) / latency_ms(STATIC)) / 2)
    assert saving.median_ms == pytest.approx((latency_ms(FASTEST) + latency_ms(STATIC)) / 2)


def test_kinds_that_few_questions_teach_are_expected_to_be_as_all_questions_are(outcomes: Outcomes) -> None:
    is_easy = (outcomes.samples["dataset"] == "easy").to_numpy()
    taught = outcomes.take(np.concatenate([np.flatnonzero(is_easy)[:20], np.flatnonzero(~is_easy)[:15]]))
    forecast = by_kind(by_family)(questions_of(asked(taught)))(asked(outcomes))
    np.testing.assert_allclose(forecast.accuracy_NS[is_easy], 1.0)
    np.testing.assert_allclose(forecast.accuracy_NS[~is_easy][:, place(FASTEST)], 20 / 35)
    np.testing.assert_allclose(forecast.latency_ms_NS, np.broadcast_to(taught.latency_ms_NS[0], (100, 12)))


def test_words_tell_what_is_asked_and_how_long_it_is(outcomes: Outcomes) -> None:
    assert set(by_words(asked(outcomes))) == {"asks_yes_or_no, 3 words", "asks_text, asks_what, 6 words"}


def test_questions_are_told_apart_by_their_pictures_where_the_overview_is_known() -> None:
    both = world(rows(num_images=60).assign(question="what is it?"))
    is_easy = (both.samples["dataset"] == "easy").to_numpy()
    blind = asked(both)
    glance = np.where(is_easy, 1.0, -1.0)[:, None].astype(np.float16)
    seeing = replace(blind, features=replace(blind.features, glance_ND=glance))
    for requests, is_known in ((blind, False), (seeing, True)):
        forecast = by_question(questions_of(requests))(requests)
        apart = forecast.accuracy_NS[is_easy].mean(axis=0) - forecast.accuracy_NS[~is_easy].mean(axis=0)
        assert (apart[place(FASTEST)] > 0.8) == is_known


def _kinds_at_random(requests: Requests) -> Kinds:
    return np.asarray([f"kind {int(image[1:]) % 6}" for image in requests.image_ids])


def _gained(noisy: Outcomes) -> float:
    """Return the accuracy gained where kinds of questions mean nothing."""
    folds = halves(noisy, by_kind(_kinds_at_random))
    questions = np.arange(len(noisy))
    gained = noisy.accuracy_NS[questions, folds.chosen_N] - noisy.accuracy_NS[questions, folds.static_N]
    return float(gained.mean())


def test_a_price_that_held_elsewhere_keeps_settings_out_that_only_luck_made_accurate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy = [world(noisy_accuracy(rows(num_images=240), seed=seed)) for seed in range(2)]
    gained = [_gained(one) for one in noisy]
    monkeypatch.setattr("profiling.savings.two_folds._PRICES_MS", (100.0,))
    monkeypatch.setattr("profiling.savings.two_folds._against_static", lambda *_: (0.0, -1.0))
    monkeypatch.setattr("profiling.savings.forecasts.rising", lambda accuracy, _: accuracy)
    without = [_gained(one) for one in noisy]
    assert np.mean(without) < -0.05
    assert np.mean(gained) > -0.03


@pytest.mark.parametrize("against", [(-1.0, -1.0), (0.0, 0.0)])
def test_every_question_keeps_the_static_setting_where_accuracy_is_lost_or_nothing_saved(
    against: tuple[float, float], outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiling.savings.two_folds._against_static", lambda *_: against)
    folds = halves(outcomes, by_kind(by_family))
    assert [lesson.price_ms for lesson in folds.lessons] == [None, None]
    assert np.array_equal(folds.chosen_N, folds.static_N)


def _right(measured: Outcomes, answered: Outcomes | None) -> float:
    """Return the share of easy questions that get the fastest setting."""
    folds = halves(measured, by_kind(by_family), answered=answered)
    is_easy = (measured.samples["dataset"] == "easy").to_numpy()
    return float((folds.chosen_N[is_easy] == place(FASTEST)).mean())


def test_answers_about_other_pictures_teach_what_few_measured_questions_cannot() -> None:
    found = []
    for seed in range(4):
        measured = world(with_slips(rows(num_images=80), seed=seed))
        answered = world(untimed(others(with_slips(rows(num_images=1600), seed=100 + seed))))
        found.append((_right(measured, None), _right(measured, answered)))
    without, with_answers = np.mean(found, axis=0)
    assert with_answers > without + 0.2, found


def test_a_dataset_counts_as_much_with_more_answers_as_without() -> None:
    measured = world(rows(num_images=20))
    is_hard = measured.samples["dataset"] == "hard"
    answered = world(untimed(others(rows(num_images=400).query("dataset == 'hard'"))))
    own = questions_of(asked(measured))
    both = own.beside(asked(answered), seed=0)
    assert len(both.requests) == 20 + 160
    assert both.weight_N.sum() == pytest.approx(20)
    assert both.weight_N[by_family(both.requests) == "hard"].sum() == pytest.approx(is_hard.sum())
    assert np.unique(both.weight_N).tolist() == pytest.approx([8 / 168, 1])
    assert standing_of(both).median_ms_S == pytest.approx(standing_of(own).median_ms_S)
    assert standing_of(both).accuracy_S == pytest.approx(measured.accuracy_NS.mean(axis=0))


def test_a_setting_that_looks_better_than_one_with_more_is_smoothed() -> None:
    has_no_more = np.tri(4, dtype=bool)  # settings in a row, each with more than the one before it
    smoothed = rising(np.asarray([[0.2, 0.8, 0.6, 0.9], [0.1, 0.2, 0.3, 0.4]]), has_no_more)
    np.testing.assert_allclose(smoothed, [[0.2, 0.7, 0.7, 0.9], [0.1, 0.2, 0.3, 0.4]])


def test_the_oracle_takes_the_fastest_right_setting_of_each_question(outcomes: Outcomes) -> None:
    chosen = oracle_by_question(outcomes, np.full(len(outcomes), place(STATIC)))
    is_easy = (outcomes.samples["dataset"] == "easy").to_numpy()
    assert set(chosen[is_easy]) == {place(FASTEST)}
    assert set(chosen[~is_easy]) == {place(STATIC)}


def test_the_command_writes_every_comparison_and_what_was_learned(tmp_path: Path) -> None:
    profile = write_world(tmp_path / "profile.parquet")
    main.cli_main(["savings", "--profile", str(profile), "--output_dir", "out", "--num_halvings", "2"])
    written = json.loads(Path("out/savings.json").read_text())
    assert [(row["policy"], row["slack"]) for row in written["savings"]] == [
        (policy, slack) for slack in (0.0, 0.01, 0.02) for policy in (*TEACHINGS, "oracle by question")
    ]
    assert written["lessons"][0]["shares"] == {"easy": {"low/1/2": 1.0}, "hard": {"high/1/4": 1.0}}
    assert written["lessons"][0]["static"] == ["high/1/4"] * 4
    text = Path("out/savings.md").read_text()
    assert "| 0 | by family | high/1/4 | 46.0 -> 14.0 | 1.000 -> 1.000 | 69.6% [69.6%, 69.6%] |" in text


def test_the_command_learns_from_answers_and_says_how_many(tmp_path: Path) -> None:
    profile = write_world(tmp_path / "profile.parquet")
    answers = write_world(tmp_path / "answers.parquet", untimed(others(rows(num_images=30))))
    words = ["--profile", str(profile), "--answers", f"[{answers}]", "--output_dir", "out", "--num_halvings", "1"]
    main.cli_main(["savings", *words])
    assert json.loads(Path("out/savings.json").read_text())["num_answered"] == 30
    assert (
        "100 pictures, 30 more that were only answered teach beside either half" in Path("out/savings.md").read_text()
    )
    write_world(answers, untimed(others(rows(num_images=30))).drop(index=7))
    with pytest.raises(ValueError, match="answers: savings needs every setting of every question, sample 's0' lacks"):
        main.cli_main(["savings", *words])


def test_a_question_without_one_of_the_settings_is_refused(tmp_path: Path) -> None:
    profile = write_world(tmp_path / "profile.parquet", rows().drop(index=7))
    with pytest.raises(ValueError, match="sample 's0' lacks medium/2/4"):
        main.cli_main(["savings", "--profile", str(profile), "--output_dir", "out"])
    assert setting_words(world(), 7) == "medium/2/4"
