"""CLIP's vision transformer, as Molmo uses it: patches of every crop in, the outputs of two of its blocks out.

The encoder follows Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision".
"""

# Shape suffixes: N = crops of all requests, P = patches in a crop, L = P + 1 (class token), D = numbers in a patch,
# W = encoder width, H = heads, K = width of a head.

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import MolmoConfig, VisionConfig


class VisionAttention(nn.Module):
    """Bidirectional multi-head attention over the patches of one crop."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.num_heads * config.head_dim
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.hidden_dim, 3 * width)
        self.out = nn.Linear(width, config.hidden_dim)

    def forward(self, x_NLW: Tensor) -> Tensor:
        """Mix the tokens of each crop: ``(crops, tokens, width)`` in and out."""
        qkv_3NHLK = self.qkv(x_NLW).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed_NHLK = F.scaled_dot_product_attention(*qkv_3NHLK.unbind(0))
        out: Tensor = self.out(mixed_NHLK.transpose(1, 2).flatten(2))
        return out


class VisionMLP(nn.Module):
    """Feed-forward layer with CLIP's sigmoid approximation of GELU."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_dim, config.mlp_dim)
        self.down = nn.Linear(config.mlp_dim, config.hidden_dim)

    def forward(self, x_NLW: Tensor) -> Tensor:
        """Transform each token: ``(crops, tokens, width)`` in and out."""
        hidden = self.up(x_NLW)
        out: Tensor = self.down(hidden * torch.sigmoid(1.702 * hidden))
        return out


class VisionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_dim, eps=config.norm_eps)
        self.attention = VisionAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_dim, eps=config.norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x_NLW: Tensor) -> Tensor:
        """Run the block: ``(crops, tokens, width)`` in and out."""
        x_NLW = x_NLW + self.attention(self.attention_norm(x_NLW))
        out: Tensor = x_NLW + self.mlp(self.mlp_norm(x_NLW))
        return out


class VisionEncoder(nn.Module):
    """Encode crops into patch features.

    Blocks behind the last one that is read cost nothing: they hold weights, so that a checkpoint stays whole, but do
    not run.
    """

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        vision = config.vision
        self.patch_embedding = nn.Linear(config.patch_dim, vision.hidden_dim, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(vision.hidden_dim))
        self.position_embedding = nn.Parameter(torch.zeros(config.num_patches + 1, vision.hidden_dim))
        self.input_norm = nn.LayerNorm(vision.hidden_dim, eps=vision.norm_eps)
        self.blocks = nn.ModuleList(VisionBlock(vision) for _ in range(vision.num_blocks))
        self.read_blocks = config.read_vision_blocks
        self.num_run_blocks = config.num_run_vision_blocks

    def embed(self, crops_NPD: Tensor) -> Tensor:
        """Turn patches into tokens, the class token first: ``(crops, patches + 1, width)``."""
        x_NPW = self.patch_embedding(crops_NPD.to(self.patch_embedding.weight.dtype))
        class_token = self.class_embedding.expand(len(x_NPW), 1, -1)
        embedded: Tensor = self.input_norm(torch.cat([class_token, x_NPW], dim=1) + self.position_embedding)
        return embedded

    def forward(
        self, crops_NPD: Tensor, *, run_block: Callable[[nn.Module, Tensor], Tensor] = nn.Module.__call__
    ) -> Tensor:
        """Encode crops.

        Args:
            crops_NPD: ``(crops, patches, patch_dim)``, normalised.
            run_block: Another way to run the same block.

        Returns:
            ``(crops, patches, len(vit_layers) * width)``: the read blocks' outputs side by side, class token dropped.
        """
        x_NLW = self.embed(crops_NPD)
        outputs = {}
        for index in range(self.num_run_blocks):
            x_NLW = run_block(self.blocks[index], x_NLW)
            if index in self.read_blocks:
                outputs[index] = x_NLW[:, 1:]
        return torch.cat([outputs[index] for index in self.read_blocks], dim=-1)
