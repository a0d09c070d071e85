import json
from pathlib import Path

import pytest
import torch
from lightning import Trainer

import main
from models.checkpoint import load_molmo, read_hf_config
from models.knobs import own_grid
from models.processor import MolmoProcessor
from models.tokenizer import load_tokenizer
from tests.small_vlm import small_data, small_module


@pytest.fixture
def checkpoint() -> Path:
    module = small_module(small_data())
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("small.ckpt")
    torch.save(module.network.molmo.state_dict(), "weights.pt")
    return Path("small.ckpt")


def test_an_exported_model_is_read_back_with_its_tokenizer_and_grid(checkpoint: Path) -> None:
    main.cli_main(["export-vlm", "--checkpoint", str(checkpoint), "--output_dir", "out", "--dtype", "float32"])
    assert {path.name for path in Path("out").iterdir()} == {
        *("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json")
    }
    model = load_molmo("out")
    for name, tensor in torch.load("weights.pt", weights_only=True).items():
        assert torch.equal(model.state_dict()[name], tensor), name
    grid = own_grid(read_hf_config(Path("out")))
    assert grid is not None
    assert (grid.top_k, tuple(grid.blocks_by_count)) == ((1, 2, 3), (2, 3))
    tokenizer, special_tokens = load_tokenizer("out")
    processor = MolmoProcessor(model.config, special_tokens, tokenizer)
    assert processor("what color is the star?").input_ids[0].tolist()[0] == special_tokens.bos_id
    preprocessor = json.loads(Path("out/preprocessor_config.json").read_text())
    assert (preprocessor["image_patch_size"], preprocessor["image_token_length_h"]) == (8, 4)


def test_weights_are_rounded_to_bfloat16_unless_asked_otherwise(checkpoint: Path) -> None:
    main.cli_main(["export-vlm", "--checkpoint", str(checkpoint), "--output_dir", "out"])
    model = load_molmo("out")
    weights = torch.load("weights.pt", weights_only=True)
    assert model.language_model.head.weight.dtype == torch.bfloat16
    assert torch.equal(model.language_model.head.weight, weights["language_model.head.weight"].bfloat16())


def test_a_folder_in_use_is_refused(checkpoint: Path) -> None:
    Path("out").mkdir()
    with pytest.raises(ValueError, match="out exists already"):
        main.cli_main(["export-vlm", "--checkpoint", str(checkpoint), "--output_dir", "out"])
