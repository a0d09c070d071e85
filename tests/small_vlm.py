"""A mixture so small that tests train it, and its data."""

from pathlib import Path
from typing import Any

import yaml
from lightning import Trainer

from datamodules.suite import SuiteDataModule
from lightning_modules.export import export_vlm
from lightning_modules.vlm import VLMModule
from tests.helpers import GOLDEN

CONFIGS = GOLDEN.parents[1] / "configs" / "vlm"
NANO = CONFIGS / "molmoe_nano.yaml"


def small_shape(**changes: Any) -> dict[str, Any]:
    """Shrink the nano model: what its fields in the config are replaced by."""
    shape: dict[str, Any] = yaml.safe_load(NANO.read_text())["model"]["init_args"]["shape"]
    vision = {
        "image_emb_dim": 32,
        "image_num_heads": 2,
        "image_num_key_value_heads": 2,
        "image_head_dim": 16,
        "image_num_layers": 2,
        "image_mlp_dim": 64,
    }
    small = {"d_model": 32, "n_heads": 2, "n_layers": 3, "mlp_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2}
    return {
        **shape,
        **small,
        "vit_layers": [-1, -2],
        "vision_backbone": {**shape["vision_backbone"], **vision},
        **changes,
    }


def small_data(**changes: Any) -> SuiteDataModule:
    arguments: dict[str, Any] = {
        "weights": {"scenes": 0.5, "text": 0.5},
        "batch_size": 8,
        "batches_per_epoch": 2,
        "val_samples": 3,
        "test_samples": 4,
    }
    return SuiteDataModule(**{**arguments, **changes})


def small_module(data: SuiteDataModule, **changes: Any) -> VLMModule:
    arguments: dict[str, Any] = {
        "base": "molmoe-1b-0924",
        "shape": small_shape(),
        "top_k": [1, 2, 3],
        "num_active_blocks": [2, 3],
        "is_elastic": False,
        "dtype": "float32",
    }
    return VLMModule(data.tokenizer, data.families, data.num_labels, **{**arguments, **changes})


def small_overrides(folder: Path) -> list[str]:
    """Write what makes the nano config small enough for a test, as arguments of a command."""
    path = folder / "small.yaml"
    module = {
        "shape": small_shape(),
        "top_k": [1, 2, 3],
        "num_active_blocks": [2, 3],
        "dtype": "float32",
        "compiles": False,
    }
    saved = {"filename": "last", "enable_version_counter": False, "save_on_train_epoch_end": True}
    content = {
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "strategy": "auto",
            "max_steps": 3,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [{"class_path": "ModelCheckpoint", "init_args": saved}],
        },
        "model": {"init_args": module},
        "data": {
            "init_args": {
                "weights": {"scenes": 0.5, "text": 0.5},
                "batch_size": 4,
                "batches_per_epoch": 2,
                "val_samples": 2,
                "test_samples": 2,
                "num_workers": 0,
            }
        },
        "optimizer": {"init_args": {"fused": False}},
    }
    path.write_text(yaml.safe_dump(content))
    return ["--config", str(path)]


def write_small_snapshot(folder: Path) -> None:
    """Write an untrained small model with its tokenizer and knob grid, as ``export-vlm`` writes trained ones."""
    module = small_module(small_data())
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("small.ckpt")
    export_vlm(Path("small.ckpt"), folder, dtype="float32")
