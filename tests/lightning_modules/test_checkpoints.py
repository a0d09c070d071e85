from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import check_maker, read_checkpoint


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
