import pytest
import torch
from safetensors import safe_open

from models.checkpoint_layout import checkpoint_layout
from models.config import MolmoConfig, released_config
from models.molmo import Molmo
from models.released import RELEASED
from tests.helpers import GOLDEN, VARIANTS, golden_config
from tests.small_models import tiny_config


@pytest.mark.parametrize(("name", "num_keys"), [("molmoe-1b-0924", 3573), ("molmo-7b-d-0924", 585)])
def test_released_models_have_as_many_tensors_as_their_index(name: str, num_keys: int) -> None:
    assert len({piece.key for piece in checkpoint_layout(released_config(name))}) == num_keys


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_equal_the_reference_files(variant: str) -> None:
    config = golden_config(variant)
    parameters = dict(Molmo(config).named_parameters())
    ours = {piece.key: list(parameters[piece.parameter][piece.part].shape) for piece in checkpoint_layout(config)}
    with safe_open(GOLDEN / variant / "model.safetensors", framework="pt") as tensors:
        theirs = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
    assert ours == theirs


@pytest.mark.parametrize(
    "config",
    [released_config(name) for name in RELEASED]
    + [tiny_config(num_experts=3, top_k=2), tiny_config(qkv_bias=True, num_kv_heads=2), tiny_config(qk_norm=True)],
    ids=[*RELEASED, "mixture", "bias", "qk_norm"],
)
def test_pieces_fill_every_number_of_every_parameter_once(config: MolmoConfig) -> None:
    with torch.device("meta"):
        parameters = dict(Molmo(config).named_parameters())
    filled = dict.fromkeys(parameters, 0)
    pieces = checkpoint_layout(config)
    for piece in pieces:
        filled[piece.parameter] += parameters[piece.parameter][piece.part].numel()
    assert filled == {name: parameter.numel() for name, parameter in parameters.items()}
    assert len({(piece.parameter, str(piece.part)) for piece in pieces}) == len(pieces)
