"""From patch features to vision tokens: padding embeddings, 2x2 attention pooling, gated projector.

The layers are those of Molmo (Deitke et al., 2024, "Molmo and PixMo", section 2).
"""

# Shape suffixes: N = crops of all requests, P = patches in a crop, F = feature width, T = pooled tokens in a crop,
# V = patches in a pooling window (4), H = heads, K = width of a head, D = width of the language model.

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import MolmoConfig

# Fused attention kernels are made for long sequences: of many short ones they waste most, and 65,535 are their limit.
_MAX_FUSED_WINDOWS = 8192


class WindowPooling(nn.Module):
    """Pool windows of patches by attention whose query is the window's mean."""

    def __init__(self, feature_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        width = num_heads * head_dim
        self.num_heads = num_heads
        self.query = nn.Linear(feature_dim, width)
        self.key_value = nn.Linear(feature_dim, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, windows_NTVF: Tensor) -> Tensor:
        """Pool: ``(crops, tokens, window, features)`` to ``(crops, tokens, width)``."""
        windows = windows_NTVF.flatten(0, 1)
        query = self.query(windows.mean(dim=1, keepdim=True)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.key_value(windows).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if len(windows) > _MAX_FUSED_WINDOWS:
            mixed = _attention_by_elements(query, key, value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        pooled = mixed.transpose(1, 2).flatten(1)
        out: Tensor = self.out(pooled).unflatten(0, windows_NTVF.shape[:2])
        return out


def _attention_by_elements(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend from one query to few keys in plain steps: ``(windows, heads, 1, head_dim)``."""
    scores = (query * key).sum(dim=-1, dtype=torch.float32) * query.shape[-1] ** -0.5
    weights = scores.softmax(dim=-1).to(value.dtype)
    mixed: Tensor = (weights[..., None] * value).sum(dim=2, keepdim=True)
    return mixed


class Projector(nn.Module):
    """Gated feed-forward layer into the width of the language model."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(input_dim, hidden_dim, bias=False)
        self.up = nn.Linear(input_dim, hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, output_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Project ``(..., input_dim)`` to ``(..., output_dim)``."""
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class Connector(nn.Module):
    """Turn the vision encoder's patch features into tokens for the language model."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        pooled_dim = config.vision.num_heads * config.vision.head_dim
        self.patches_per_side = config.patches_per_side
        # Row 0 is added to patches that show no image at all, row 1 to those that show some.
        self.pad_embedding = nn.Parameter(torch.zeros(2, config.feature_dim))
        self.pooling = WindowPooling(config.feature_dim, config.vision.num_heads, config.vision.head_dim)
        self.projector = Projector(pooled_dim, config.ffn_dim, config.hidden_dim)

    def forward(self, features_NPF: Tensor, patch_mask_NP: Tensor) -> Tensor:
        """Pool and project.

        Args:
            features_NPF: ``(crops, patches, features)`` from the vision encoder.
            patch_mask_NP: ``(crops, patches)``: share of each patch that shows the image; -1 counts as "some".

        Returns:
            ``(crops, tokens, width)`` vision tokens.
        """
        is_empty = patch_mask_NP == 0
        is_partial = (patch_mask_NP < 1) & ~is_empty
        marks_NP2 = torch.stack([is_empty, is_partial], dim=-1).to(features_NPF.dtype)
        features_NPF = features_NPF + marks_NP2 @ self.pad_embedding
        tokens: Tensor = self.projector(self.pooling(self._windows(features_NPF)))
        return tokens

    def _windows(self, features_NPF: Tensor) -> Tensor:
        """Group patches into 2x2 windows, row-major, zero-padding odd grids at the right and bottom."""
        rows, columns = self.patches_per_side
        grid = features_NPF.unflatten(1, (rows, columns))
        grid = F.pad(grid, [0, 0, 0, columns % 2, 0, rows % 2])
        windows: Tensor = grid.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)
        return windows.flatten(3, 4).flatten(1, 2)
