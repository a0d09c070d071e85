import pytest
import torch

from models.config import released_config
from models.latency_terms import COMPONENTS, FEATURES, TERMS, ModelShape, latency_terms, shape_table

MOLMOE_1B = ModelShape()
TINY = ModelShape(
    vision_blocks=1,
    vision_dim=2,
    vision_mlp_dim=4,
    num_patches=3,
    num_vit_layers=1,
    hidden_dim=2,
    kv_dim=2,
    ffn_dim=5,
    num_experts=4,
    embedding_size=10,
)


def _term(component: str, term: str, shape: ModelShape = MOLMOE_1B, **request: float) -> float:
    values = {"num_crops": 3, "vision_tokens": 300, "text_tokens": 20, "top_k": 8, "num_active_blocks": 16}
    features = torch.tensor([[float({**values, "output_tokens": 5, **request}[name]) for name in FEATURES]])
    terms = latency_terms(features, shape_table([shape.to_mapping()]))
    return float(terms[0, COMPONENTS.index(component), TERMS.index(term)])


def test_defaults_are_the_shape_of_molmoe_1b() -> None:
    assert ModelShape.from_config(released_config("molmoe-1b-0924")) == MOLMOE_1B


def test_tiny_terms_equal_those_counted_by_hand() -> None:
    request = {"num_crops": 1, "vision_tokens": 1, "text_tokens": 1, "top_k": 1, "num_active_blocks": 2}
    # Two tokens through two blocks: query, output, key and value weights are 2 x 2 each.
    assert _term("prefill", "dense_flops", TINY, **request) == pytest.approx(2 * 2 * 2 * 16 / 500e9)
    # One expert is three 2 x 5 matrices; of four experts two tokens touch 4 x (1 - (3/4)^2) = 1.75 on average.
    assert _term("prefill", "expert_bytes", TINY, **request) == pytest.approx(2 * 30 * 2 * 1.75 / 4e9)
    assert _term("decode_per_token", "expert_bytes", TINY, **request) == pytest.approx(2 * 30 * 2 / 4e9)
    # Context of 1 + 1 + 5 / 2 tokens, keys and values of 2 numbers of 2 bytes, two blocks.
    assert _term("decode_per_token", "cache_bytes", TINY, **request) == pytest.approx(2 * 4.5 * 2 * 2 * 2 / 4e9)
    # Four patches with the class token: 4 x 2^2 + 2 x 2 x 4 weights, and attention over four patches.
    assert _term("vision_encoder", "dense_flops", TINY, **request) == pytest.approx(4 * (2 * 32 + 4 * 4 * 2) / 500e9)


def test_a_dense_model_counts_as_one_expert() -> None:
    dense = ModelShape(num_experts=0)
    one_expert = ModelShape(num_experts=1)
    assert _term("prefill", "expert_bytes", dense, top_k=0) == _term("prefill", "expert_bytes", one_expert, top_k=1)


def test_vision_terms_know_only_the_crops() -> None:
    assert _term("vision_encoder", "dense_flops", num_crops=6) == pytest.approx(
        2 * _term("vision_encoder", "dense_flops", num_crops=3, text_tokens=600, top_k=4)
    )


def test_every_token_count_gives_finite_terms() -> None:
    for output_tokens in (1, 2, 64):
        assert _term("decode_per_token", "first_step", output_tokens=output_tokens) <= 1
    assert _term("prefill", "expert_bytes", top_k=64) > 0


def test_an_unknown_number_of_a_shape_is_named() -> None:
    with pytest.raises(ValueError, match="missing or unknown: depth"):
        ModelShape.from_mapping({**ModelShape().to_mapping(), "depth": 3})
