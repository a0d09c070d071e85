"""The vision encoder with everything between its matrix products fused into kernels."""

from typing import cast

import triton
from torch import Tensor, nn
from torch.nn import functional as F

from models.engine.kernels import vision as kernels
from models.engine.library_attention import attend
from models.vision import VisionAttention, VisionBlock, VisionEncoder


class FusedVision:
    """Encode crops as ``VisionEncoder`` does, in eight launches a block.

    Args:
        encoder: Holds the weights.
    """

    def __init__(self, encoder: VisionEncoder) -> None:
        self._encoder = encoder
        self._blocks = [cast("VisionBlock", block) for block in encoder.blocks]

    def __call__(self, crops_NPD: Tensor) -> Tensor:
        """Encode ``(crops, patches, patch_dim)`` to ``(crops, patches, read blocks * width)``."""
        encoder = self._encoder
        x_NLW = encoder.embed(crops_NPD)
        num_crops, length, width = x_NLW.shape
        x_TW = x_NLW.flatten(0, 1)
        norm = self._blocks[0].attention_norm
        y_TW = F.layer_norm(x_TW, [width], norm.weight, norm.bias, norm.eps)
        features_NPF = x_NLW.new_empty(num_crops, length - 1, len(encoder.read_blocks) * width)
        for index, block in enumerate(self._blocks[: encoder.num_run_blocks]):
            mixed_TW = _mix(block.attention, y_TW.view_as(x_NLW)).view_as(x_TW)
            _add_norm(x_TW, mixed_TW @ block.attention.out.weight.T, block.attention.out.bias, block.mlp_norm, y_TW)
            hidden_TF = y_TW @ block.mlp.up.weight.T
            _quick_gelu(hidden_TF, block.mlp.up.bias)
            # Behind the last block nothing reads the norm; its own is as good as any.
            behind = self._blocks[min(index + 1, len(self._blocks) - 1)].attention_norm
            _add_norm(x_TW, hidden_TF @ block.mlp.down.weight.T, block.mlp.down.bias, behind, y_TW)
            for place, read in enumerate(encoder.read_blocks):
                if read == index:
                    features_NPF[..., place * width : (place + 1) * width] = x_TW.view_as(x_NLW)[:, 1:]
        return features_NPF


def _mix(attention: VisionAttention, y_NLW: Tensor) -> Tensor:
    """Attend within each crop: ``(crops, tokens, width)`` in and out, before the output projection."""
    qkv_3NHLK = attention.qkv(y_NLW).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed_NHLK = attend(*qkv_3NHLK.unbind(0))
    return mixed_NHLK.transpose(1, 2).flatten(2)


def _add_norm(x_TW: Tensor, change_TW: Tensor, bias: Tensor, norm: nn.LayerNorm, y_TW: Tensor) -> None:
    num_tokens, width = x_TW.shape
    kernels.add_norm[(num_tokens,)](
        x_TW, change_TW, bias, norm.weight, norm.bias, y_TW, norm.eps, W=width, W_P=triton.next_power_of_2(width)
    )


def _quick_gelu(hidden_TF: Tensor, bias: Tensor) -> None:
    num_tokens, width = hidden_TF.shape
    kernels.quick_gelu[(num_tokens,)](hidden_TF, bias, F=width, F_P=triton.next_power_of_2(width))
