"""Attention by the fastest kernel that the library has for a shape."""

from typing import Final

from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# In order of preference; what a device or a shape has not is passed over.
_BACKENDS: Final = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def attend(query_NHLK: Tensor, key_NHLK: Tensor, value_NHLK: Tensor, *, is_causal: bool = False) -> Tensor:
    """Mix values by the softmax of scaled products, ``(batch, heads, tokens, head_dim)`` each."""
    # cuDNN plans anew for every shape, which costs milliseconds: engines record their calls.
    with sdpa_kernel(_BACKENDS, set_priority=True):
        return F.scaled_dot_product_attention(query_NHLK, key_NHLK, value_NHLK, is_causal=is_causal)
