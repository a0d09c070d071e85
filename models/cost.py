"""What a request costs in closed form: floating-point operations and bytes of each component, term by term.

Conventions:

- Operations are those of matrix products and attention, two for a multiply-add. Norms, activations, rotary embeddings
  and the weighted sum over experts are left out, as in ``torch.utils.flop_counter``. Causal attention counts in full
  square: a kernel that skips what a token may not see does about half of the term ``attention`` in prefill.
- Weights count once for each time that a component (a decode step) reads them. Of the experts, those count that at
  least one token is expected to visit; of the embedding table, only the rows that are looked up, as activations.
- Activations are the inputs and outputs of products and attention. What lies between is taken to be fused into them,
  and attention scores stay on the chip.
- The cache is written once for each token, and read whole by each attention.

Everything is plain arithmetic: the numbers of a request may be numpy arrays with one element a request.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.config import MolmoConfig
from models.stages import DECODE, PREFILL, PROJECTOR, VISION_ENCODER

Quantity = float | NDArray[np.float64]

DECODE_STEP: Final = "decode_per_token"
_POOLING_WINDOW = 4


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Operations and memory traffic.

    Args:
        flops: Floating-point operations.
        weight_bytes: Weights read.
        activation_bytes: Activations read and written.
        kv_bytes: Keys and values read from and written to the cache.
    """

    flops: Quantity = 0.0
    weight_bytes: Quantity = 0.0
    activation_bytes: Quantity = 0.0
    kv_bytes: Quantity = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            flops=self.flops + other.flops,
            weight_bytes=self.weight_bytes + other.weight_bytes,
            activation_bytes=self.activation_bytes + other.activation_bytes,
            kv_bytes=self.kv_bytes + other.kv_bytes,
        )

    def __mul__(self, times: Quantity) -> "Cost":
        return Cost(
            flops=self.flops * times,
            weight_bytes=self.weight_bytes * times,
            activation_bytes=self.activation_bytes * times,
            kv_bytes=self.kv_bytes * times,
        )

    @property
    def num_bytes(self) -> Quantity:
        """All memory traffic."""
        return self.weight_bytes + self.activation_bytes + self.kv_bytes


def component_costs(
    config: MolmoConfig,
    *,
    num_crops: Quantity,
    vision_tokens: Quantity,
    text_tokens: Quantity,
    output_tokens: Quantity,
    top_k: Quantity,
    num_active_blocks: Quantity,
    dtype_bytes: int = 2,
    router_evenness: float = 1.0,
) -> dict[str, Cost]:
    """Compute what one request costs, as ``models.generation.generate`` runs it.

    Args:
        config: Shape of the model.
        num_crops: Crops, the overview included; 0 without an image.
        vision_tokens: Image features that reach the language model.
        text_tokens: All other ids of the prompt.
        output_tokens: Tokens generated, the first by prefill and the others by a decode step each.
        top_k: Experts per token; not read in a dense model.
        num_active_blocks: Blocks that run.
        dtype_bytes: Bytes of a number.
        router_evenness: How widely the tokens spread over the experts: 1 evenly over all, 0 always the same top_k.

    Returns:
        The cost of ``vision_encoder``, ``projector``, ``prefill``, ``decode`` (all steps) and ``decode_per_token``
        (the mean over the steps).
    """
    terms = itemised_costs(
        config,
        num_crops=num_crops,
        vision_tokens=vision_tokens,
        text_tokens=text_tokens,
        output_tokens=output_tokens,
        top_k=top_k,
        num_active_blocks=num_active_blocks,
        dtype_bytes=dtype_bytes,
        router_evenness=router_evenness,
    )
    costs = {component: sum(by_term.values(), Cost()) for component, by_term in terms.items()}
    costs[DECODE] = costs[DECODE_STEP] * (output_tokens - 1)
    return {name: costs[name] for name in (VISION_ENCODER, PROJECTOR, PREFILL, DECODE, DECODE_STEP)}


