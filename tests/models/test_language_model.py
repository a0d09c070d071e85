from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Olmo2Config, Olmo2ForCausalLM, OlmoeConfig, OlmoeForCausalLM, Qwen2Config, Qwen2ForCausalLM

from models.config import MolmoConfig
from models.experts import MoE
from models.kv_cache import KVCache
from models.language_model import MLP, Attention, Block, LanguageModel, Rotary, rotate
from tests.small_models import LOGIT_TOLERANCE, tiny_molmo

IDS = torch.tensor([[5, 9, 0, 33, 2, 2, 41], [7, 1, 1, 50, 3, 12, 6]])


def logits_of(model: LanguageModel, ids: Tensor, **options: object) -> Tensor:
    arguments = {"active_blocks": range(len(model.blocks)), "top_k": 2, **options}
    positions = torch.arange(ids.shape[1])[None].expand(len(ids), -1)
    with torch.inference_mode():
        logits: Tensor = model.head(model(model.embed(ids), positions, **arguments))
    return logits


def shared_hf_options(config: MolmoConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.embedding_size,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_blocks,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": False,
        "pad_token_id": None,
    }


def hf_state(model: LanguageModel, config: MolmoConfig) -> dict[str, Tensor]:
    """Give the weights the names that transformers has for them."""
    state = {
        "model.embed_tokens.weight": model.embedding.weight[: config.embedding_size],
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.head.weight,
    }
    norms = ("post_attention_layernorm", "post_feedforward_layernorm")
    if not config.norm_after:
        norms = ("input_layernorm", "post_attention_layernorm")
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        key = f"model.layers.{index}"
        for norm, layer in zip(norms, (block.attention_norm, block.ffn_norm), strict=True):
            state[f"{key}.{norm}.weight"] = layer.weight
        state |= {f"{key}.self_attn.{name}": tensor for name, tensor in attention_state(block.attention).items()}
        state |= {f"{key}.mlp.{name}": tensor for name, tensor in ffn_state(block.ffn).items()}
    return state


def attention_state(attention: Attention) -> dict[str, Tensor]:
    state = {"o_proj.weight": attention.out.weight}
    for kind, stacked in attention.qkv.named_parameters():
        for name, part in zip(("q", "k", "v"), stacked.split(attention.split), strict=True):
            state[f"{name}_proj.{kind}"] = part
    if attention.has_qk_norm:
        state |= {"q_norm.weight": attention.query_norm.weight, "k_norm.weight": attention.key_norm.weight}
    return state


def ffn_state(ffn: MLP | MoE) -> dict[str, Tensor]:
    if isinstance(ffn, MLP):
        up, gate = ffn.up_gate.weight.chunk(2)
        return {"up_proj.weight": up, "gate_proj.weight": gate, "down_proj.weight": ffn.down.weight}
    return {
        "gate.weight": ffn.router.linear.weight,
        "experts.gate_up_proj": ffn.experts.gate_up,
        "experts.down_proj": ffn.experts.down,
    }


def assert_equal_logits(ours: LanguageModel, config: MolmoConfig, theirs: nn.Module) -> None:
    theirs.load_state_dict(hf_state(ours, config))
    nn.Module.train(theirs, mode=False)
    with torch.inference_mode():
        expected = theirs(input_ids=IDS).logits
    assert expected.std() > 0.5  # not trivially small
    torch.testing.assert_close(logits_of(ours, IDS), expected, atol=LOGIT_TOLERANCE, rtol=0)


def test_the_dense_model_equals_qwen2_of_transformers() -> None:
    model = tiny_molmo(qkv_bias=True, num_kv_heads=2, rope_theta=1e6, norm_eps=1e-6)
    theirs: nn.Module = Qwen2ForCausalLM(Qwen2Config(**shared_hf_options(model.config)))
    assert_equal_logits(model.language_model, model.config, theirs)


@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_norms_behind_the_layers_equal_olmo2_of_transformers(num_kv_heads: int) -> None:
    model = tiny_molmo(norm_after=True, qk_norm=True, num_kv_heads=num_kv_heads, rope_theta=5e5, norm_eps=1e-6)
    theirs: nn.Module = Olmo2ForCausalLM(Olmo2Config(**shared_hf_options(model.config)))
    assert_equal_logits(model.language_model, model.config, theirs)


def test_the_mixture_equals_olmoe_of_transformers() -> None:
    model = tiny_molmo(num_experts=6, top_k=2, qk_norm=True)
    options = {**shared_hf_options(model.config), "num_experts": 6, "num_experts_per_tok": 2}
    theirs: nn.Module = OlmoeForCausalLM(OlmoeConfig(**options))
    assert_equal_logits(model.language_model, model.config, theirs)


@pytest.mark.parametrize("blocks", [(0, 1, 2), (1, 2), (2,)])
@pytest.mark.parametrize("num_experts", [0, 4])
def test_a_cache_fed_in_pieces_gives_the_logits_of_one_pass(num_experts: int, blocks: tuple[int, ...]) -> None:
    model = tiny_molmo(num_blocks=3, num_experts=num_experts, top_k=min(2, num_experts), num_kv_heads=2)
    language_model = model.language_model
    cache = KVCache.allocate(
        model.config,
        num_slots=len(blocks),
        batch_size=2,
        capacity=7,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    steps = []
    with torch.inference_mode():
        for start, end in ((0, 4), (4, 5), (5, 6), (6, 7)):
            positions = torch.arange(start, end)[None].expand(2, -1)
            hidden = language_model(
                language_model.embed(IDS[:, start:end]), positions, active_blocks=blocks, top_k=2, cache=cache
            )
            steps.append(language_model.head(hidden))
    expected = logits_of(language_model, IDS, active_blocks=blocks)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, atol=1e-5, rtol=1e-5)


def test_a_causal_mask_changes_nothing() -> None:
    model = tiny_molmo(num_kv_heads=2).language_model
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]
    torch.testing.assert_close(logits_of(model, IDS, mask=mask), logits_of(model, IDS), atol=1e-5, rtol=1e-5)


def test_later_tokens_do_not_change_earlier_logits() -> None:
    model = tiny_molmo(num_experts=4, top_k=2).language_model
    changed = IDS.clone()
    changed[:, 5:] = 8
    torch.testing.assert_close(logits_of(model, changed)[:, :5], logits_of(model, IDS)[:, :5], atol=1e-5, rtol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distance_only() -> None:
    model = tiny_molmo()
    rotary = Rotary(model.config)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(query_position: int, key_position: int) -> float:
        turned = [
            rotate(vector, *rotary(torch.tensor([[position]])))
            for vector, position in ((query, query_position), (key, key_position))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(9, 4) == pytest.approx(score(55, 50), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)
    assert rotate(query, *rotary(torch.tensor([[77]]))).norm().item() == pytest.approx(query.norm().item())
    assert torch.equal(rotate(query, *rotary(torch.tensor([[0]]))), query)


def test_padding_is_looked_up_as_id_0() -> None:
    model = tiny_molmo().language_model
    with torch.inference_mode():
        assert torch.equal(model.embed(torch.tensor([[-1]])), model.embed(torch.tensor([[0]])))


def test_extra_input_ids_have_embeddings_but_no_logits() -> None:
    model = tiny_molmo()
    assert model.language_model.embedding.num_embeddings == 64
    assert logits_of(model.language_model, torch.tensor([[63]])).shape == (1, 1, 56)
