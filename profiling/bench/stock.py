"""transformers' own models with our weights: what a benchmark compares with."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, OlmoeConfig, OlmoeForCausalLM

from models.config import MolmoConfig
from models.experts import MoE
from models.knobs import KnobSetting
from models.language_model import Block, LanguageModel
from models.molmo import Molmo
from models.vision import VisionBlock, VisionEncoder


def why_not_olmoe(config: MolmoConfig) -> str | None:
    """Say why a language model is none that ``OlmoeForCausalLM`` can hold; ``None`` if it is one."""
    if not config.is_moe:
        return "OlmoeForCausalLM is a mixture of experts, and this model is dense"
    if not config.qk_norm or config.qkv_bias or config.norm_after or config.match_router_mass:
        return "OlmoeForCausalLM norms queries and keys and each layer's input, has no bias and no matched router mass"
    return None


def why_not_clip(config: MolmoConfig) -> str | None:
    """Say why a vision encoder is none that ``CLIPVisionModel`` can hold; ``None`` if it is one."""
    vision = config.vision
    if vision.image_size[0] != vision.image_size[1]:
        return f"CLIPVisionModel takes square crops, and this model's are {vision.image_size}"
    if vision.num_heads * vision.head_dim != vision.hidden_dim:
        return "CLIPVisionModel's heads are as wide together as the encoder, and this model's are not"
    return None


def stock_language_model(model: Molmo, setting: KnobSetting, *, experts: str) -> nn.Module:
    """Build the ``OlmoeForCausalLM`` that computes what our model does at one setting.

    It has no weights of its own: its parameters are views of ours, so a second one costs no memory.

    Args:
        model: Our model.
        setting: Its blocks become the layers, in their order; its top_k the model's.
        experts: transformers' ``experts_implementation``.
    """
    config = model.config
    ours = model.language_model
    hf_config = OlmoeConfig(
        vocab_size=config.embedding_size,
        hidden_size=config.hidden_dim,
        intermediate_size=config.ffn_dim,
        num_hidden_layers=setting.num_active_blocks,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        num_experts=config.num_experts,
        num_experts_per_tok=setting.top_k,
        max_position_embeddings=config.max_position_embeddings,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        pad_token_id=None,
        eos_token_id=None,
    )
    with torch.device("meta"):
        stock: nn.Module = OlmoeForCausalLM(hf_config)
    stock.load_state_dict(_language_state(ours, setting.active_blocks), assign=True)
    rotary = stock.get_submodule("model.rotary_emb")  # holds its angles in a buffer that no state names
    stock.set_submodule("model.rotary_emb", type(rotary)(config=hf_config).to(ours.head.weight.device))
    stock.requires_grad_(requires_grad=False)
    nn.Module.train(stock, mode=False)
    set_experts = stock.set_experts_implementation
    assert callable(set_experts)
    set_experts(experts)
    return stock


def stock_vision_encoder(model: Molmo) -> nn.Module:
    """Build the ``CLIPVisionModel`` of our encoder: the blocks that run, with copies of their weights."""
    config = model.config
    vision = replace(config.vision, num_blocks=config.num_run_vision_blocks)
    ours = model.vision_encoder
    weight = ours.patch_embedding.weight
    hf_config = CLIPVisionConfig(
        hidden_size=vision.hidden_dim,
        intermediate_size=vision.mlp_dim,
        num_hidden_layers=vision.num_blocks,
        num_attention_heads=vision.num_heads,
        image_size=vision.image_size[0],
        patch_size=vision.patch_size,
        layer_norm_eps=vision.norm_eps,
        hidden_act="quick_gelu",
    )
    with torch.device(weight.device):
        stock: nn.Module = CLIPVisionModel(hf_config)
    stock = stock.to(dtype=weight.dtype)
    # The norm behind the class token, which Molmo does not read, keeps its ones and zeros.
    missing, unexpected = stock.load_state_dict(_vision_state(ours, vision.patch_size), strict=False)
    assert not unexpected
    assert all(name.startswith("post_layernorm.") for name in missing)
    stock.requires_grad_(requires_grad=False)
    nn.Module.train(stock, mode=False)
    return stock


def as_pixels(config: MolmoConfig, crops_NPD: Tensor) -> Tensor:
    """Put the patches of crops together to pictures, ``(crops, 3, height, width)``."""
    rows, columns = config.patches_per_side
    side = config.vision.patch_size
    patches = crops_NPD.unflatten(2, (side, side, 3)).unflatten(1, (rows, columns))
    pixels: Tensor = patches.permute(0, 5, 1, 3, 2, 4).reshape(len(crops_NPD), 3, rows * side, columns * side)
    return pixels


def _language_state(ours: LanguageModel, active_blocks: Sequence[int]) -> dict[str, Tensor]:
    """Give views of our weights the names that transformers has for them."""
    state: dict[str, Tensor] = {
        "model.embed_tokens.weight": ours.embedding.weight[: len(ours.head.weight)],
        "model.norm.weight": ours.norm.weight,
        "lm_head.weight": ours.head.weight,
    }
    for layer, index in enumerate(active_blocks):
        block = ours.blocks[index]
        assert isinstance(block, Block)
        assert isinstance(block.ffn, MoE)
        query, key, value = block.attention.qkv.weight.split(block.attention.split)
        weights = {
            "input_layernorm.weight": block.attention_norm.weight,
            "post_attention_layernorm.weight": block.ffn_norm.weight,
            "self_attn.q_proj.weight": query,
            "self_attn.k_proj.weight": key,
            "self_attn.v_proj.weight": value,
            "self_attn.o_proj.weight": block.attention.out.weight,
            "self_attn.q_norm.weight": block.attention.query_norm.weight,
            "self_attn.k_norm.weight": block.attention.key_norm.weight,
            "mlp.gate.weight": block.ffn.router.linear.weight,
            "mlp.experts.gate_up_proj": block.ffn.experts.gate_up,
            "mlp.experts.down_proj": block.ffn.experts.down,
        }
        state |= {f"model.layers.{layer}.{name}": weight for name, weight in weights.items()}
    return {name: weight.detach() for name, weight in state.items()}


def _vision_state(ours: VisionEncoder, patch_size: int) -> dict[str, Tensor]:
    weight = ours.patch_embedding.weight
    state: dict[str, Tensor] = {
        "embeddings.class_embedding": ours.class_embedding,
        "embeddings.patch_embedding.weight": weight.unflatten(1, (patch_size, patch_size, 3)).permute(0, 3, 1, 2),
        "embeddings.position_embedding.weight": ours.position_embedding,
        "pre_layrnorm.weight": ours.input_norm.weight,
        "pre_layrnorm.bias": ours.input_norm.bias,
    }
    for index in range(ours.num_run_blocks):
        block = ours.blocks[index]
        assert isinstance(block, VisionBlock)
        key = f"encoder.layers.{index}"
        parts = {
            "layer_norm1": block.attention_norm,
            "layer_norm2": block.mlp_norm,
            "self_attn.out_proj": block.attention.out,
            "mlp.fc1": block.mlp.up,
            "mlp.fc2": block.mlp.down,
        }
        for name, part in parts.items():
            state |= {f"{key}.{name}.{kind}": tensor for kind, tensor in part.named_parameters()}
        for kind, stacked in block.attention.qkv.named_parameters():
            for name, tensor in zip("qkv", stacked.chunk(3), strict=True):
                state[f"{key}.self_attn.{name}_proj.{kind}"] = tensor
    return state
