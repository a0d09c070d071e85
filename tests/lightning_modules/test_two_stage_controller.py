"""The lessons of both stages, and the policy that they make together."""

import pytest
import torch
from torch import Tensor

from datamodules.controller import ControllerDataModule
from lightning_modules.controller import ControllerModule
from lightning_modules.lesson import Lesson
from models.controllers import Feedback, Goodput
from profiling.controllers.batch import ControllerBatch
from tests.controller_modules import KINDS, optimized, trainer_of, world_data


@pytest.fixture
def data() -> ControllerDataModule:
    return world_data()


def _taught(kind: str, data: ControllerDataModule) -> tuple[ControllerModule, ControllerBatch, dict[str, Lesson]]:
    torch.manual_seed(0)
    module: ControllerModule = KINDS[kind](data.profile_facts)
    batch = next(iter(data.train_dataloader()))
    reward_BS = Goodput()(batch.accuracy_BS, batch.latency_ms_BS, batch.budget_ms_B)
    return module, batch, module.lessons(batch, Feedback(reward_BS, batch.latency_ms_BS, batch.is_measured_BS))


def _asked_at(module: ControllerModule, batch: ControllerBatch, tier: int) -> Tensor:
    """Ask the second stage about a tier, as it is asked online."""
    tier_B = torch.full((len(batch),), tier)
    remaining_ms_B = batch.budget_ms_B - batch.vision_done_ms_BT[:, tier]
    logits = module.after_image(remaining_ms_B, tier_B, batch.free_BF, batch.question_BD, batch.vision_BTD[:, tier])
    assert logits is not None
    return logits


def test_each_stage_is_taught_by_what_it_will_be_asked(data: ControllerDataModule) -> None:
    module, batch, lessons = _taught("two_stage", data)
    tiers, settings = lessons["tier_objective"], lessons["setting_objective"]
    asked_BS = module.before_image(batch.budget_ms_B, batch.free_BF, batch.question_BD, batch.glance_BD)
    torch.testing.assert_close(tiers.logits(), asked_BS[:, ::6])
    logits_BTR = settings.logits().unflatten(0, (len(batch), 3))
    reward_BTR = settings.feedback.reward.unflatten(0, (len(batch), 3))
    best_BT = tiers.feedback.reward
    for tier in range(3):
        torch.testing.assert_close(logits_BTR[:, tier], _asked_at(module, batch, tier))
        in_time = batch.latency_ms_BS <= batch.budget_ms_B[:, None]
        goodput_BR = (batch.accuracy_BS * in_time)[:, 6 * tier : 6 * tier + 6]
        assert torch.equal(reward_BTR[:, tier], goodput_BR)
        assert torch.equal(best_BT[:, tier], goodput_BR.amax(dim=1))


def test_the_end_to_end_policy_is_the_product_of_its_stages(data: ControllerDataModule) -> None:
    module, batch, lessons = _taught("grpo", data)
    tier_BT = module.before_image(batch.budget_ms_B, batch.free_BF, batch.question_BD, batch.glance_BD)[:, ::6].softmax(
        dim=1
    )
    joint_BTR = lessons["objective"].logits().exp().unflatten(1, (3, 6))
    for tier in range(3):
        expected = tier_BT[:, tier, None] * _asked_at(module, batch, tier).softmax(dim=1)
        torch.testing.assert_close(joint_BTR[:, tier], expected)


def test_the_divergence_is_from_the_policy_at_the_start_of_the_epoch(data: ControllerDataModule) -> None:
    module = KINDS["grpo"](data.profile_facts)
    trainer_of(max_epochs=1).fit(optimized(module), datamodule=data)
    batch = next(iter(data.train_dataloader()))
    reward_BS = Goodput()(batch.accuracy_BS, batch.latency_ms_BS, batch.budget_ms_B)
    feedback = Feedback(reward_BS, batch.latency_ms_BS, batch.is_measured_BS)
    moved = module.lessons(batch, feedback)["objective"]
    assert moved.reference_logits is not None
    assert not torch.allclose(moved.logits(), moved.reference_logits)
    module.on_train_epoch_start()
    again = module.lessons(batch, feedback)["objective"]
    torch.testing.assert_close(again.logits(), again.reference_logits)