def itemised_costs(
    config: MolmoConfig,
    *,
    num_crops: Quantity,
    vision_tokens: Quantity,
    text_tokens: Quantity,
    output_tokens: Quantity,
    top_k: Quantity,
    num_active_blocks: Quantity,
    dtype_bytes: int = 2,
    router_evenness: float = 1.0,
) -> dict[str, dict[str, Cost]]:
    """Compute the terms that ``component_costs`` adds up; its arguments. ``decode`` is left to its mean step.

    Returns:
        By component, by term. Prefill and decode have ``embedding``, ``projections``, ``attention``, ``head``, and
        ``router`` and ``experts`` or ``mlp``.
    """
    products = _Products(dtype_bytes)
    prompt_tokens = vision_tokens + text_tokens
    # The cache grows by one a step, so the mean step sees half of the new tokens.
    mean_context = prompt_tokens + output_tokens / 2

    def language(tokens: Quantity, context: Quantity) -> dict[str, Cost]:
        terms = _block_terms(config, products, tokens=tokens, context=context, top_k=top_k, evenness=router_evenness)
        head = products.linear(1, config.hidden_dim, config.embedding_size) + products.weights(config.hidden_dim)
        return {
            "embedding": Cost(activation_bytes=2 * tokens * config.hidden_dim * dtype_bytes),
            **{name: cost * num_active_blocks for name, cost in terms.items()},
            "head": head,
        }

    def vision(terms: dict[str, Cost]) -> dict[str, Cost]:
        # What does not run reads no weights.
        return {name: cost * np.sign(num_crops) for name, cost in terms.items()}

    return {
        VISION_ENCODER: vision(_vision_terms(config, products, num_crops)),
        PROJECTOR: vision(_connector_terms(config, products, num_crops)),
        PREFILL: language(prompt_tokens, prompt_tokens),
        DECODE_STEP: language(1, mean_context),
    }


def expected_experts(num_experts: int, *, top_k: Quantity, num_tokens: Quantity, evenness: float = 1.0) -> Quantity:
    """Return how many experts of a block at least one token visits, in expectation.

    Tokens are taken to choose independently and with equal chance among ``top_k + evenness * (num_experts - top_k)``
    experts. Trained routers are neither, so this is an estimate.
    """
    eligible = top_k + evenness * (num_experts - top_k)
    return eligible * (1 - (1 - top_k / eligible) ** num_tokens)


def floor_ms(cost: Cost, *, peak_flops_per_s: float, bandwidth_bytes_per_s: float) -> Quantity:
    """Return the least time that a device needs: for its operations or its memory traffic, whichever takes longer."""
    floor: Quantity = 1e3 * np.maximum(cost.flops / peak_flops_per_s, cost.num_bytes / bandwidth_bytes_per_s)
    return floor


class _Products:
    """Costs of the operations that count, at one size of a number."""

    def __init__(self, dtype_bytes: int) -> None:
        self.dtype_bytes = dtype_bytes

    def linear(self, rows: Quantity, input_dim: int, output_dim: int, *, bias: int = 0) -> Cost:
        """One product with a weight."""
        return Cost(
            flops=2 * rows * input_dim * output_dim,
            weight_bytes=(input_dim * output_dim + bias) * self.dtype_bytes,
            activation_bytes=rows * (input_dim + output_dim) * self.dtype_bytes,
        )

    def gated(self, rows: Quantity, width: int, hidden_dim: int) -> Cost:
        """Gate, up and down products of a SwiGLU layer."""
        return self.linear(rows, width, 2 * hidden_dim) + self.linear(rows, hidden_dim, width)

    def attention(self, queries: Quantity, keys: Quantity, width: int) -> Cost:
        """Each query meets each key twice, for its score and for its value; keys and values are not in the bytes."""
        return Cost(flops=4 * queries * keys * width, activation_bytes=2 * queries * width * self.dtype_bytes)

    def activations(self, count: Quantity) -> Cost:
        """Numbers read or written by the way."""
        return Cost(activation_bytes=count * self.dtype_bytes)

    def weights(self, count: int) -> Cost:
        """Weights of what has no operations that count, as norms."""
        return Cost(weight_bytes=count * self.dtype_bytes)


