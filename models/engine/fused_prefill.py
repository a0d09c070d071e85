"""A prefill of one request: matrix products by the library, everything between them fused into kernels."""

from typing import Final

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from models.engine.fused_decode import Workspace
from models.engine.kernels import prefill as kernels
from models.engine.library_attention import attend
from models.engine.recording import Call, Record
from models.experts import MoE
from models.knobs import KnobSetting
from models.language_model import Block
from models.molmo import Molmo

_ROUTED_TOKENS: Final = 8  # a program
_TopK = tuple[int, int]  # of text and of vision tokens


class FusedPrefill:
    """Run prompts through any blocks and leave their keys and values in a workspace.

    Each block is thirteen calls, of the library or of a kernel. They are recorded when a block is first met with a
    top_k of text and vision tokens and a padded length, so that any choice of blocks is a sequence of replays.

    Args:
        model: A mixture of experts without what ``support.unsupported`` names.
        workspace: Whose cache is filled from its first token on.
        record: Turns a call into its replay.
        multiple: Short prompts are padded to a multiple of so many tokens, long ones by at most an eighth.
    """

    def __init__(self, model: Molmo, workspace: Workspace, record: Record, *, multiple: int = 64) -> None:
        config = model.config
        self._config = config
        self._language_model = model.language_model
        self.workspace = workspace
        self._record = record
        self._multiple = multiple
        self._width = {"D": config.hidden_dim, "D_P": triton.next_power_of_2(config.hidden_dim)}
        self._ranks = {"E": config.num_experts, "E_P": triton.next_power_of_2(config.num_experts)}
        self._replays: dict[tuple[int, _TopK, int], Call] = {}

    def warm_up(self, setting: KnobSetting) -> None:
        """Record the setting's blocks for prompts of every length."""
        lengths = {self._padded(num_tokens) for num_tokens in range(1, self.workspace.capacity + 1)}
        for length in sorted(lengths, reverse=True):  # so that the memory of the longest serves all
            self._replays_of(setting, length)

    def run(self, x_SD: Tensor, setting: KnobSetting, is_vision_S: Tensor | None = None) -> Tensor:
        """Return the logits behind the last token, ``(1, embedding_size)``.

        Args:
            x_SD: ``(tokens, width)`` embedded prompt, of at most the workspace's capacity.
            setting: Top_k and active blocks.
            is_vision_S: ``(tokens,)`` bool: which are vision tokens; read only where these have a top_k of their own.
        """
        num_tokens, workspace = len(x_SD), self.workspace
        replays = self._replays_of(setting, self._padded(num_tokens))  # recording runs a block, so before all else
        workspace.prompt[:num_tokens].copy_(x_SD)
        workspace.num_tokens.fill_(num_tokens)
        if is_vision_S is not None:
            workspace.is_vision[:num_tokens].copy_(is_vision_S)
        workspace.counts.zero_()  # they are zeros already, unless a request was broken off
        for replay in replays:
            replay()
        language_model = self._language_model
        logits: Tensor = language_model.head(language_model.norm(workspace.prompt[num_tokens - 1 : num_tokens]))
        return logits

    def _padded(self, num_tokens: int) -> int:
        step = max(self._multiple, (1 << (num_tokens - 1).bit_length()) // 16)
        return min(-(-num_tokens // step) * step, self.workspace.capacity)

    def _replays_of(self, setting: KnobSetting, length: int) -> list[Call]:
        return [
            self._replay(index, (setting.text_top_k(index), setting.vision_top_k(index)), length)
            for index in setting.active_blocks
        ]

    def _replay(self, index: int, top_k: _TopK, length: int) -> Call:
        key = (index, top_k, length)
        if key not in self._replays:
            self._replays[key] = self._record(lambda: self._block(index, top_k, length))
        return self._replays[key]

    @torch.inference_mode()  # also where an engine is warmed up outside of it: a recording has no gradients
    def _block(self, index: int, top_k: _TopK, length: int) -> None:
        block = self._language_model.blocks[index]
        assert isinstance(block, Block)
        x_SD = self.workspace.prompt[:length]
        self._attention(block, index, x_SD)
        self._mixture(block, top_k, x_SD)

    def _attention(self, block: Block, index: int, x_SD: Tensor) -> None:
        """Add the attention's output to ``x_SD``, and put keys and values into the cache."""
        config, workspace = self._config, self.workspace
        attention = block.attention
        num_tokens, half = len(x_SD), config.head_dim // 2
        cache = workspace.cache[index, :, 0]
        query_SD = torch.empty_like(x_SD)
        kernels.place_heads[(num_tokens,)](
            attention.qkv(block.attention_norm(x_SD)),
            attention.query_norm.weight,
            attention.key_norm.weight,
            workspace.cosine,
            workspace.sine,
            workspace.num_tokens,
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
        mixed_1HSK = attend(query_1HSK, key_1HSK, value_1HSK, is_causal=True)
        mixed_SD = mixed_1HSK[0].transpose(0, 1).reshape(num_tokens, -1)
        x_SD.addmm_(mixed_SD, attention.out.weight.T)

    def _mixture(self, block: Block, top_k: _TopK, x_SD: Tensor) -> None:
        """Add the experts' outputs to ``x_SD``."""
        config, real, counts_E = self._config, self.workspace.num_tokens, self.workspace.counts
        moe = block.ffn
        assert isinstance(moe, MoE)
        y_SD = block.ffn_norm(x_SD)
        num_tokens, most = len(x_SD), max(top_k)
        weight_SK = torch.empty(num_tokens, most, device=x_SD.device, dtype=torch.float32)
        expert_SK = torch.empty(num_tokens, most, device=x_SD.device, dtype=torch.int32)
        place_SK, row_SK = torch.empty_like(expert_SK), torch.empty_like(expert_SK)
        kernels.route[(triton.cdiv(num_tokens, _ROUTED_TOKENS),)](
            moe.router.linear(y_SD),
            real,
            self.workspace.is_vision,
            weight_SK,
            expert_SK,
            place_SK,
            counts_E,
            K=most,
            TEXT_K=top_k[0],
            VISION_K=top_k[1],
            MASS_K=config.top_k if config.match_router_mass else 0,
            TOKENS=_ROUTED_TOKENS,
            **self._ranks,
        )
        rows_RD = x_SD.new_empty(num_tokens * most, config.hidden_dim)
        ends_E = torch.empty_like(counts_E)
        kernels.dispatch[(num_tokens,)](
            y_SD,
            real,
            expert_SK,
            place_SK,
            counts_E,
            rows_RD,
            row_SK,
            ends_E,
            K=most,
            **self._width,
            **self._ranks,
        )
        gate_up_R2F = F.grouped_mm(rows_RD, moe.experts.gate_up.transpose(1, 2), offs=ends_E)
        hidden_RF = x_SD.new_empty(len(rows_RD), config.ffn_dim)
        ffn_p = triton.next_power_of_2(config.ffn_dim)
        kernels.gate[(len(rows_RD),)](gate_up_R2F, ends_E, hidden_RF, F=config.ffn_dim, F_P=ffn_p, E=config.num_experts)
        out_RD = F.grouped_mm(hidden_RF, moe.experts.down.transpose(1, 2), offs=ends_E)
        kernels.combine[(num_tokens,)](
            out_RD, weight_SK, row_SK, real, counts_E, x_SD, K=most, **self._width, **self._ranks
        )
