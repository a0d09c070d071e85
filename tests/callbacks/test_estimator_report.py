import json
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from callbacks.estimator_report import EstimatorReport
from datamodules.profile import ProfileDataModule
from lightning_modules.latency_estimator import LatencyEstimatorModule
from profiling.records import write_profile
from tests.profile_law import profile_table


@pytest.fixture
def data() -> ProfileDataModule:
    write_profile(profile_table(num_images=30), Path("profile.parquet"))
    return ProfileDataModule(["profile.parquet"])


def _tested(data: ProfileDataModule, *callbacks: EstimatorReport) -> dict[str, Tensor]:
    torch.manual_seed(0)
    module = LatencyEstimatorModule(data.devices, data.shapes, data.coefficients)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (metrics,) = trainer.test(module, datamodule=data, verbose=False)
    return {name: torch.tensor(value) for name, value in metrics.items()}


def test_the_report_holds_tables_and_figures(data: ProfileDataModule, capsys: pytest.CaptureFixture[str]) -> None:
    _tested(data, EstimatorReport())
    names = sorted(path.name for path in Path("report").iterdir())
    assert names == [
        "error_by_setting.png",
        "error_by_tokens.png",
        "errors.json",
        "errors.md",
        "predicted_against_measured.png",
    ]
    printed = capsys.readouterr().out
    assert "synthetic, held_out_images" in printed
    assert "decode_per_token" in printed


def test_the_report_agrees_with_the_logged_metrics(data: ProfileDataModule) -> None:
    logged = _tested(data, EstimatorReport(plots=False))
    errors = json.loads(Path("report/errors.json").read_text())
    own = [row for row in errors if row["predictor"] == "estimator"]
    assert len(own) == 15
    for row in own:
        for metric in ("mae_ms", "rmse_ms", "mape", "r2"):
            key = f"test/{metric}/{row['group']}/{row['target']}"
            assert float(logged[key]) == pytest.approx(row[metric], rel=1e-3, abs=1e-4), key
    assert {row["predictor"] for row in errors} == {"estimator", "mean", "linear", "nnls", "boosting"}


def test_the_report_changes_no_result(data: ProfileDataModule) -> None:
    assert _tested(data, EstimatorReport(plots=False)) == _tested(data)
