"""What tests of the engine share: a device, a mixture on it, prompts, and tiles that the interpreter is quick with."""

from copy import deepcopy
from functools import cache
from typing import Final

import torch

from models.engine.tiles import Cut, Tiles
from models.experts import MoE
from models.inputs import ModelInputs
from models.molmo import Molmo
from tests.small_models import golden_model

DEVICE: Final = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter truncates to bfloat16 where a GPU rounds, and over many roundings that adds up.
HALF_TYPES: Final = (torch.float16, torch.bfloat16) if DEVICE == "cuda" else (torch.float16,)
# The interpreter takes milliseconds a program, so tests use few; splits stay several, and a context crosses them.
TILES: Final = Tiles(
    qkv=Cut(64),
    out=Cut(64),
    expert_in=Cut(16),
    expert_out=Cut(64),
    head=Cut(64),
    context_splits=4,
    context_tokens=8,
    vocabulary_part=64,
)


@cache
def mixture() -> Molmo:
    """The golden mixture on the device; shared by all tests, so never change it."""
    return deepcopy(golden_model("moe")).to(DEVICE)


def prompt(num_tokens: int = 5, seed: int = 0) -> ModelInputs:
    """Draw a prompt of words."""
    generator = torch.Generator().manual_seed(seed)
    return ModelInputs(input_ids=torch.randint(150, (1, num_tokens), generator=generator)).to(DEVICE)


def broken_mixture(block: int) -> Molmo:
    """The golden mixture with a router whose logits are no numbers."""
    model = deepcopy(mixture())
    moe = model.language_model.blocks[block].get_submodule("ffn")
    assert isinstance(moe, MoE)
    with torch.no_grad():
        moe.router.linear.weight.fill_(torch.nan)
    return model
