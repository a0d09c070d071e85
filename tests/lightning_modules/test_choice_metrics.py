from math import isfinite
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.choice_metrics import ChoiceMetrics, without_budgets
from models.knobs import KnobGrid, Tier
from profiling.controllers.batch import ControllerBatch

# Two tiers, two top_k, one number of blocks: settings low/1, low/2, high/1, high/2.
GRID = KnobGrid(
    tiers=(Tier(name="low", min_crops=1, max_crops=1), Tier(name="high", min_crops=2, max_crops=4)),
    top_k=(1, 2),
    blocks_by_count={2: (0, 1)},
)
POPULATION = [0.1, 0.2, 0.3, 0.9]


def batch_of(accuracy: list[list[float]], latency_ms: list[list[float]], budget_ms: list[float]) -> ControllerBatch:
    num = len(budget_ms)
    return ControllerBatch(
        free_BF=torch.zeros(num, 0),
        question_BD=torch.zeros(num, 0),
        glance_BD=torch.zeros(num, 0),
        vision_BTD=torch.zeros(num, 2, 0),
        budget_ms_B=torch.tensor(budget_ms),
        accuracy_BS=torch.tensor(accuracy),
        latency_ms_BS=torch.tensor(latency_ms),
        is_measured_BS=torch.ones(num, 4, dtype=torch.bool),
        vision_done_ms_BT=torch.zeros(num, 2),
        sample_B=torch.arange(num),
    )


def measured(chosen: list[int], batch: ControllerBatch) -> dict[str, float]:
    metrics = ChoiceMetrics(GRID, [10.0, 40.0], POPULATION)
    metrics.update(torch.tensor(chosen), batch)
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.fixture
def batch() -> ControllerBatch:
    times_ms = [5.0, 8.0, 20.0, 30.0]
    return batch_of(
        [[0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]], [times_ms] * 3, [10.0, 40.0, 10.0]
    )


def test_late_answers_count_as_wrong_and_regret_is_to_the_best(batch: ControllerBatch) -> None:
    found = measured([2, 2, 0], batch)  # late; right in time; wrong in time
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["goodput"] == pytest.approx(1 / 3)
    assert found["adherence"] == pytest.approx(2 / 3)
    assert found["latency_ms"] == pytest.approx(15)
    assert found["regret"] == pytest.approx(1 / 3)  # nothing answers the third right in time
    assert found["goodput/at_10_ms"] == 0
    assert found["goodput/at_40_ms"] == 1


def test_labels_go_to_the_best_mean_accuracy_and_ties_are_told_apart(batch: ControllerBatch) -> None:
    # Labels: low/2 in 10 ms; high/2 in 40 ms, where low/2 and high/1 are as good; none for the third.
    found = measured([3, 2, 0], batch)
    assert found["label_accuracy/tier"] == pytest.approx(1 / 2)
    assert found["label_accuracy/top_k"] == pytest.approx(1 / 2)
    assert found["label_accuracy/num_active_blocks"] == 1
    assert found["label_accuracy/all_knobs"] == 0
    assert found["best_accuracy/tier"] == pytest.approx(1 / 2)
    assert found["best_accuracy/top_k"] == 1
    assert found["best_accuracy/all_knobs"] == pytest.approx(1 / 2)


def test_every_knob_and_regret_are_told_budget_by_budget(batch: ControllerBatch) -> None:
    found = measured([3, 2, 0], batch)
    # In 10 ms the label is low/2, and nothing else is as good; in 40 ms it is high/2, and low/2 and high/1 are as good.
    label = {name: found[f"label_accuracy/{name}"] for name in ("tier/at_10_ms", "top_k/at_10_ms")}
    assert label == {"tier/at_10_ms": 0, "top_k/at_10_ms": 1}
    label = {name: found[f"label_accuracy/{name}"] for name in ("tier/at_40_ms", "top_k/at_40_ms")}
    assert label == {"tier/at_40_ms": 1, "top_k/at_40_ms": 0}
    assert found["label_accuracy/num_active_blocks/at_40_ms"] == 1
    assert found["label_accuracy/all_knobs/at_40_ms"] == 0
    assert found["best_accuracy/all_knobs/at_40_ms"] == 1
    assert found["best_accuracy/all_knobs/at_10_ms"] == 0
    assert found["regret/at_10_ms"] == pytest.approx(1 / 2)
    assert found["regret/at_40_ms"] == 0
    assert found["accuracy/at_10_ms"] == pytest.approx(1 / 2)  # right but late, and wrong


def test_shares_of_levels_are_of_all_requests(batch: ControllerBatch) -> None:
    found = measured([3, 2, 0], batch)
    assert found["share/tier/low"] == pytest.approx(1 / 3)
    assert found["share/top_k/1"] == pytest.approx(2 / 3)
    assert found["share/num_active_blocks/2"] == 1


def test_batches_add_up_and_a_budget_that_nothing_keeps_has_no_label(batch: ControllerBatch) -> None:
    metrics = ChoiceMetrics(GRID, [1.0, 10.0, 40.0], POPULATION)
    for row in range(3):
        one = batch.take(torch.tensor([row]), batch.budget_ms_B[row : row + 1])
        metrics.update(torch.tensor([[3, 2, 0][row]]), one)
    one = batch.take(torch.tensor([0]), torch.tensor([1.0]))
    metrics.update(torch.tensor([0]), one)
    parts: dict[str, Tensor] = metrics.compute()
    assert float(parts["label_accuracy/tier"]) == pytest.approx(1 / 2)
    assert "label_accuracy/all_knobs/at_1_ms" not in parts
    assert float(parts["goodput/at_1_ms"]) == 0
    assert not any("_ms" in name for name in without_budgets(parts) if name != "latency_ms")


def test_every_value_is_a_number_for_the_logger(batch: ControllerBatch) -> None:
    found: dict[str, Any] = measured([3, 2, 0], batch)
    assert all(isfinite(value) for value in found.values())
