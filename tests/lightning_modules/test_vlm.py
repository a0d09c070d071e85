from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

import main
from lightning_modules.vlm import VLMModule
from models.checkpoint import load_molmo
from models.knobs import GRID_KEY, own_grid
from tests.small_vlm import CONFIGS, NANO, small_data, small_module, small_overrides, small_shape, write_small_snapshot


class _Trainable(VLMModule):
    """With an optimizer as the command line would give it one."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.003)


class _WeightsAtStart(Callback):
    """Copies the weights that the first step begins with."""

    weights: ClassVar[dict[str, torch.Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        network = cast("VLMModule", pl_module).network
        self.weights.update({name: parameter.detach().clone() for name, parameter in network.named_parameters()})


def _module(**changes: Any) -> VLMModule:
    torch.manual_seed(0)
    module = small_module(small_data(), **changes)
    module.__class__ = _Trainable
    return module


def _trainer(max_steps: int, **options: Any) -> Trainer:
    return Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        **options,
    )


def test_a_batch_is_learned_by_heart() -> None:
    data = small_data(batch_size=4)
    data.setup("fit")
    module = _module()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.005, weight_decay=0)
    batch = next(iter(data.train_dataloader()))
    low = module.spot_settings["tier_low"]
    for _ in range(100):
        losses = module._losses(batch, low, label_share=0.0)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert float(losses["answers"].detach()) < 0.02


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_reaches_every_parameter(dtype: str) -> None:
    data = small_data(batch_size=16)
    data.setup("fit")
    module = _module(dtype=dtype)
    losses = module._losses(next(iter(data.train_dataloader())), module.spot_settings["full"], label_share=1.0)
    assert set(losses) == {"answers", "labels", "places", "balance", "z"}
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in module.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.any(), name


def test_labels_and_places_have_weights_of_their_own_that_fall_together() -> None:
    data = small_data()
    data.setup("fit")
    module, batch = _module(label_weight=0.25, place_weight=2.0), next(iter(data.train_dataloader()))
    plain = _module(label_weight=1.0, place_weight=1.0)
    at_half, whole = (
        m._losses(batch, m.spot_settings["full"], label_share=s) for m, s in ((module, 0.5), (plain, 1.0))
    )
    torch.testing.assert_close(at_half["labels"], 0.125 * whole["labels"])
    torch.testing.assert_close(at_half["places"], whole["places"])


def test_the_answers_alone_train_the_routers() -> None:
    data = small_data()
    data.setup("fit")
    module = _module(balance_weight=0.0, z_weight=0.0)
    batch = next(iter(data.train_dataloader()))
    module._losses(batch, module.spot_settings["full"], label_share=0.0)["answers"].backward()
    routers = [p for name, p in module.network.named_parameters() if "router" in name]
    assert len(routers) == 3
    assert all(router.grad is not None and router.grad.any() for router in routers)


def test_a_run_that_goes_on_ends_with_the_weights_of_one_that_never_stopped() -> None:
    whole = _module(is_elastic=True)
    _trainer(5).fit(whole, datamodule=small_data())
    first = _module(is_elastic=True)
    trainer = _trainer(3)  # in the middle of the second epoch
    trainer.fit(first, datamodule=small_data())
    trainer.save_checkpoint("stopped.ckpt")
    second = _module(is_elastic=True)
    _trainer(5).fit(second, datamodule=small_data(), ckpt_path="stopped.ckpt")
    for name, parameter in whole.network.named_parameters():
        torch.testing.assert_close(dict(second.network.named_parameters())[name], parameter, rtol=0, atol=0)
        assert not torch.equal(dict(first.network.named_parameters())[name], parameter)


def test_an_elastic_run_starts_from_another_and_its_checkpoint_needs_no_other() -> None:
    first = _module()
    trainer = _trainer(2)
    trainer.fit(first, datamodule=small_data())
    trainer.save_checkpoint("first.ckpt")
    torch.manual_seed(7)
    second = _module(is_elastic=True, initial="first.ckpt")
    trainer = _trainer(1, callbacks=[_WeightsAtStart()])
    trainer.fit(second, datamodule=small_data())
    for name, parameter in first.network.named_parameters():
        assert torch.equal(_WeightsAtStart.weights[name], parameter), name
    assert not torch.equal(
        second.network.molmo.language_model.head.weight, first.network.molmo.language_model.head.weight
    )
    trainer.save_checkpoint("second.ckpt")
    Path("first.ckpt").unlink()
    alone = _Trainable.load_from_checkpoint("second.ckpt")
    assert "initial" not in alone.hparams
    assert torch.equal(alone.network.molmo.language_model.head.weight, second.network.molmo.language_model.head.weight)
    going_on = _module(is_elastic=True, initial="first.ckpt")
    _trainer(2).fit(going_on, datamodule=small_data(), ckpt_path="second.ckpt")
    assert going_on.global_step == 2


def test_a_run_starts_from_a_snapshot() -> None:
    write_small_snapshot(Path("snapshot"))
    start = load_molmo("snapshot")
    torch.manual_seed(7)
    module = _module(is_elastic=True, initial="snapshot")
    head = module.network.molmo.language_model.head.weight
    with torch.no_grad():
        head.add_(1.0)
    _trainer(1, callbacks=[_WeightsAtStart()]).fit(module, datamodule=small_data())
    for name, parameter in start.named_parameters():
        assert torch.equal(_WeightsAtStart.weights[f"molmo.{name}"], parameter), name
    wider = _module(shape=small_shape(moe_num_experts=8), initial="snapshot")
    with pytest.raises(
        ValueError, match=r"initial: snapshot: is of another shape, first num_experts: got 4, expected 8"
    ):
        _trainer(1).fit(wider, datamodule=small_data())


def test_weights_to_start_from_must_fit() -> None:
    small = _module()
    trainer = _trainer(1)
    trainer.strategy.connect(small)
    trainer.save_checkpoint("small.ckpt")
    wider = _module(shape=small_shape(moe_num_experts=8), initial="small.ckpt")
    with pytest.raises(ValueError, match=r"9 tensors do not fit the configured model, first network\.molmo\."):
        _trainer(1).fit(wider, datamodule=small_data())
    with pytest.raises(ValueError, match=r"nowhere\.ckpt: no such checkpoint file"):
        _trainer(1).fit(_module(initial="nowhere.ckpt"), datamodule=small_data())


def test_a_checkpoint_of_another_shape_is_refused() -> None:
    trainer = _trainer(1)
    module = small_module(small_data())
    trainer.strategy.connect(module)
    trainer.save_checkpoint("small.ckpt")
    loaded = VLMModule.load_from_checkpoint("small.ckpt")
    assert torch.equal(loaded.network.molmo.language_model.head.weight, module.network.molmo.language_model.head.weight)
    wider = small_module(small_data(), shape=small_shape(moe_num_experts=8))
    checkpoint = torch.load("small.ckpt", weights_only=True)
    with pytest.raises(ValueError, match=r"tensors do not fit the configured model"):
        wider.on_load_checkpoint(checkpoint)


def test_a_tokenizer_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape.vocab_size: the tokenizer has SpecialTokens\(bos_id=241"):
        _module(shape=small_shape(vocab_size=239))


def test_levels_that_the_model_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"top_k: must be 1 to 4 .*, got 9"):
        _module(top_k=[2, 9])


def test_the_grid_goes_with_the_shape() -> None:
    module = _module()
    assert own_grid(module.hf_config) == module.grid
    assert module.hf_config[GRID_KEY]["top_k"] == [1, 2, 3]


def test_a_schedule_from_the_command_line_moves_with_every_step(tmp_path: Path) -> None:
    cli = main.cli_main(
        [
            *("fit", "--config", str(NANO), "--config", str(CONFIGS / "elastic.yaml"), *small_overrides(tmp_path)),
            *("--trainer.logger", "false", "--model.init_args.initial", "null"),
        ]
    )
    assert cli is not None
    optimizer = cli.trainer.optimizers[0]
    # One cycle of 1600 steps starts at a 25th of the highest rate and has hardly moved after three.
    assert 0.001 / 25 < optimizer.param_groups[0]["lr"] < 0.00005
    assert cli.trainer.global_step == 3
    accuracy = {key for key in cli.trainer.callback_metrics if key.startswith("test/accuracy/")}
    settings = ("full", "tier_low", "top_k_1", "blocks_2")
    assert accuracy == {
        f"test/accuracy/{setting}/{family}" for setting in settings for family in ("suite_scenes", "suite_text", "all")
    }


def test_a_run_logs_what_the_documentation_lists() -> None:
    module = _module(label_steps=1)
    trainer = Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module._rate._STEPS = 1
    trainer.fit(module, datamodule=small_data())
    logged = {key.partition("/accuracy/")[0] for key in trainer.callback_metrics}
    page = (CONFIGS.parents[1] / "docs" / "metrics.md").read_text()
    section = page.partition("## Vision-language model")[2].partition("\n## ")[0]
    listed = {line.split("`")[1].partition("/accuracy/")[0] for line in section.splitlines() if line.startswith("| `")}
    assert logged == listed - {"test"}


@pytest.mark.parametrize("is_elastic", [False, True])
def test_each_stage_builds_a_model_that_fits_its_data(*, is_elastic: bool) -> None:
    more = ["--config", str(CONFIGS / "elastic.yaml")] if is_elastic else []
    arguments = ["--config", str(NANO), *more, "--trainer.accelerator", "cpu", "--optimizer.init_args.fused", "false"]
    arguments += ["--model.init_args.compiles", "false"]
    cli = main.cli_main(arguments, run=False)
    assert cli is not None
    assert cli.trainer.max_steps <= cli.config["lr_scheduler"]["init_args"]["total_steps"]
    module = cli.model
    assert isinstance(module, VLMModule)
    assert module.hparams["is_elastic"] == is_elastic
    assert module.label_steps <= cli.trainer.max_steps / 2
    num_parameters = sum(parameter.numel() for parameter in module.network.molmo.parameters())
    assert num_parameters * 2 < 30 * 2**20  # in bfloat16
    tokens = {}
    for tier in module.grid.tiers:
        pixels = torch.zeros(1, 3, 192, 192, dtype=torch.uint8)
        inputs, _ = module._processor().from_batch(torch.tensor([[1]]), [pixels], tier=tier)
        tokens[tier.name] = int(inputs.num_vision_tokens)
    assert tokens == {"low": 32, "medium": 80, "high": 160}
