"""One decode step through Triton kernels, over memory that stays where it is from step to step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from models.engine.kernels import attention as attention_kernels
from models.engine.kernels import experts as expert_kernels
from models.engine.kernels import greedy, linear
from models.engine.tiles import Cut, Tiles
from models.experts import MoE
from models.knobs import KnobSetting
from models.kv_cache import KVCache
from models.language_model import Block
from models.molmo import Molmo


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Memory of one request at a time. Its addresses never change, so steps over it can be replayed.

    Args:
        cache: Keys and values of every block, ``(blocks, 2, 1, heads, capacity, head_dim)``.
        cosine: ``(capacity, head_dim / 2)`` float32; ``sine`` likewise.
        prompt: ``(capacity, width)`` in the weights' type: the prompt on its way through the blocks.
        num_tokens: ``(1,)`` int32: how many of its tokens are real.
        is_vision: ``(capacity,)`` int32: which of them are vision tokens; up to date only where it is asked for.
        counts: ``(experts,)`` int32 zeros between blocks: how many of its tokens chose each expert.
        token: ``(1,)`` int64: the token to run next.
        position: ``(1,)`` int32: how many tokens are cached.
        logits: ``(1, embedding_size)`` float32 behind the last token that was run.
        tiles: How the work is cut.
        scratch: What the kernels hand to one another.
    """

    cache: Tensor
    cosine: Tensor
    sine: Tensor
    prompt: Tensor
    num_tokens: Tensor
    is_vision: Tensor
    counts: Tensor
    token: Tensor
    position: Tensor
    logits: Tensor
    tiles: Tiles
    scratch: dict[str, Tensor]

    @classmethod
    @torch.inference_mode(mode=False)  # or the memory could not be written outside of it later
    def allocate(cls, model: Molmo, *, capacity: int, tiles: Tiles | None = None) -> "Workspace":
        """Allocate memory for a model on its device, for requests of up to ``capacity`` tokens."""
        config, tiles = model.config, tiles or Tiles()
        weight = model.language_model.head.weight
        cache = KVCache.allocate(
            config,
            num_slots=config.num_blocks,
            batch_size=1,
            capacity=capacity,
            device=weight.device,
            dtype=weight.dtype,
        )
        cosine, sine = model.language_model.rotary(torch.arange(capacity, device=weight.device)[None])

        def floats(*shape: int) -> Tensor:
            return torch.zeros(shape, device=weight.device, dtype=torch.float32)

        def integers(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(shape, device=weight.device, dtype=dtype)

        half_p = triton.next_power_of_2(config.head_dim // 2)
        experts_p = triton.next_power_of_2(config.num_experts)
        parts = triton.cdiv(config.embedding_size, tiles.vocabulary_part)
        return cls(
            cache=cache.memory,
            cosine=cosine[0, :, 0].contiguous(),
            sine=sine[0, :, 0].contiguous(),
            prompt=weight.new_zeros(capacity, config.hidden_dim),
            num_tokens=integers(1),
            is_vision=integers(capacity),
            counts=integers(config.num_experts),
            token=integers(1, dtype=torch.int64),
            position=integers(1),
            logits=floats(1, config.embedding_size),
            tiles=tiles,
            scratch={
                "x": floats(config.hidden_dim),
                "qkv": floats(3 * config.hidden_dim),
                "attended": floats(config.hidden_dim),
                "partial": floats(config.num_heads, tiles.context_splits, 2 * half_p + 2),
                "arrived": integers(config.num_heads),
                "routing": floats(triton.cdiv(config.hidden_dim, tiles.out.rows), experts_p + 1),
                "routed": integers(1),
                "chosen": integers(config.num_experts),
                "chosen_weight": floats(config.num_experts),
                "hidden": floats(config.num_experts, config.ffn_dim),
                "high": floats(parts),
                "index": integers(parts),
            },
        )

    @property
    def capacity(self) -> int:
        """Most tokens that a request may reach."""
        return self.cache.shape[4]

    def fill(self, cache: KVCache, active_blocks: Sequence[int]) -> None:
        """Copy what another engine has cached."""
        self.cache[list(active_blocks), ..., : cache.length, :] = cache.memory[..., : cache.length, :]

    def reset(self) -> None:
        """Forget the request that was here, also one that an error broke off."""
        self.position.zero_()
        self.scratch["arrived"].zero_()
        self.scratch["routed"].zero_()

    def begin(self, logits_1V: Tensor, num_cached: int) -> None:
        """Take over from a prefill: its last logits, whose likeliest token runs first, and how many it has cached."""
        self.reset()
        self.logits.copy_(logits_1V)
        torch.argmax(logits_1V, dim=-1, out=self.token)
        self.position.fill_(num_cached)


class FusedDecode:
    """The decode step of one setting: runs ``workspace.token`` and leaves the next token's logits.

    Args:
        model: A mixture of experts without what ``support.unsupported`` names.
        setting: Top_k and active blocks of the step.
        workspace: Its memory.
    """

    def __init__(self, model: Molmo, setting: KnobSetting, workspace: Workspace) -> None:
        self._config = model.config
        self._language_model = model.language_model
        self._setting = setting
        self._workspace = workspace
        self._overlap = _overlap(workspace.cache.device)

    def run(self) -> None:
        """Launch the kernels of one step: the token's logits, the likeliest next token, the position behind it."""
        config, workspace = self._config, self._workspace
        scratch, tiles = workspace.scratch, workspace.tiles
        width = {"D": config.hidden_dim, "D_P": triton.next_power_of_2(config.hidden_dim)}
        linear.embed[(1,)](
            workspace.token, self._language_model.embedding.weight, scratch["x"], **width, **self._overlap
        )
        for index in self._setting.active_blocks:
            block = self._language_model.blocks[index]
            assert isinstance(block, Block)
            self._attention(block, index, width)
            self._experts(block, self._setting.text_top_k(index), width)
        norm, head = self._language_model.norm, self._language_model.head
        self._norm_linear(norm.weight, head.weight, workspace.logits, tiles.head, width)
        parts = len(scratch["high"])
        vocabulary = config.embedding_size
        greedy.largest_of_part[(parts,)](
            workspace.logits,
            scratch["high"],
            scratch["index"],
            V=vocabulary,
            PART=tiles.vocabulary_part,
            **self._overlap,
        )
        greedy.advance[(1,)](
            scratch["high"],
            scratch["index"],
            workspace.token,
            workspace.position,
            PARTS=parts,
            PARTS_P=triton.next_power_of_2(parts),
            V=vocabulary,
            **self._overlap,
        )

    def _cut(self, cut: Cut) -> dict[str, Any]:
        """Options of a launch that is cut so."""
        return {"ROWS": cut.rows, "num_warps": cut.warps, **self._overlap}

    def _norm_linear(self, norm: Tensor, weight: Tensor, out: Tensor, cut: Cut, width: dict[str, int]) -> None:
        grid = (triton.cdiv(len(weight), cut.rows),)
        x, eps = self._workspace.scratch["x"], self._config.norm_eps
        linear.norm_linear[grid](x, norm, weight, out, eps, N=len(weight), **width, **self._cut(cut))

    def _attention(self, block: Block, index: int, width: dict[str, int]) -> None:
        config, workspace, scratch = self._config, self._workspace, self._workspace.scratch
        tiles = workspace.tiles
        attention = block.attention
        half = config.head_dim // 2
        self._norm_linear(block.attention_norm.weight, attention.qkv.weight, scratch["qkv"], tiles.qkv, width)
        attention_kernels.attend[(config.num_heads, tiles.context_splits)](
            scratch["qkv"],
            attention.query_norm.weight,
            attention.key_norm.weight,
            workspace.cosine,
            workspace.sine,
            workspace.position,
            workspace.cache[index],
            scratch["partial"],
            scratch["arrived"],
            scratch["attended"],
            config.norm_eps,
            workspace.capacity,
            H=config.num_heads,
            HALF=half,
            HALF_P=triton.next_power_of_2(half),
            S=tiles.context_splits,
            TOKENS=tiles.context_tokens,
            **width,
            **self._overlap,
        )

    def _experts(self, block: Block, top_k: int, width: dict[str, int]) -> None:
        config, scratch, tiles = self._config, self._workspace.scratch, self._workspace.tiles
        moe = block.ffn
        assert isinstance(moe, MoE)
        norm = block.ffn_norm.weight
        programs = triton.cdiv(config.hidden_dim, tiles.out.rows)
        expert_kernels.project_and_route[(programs,)](
            scratch["attended"],
            block.attention.out.weight,
            scratch["x"],
            norm,
            moe.router.linear.weight,
            scratch["routing"],
            scratch["routed"],
            scratch["chosen"],
            scratch["chosen_weight"],
            config.norm_eps,
            E=config.num_experts,
            E_P=triton.next_power_of_2(config.num_experts),
            K=top_k,
            MASS_K=config.top_k if config.match_router_mass else 0,
            PROGRAMS=programs,
            AT_ONCE=min(tiles.shares_at_once, triton.next_power_of_2(programs)),
            **width,
            **self._cut(tiles.out),
        )
        expert_kernels.experts_in[(triton.cdiv(config.ffn_dim, tiles.expert_in.rows), top_k)](
            scratch["x"],
            norm,
            scratch["chosen"],
            moe.experts.gate_up,
            scratch["hidden"],
            config.norm_eps,
            F=config.ffn_dim,
            **width,
            **self._cut(tiles.expert_in),
        )
        expert_kernels.experts_out[(triton.cdiv(config.hidden_dim, tiles.expert_out.rows),)](
            scratch["hidden"],
            scratch["chosen"],
            scratch["chosen_weight"],
            moe.experts.down,
            scratch["x"],
            D=config.hidden_dim,
            F=config.ffn_dim,
            F_P=triton.next_power_of_2(config.ffn_dim),
            K=top_k,
            AHEAD=min(tiles.experts_ahead, top_k),
            **self._cut(tiles.expert_out),
        )


def _overlap(device: torch.device) -> dict[str, bool]:
    """Options with which kernels start while the one before them ends, where the device can do that."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0):
        return {"PDL": True, "launch_pdl": True}
    return {"PDL": False}
