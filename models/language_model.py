"""Molmo's decoder-only language model: OLMoE, OLMo 2 or Qwen2 blocks, of which a request runs those it names."""

# Shape suffixes: B = requests, S = new tokens, C = tokens in the cache with the new ones, D = width, H = query heads,
# G = key/value heads, K = width of a head, V = vocabulary.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import MolmoConfig
from models.experts import MoE
from models.knobs import ExpertCounts
from models.kv_cache import KVCache

# cuDNN's attention builds a plan for each new length of the cache, tens of milliseconds every time, and a cache grows
# with every token. The switch is the process's: PyTorch has none for one call that is safe among threads.
torch.backends.cuda.enable_cudnn_sdp(False)


class Rotary(nn.Module):
    """Rotary position embedding over two halves of a head (Su et al., 2021), in float32."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.theta = config.rope_theta

    def forward(self, positions_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine, each ``(batch, sequence, 1, head_dim / 2)``."""
        exponent = torch.arange(0, self.head_dim, 2, device=positions_BS.device, dtype=torch.float32) / self.head_dim
        angle = positions_BS[:, :, None, None].float() / self.theta**exponent
        return angle.cos(), angle.sin()


def rotate(heads_BSHK: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each head by the angle of its position."""
    first, second = heads_BSHK.float().chunk(2, dim=-1)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return turned.to(heads_BSHK.dtype)


@dataclass(frozen=True, kw_only=True)
class TokenExperts:
    """Experts per token, where they are not one number for all blocks.

    Args:
        counts: Numbers of each block.
        is_vision: ``(batch, sequence)`` bool: which tokens are vision tokens; none if ``None``.
    """

    counts: ExpertCounts
    is_vision: Tensor | None

    def of_block(self, block: int) -> tuple[int, Tensor | None]:
        """Return the most experts of a token, and, where tokens differ, those of each: ``(batch, sequence)``."""
        text, vision = self.counts.text[block], self.counts.vision[block]
        if self.is_vision is None or text == vision:
            return text, None
        return max(text, vision), torch.where(self.is_vision, vision, text)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the blocks of one forward pass share.

    Args:
        angles: Cosine and sine of the tokens' positions.
        mask: Bool, true where a token may see another; broadcasts to ``(batch, heads, sequence, cached)``.
        cache: Keys and values of earlier tokens.
        top_k: Experts per token; of the block at hand, where blocks differ.
        token_top_k: ``(batch, sequence)``: experts of each token, up to ``top_k``, where tokens differ.
    """

    angles: tuple[Tensor, Tensor]
    mask: Tensor | None
    cache: KVCache | None
    top_k: int
    token_top_k: Tensor | None = None


class Attention(nn.Module):
    """Causal attention with grouped key/value heads and a cache."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        kv_dim = config.num_kv_heads * config.head_dim
        self.split = [config.hidden_dim, kv_dim, kv_dim]
        self.head_dim = config.head_dim
        self.num_heads = config.num_heads
        self.is_grouped = config.num_kv_heads != config.num_heads
        self.qkv = nn.Linear(config.hidden_dim, sum(self.split), bias=config.qkv_bias)
        self.out = nn.Linear(config.hidden_dim, config.hidden_dim, bias=False)
        self.has_qk_norm = config.qk_norm
        if config.qk_norm:
            self.query_norm = nn.RMSNorm(config.hidden_dim, eps=config.norm_eps)
            self.key_norm = nn.RMSNorm(kv_dim, eps=config.norm_eps)

    def forward(self, x_BSD: Tensor, shared: Shared, slot: int) -> Tensor:
        """Mix each token with those before it: ``(batch, sequence, width)`` in and out."""
        out: Tensor = self.out(self.mix(*self.project(x_BSD, shared.angles), shared, slot))
        return out

    def project(self, x_BSD: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of the tokens, each ``(batch, sequence, its heads, head_dim)``."""
        query, key, value = self.qkv(x_BSD).split(self.split, dim=-1)
        if self.has_qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        heads = rotate(torch.cat([query, key], dim=-1).unflatten(-1, (-1, self.head_dim)), *angles)
        value_BSGK = value.unflatten(-1, (-1, self.head_dim))
        return heads[:, :, : self.num_heads], heads[:, :, self.num_heads :], value_BSGK

    def mix(self, query_BSHK: Tensor, key_BSGK: Tensor, value_BSGK: Tensor, shared: Shared, slot: int) -> Tensor:
        """Put keys and values into the cache and let the queries see what is there: ``(batch, sequence, width)``."""
        query_BHSK = query_BSHK.transpose(1, 2)
        key_BGCK, value_BGCK = key_BSGK.transpose(1, 2), value_BSGK.transpose(1, 2)
        if shared.cache is not None:
            key_BGCK, value_BGCK = shared.cache.append(slot, key_BGCK, value_BGCK)
        mixed = F.scaled_dot_product_attention(
            query_BHSK,
            key_BGCK,
            value_BGCK,
            attn_mask=shared.mask,
            # A single new token may see everything; the kernel's causal mask would align it with the first key.
            is_causal=shared.mask is None and query_BHSK.shape[2] > 1,
            enable_gqa=self.is_grouped,
        )
        return mixed.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """SwiGLU feed-forward layer of the dense models."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        # Up first, then gate: the order of the released checkpoints.
        self.up_gate = nn.Linear(config.hidden_dim, 2 * config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.hidden_dim, bias=False)

    def forward(self, x_BSD: Tensor, *_: int | Tensor | None) -> Tensor:  # what MoE is told
        """Transform each token: ``(batch, sequence, width)`` in and out."""
        up, gate = self.up_gate(x_BSD).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """Transformer block; normalises its layers' inputs, or their outputs in OLMo 2."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.norm_after = config.norm_after
        self.attention_norm = nn.RMSNorm(config.hidden_dim, eps=config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.hidden_dim, eps=config.norm_eps)
        self.ffn: MoE | MLP = MoE(config) if config.is_moe else MLP(config)

    def forward(self, x_BSD: Tensor, shared: Shared, slot: int) -> Tensor:
        """Run the block: ``(batch, sequence, width)`` in and out. ``slot`` is its place among the active blocks."""
        x_BSD = self.add_attention(x_BSD, self.attention(self.attention_input(x_BSD), shared, slot))
        return self.add_ffn(x_BSD, self.ffn(self.ffn_input(x_BSD), shared.top_k, shared.token_top_k))

    def attention_input(self, x_BSD: Tensor) -> Tensor:
        """Return what attention is given."""
        return x_BSD if self.norm_after else self.attention_norm(x_BSD)

    def add_attention(self, x_BSD: Tensor, change_BSD: Tensor) -> Tensor:
        """Add what attention has returned."""
        return x_BSD + (self.attention_norm(change_BSD) if self.norm_after else change_BSD)

    def ffn_input(self, x_BSD: Tensor) -> Tensor:
        """Return what the feed-forward layer is given."""
        return x_BSD if self.norm_after else self.ffn_norm(x_BSD)

    def add_ffn(self, x_BSD: Tensor, change_BSD: Tensor) -> Tensor:
        """Add what the feed-forward layer has returned."""
        return x_BSD + (self.ffn_norm(change_BSD) if self.norm_after else change_BSD)


# How a block is run: the block, its input, what the blocks share, and its place among the active blocks.
RunBlock = Callable[[nn.Module, Tensor, Shared, int], Tensor]


class LanguageModel(nn.Module):
    """Embedding, blocks, final norm and output head."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.embedding_size + config.additional_vocab_size, config.hidden_dim)
        self.rotary = Rotary(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.norm = nn.RMSNorm(config.hidden_dim, eps=config.norm_eps)
        self.head = nn.Linear(config.hidden_dim, config.embedding_size, bias=False)

    def embed(self, input_ids_BS: Tensor) -> Tensor:
        """Look up ids, padding as id 0: ``(batch, sequence, width)``."""
        embedded: Tensor = self.embedding(input_ids_BS.clamp(min=0))
        return embedded

    def forward(
        self,
        x_BSD: Tensor,
        positions_BS: Tensor,
        *,
        active_blocks: Sequence[int],
        top_k: int | TokenExperts,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        run_block: RunBlock = nn.Module.__call__,
        first_slot: int = 0,
    ) -> Tensor:
        """Run the active blocks and the final norm.

        Args:
            x_BSD: ``(batch, sequence, width)`` embedded tokens.
            positions_BS: ``(batch, sequence)`` position of each token.
            active_blocks: Indices of the blocks that run.
            top_k: Experts per token: one number, or those of each block.
            mask: Bool, true where a token may see another; broadcasts to ``(batch, heads, sequence, cached)``. Without
                it, tokens see those before them.
            cache: Where keys and values of earlier tokens lie and of these are put.
            run_block: Another way to run the same block.
            first_slot: How many active blocks have run before.

        Returns:
            ``(batch, sequence, width)`` hidden states, to be given to ``head``.
        """
        x_BSD = self.run_blocks(
            x_BSD,
            positions_BS,
            active_blocks=active_blocks,
            top_k=top_k,
            mask=mask,
            cache=cache,
            run_block=run_block,
            first_slot=first_slot,
        )
        if cache is not None:
            cache.advance(x_BSD.shape[1])
        normed: Tensor = self.norm(x_BSD)
        return normed

    def run_blocks(
        self,
        x_BSD: Tensor,
        positions_BS: Tensor,
        *,
        active_blocks: Sequence[int],
        top_k: int | TokenExperts,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        run_block: RunBlock = nn.Module.__call__,
        first_slot: int = 0,
    ) -> Tensor:
        """Run some of the active blocks, without the final norm, and do not advance the cache.

        Arguments are those of ``forward``.

        Returns:
            ``(batch, sequence, width)`` hidden states that further blocks may go on from.
        """
        most = top_k if isinstance(top_k, int) else 0  # else each block has its own
        shared = Shared(angles=self.rotary(positions_BS), mask=mask, cache=cache, top_k=most)
        for slot, index in enumerate(active_blocks, start=first_slot):
            if isinstance(top_k, TokenExperts):
                most, token_top_k_BS = top_k.of_block(index)
                shared = replace(shared, top_k=most, token_top_k=token_top_k_BS)
            x_BSD = run_block(self.blocks[index], x_BSD, shared, slot)
        return x_BSD
