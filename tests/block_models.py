"""A small random model in a snapshot folder that can be asked the suite's questions; a named block does the work."""

import json
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import save_molmo
from models.config import MolmoConfig
from models.initial_weights import initialize
from models.molmo import Molmo
from profiling.suite.tokenizer_file import TOKEN_IDS, suite_tokenizer_json
from tests.helpers import GOLDEN


def block_hf_config(num_blocks: int) -> dict[str, Any]:
    """Shape of the golden mixture, with the suite's vocabulary."""
    hf_config: dict[str, Any] = json.loads((GOLDEN / "moe" / "config.json").read_text())
    return {
        **hf_config,
        "n_layers": num_blocks,
        "vocab_size": len(TOKEN_IDS),
        "embedding_size": len(TOKEN_IDS),
        "d_model": 32,
        "moe_num_experts": 2,
        "moe_top_k": 1,
    }


def block_model(num_blocks: int, *, working: int | None = None) -> Molmo:
    """Build a random model; if a block is named, the others add next to nothing."""
    torch.manual_seed(0)
    model = Molmo(MolmoConfig.from_hf(block_hf_config(num_blocks)))
    initialize(model)
    with torch.no_grad():
        for index, block in enumerate(model.language_model.blocks):
            for name, parameter in block.named_parameters():
                if name.endswith(("attention.out.weight", "down")):
                    parameter.mul_(3.0 if working in (None, index) else 1e-4)
    return model.eval()


def write_block_model(folder: Path, num_blocks: int, *, working: int | None = None) -> Path:
    """Write the model with its tokenizer as a snapshot."""
    tokenizer = folder.with_name("tokenizer.json")
    tokenizer.write_text(suite_tokenizer_json())
    save_molmo(
        block_model(num_blocks, working=working),
        folder,
        hf_config=block_hf_config(num_blocks),
        tokenizer_files=[tokenizer],
    )
    return folder
