"""A prefill of one request: matrix products by the library, everything between them fused into kernels."""

from typing import cast

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from models.engine.fused_decode import Workspace
from models.engine.kernels import prefill as kernels
from models.experts import MoE
from models.knobs import KnobSetting
from models.language_model import Block
from models.molmo import Molmo


class FusedPrefill:
    """Run a prompt through the active blocks and leave its keys and values in a workspace.

    Twelve calls a block, of the library or of a kernel; the chosen experts run as grouped products.

    Args:
        model: A mixture of experts without what ``support.unsupported`` names.
        setting: Top_k and active blocks.
        workspace: Whose cache is filled from its first token on.
    """

    def __init__(self, model: Molmo, setting: KnobSetting, workspace: Workspace) -> None:
        self._config = model.config
        self._language_model = model.language_model
        self._setting = setting
        self._workspace = workspace
        config = model.config
        self._width = {"D": config.hidden_dim, "D_P": triton.next_power_of_2(config.hidden_dim)}
        self._experts = {"E": config.num_experts, "E_P": triton.next_power_of_2(config.num_experts)}

    def run(self, x_SD: Tensor) -> Tensor:
        """Return the logits behind the last token, ``(1, embedding_size)``.

        Args:
            x_SD: ``(tokens, width)`` embedded prompt.
        """
        eps = self._config.norm_eps
        blocks = [cast("Block", self._language_model.blocks[index]) for index in self._setting.active_blocks]
        norms = [block.attention_norm.weight for block in blocks] + [self._language_model.norm.weight]
        counts_LE = torch.zeros(len(blocks), self._config.num_experts, device=x_SD.device, dtype=torch.int32)
        y_SD = F.rms_norm(x_SD, x_SD.shape[-1:], norms[0], eps)
        for slot, block in enumerate(blocks):
            x_SD = self._attention(block, slot, x_SD, y_SD)
            y_SD = F.rms_norm(x_SD, x_SD.shape[-1:], block.ffn_norm.weight, eps)
            self._mixture(block, x_SD, y_SD, counts_LE[slot], norms[slot + 1])
        logits: Tensor = self._language_model.head(y_SD[-1:])
        return logits

    def _attention(self, block: Block, slot: int, x_SD: Tensor, y_SD: Tensor) -> Tensor:
        config, workspace = self._config, self._workspace
        attention = block.attention
        num_tokens, half = len(x_SD), config.head_dim // 2
        cache = workspace.cache[slot, :, 0]
        query_SD = torch.empty_like(x_SD)
        kernels.place_heads[(num_tokens,)](
            attention.qkv(y_SD),
            attention.query_norm.weight,
            attention.key_norm.weight,
            workspace.cosine,
            workspace.sine,
            query_SD,
            cache,
            config.norm_eps,
            workspace.capacity,
            H=config.num_heads,
            HALF=half,
            H_P=triton.next_power_of_2(config.num_heads),
            HALF_P=triton.next_power_of_2(half),
            **self._width,
        )
        query_1HSK = query_SD.view(num_tokens, config.num_heads, -1).transpose(0, 1)[None]
        key_1HSK, value_1HSK = cache[:, None, :, :num_tokens]
        mixed_1HSK = F.scaled_dot_product_attention(query_1HSK, key_1HSK, value_1HSK, is_causal=True)
        mixed_SD = mixed_1HSK[0].transpose(0, 1).reshape(num_tokens, -1)
        return torch.addmm(x_SD, mixed_SD, attention.out.weight.T)

    def _mixture(self, block: Block, x_SD: Tensor, y_SD: Tensor, counts_E: Tensor, next_norm: Tensor) -> None:
        """Add the experts' outputs to ``x_SD`` and leave its norm for the block behind in ``y_SD``."""
        config, top_k = self._config, self._setting.top_k
        moe = block.ffn
        assert isinstance(moe, MoE)
        num_tokens = len(x_SD)
        weight_SK = torch.empty(num_tokens, top_k, device=x_SD.device, dtype=torch.float32)
        expert_SK = torch.empty(num_tokens, top_k, device=x_SD.device, dtype=torch.int32)
        place_SK, ends_E = torch.empty_like(expert_SK), torch.empty_like(counts_E)
        kernels.route[(num_tokens,)](
            moe.router.linear(y_SD),
            weight_SK,
            expert_SK,
            place_SK,
            counts_E,
            K=top_k,
            MASS_K=config.top_k if config.match_router_mass else 0,
            **self._experts,
        )
        rows_RD = x_SD.new_empty(num_tokens * top_k, config.hidden_dim)
        kernels.dispatch[(num_tokens,)](
            y_SD, expert_SK, place_SK, counts_E, rows_RD, ends_E, K=top_k, **self._width, **self._experts
        )
        gate_up_R2F = F.grouped_mm(rows_RD, moe.experts.gate_up.transpose(1, 2), offs=ends_E)
        hidden_RF = x_SD.new_empty(len(rows_RD), config.ffn_dim)
        ffn_p = triton.next_power_of_2(config.ffn_dim)
        kernels.gate[(len(rows_RD),)](gate_up_R2F, hidden_RF, F=config.ffn_dim, F_P=ffn_p)
        out_RD = F.grouped_mm(hidden_RF, moe.experts.down.transpose(1, 2), offs=ends_E)
        kernels.combine[(num_tokens,)](
            out_RD, weight_SK, place_SK, x_SD, next_norm, y_SD, config.norm_eps, K=top_k, **self._width
        )
