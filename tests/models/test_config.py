import pytest
import torch

from models.config import MolmoConfig, changed_hf_config, released_config, released_hf_config
from models.molmo import Molmo
from tests.helpers import golden_config


@pytest.mark.parametrize(
    ("name", "num_parameters"), [("molmoe-1b-0924", 7_221_875_712), ("molmo-7b-d-0924", 8_021_025_280)]
)
def test_released_shapes_have_the_parameters_of_the_released_models(name: str, num_parameters: int) -> None:
    with torch.device("meta"):
        model = Molmo(released_config(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_the_released_mixture_has_the_numbers_of_its_paper() -> None:
    config = released_config("molmoe-1b-0924")
    assert config.patches_per_side == (24, 24)
    assert (config.num_patches, config.patch_dim) == (576, 588)
    assert (config.pooled_grid, config.tokens_per_crop) == ((12, 12), 144)
    assert (config.num_experts, config.top_k, config.ffn_dim) == (64, 8, 1024)
    assert (config.vision.num_blocks, config.num_run_vision_blocks) == (23, 22)
    assert (config.num_kv_heads, config.head_dim) == (16, 128)
    assert config.is_moe


def test_the_dense_layout_halves_the_stated_width() -> None:
    config = released_config("molmo-7b-d-0924")
    assert (config.ffn_dim, config.num_experts, config.top_k) == (18944, 0, 0)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (28, 4, 128)
    assert not config.is_moe


def test_an_olmo_layout_that_is_no_mixture_has_no_experts() -> None:
    hf = {**released_hf_config("molmoe-1b-0924"), "block_type": "sequential", "mlp_hidden_size": 22016, "n_kv_heads": 8}
    config = MolmoConfig.from_hf(hf)
    assert (config.num_experts, config.top_k, config.ffn_dim, config.num_kv_heads) == (0, 0, 11008, 8)


def test_golden_configs_are_read_whole() -> None:
    config = golden_config("moe")
    assert (config.vision.image_size, config.vision.patch_size, config.vision.num_blocks) == ((60, 60), 5, 10)
    assert (config.hidden_dim, config.ffn_dim, config.num_experts, config.top_k) == (64, 32, 8, 3)
    assert config.qk_norm
    assert not config.qkv_bias


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_pooling_2d", "stack"),
        ("image_padding_embed", None),
        ("layer_norm_type", "default"),
        ("weight_tying", True),
        ("clip_qkv", 8.0),
        ("image_pooling_h", 3),
        ("activation_type", "gelu"),
    ],
)
def test_variants_that_no_released_model_has_are_refused(field: str, value: object) -> None:
    hf = {**released_hf_config("molmoe-1b-0924"), field: value}
    with pytest.raises(ValueError, match=rf"^config\.json: {field} must be .* got {value!r}$"):
        MolmoConfig.from_hf(hf)


@pytest.mark.parametrize("field", ["vit_layers", "rope_theta", "moe_num_experts", "vision_backbone"])
def test_a_missing_field_is_named(field: str) -> None:
    hf = {key: value for key, value in released_hf_config("molmoe-1b-0924").items() if key != field}
    with pytest.raises(ValueError, match=f"here.json: field '{field}' is missing"):
        MolmoConfig.from_hf(hf, source="here.json")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("d_model", "wide", "d_model: must be of the type of 2048, got 'wide'"),
        ("n_layers", 16.0, "n_layers: must be of the type of 16, got 16.0"),
        ("qkv_bias", 1, "qkv_bias: must be of the type of False, got 1"),
        ("vit_layers", [-2, "last"], r"vit_layers: must be of the type of \[-2, -9\], got \[-2, 'last'\]"),
        ("vision_backbone", {"image_emb_dim": True}, "vision_backbone: image_emb_dim: must be of the type of 1024"),
        ("vision_backbone", 3, "vision_backbone: must be of the type of"),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field: str, value: object, said: str) -> None:
    hf = {**released_hf_config("molmoe-1b-0924"), field: value}
    with pytest.raises(ValueError, match=f"c.json: {said}"):
        MolmoConfig.from_hf(hf, source="c.json")


def test_a_whole_number_may_stand_for_a_fraction() -> None:
    hf = {**released_hf_config("molmoe-1b-0924"), "rope_theta": 500000}
    assert MolmoConfig.from_hf(hf).rope_theta == 500000


def test_an_unknown_released_model_is_refused_with_the_choices() -> None:
    with pytest.raises(
        ValueError, match="no released model is called 'molmo-2', choose one of molmoe-1b-0924, molmo-7b-d"
    ):
        released_config("molmo-2")


def test_a_released_shape_is_changed_in_the_fields_that_are_named() -> None:
    changed = changed_hf_config("molmoe-1b-0924", {"n_layers": 3, "vision_backbone": {"image_num_layers": 2}})
    usual = released_hf_config("molmoe-1b-0924")
    assert (changed["n_layers"], changed["vision_backbone"]["image_num_layers"]) == (3, 2)
    assert (usual["n_layers"], usual["vision_backbone"]["image_num_layers"]) == (16, 23)
    assert changed["d_model"] == usual["d_model"]
    assert changed["vision_backbone"]["image_emb_dim"] == usual["vision_backbone"]["image_emb_dim"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 3}, r"shape.layers: no such field, choose among"),
        ({"vision_backbone": {"layers": 3}}, r"shape.vision_backbone.layers: no such field, choose among image"),
    ],
)
def test_a_changed_field_must_exist(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed_hf_config("molmoe-1b-0924", changes)
