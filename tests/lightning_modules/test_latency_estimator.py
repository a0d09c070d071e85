from pathlib import Path

import pytest
import torch
from lightning import Trainer

from datamodules.profile import RowBatches
from lightning_modules.latency_estimator import LatencyEstimatorModule, Loss
from models.latency_estimator import TARGETS, LatencyRows
from models.latency_terms import COMPONENTS, TERMS, ModelShape
from profiling.latency_rows import base_coefficients, latency_rows
from tests.profile_law import profile_table

SHAPE = ModelShape().to_mapping()


class _Trainable(LatencyEstimatorModule):
    """With the optimizer and schedule that the command line would give it."""

    num_epochs = 1

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.num_epochs)]


def _rows(num_images: int = 10, *, noise: float = 0.02, seed: int = 0) -> LatencyRows:
    return latency_rows(profile_table(num_images=num_images, noise=noise, seed=seed))


def _fit(
    rows: LatencyRows, val_rows: LatencyRows, *, max_epochs: int, loss: Loss = "pinball"
) -> LatencyEstimatorModule:
    torch.manual_seed(0)
    module = _Trainable(["synthetic"], [SHAPE], base_coefficients(rows, [SHAPE]), loss=loss)
    module.num_epochs = max_epochs
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=max_epochs,
    )
    train = RowBatches(rows, batch_size=64, shuffle_seed=0)
    val = RowBatches(val_rows, batch_size=4096, shuffle_seed=None)
    trainer.fit(module, train_dataloaders=train, val_dataloaders=val)
    return module.eval()


def _mape(module: LatencyEstimatorModule, rows: LatencyRows) -> torch.Tensor:
    with torch.no_grad():
        median_ms = module(rows.features, rows.device)[..., module.estimator.median_index]
    error: torch.Tensor = (median_ms - rows.target_ms).abs() / rows.target_ms
    return error.nanmean(dim=0)


@pytest.mark.parametrize("loss", ["pinball", "huber", "mse"])
def test_every_loss_overfits_64_rows(loss: Loss) -> None:
    rows = LatencyRows(*(column[:64] for column in _rows(noise=0.0)))
    module = _fit(rows, rows, max_epochs=400, loss=loss)
    assert (_mape(module, rows) < 0.01).all()


def test_a_known_law_is_recovered_on_new_images_and_its_noise_covered() -> None:
    rows, val_rows, new_rows = _rows(120), _rows(40, seed=1), _rows(80, seed=2)
    module = _fit(rows, val_rows, max_epochs=40)
    # Two percent of Gaussian noise make an absolute error of 1.6 percent on average, whoever predicts.
    assert (_mape(module, new_rows) < 0.02).all()
    with torch.no_grad():
        quantiles_ms = module(new_rows.features, new_rows.device)
    for t in range(len(TARGETS)):
        target_ms = new_rows.target_ms[:, t]
        known = ~target_ms.isnan()
        inside = (quantiles_ms[:, t, 0] <= target_ms) & (target_ms <= quantiles_ms[:, t, 4])
        assert float(inside[known].float().mean()) == pytest.approx(0.95, abs=0.03)


def test_absent_times_train_nothing() -> None:
    rows = _rows()
    target_ms = rows.target_ms.clone()
    target_ms[:, COMPONENTS.index("projector")] = torch.nan
    rows = rows._replace(target_ms=target_ms)
    module = LatencyEstimatorModule(["synthetic"], [SHAPE], base_coefficients(rows, [SHAPE]))
    log_median, log_spread = module.estimator(rows.features, rows.device)
    loss = module._loss(log_median, log_spread, rows.target_ms[:, :4])
    loss.backward()
    gradient = module.estimator.log_coefficient.grad
    assert loss.isfinite()
    assert gradient is not None
    assert (gradient[0, COMPONENTS.index("projector")] == 0).all()
    assert (gradient[0, COMPONENTS.index("prefill")] != 0).any()


def _saved(devices: list[str], path: str) -> LatencyEstimatorModule:
    torch.manual_seed(0)
    coefficients = [[[float(d + 1)] * len(TERMS) for _ in COMPONENTS] for d in range(len(devices))]
    module = LatencyEstimatorModule(devices, [SHAPE] * len(devices), coefficients)
    module.estimator.log_offset.normal_()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return module.eval()


def test_a_checkpoint_loads_to_equal_predictions_with_no_other_file() -> None:
    module = _saved(["a", "b"], "a.ckpt")
    loaded = LatencyEstimatorModule.load_from_checkpoint("a.ckpt").eval()
    rows = _rows()
    torch.testing.assert_close(loaded(rows.features, rows.device), module(rows.features, rows.device), rtol=0, atol=0)
    assert [path.name for path in Path().iterdir()] == ["a.ckpt"]


def test_devices_of_a_checkpoint_are_found_by_their_label() -> None:
    module = _saved(["a", "b"], "ab.ckpt")
    checkpoint = torch.load("ab.ckpt", weights_only=True)
    only_b = LatencyEstimatorModule(["b"], [SHAPE], [[[1.0] * len(TERMS) for _ in COMPONENTS]]).eval()
    only_b.on_load_checkpoint(checkpoint)
    only_b.load_state_dict(checkpoint["state_dict"])
    rows = _rows()
    torch.testing.assert_close(only_b(rows.features, rows.device), module(rows.features, rows.device + 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"made_by": "OtherModule"}, "was made by OtherModule, expected one of LatencyEstimatorModule"),
        ({"made_by": None}, "was made by another program"),
        ({"hyper_parameters": {"devices": ["h200"]}}, "knows h200, but the profiles are of a"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    module = _saved(["a"], "a.ckpt")
    checkpoint = torch.load("a.ckpt", weights_only=True)
    with pytest.raises(ValueError, match=message):
        module.on_load_checkpoint({**checkpoint, **change})


def test_a_checkpoint_of_another_size_names_the_tensor() -> None:
    _saved(["a"], "a.ckpt")
    checkpoint = torch.load("a.ckpt", weights_only=True)
    wider = LatencyEstimatorModule(["a"], [SHAPE], [[[1.0] * len(TERMS) for _ in COMPONENTS]], hidden_dim=96)
    with pytest.raises(ValueError, match=r"tensors do not fit the configured model, first estimator.residual"):
        wider.on_load_checkpoint(checkpoint)


def test_a_checkpoint_for_another_model_on_the_same_device_is_refused() -> None:
    _saved(["a"], "a.ckpt")
    checkpoint = torch.load("a.ckpt", weights_only=True)
    coefficients = [[[1.0] * len(TERMS) for _ in COMPONENTS]]
    other = LatencyEstimatorModule(["a"], [ModelShape(num_experts=8).to_mapping()], coefficients)
    with pytest.raises(ValueError, match="trained on another model's shape than the profile of a names"):
        other.on_load_checkpoint(checkpoint)
