"""Learning from what is drawn and run, where no table says what it is worth."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.controller import ControllerDataModule
from lightning_modules.controller import ControllerModule
from lightning_modules.lesson import Lesson, run_what_is_drawn
from models.controllers.objectives import ExactPolicyGradient, Grpo, QRegression, Rloo
from profiling.controllers.batch import ControllerBatch, unanswered
from profiling.controllers.online_answers import OnlineAnswers
from tests.controller_modules import KINDS, optimized, trainer_of, world_data
from tests.estimator_world import write_estimator
from tests.online_world import OnlineWorld, write_online_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> OnlineWorld:
    return write_online_world(tmp_path_factory.mktemp("world"))


class TableAnswers(OnlineAnswers):
    """Looks accuracies up instead of running anything, and remembers what it was asked for."""

    def __init__(self, accuracy_NS: Tensor) -> None:
        self._table_NS = accuracy_NS
        self.asked_NS = torch.zeros(accuracy_NS.shape, dtype=torch.bool)

    def run(self, sample_B: Tensor, is_wanted_BS: Tensor) -> Tensor:
        self.asked_NS[sample_B] |= is_wanted_BS
        return self._table_NS.where(self.asked_NS, torch.nan)[sample_B]


def built(kind: str, data: ControllerDataModule, **changes: Any) -> ControllerModule:
    torch.manual_seed(0)
    return optimized(KINDS[kind](data.profile_facts, **changes))


def told(
    kind: str, batch: ControllerBatch, data: ControllerDataModule, **changes: Any
) -> tuple[dict[str, Lesson], dict[str, Any], TableAnswers]:
    """Run what a module draws on a batch whose accuracies were forgotten."""
    module = built(kind, data, **changes)
    answers = TableAnswers(batch.accuracy_BS)
    rows = torch.arange(len(batch))
    online = unanswered(replace(batch, sample_B=rows), answers)

    def lessons_of(batch: ControllerBatch) -> dict[str, Lesson]:
        return module.lessons(batch, module._feedback(batch))

    return *run_what_is_drawn(online, lessons_of, torch.Generator().manual_seed(3)), answers


@pytest.fixture
def data() -> ControllerDataModule:
    return world_data()


@pytest.fixture
def batch(data: ControllerDataModule) -> ControllerBatch:
    return next(iter(data.train_dataloader()))


@pytest.mark.parametrize("objective", [Grpo(updates_per_draw=2, kl_weight=0.01), Rloo()])
def test_draws_and_loss_are_those_of_a_table_that_agrees(
    objective: Grpo | Rloo, data: ControllerDataModule, batch: ControllerBatch
) -> None:
    module = built("grpo", data, objective=objective)
    by_table = module.lessons(batch, module._feedback(batch))["objective"]
    expected = by_table.draw(by_table.logits(), torch.Generator().manual_seed(3))
    lessons, draws, answers = told("grpo", batch, data, objective=objective)
    assert expected is not None
    for found, known in zip(draws["objective"], expected, strict=True):
        assert torch.equal(found, known)
    assert draws["objective"].reward.unique().numel() > 1
    lesson = lessons["objective"]
    loss = objective.loss(lesson.logits(), lesson.feedback, draws["objective"]).loss
    assert torch.equal(loss, objective.loss(by_table.logits(), by_table.feedback, expected).loss)
    is_drawn_BS = torch.zeros_like(batch.is_measured_BS).scatter(1, expected.setting, True)
    assert torch.equal(answers.asked_NS, is_drawn_BS)


def test_what_was_not_run_is_masked_for_those_who_draw_nothing(
    data: ControllerDataModule, batch: ControllerBatch
) -> None:
    lessons, draws, answers = told("two_stage", batch, data, setting_objective=Grpo(group_size=2))
    assert set(draws) == {"setting_objective"}
    asked_BTR = answers.asked_NS.unflatten(1, (3, 6))
    drawn_BTR = torch.zeros(len(batch) * 3, 6, dtype=torch.bool).scatter(1, draws["setting_objective"].setting, True)
    assert torch.equal(asked_BTR, drawn_BTR.view(len(batch), 3, 6))
    assert 1 <= asked_BTR.sum(dim=2).min() <= asked_BTR.sum(dim=2).max() == 2
    in_time_BS = batch.latency_ms_BS <= batch.budget_ms_B[:, None]
    goodput_BTR = (batch.accuracy_BS * in_time_BS).unflatten(1, (3, 6))
    best_BT = goodput_BTR.masked_fill(~asked_BTR, -1).amax(dim=2)
    assert torch.equal(lessons["tier_objective"].feedback.reward, best_BT)
    assert not torch.equal(best_BT, goodput_BTR.amax(dim=2))
    assert lessons["setting_objective"].feedback.is_measured.all()  # what may be drawn


def test_settings_that_may_not_be_run_are_not_asked_for(data: ControllerDataModule, batch: ControllerBatch) -> None:
    may_run_BS = torch.rand(batch.is_measured_BS.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    may_run_BS[0] = False
    partial = replace(batch, latency_ms_BS=batch.latency_ms_BS * may_run_BS)
    _, draws, answers = told("grpo", partial, data)
    assert not (answers.asked_NS & ~may_run_BS).any()
    assert answers.asked_NS.any(dim=1).tolist() == may_run_BS.any(dim=1).tolist()
    assert draws["objective"].reward[0].eq(0).all()  # a request of which nothing may be run teaches nothing


def test_an_objective_that_draws_nothing_is_refused(data: ControllerDataModule, batch: ControllerBatch) -> None:
    with pytest.raises(ValueError, match=r"online: setting_objective: must draw .* as Grpo and Rloo do, got Exact"):
        told("two_stage", batch, data, setting_objective=ExactPolicyGradient())
    with pytest.raises(ValueError, match=r"online: objective: must draw .*, got QRegression"):
        told("supervised", batch, data, objective=QRegression())


def _data(world: OnlineWorld, *, online: bool, **changes: Any) -> ControllerDataModule:
    source = world.source if online else None
    return ControllerDataModule([world.profile], online=source, split_by="profile", batch_size=4, **changes)


def _fitted(kind: str, data: ControllerDataModule, **changes: Any) -> ControllerModule:
    module = built(kind, data, **changes)
    trainer_of(max_epochs=4).fit(module, datamodule=data)
    return module


def test_really_running_the_model_gives_the_weights_that_its_profile_gives(
    world: OnlineWorld, caplog: pytest.LogCaptureFixture
) -> None:
    table, online = _data(world, online=False), _data(world, online=True)
    expected = _fitted("grpo", table)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        module = _fitted("grpo", online)
    for name, tensor in expected.network.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(module.network.state_dict()[name], tensor), name  # type: ignore[union-attr]
    assert online.online_answers is not None
    run, remembered = online.online_answers.num_run, online.online_answers.num_remembered
    assert 0 < run <= len(online.parts["train"]) * 6
    assert remembered > 0
    assert f"online: {run} answers were run, {remembered} remembered" in caplog.text


def test_the_second_stage_learns_online_what_it_learns_from_the_table(world: OnlineWorld) -> None:
    drawing = {"setting_objective": Grpo()}
    expected = _fitted("two_stage", _data(world, online=False), **drawing)
    module = _fitted("two_stage", _data(world, online=True), **drawing)
    for name, tensor in expected.network.setting_network.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(module.network.setting_network.state_dict()[name], tensor), name  # type: ignore[union-attr]


def test_with_an_estimator_settings_that_were_never_measured_are_drawn(world: OnlineWorld) -> None:
    data = _data(world, online=True, estimator=write_estimator(world.profile))
    outcomes = data.parts["train"].outcomes
    for array in (outcomes.accuracy_NS, outcomes.latency_runs_NSR):
        array[1:, 1:] = np.nan
    batch = next(iter(data.train_dataloader()))
    assert batch.is_measured_BS.all()
    assert not batch.accuracy_BS.any()
    after = batch.after_running(torch.eye(6, dtype=torch.bool)[[4]].expand(len(batch), -1))
    assert torch.equal(after.is_measured_BS[:, 4], torch.ones(len(batch), dtype=torch.bool))
    assert data.online_answers is not None
    assert data.online_answers.num_run == len(batch)
