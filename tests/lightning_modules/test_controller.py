"""What the three controllers have in common."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.controller import ControllerDataModule
from lightning_modules.controller import ControllerModule, FeatureKind
from lightning_modules.supervised_controller import SupervisedControllerModule
from models.controllers import Goodput, Lagrangian, OverrunPenalty
from models.controllers.objectives import ExactPolicyGradient, Grpo, HardCrossEntropy
from models.knobs import spread_grid
from profiling.controllers.batch import ControllerBatch
from tests.controller_modules import KINDS, optimized, trainer_of, world_data
from tests.controller_world import GRID

OTHER_GRID = spread_grid(16, top_k=(4, 6), block_counts=(8, 12, 16))


@pytest.fixture
def data() -> ControllerDataModule:
    return world_data()


def built(kind: str, data: ControllerDataModule, **changes: Any) -> ControllerModule:
    torch.manual_seed(0)
    return optimized(KINDS[kind](data.profile_facts, **changes))


def first_batch(data: ControllerDataModule) -> ControllerBatch:
    return next(iter(data.test_dataloader()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_loads_to_equal_choices_with_no_other_file(
    kind: str, data: ControllerDataModule, tmp_path: Path
) -> None:
    module = built(kind, data)
    trainer = trainer_of(max_epochs=2)
    trainer.fit(module, datamodule=data)
    (tmp_path / "alone").mkdir()
    trainer.save_checkpoint(tmp_path / "alone" / "c.ckpt")
    loaded = type(module).load_from_checkpoint(tmp_path / "alone" / "c.ckpt").eval()
    batch = first_batch(data)
    with torch.no_grad():
        assert torch.equal(loaded(batch), module.eval()(batch))
    assert loaded.grid == GRID
    assert loaded.objectives == module.objectives
    assert loaded.seed == 42


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_ends_with_the_same_weights(kind: str, data: ControllerDataModule) -> None:
    whole = built(kind, data)
    trainer_of(max_epochs=3).fit(whole, datamodule=data)
    first = built(kind, data)
    trainer = trainer_of(max_epochs=1)
    trainer.fit(first, datamodule=data)
    trainer.save_checkpoint("half.ckpt")
    torch.manual_seed(7)  # what torch itself would draw must not matter
    second = built(kind, data, hidden_dim=64)
    trainer_of(max_epochs=3).fit(second, datamodule=data, ckpt_path="half.ckpt")
    for name, tensor in whole.network.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(second.network.state_dict()[name], tensor), name  # type: ignore[union-attr]


def test_a_checkpoint_of_another_grid_names_both(data: ControllerDataModule) -> None:
    trainer = trainer_of(max_epochs=1)
    trainer.fit(built("supervised", data), datamodule=data)
    trainer.save_checkpoint("c.ckpt")
    other = KINDS["supervised"]({**data.profile_facts, "knob_grid": OTHER_GRID.to_json()})
    checkpoint = torch.load("c.ckpt", weights_only=True)
    with pytest.raises(ValueError, match=r"chooses among .*top_k \[4, 8\].* but the profile has .*top_k \[4, 6\]"):
        other.on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="was made by SupervisedControllerModule, expected one of TwoStageController"):
        KINDS["two_stage"](data.profile_facts).on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="tensors do not fit the configured model"):
        KINDS["supervised"](data.profile_facts, hidden_dim=8).on_load_checkpoint(checkpoint)


def test_a_checkpoint_keeps_the_times_and_scales_that_it_was_trained_with(data: ControllerDataModule) -> None:
    trainer = trainer_of(max_epochs=1)
    module = built("supervised", data)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint("c.ckpt")
    facts = data.profile_facts
    scale = {kind: [[x + 1 for x in mean], std] for kind, (mean, std) in facts["feature_scale"].items()}
    other = KINDS["supervised"]({**facts, "fastest_ms": 1.0, "slowest_ms": 900.0, "feature_scale": scale})
    other.load_state_dict(torch.load("c.ckpt", weights_only=True)["state_dict"])
    batch = first_batch(data)
    inputs = (batch.budget_ms_B, batch.free_BF, batch.question_BD, batch.glance_BD)
    assert torch.equal(other.before_image(*inputs), module.before_image(*inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_that_was_not_measured_is_never_chosen(kind: str, data: ControllerDataModule) -> None:
    module, batch = built(kind, data).eval(), first_batch(data)
    with torch.no_grad():
        first_B = module(batch)
        is_left_BS = batch.is_measured_BS.scatter(1, first_B[:, None], False)
        assert (module(replace(batch, is_measured_BS=is_left_BS)) != first_B).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_decider_reads_what_it_says(kind: str, data: ControllerDataModule) -> None:
    module = built(kind, data)
    assert module.feature_widths == {"free": 19, "question": 0, "glance": 0, "vision": 0}
    batch = first_batch(data)
    logits_BS = module.before_image(batch.budget_ms_B, batch.free_BF, batch.question_BD, batch.glance_BD)
    assert logits_BS.shape == (len(batch), 18)
    tier_B = torch.zeros(len(batch), dtype=torch.int64)
    within = module.after_image(batch.budget_ms_B, tier_B, batch.free_BF, batch.question_BD, batch.vision_BTD[:, 0])
    if kind == "supervised":
        assert within is None
        return
    assert within is not None
    assert within.shape == (len(batch), 6)
    by_tier_BTR = logits_BS.unflatten(1, (3, 6))
    assert torch.equal(by_tier_BTR, by_tier_BTR[:, :, :1].expand(-1, -1, 6))


def test_an_embedding_of_any_width_weighs_as_much_as_one_free_feature(data: ControllerDataModule) -> None:
    widths = {"free": 19, "question": 400, "vision": 0}
    embedding = torch.randn(5000, 400) * torch.linspace(1, 9, 400) + 3
    scale = {**data.profile_facts["feature_scale"], "question": [[3.0] * 400, torch.linspace(1, 9, 400).tolist()]}
    module = KINDS["supervised"]({**data.profile_facts, "feature_widths": widths, "feature_scale": scale})
    free = torch.from_numpy(data.parts["train"].features.free_NF).float()
    known = torch.cat([free[torch.randint(len(free), (5000,))], embedding], dim=1)
    seen = module.network.trunk.standardize(known)
    assert float(seen[:, 19:].square().sum(dim=1).mean()) == pytest.approx(1, abs=0.02)
    varies = free.std(dim=0) > 0
    assert float(seen[:, :19][:, varies].square().mean()) == pytest.approx(1, abs=0.1)


def test_a_glance_that_the_features_lack_cannot_be_read(data: ControllerDataModule) -> None:
    older = {**data.profile_facts, "feature_widths": {**data.profile_facts["feature_widths"], "question": 3}}
    with pytest.raises(ValueError, match="reads: the features hold no glance, make them anew with `controller-feat"):
        KINDS["supervised"](older, reads=["free", "glance"])


def test_without_any_embeddings_a_controller_reads_what_there_is(data: ControllerDataModule) -> None:
    assert KINDS["supervised"](data.profile_facts, reads=["free", "glance"]).feature_widths["glance"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_before_the_glance_decides_as_ever(kind: str, data: ControllerDataModule) -> None:
    facts = data.profile_facts
    older = {
        **facts,
        "feature_widths": {k: width for k, width in facts["feature_widths"].items() if k != "glance"},
        "feature_scale": {k: scale for k, scale in facts["feature_scale"].items() if k != "glance"},
    }
    torch.manual_seed(0)
    module = KINDS[kind](facts).eval()
    torch.manual_seed(0)
    again, batch = KINDS[kind](older).eval(), first_batch(data)
    assert again.feature_widths == module.feature_widths
    with torch.no_grad():
        assert torch.equal(again(batch), module(batch))


def _weights(module: ControllerModule) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns_and_standardised_features_do_not_move(kind: str, data: ControllerDataModule) -> None:
    module = built(kind, data)
    before = _weights(module)
    buffers = {name: buffer.clone() for name, buffer in module.network.named_buffers()}  # type: ignore[union-attr]
    trainer_of(max_epochs=1).fit(module, datamodule=data)
    assert not any(torch.equal(old, new) for old, new in zip(before, _weights(module), strict=True))
    for name, buffer in module.network.named_buffers():  # type: ignore[union-attr]
        assert torch.equal(buffer, buffers[name])


def test_several_updates_are_made_of_one_draw(data: ControllerDataModule) -> None:
    trainer = trainer_of(max_epochs=1)
    trainer.fit(built("grpo", data, objective=Grpo(updates_per_draw=3)), datamodule=data)
    assert trainer.global_step == 3 * len(data.train_dataloader())


def test_each_step_draws_anew_and_a_resumed_one_draws_the_same(
    data: ControllerDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = built("grpo", data)

    def drawn(step: int) -> list[float]:
        monkeypatch.setattr(ControllerModule, "global_step", step)
        numbers: list[float] = torch.rand(4, generator=module._generator()).tolist()
        return numbers

    assert drawn(7) == drawn(7)
    assert len({tuple(drawn(step)) for step in range(20)}) == 20


def test_the_schedule_moves_on_with_each_epoch(data: ControllerDataModule) -> None:
    module = built("supervised", data)
    trainer = trainer_of(max_epochs=12)
    trainer.fit(module, datamodule=data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0025)


def test_a_price_that_learns_is_kept_and_one_that_was_given_is_not_touched(data: ControllerDataModule) -> None:
    reward = Lagrangian([25.0], learning_rate=0.5, target_miss_rate=0.2)
    module = KINDS["supervised"](data.profile_facts, reward=reward)
    trainer = trainer_of(max_epochs=2)
    trainer.fit(optimized(module), datamodule=data)
    assert reward.price_N.tolist() == [0.5, 0.5]
    assert isinstance(module.reward, Lagrangian)
    assert module.reward.price_N.tolist() != [0.5, 0.5]
    trainer.save_checkpoint("c.ckpt")
    loaded = SupervisedControllerModule.load_from_checkpoint("c.ckpt").reward
    assert isinstance(loaded, Lagrangian)
    assert torch.equal(loaded.price_N, module.reward.price_N)
    assert loaded.target_miss_rate == 0.2


def test_objectives_and_rewards_of_a_checkpoint_are_those_given(data: ControllerDataModule) -> None:
    module = KINDS["supervised"](
        data.profile_facts, objective=HardCrossEntropy(tie="cheapest"), reward=OverrunPenalty(alpha=2.0, beta=0.25)
    )
    again = SupervisedControllerModule(**module.hparams)
    assert again.objectives["objective"] == HardCrossEntropy(tie="cheapest")
    assert isinstance(again.reward, OverrunPenalty)
    assert (again.reward.alpha, again.reward.beta) == (2.0, 0.25)
    broken = {**module.hparams, "objective": {"class_path": "models.controllers.rewards.Goodput", "init_args": {}}}
    with pytest.raises(ValueError, match=r"class_path: must be a Objective, got 'models.controllers.rewards.Goodput'"):
        SupervisedControllerModule(**broken)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("supervised", {"reads": ["vision"]}, "vision is not known before the tier is chosen"),
        ("supervised", {"reads": ["free", "free"]}, "reads: must be of free, question, glance, vision, each once"),
        ("two_stage", {"reads": ["pixels"]}, "reads: must be of free, question, glance, vision"),
        ("supervised", {"head": "both"}, "head: must be joint or factorised, got 'both'"),
        ("grpo", {"objective": KINDS["two_stage"].keywords["tier_objective"]}, "must train a distribution"),
    ],
)
def test_bad_arguments_are_named(kind: str, changes: dict[str, Any], message: str, data: ControllerDataModule) -> None:
    with pytest.raises(ValueError, match=message):
        KINDS[kind](data.profile_facts, **changes)


def test_a_controller_that_sees_the_request_beats_any_table_and_one_that_does_not_is_one() -> None:
    data = world_data(num_images=400)
    facts = data.profile_facts
    reached = {}
    kinds: dict[str, list[FeatureKind]] = {"blind": [], "seeing": ["free"]}
    for name, reads in kinds.items():
        torch.manual_seed(0)
        module = SupervisedControllerModule(
            facts, objective=ExactPolicyGradient(entropy_weight=0.01), reward=Goodput(), reads=reads
        )
        trainer = trainer_of(max_epochs=20)
        trainer.fit(optimized(module), datamodule=data)
        (result,) = trainer.test(module, datamodule=data, verbose=False)
        reached[name] = result["test/goodput"]
    test, training = data.parts["test"].outcomes, data.parts["train"].outcomes
    best, table = [], []
    for budget_ms in data.budgets_ms:
        in_time = test.accuracy_NS * (test.latency_ms_NS <= budget_ms)
        static = (training.accuracy_NS * (training.latency_ms_NS <= budget_ms)).mean(axis=0)
        table.append(in_time.mean(axis=0)[static.argmax()])
        best.append(in_time.mean(axis=0).max())
    table_goodput, ceiling = sum(table) / len(table), sum(best) / len(best)
    assert reached["blind"] <= ceiling + 1e-6  # nobody who knows the budget alone can be above
    assert reached["blind"] > table_goodput - 0.015
    assert reached["seeing"] > ceiling + 0.03
