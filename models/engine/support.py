"""Which models the engine's kernels can run; known without Triton."""

from models.config import MolmoConfig


def unsupported(config: MolmoConfig) -> str | None:
    """Say what in a model the kernels cannot run; ``None`` if they can run it."""
    reasons = {
        "a dense feed-forward layer": not config.is_moe,
        "grouped key and value heads": config.num_kv_heads != config.num_heads,
        "biases of query, key and value": config.qkv_bias,
        "attention without norms of query and key": not config.qk_norm,
        "norms behind the layers": config.norm_after,
        "heads of an odd width": config.head_dim % 2 != 0,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)
