"""What a request makes a device do, as physical terms: launches, floating-point operations, bytes.

Terms are in milliseconds on an ideal device, so a fitted coefficient says how many times slower the real one is.
"""

# Shape suffixes: B = rows, C = components, T = terms, F = features, D = devices, Z = numbers of a model's shape.

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor

from models.config import MolmoConfig

FEATURES = ("num_crops", "vision_tokens", "text_tokens", "top_k", "num_active_blocks", "output_tokens")
COMPONENTS = ("vision_encoder", "projector", "prefill", "decode_per_token")

TERMS = (
    "fixed",
    "per_block",
    "first_step",
    "dense_flops",
    "attention_flops",
    "expert_flops",
    "dense_bytes",
    "expert_bytes",
    "cache_bytes",
)
# The first terms are the host's work (it launches kernels), the rest the device's. The two run side by side.
NUM_HOST_TERMS = 3

_FLOPS_PER_MS = 500e12 / 1e3
_BYTES_PER_MS = 4e12 / 1e3
_LAUNCH_MS_PER_BLOCK = 0.1  # about twenty kernels of five microseconds
_BYTES_PER_NUMBER = 2


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The plain numbers of a model that its costs depend on. The defaults are MolmoE-1B's.

    Args:
        vision_blocks: Transformer blocks of the vision encoder that run.
        vision_dim: Width of the vision encoder.
        vision_mlp_dim: Hidden width of its feed-forward layers.
        num_patches: Patches in a crop.
        num_vit_layers: Encoder outputs that the connector concatenates.
        hidden_dim: Width of the language model.
        kv_dim: Width of all its key heads together.
        ffn_dim: Hidden width of a feed-forward layer, of one expert in a mixture; also of the projector.
        num_experts: Experts a block; 0 for a dense model.
        embedding_size: Rows of the output head.
    """

    vision_blocks: int = 22
    vision_dim: int = 1024
    vision_mlp_dim: int = 4096
    num_patches: int = 576
    num_vit_layers: int = 2
    hidden_dim: int = 2048
    kv_dim: int = 2048
    ffn_dim: int = 1024
    num_experts: int = 64
    embedding_size: int = 50304

    @classmethod
    def from_config(cls, config: MolmoConfig) -> "ModelShape":
        """Take the numbers from a model's config."""
        return cls(
            vision_blocks=config.num_run_vision_blocks,
            vision_dim=config.vision.hidden_dim,
            vision_mlp_dim=config.vision.mlp_dim,
            num_patches=config.num_patches,
            num_vit_layers=len(config.vit_layers),
            hidden_dim=config.hidden_dim,
            kv_dim=config.num_kv_heads * config.head_dim,
            ffn_dim=config.ffn_dim,
            num_experts=config.num_experts,
            embedding_size=config.embedding_size,
        )

    @classmethod
    def from_mapping(cls, plain: Mapping[str, int]) -> "ModelShape":
        """Read a mapping as ``to_mapping`` writes it.

        Raises:
            ValueError: If a number is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(plain) != names:
            wrong = ", ".join(sorted(names ^ set(plain)))
            raise ValueError(f"model shape: needs exactly {', '.join(sorted(names))}; missing or unknown: {wrong}")
        return cls(**plain)

    def to_mapping(self) -> dict[str, int]:
        """Return the numbers by name."""
        return asdict(self)


def shape_table(shapes: Sequence[Mapping[str, int]]) -> Tensor:
    """Stack the shapes of several devices' models, ``(devices, numbers)`` float32 in the order of ``ModelShape``."""
    rows = [list(ModelShape.from_mapping(plain).to_mapping().values()) for plain in shapes]
    return torch.tensor(rows, dtype=torch.float32)


def latency_terms(features_BF: Tensor, shape_BZ: Tensor) -> Tensor:
    """Compute every component's terms.

    Decode terms are those of one step, at the mean context of all steps.

    Args:
        features_BF: ``(rows, len(FEATURES))`` float.
        shape_BZ: ``(rows, numbers)`` of ``shape_table``: the model that each row was measured on.

    Returns:
        ``(rows, len(COMPONENTS), len(TERMS))`` float milliseconds on the ideal device; zero where a component has no
        such term.
    """
    crops, vision, text, top_k, blocks, output = features_BF.unbind(dim=1)
    shape = dict(zip((field.name for field in fields(ModelShape)), shape_BZ.unbind(dim=1), strict=True))
    # A dense layer is a mixture of one expert that every token visits.
    num_experts = shape["num_experts"].clamp(min=1)
    top_k = top_k.clamp(min=1)
    crops = crops.clamp(min=1)
    tokens = vision + text
    context = tokens + output / 2
    zero, one = torch.zeros_like(crops), torch.ones_like(crops)

    attention_weights = 2 * shape["hidden_dim"] * (shape["hidden_dim"] + shape["kv_dim"])
    expert_weights = 3 * shape["hidden_dim"] * shape["ffn_dim"]
    head_ms = shape["hidden_dim"] * shape["embedding_size"] * _BYTES_PER_NUMBER / _BYTES_PER_MS
    touched = num_experts * (1 - (1 - top_k / num_experts).clamp(min=0) ** tokens)
    launches = blocks * _LAUNCH_MS_PER_BLOCK
    dense_bytes = blocks * attention_weights * _BYTES_PER_NUMBER / _BYTES_PER_MS + head_ms
    expert_bytes = blocks * expert_weights * _BYTES_PER_NUMBER / _BYTES_PER_MS
    cache_bytes = blocks * context * 2 * shape["kv_dim"] * _BYTES_PER_NUMBER / _BYTES_PER_MS
    causal_flops = blocks * 2 * tokens**2 * shape["hidden_dim"] / _FLOPS_PER_MS
    dense_flops = blocks * 2 * tokens * attention_weights / _FLOPS_PER_MS
    expert_flops = blocks * 2 * tokens * top_k * expert_weights / _FLOPS_PER_MS
    vision_flops = crops * _vision_flops(shape) / _FLOPS_PER_MS
    projector_flops = crops * _projector_flops(shape) / _FLOPS_PER_MS
    first_step = 1 / (output - 1).clamp(min=1)

    # Bytes of the vision parts are the same for every request, so the fixed term holds them.
    rows = (
        (one, zero, zero, vision_flops, zero, zero, zero, zero, zero),
        (one, zero, zero, projector_flops, zero, zero, zero, zero, zero),
        (one, launches, zero, dense_flops, causal_flops, expert_flops, dense_bytes, expert_bytes * touched, zero),
        (one, launches, first_step, zero, zero, zero, dense_bytes, expert_bytes * top_k, cache_bytes),
    )
    return torch.stack([torch.stack(terms, dim=1) for terms in rows], dim=1)


def _vision_flops(shape: Mapping[str, Tensor]) -> Tensor:
    """Operations of the vision encoder for one crop; its class token counts as one more patch."""
    patches, width = shape["num_patches"] + 1, shape["vision_dim"]
    per_patch = 2 * (4 * width**2 + 2 * width * shape["vision_mlp_dim"]) + 4 * patches * width
    return shape["vision_blocks"] * patches * per_patch


def _projector_flops(shape: Mapping[str, Tensor]) -> Tensor:
    """Operations of pooling and projector for one crop: four patches become a token."""
    width = shape["vision_dim"]
    input_dim = shape["num_vit_layers"] * width
    pooling = 2 * shape["num_patches"] * 2 * input_dim * width
    per_token = 2 * (input_dim * width + width**2 + (2 * width + shape["hidden_dim"]) * shape["ffn_dim"])
    return pooling + shape["num_patches"] / 4 * per_token
