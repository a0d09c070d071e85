"""The command that makes a snapshot folder of a trained checkpoint."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
from rich.console import Console

from lightning_modules.vlm import ComputeDtype, VLMModule
from models.checkpoint import save_molmo
from models.image_processor import preprocessor_config
from profiling.checkpoint_file import check_maker, read_checkpoint

_MIB: Final = 2**20


def export_vlm(checkpoint: Path, output_dir: Path, *, dtype: ComputeDtype = "bfloat16") -> None:
    """Write a trained vision-language model as a snapshot folder in the released models' layout.

    The folder holds ``config.json``, with the knob grid that the model was trained for, ``model.safetensors``,
    ``tokenizer.json`` and ``preprocessor_config.json``.

    Args:
        checkpoint: A checkpoint of ``VLMModule``.
        output_dir: New folder.
        dtype: Type of the weights in the file.

    Raises:
        ValueError: If the checkpoint is none of ``VLMModule``, or the folder exists.
    """
    content = read_checkpoint(checkpoint)
    check_maker(content, VLMModule.__name__, source=str(checkpoint))
    module = VLMModule(**content["hyper_parameters"])
    module.load_state_dict(content["state_dict"])
    molmo = module.network.molmo
    with TemporaryDirectory() as folder:
        files = {
            "tokenizer.json": module.tokenizer_json,
            "preprocessor_config.json": json.dumps(preprocessor_config(molmo.config), indent=2) + "\n",
        }
        for name, text in files.items():
            Path(folder, name).write_text(text)
        save_molmo(
            molmo.to(getattr(torch, dtype)),
            output_dir,
            hf_config=module.hf_config,
            tokenizer_files=[Path(folder, name) for name in files],
        )
    size = sum(file.stat().st_size for file in output_dir.glob("*.safetensors"))
    Console().print(f"wrote {output_dir}: weights of {size / _MIB:.1f} MiB after {content['global_step']} steps")
