import json
import re

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from profiling.importance.consistency import Consistency, consistency, correlate, rank_correlation, smallest_detectable
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
    for means in (result.spearman, result.pearson):
        splits, within, between = (means[each] for each in ("splits", "within_task", "between_tasks"))
        assert splits.interval.value > 0.95
        assert within.interval.value > 0.95
        assert between.interval.value < 0.6
        assert (splits.num_pairs, within.num_pairs, between.num_pairs) == (4, 1, 5)
    assert result.task_effect is not None
    assert result.task_effect.low > 0
    assert "'Task-dependent' holds: datasets of one task type agree more" in result.sentence()
    assert re.search(r"datasets of one task type 0\.\d+ \[.*\] \(1 pair\); datasets of different", result.sentence())
    assert "with 16 blocks a rank correlation below 0.66 is missed" in result.sentence()


def test_without_task_dependence_none_is_claimed() -> None:
    result = consistency(BlockScore.KL, found(same=True, noise=1.0), seed=0)
    assert "'data-agnostic' is not refuted" in result.sentence()
    assert "'Task-dependent' is not shown" in result.sentence()


def test_that_the_data_matter_beyond_the_task_is_found_where_it_was_planted() -> None:
    scored = found(same=False)
    own = np.random.default_rng(3).random(NUM_BLOCKS)
    for each in scored:
        each.values["suite_facts"][BlockScore.KL][:] += own
    result = consistency(BlockScore.KL, scored, seed=0)
    assert result.data_effect is not None
    assert result.data_effect.low > 0
    assert "'data-agnostic' is not so: datasets of one task type agree less" in result.sentence()
    splits, within = (result.spearman[each].interval.value for each in ("splits", "within_task"))
    assert result.data_effect.value == pytest.approx(splits - within)


def test_one_dataset_whose_blocks_all_score_the_same_leaves_the_other_pairs() -> None:
    scored = found(same=False)
    whole = consistency(BlockScore.KL, scored, seed=0)
    for each in scored:
        each.values["suite_tables"][BlockScore.KL][:] = 0.5
    result = consistency(BlockScore.KL, scored, seed=0)
    assert {relation: mean.num_pairs for relation, mean in result.spearman.items()} == {
        "splits": 3,
        "within_task": 1,
        "between_tasks": 2,
    }
    assert result.spearman["within_task"] == whole.spearman["within_task"]
    defined = [each.spearman.value for each in result.correlations if each.relation == "splits" and each.spearman]
    assert result.spearman["splits"].interval.value == pytest.approx(np.mean(defined))
    assert result.task_effect is not None


def test_what_is_written_is_read_again() -> None:
    for scored in (found(same=False), [part("train", same=True)]):
        result = consistency(BlockScore.KL, scored, seed=0)
        assert Consistency.from_json(json.loads(json.dumps(result.to_json()))) == result


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
    assert set(results[BlockScore.KL].spearman) == {"within_task"}
    assert results[BlockScore.KL].task_effect is None
    table = correlation_table(results, label="tiny").markdown()
    assert "| kl | Spearman | - | 1.00 [0." in table
    assert "| kl | Pearson | - | 1.00 [0." in table
    assert re.search(r"\| kl \| Spearman \| - \| 1\.00 \[.*\] \(1\) \| - \| - \| - \|", table)


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
