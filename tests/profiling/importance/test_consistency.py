import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from profiling.importance.consistency import consistency, correlate, rank_correlation, smallest_detectable
from profiling.importance.report import correlation_json, correlation_table
from profiling.importance.scores import BlockScore, PartScores
from profiling.resampling import Array
from profiling.subsets.job import NO_COST, Part

NUM_BLOCKS = 16
TASKS = {"suite_scenes": 0, "suite_facts": 0, "suite_counting": 1, "suite_tables": 2}


def part(part_name: Part, *, same: bool, noise: float = 0.1, num_samples: int = 60) -> PartScores:
    """Scores whose truth is the same for datasets of one task type, or for all."""
    draws = np.random.default_rng(0 if part_name == "train" else 1)
    truths = np.random.default_rng(2).random((3, NUM_BLOCKS))
    values: dict[str, dict[BlockScore, Array]] = {}
    for name, task in TASKS.items():
        truth = truths[0 if same else task]
        values[name] = {score: truth + noise * draws.normal(size=(num_samples, NUM_BLOCKS)) for score in BlockScore}
    return PartScores(
        label="tiny", part=part_name, values=values, costs=dict.fromkeys(BlockScore, NO_COST), span_angles={}
    )


def found(*, same: bool, noise: float = 0.1) -> list[PartScores]:
    return [part("train", same=same, noise=noise), part("validation", same=same, noise=noise)]


def test_task_dependence_is_found_where_it_was_planted() -> None:
    result = consistency(BlockScore.KL, found(same=False), seed=0)
    assert len(result.correlations) == 4 + 6
    splits, within, between = (result.means[each] for each in ("splits", "within_task", "between_tasks"))
    assert splits is not None
    assert within is not None
    assert between is not None
    assert splits.value > 0.95
    assert within.value > 0.95
    assert between.value < 0.6
    assert result.task_effect is not None
    assert result.task_effect.low > 0
    assert "holds as to tasks" in result.sentence()
    assert "with 16 blocks a rank correlation below 0.66 is missed" in result.sentence()


def test_without_task_dependence_none_is_claimed() -> None:
    result = consistency(BlockScore.KL, found(same=True, noise=1.0), seed=0)
    assert "is not shown: the difference between task types may be chance" in result.sentence()


def test_values_are_those_of_scipy() -> None:
    scored = found(same=False)
    result = consistency(BlockScore.TAYLOR, scored, seed=0)
    for each in result.correlations:
        first, second = (
            next(part for part in scored if part.part == place[1]).values[place[0]][BlockScore.TAYLOR].mean(axis=0)
            for place in (each.first, each.second)
        )
        assert each.spearman is not None
        assert each.pearson is not None
        assert each.spearman.value == pytest.approx(spearmanr(first, second).statistic)
        assert each.pearson.value == pytest.approx(pearsonr(first, second).statistic)
        assert each.spearman.low <= each.spearman.high


def test_blocks_that_all_score_the_same_have_no_correlation() -> None:
    scored = found(same=False)
    for each in scored:
        for values in each.values.values():
            values[BlockScore.ACCURACY_DROP][:] = 0.0
    result = consistency(BlockScore.ACCURACY_DROP, scored, seed=0)
    assert all(each.spearman is None and each.pearson is None for each in result.correlations)
    assert "cannot be judged" in result.sentence()
    assert json.loads(json.dumps(correlation_json({BlockScore.ACCURACY_DROP: result}), allow_nan=False))
    assert np.isnan(correlate(np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]]))).all()


def test_one_part_and_one_task_type_can_still_be_looked_at() -> None:
    only = part("validation", same=True)
    pair = {name: only.values[name] for name in ("suite_scenes", "suite_facts")}
    scored = [PartScores(label="tiny", part="validation", values=pair, costs=only.costs, span_angles={})]
    results = {score: consistency(score, scored, seed=0) for score in BlockScore}
    assert set(results[BlockScore.KL].means) == {"within_task"}
    assert results[BlockScore.KL].task_effect is None
    table = correlation_table(results, label="tiny").markdown()
    assert "| kl | - | 1.00 [0." in table


def test_power_is_that_of_fishers_z() -> None:
    # Twice the points need 1 / sqrt(2) of the effect, in z; by hand for 16: tanh(2.802 * sqrt(1.06 / 13)).
    assert smallest_detectable(16) == pytest.approx(0.6642, abs=1e-3)
    assert smallest_detectable(1000) < 0.1
    assert smallest_detectable(3) == 1.0


def test_scores_of_the_same_samples_are_compared_sample_by_sample() -> None:
    values = np.random.default_rng(0).normal(size=(30, 8))
    same = rank_correlation(values, 3 * values + 1, seed=0)
    assert same is not None
    assert (same.low, same.value, same.high) == pytest.approx((1.0, 1.0, 1.0))
