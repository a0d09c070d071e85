from pathlib import Path

import pytest
import torch
from lightning import Trainer

from lightning_modules.calibration import calibrate_estimator
from lightning_modules.latency_estimator import LatencyEstimatorModule
from models.latency_terms import ModelShape
from profiling.latency_rows import base_coefficients, latency_rows
from profiling.records import write_profile
from tests.profile_law import profile_table

SHAPE = ModelShape().to_mapping()


@pytest.fixture
def checkpoint() -> str:
    rows = latency_rows(profile_table("fast", num_images=40))
    module = LatencyEstimatorModule(["fast"], [SHAPE], base_coefficients(rows, [SHAPE]))
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("fast.ckpt")
    write_profile(profile_table("slow", num_images=30, slowdown=30, seed=3), Path("slow.parquet"))
    return "fast.ckpt"


def test_the_new_checkpoint_knows_both_devices_and_predicts_the_new_one(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrate_estimator(checkpoint, ["slow.parquet"], "out/both.ckpt")
    printed = capsys.readouterr().out
    assert "slow: error on 300 rows after calibration from 50" in printed
    old = LatencyEstimatorModule.load_from_checkpoint(checkpoint).eval()
    new = LatencyEstimatorModule.load_from_checkpoint("out/both.ckpt").eval()
    assert new.estimator.devices == ("fast", "slow")
    fast = latency_rows(profile_table("fast", num_images=5, seed=9))
    torch.testing.assert_close(new(fast.features, fast.device), old(fast.features, fast.device))
    slow = latency_rows(profile_table("slow", num_images=20, slowdown=30, seed=4))
    with torch.no_grad():
        median_ms = new(slow.features, slow.device + 1)[..., new.estimator.median_index]
    error = ((median_ms - slow.target_ms).abs() / slow.target_ms).nanmean(dim=0)
    assert (error < 0.04).all()


def test_calibrating_again_replaces_the_device(checkpoint: str) -> None:
    calibrate_estimator(checkpoint, ["slow.parquet"], "one.ckpt", num_rows=20)
    calibrate_estimator("one.ckpt", ["slow.parquet"], "two.ckpt", num_rows=20, source="slow")
    assert torch.load("two.ckpt", weights_only=True)["hyper_parameters"]["devices"] == ["fast", "slow"]


def test_nothing_is_overwritten(checkpoint: str) -> None:
    with pytest.raises(ValueError, match=r"fast.ckpt: exists already, choose another output"):
        calibrate_estimator(checkpoint, ["slow.parquet"], checkpoint)


def test_too_many_rows_are_refused(checkpoint: str) -> None:
    with pytest.raises(ValueError, match="num_rows: must be 1 to 300"):
        calibrate_estimator(checkpoint, ["slow.parquet"], "out.ckpt", num_rows=301)


def test_an_unknown_source_is_refused(checkpoint: str) -> None:
    with pytest.raises(ValueError, match="source: the checkpoint knows fast, got 'h200'"):
        calibrate_estimator(checkpoint, ["slow.parquet"], "out.ckpt", source="h200")