def _vision_terms(config: MolmoConfig, products: _Products, num_crops: Quantity) -> dict[str, Cost]:
    """Terms of the vision encoder, up to the last block that is read."""
    vision = config.vision
    width, inner = vision.hidden_dim, vision.num_heads * vision.head_dim
    length = config.num_patches + 1
    tokens = num_crops * length
    num_blocks = config.num_run_vision_blocks
    patches = products.linear(num_crops * config.num_patches, config.patch_dim, width)
    projections = products.linear(tokens, width, 3 * inner, bias=3 * inner)
    projections += products.linear(tokens, inner, width, bias=width)
    attention = products.attention(tokens, length, inner) + products.activations(2 * tokens * inner)
    mlp = products.linear(tokens, width, vision.mlp_dim, bias=vision.mlp_dim)
    mlp += products.linear(tokens, vision.mlp_dim, width, bias=width)
    norm = products.weights(2 * width)
    return {
        # With the class token, the positions and the first norm.
        "patches": patches + products.weights((length + 3) * width),
        "projections": (projections + norm) * num_blocks,
        "attention": attention * num_blocks,
        "mlp": (mlp + norm) * num_blocks,
    }


def _connector_terms(config: MolmoConfig, products: _Products, num_crops: Quantity) -> dict[str, Cost]:
    """Terms of padding embeddings, pooling and projector."""
    features = config.feature_dim
    inner = config.vision.num_heads * config.vision.head_dim
    tokens = num_crops * config.tokens_per_crop
    patches = tokens * _POOLING_WINDOW  # those that complete an odd grid included
    pooling = products.linear(tokens, features, inner, bias=inner)
    pooling += products.linear(patches, features, 2 * inner, bias=2 * inner)
    pooling += products.attention(tokens, _POOLING_WINDOW, inner) + products.activations(2 * patches * inner)
    pooling += products.linear(tokens, inner, inner, bias=inner)
    projector = products.linear(tokens, inner, config.ffn_dim) * 2
    projector += products.linear(tokens, config.ffn_dim, config.hidden_dim)
    return {
        "padding": products.linear(num_crops * config.num_patches, 2, features),
        "pooling": pooling,
        "projector": projector,
    }


def _block_terms(
    config: MolmoConfig,
    products: _Products,
    *,
    tokens: Quantity,
    context: Quantity,
    top_k: Quantity,
    evenness: float,
) -> dict[str, Cost]:
    """Terms of one block of the language model for new tokens that see a context."""
    width, kv_dim = config.hidden_dim, config.num_kv_heads * config.head_dim
    qkv_dim = width + 2 * kv_dim
    projections = products.linear(tokens, width, qkv_dim, bias=qkv_dim if config.qkv_bias else 0)
    projections += products.linear(tokens, width, width)
    projections += products.weights(width + (width + kv_dim if config.qk_norm else 0))
    cache = Cost(kv_bytes=2 * kv_dim * (tokens + context) * products.dtype_bytes)
    terms = {"projections": projections, "attention": products.attention(tokens, context, width) + cache}
    if not config.is_moe:
        terms["mlp"] = products.gated(tokens, width, config.ffn_dim) + products.weights(width)
        return terms
    visits = products.gated(tokens * top_k, width, config.ffn_dim)
    touched = expected_experts(config.num_experts, top_k=top_k, num_tokens=tokens, evenness=evenness)
    terms["router"] = products.linear(tokens, width, config.num_experts) + products.weights(width)
    terms["experts"] = replace(visits, weight_bytes=visits.weight_bytes * touched)
    return terms
