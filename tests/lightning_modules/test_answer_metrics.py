import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_modules.answer_metrics import CountRmse, MeanScore, ParseFailureRate
from profiling.scoring import Score, ScoreName

GROUPS = ["text_vqa", "science_qa_img", "coco_caption"]


def _scores(*values: float, name: ScoreName = ScoreName.VQA_OFFICIAL, is_parsed: bool = True) -> list[Score]:
    return [Score(name=name, value=value, is_parsed=is_parsed) for value in values]


def _values(metric: Metric) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}


def _join_processes(metrics: Sequence[Metric]) -> None:
    """Let each metric gather the states of all, as if each ran in a process of its own."""
    for metric in metrics:
        metric.dist_sync_fn = _gather_from(metrics)
        metric.distributed_available_fn = lambda: True


def _gather_from(metrics: Sequence[Metric]) -> Callable[..., list[Tensor]]:
    """Return what torchmetrics calls once for each state, in the order in which they were added."""
    states = iter([[getattr(metric, name).clone() for metric in metrics] for name in ("totals", "counts")])
    return lambda *_, **__: next(states)


def test_scores_are_averaged_by_group_and_over_all_samples() -> None:
    metric = MeanScore(GROUPS)
    metric.update(_scores(1, 0.6), ["text_vqa", "text_vqa"])
    metric.update(_scores(0), ["science_qa_img"])
    # Samples count alike: (1 + 0.6 + 0) / 3, not the mean of 0.8 and 0.
    assert _values(metric) == pytest.approx({"text_vqa": 0.8, "science_qa_img": 0, "all": 1.6 / 3})


def test_cider_stays_out_of_the_mean_over_all_samples() -> None:
    metric = MeanScore(GROUPS)
    metric.update([*_scores(0.5), *_scores(8, name=ScoreName.CIDER_D)], ["text_vqa", "coco_caption"])
    assert _values(metric) == pytest.approx({"text_vqa": 0.5, "coco_caption": 8, "all": 0.5})


def test_captions_alone_have_no_mean_over_all_samples() -> None:
    metric = MeanScore(["coco_caption"])
    metric.update(_scores(8, name=ScoreName.CIDER_D), ["coco_caption"])
    assert _values(metric) == {"coco_caption": 8}


def test_parse_failures_are_counted_by_group() -> None:
    metric = ParseFailureRate(GROUPS)
    metric.update(_scores(1, 1), ["science_qa_img", "text_vqa"])
    metric.update(_scores(1, name=ScoreName.MULTIPLE_CHOICE_NEAREST, is_parsed=False), ["science_qa_img"])
    assert _values(metric) == pytest.approx({"science_qa_img": 0.5, "text_vqa": 0, "all": 1 / 3})


def test_errors_of_counts_are_squared_averaged_and_rooted() -> None:
    metric = CountRmse(["simple", "complex"])
    # Errors 0, 3, 4; "many" is no number.
    metric.update(["three", "5", "one", "many"], ["3", "2", "5", "9"], ["simple", "simple", "complex", "complex"])
    assert _values(metric) == pytest.approx({"simple": math.sqrt(4.5), "complex": 4, "all": math.sqrt(25 / 3)})


def test_without_a_single_number_there_is_no_error_of_counts() -> None:
    metric = CountRmse(["simple"])
    metric.update(["many"], ["3"], ["simple"])
    assert _values(metric) == {}


def test_processes_add_up_their_sums_not_their_means() -> None:
    # The second process has seen three samples, and a group that the first never met.
    first, second = MeanScore(GROUPS), MeanScore(GROUPS)
    first.update(_scores(1), ["text_vqa"])
    second.update(_scores(0, 0, 0.5), ["text_vqa", "text_vqa", "science_qa_img"])
    _join_processes([first, second])
    expected = {"text_vqa": 1 / 3, "science_qa_img": 0.5, "all": 0.375}
    assert _values(first) == pytest.approx(expected)
    assert _values(second) == pytest.approx(expected)


def test_processes_root_the_mean_of_all_errors() -> None:
    first, second = CountRmse(["simple"]), CountRmse(["simple"])
    first.update(["1"], ["4"], ["simple"])
    second.update(["2"] * 8, ["two"] * 8, ["simple"] * 8)
    _join_processes([first, second])
    # sqrt(9 / 9), where the mean of both roots would be 1.5.
    assert _values(first) == pytest.approx({"simple": 1, "all": 1})


def test_a_step_sees_its_own_batch_and_the_epoch_all() -> None:
    metric = MeanScore(["text_vqa"])
    metric(_scores(0), ["text_vqa"])
    assert metric(_scores(1), ["text_vqa"]) == {"text_vqa": 1, "all": 1}
    assert _values(metric) == {"text_vqa": 0.5, "all": 0.5}
    metric.reset()
    metric.update([], [])
    assert _values(metric) == {}


def test_many_small_scores_add_up_without_loss() -> None:
    metric = MeanScore(["text_vqa"])
    metric.totals += torch.tensor([2.0**24, 0.0])
    metric.update(_scores(*[0.3] * 10), ["text_vqa"] * 10)
    # In single precision 0.3 would vanish beside 2 ** 24.
    assert float(metric.totals[0]) == pytest.approx(2**24 + 3, abs=1e-6)


@pytest.mark.parametrize("groups", [[], ["a", "a"], ["a", "all"]])
def test_groups_need_names_of_their_own(groups: list[str]) -> None:
    with pytest.raises(ValueError, match="groups: needs one or more, all different and none called 'all'"):
        MeanScore(groups)


@pytest.mark.parametrize("groups", [["okvqa"], ["all"], [], ["text_vqa", "text_vqa"]])
def test_every_score_needs_a_known_group(groups: list[str]) -> None:
    with pytest.raises(ValueError, match=r"groups: needs one of \['text_vqa'\] for each of 1 values, got"):
        MeanScore(["text_vqa"]).update(_scores(1), groups)


def test_a_true_count_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="truth: must be a whole number or its word, got 'many'"):
        CountRmse(["simple"]).update(["3"], ["many"], ["simple"])
