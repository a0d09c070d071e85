from pathlib import Path

import pytest
import torch
from lightning import Trainer

from lightning_modules.latency_estimator import LatencyEstimatorModule
from models.latency_terms import ModelShape
from profiling.checkpoint_file import check_maker, load_estimator, read_checkpoint
from profiling.latency_rows import base_coefficients, latency_rows
from tests.profile_law import profile_table


def test_a_missing_checkpoint_is_named() -> None:
    with pytest.raises(ValueError, match=r"nowhere.ckpt: no such checkpoint file"):
        read_checkpoint("nowhere.ckpt")


def test_a_file_that_is_no_checkpoint_is_named() -> None:
    Path("text.ckpt").write_text("hello")
    with pytest.raises(ValueError, match=r"text.ckpt: is not a checkpoint, or it is cut"):
        read_checkpoint("text.ckpt")


def test_a_cut_checkpoint_is_named() -> None:
    torch.save({"made_by": "X", "weights": torch.zeros(1000)}, "whole.ckpt")
    Path("cut.ckpt").write_bytes(Path("whole.ckpt").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut.ckpt: is not a checkpoint, or it is cut"):
        read_checkpoint("cut.ckpt")


def test_a_checkpoint_of_another_program_is_named() -> None:
    torch.save({"state_dict": {}}, "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt: is no checkpoint of this project"):
        read_checkpoint("other.ckpt")


def test_a_checkpoint_that_runs_code_when_read_is_refused() -> None:
    torch.save({"made_by": "X", "code": Path("x")}, "code.ckpt")
    with pytest.raises(ValueError, match=r"code.ckpt: cannot be read as a checkpoint"):
        read_checkpoint("code.ckpt")


def test_the_maker_is_checked() -> None:
    with pytest.raises(ValueError, match=r"a.ckpt: was made by A, expected one of B"):
        check_maker({"made_by": "A"}, "B", source="a.ckpt")


def test_an_estimator_expects_what_it_did_before_it_was_saved() -> None:
    shape = ModelShape().to_mapping()
    rows = latency_rows(profile_table("fast", num_images=20))
    module = LatencyEstimatorModule(["fast"], [shape], base_coefficients(rows, [shape])).eval()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("e.ckpt")
    estimator = load_estimator("e.ckpt")
    with torch.no_grad():
        torch.testing.assert_close(
            estimator.quantiles_ms(rows.features, rows.device),
            module.estimator.quantiles_ms(rows.features, rows.device),
        )
    assert not any(parameter.requires_grad for parameter in estimator.parameters())
    with pytest.raises(ValueError, match=r"none.ckpt: no such checkpoint file"):
        load_estimator("none.ckpt")
    torch.save({"made_by": "A"}, "a.ckpt")
    with pytest.raises(ValueError, match=r"a.ckpt: was made by A, expected one of LatencyEstimatorModule"):
        load_estimator("a.ckpt")
