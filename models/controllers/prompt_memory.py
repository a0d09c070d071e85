"""What prompts leave behind in the model's first blocks, so that budget tokens are run without running the prompts."""

# Shape suffixes: B = requests, S = ids of the longest prompt, D = width of the language model, G = key/value heads,
# K = width of a head.

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.inputs import ModelInputs
from models.kv_cache import KVCache
from models.molmo import Molmo, token_positions


class PromptMemory(KVCache):
    """Keys and values of prompts in the first blocks.

    A token that is run behind them sees them and leaves no trace, so that gradients may flow through it, and any number
    of tokens may be run behind the same prompt.

    Args:
        memory: ``(blocks, 2, batch, kv_heads, sequence, head_dim)``, prompts padded on the right with finite numbers.
        num_tokens_B: ``(batch,)`` int64: ids of each prompt.
    """

    def __init__(self, memory: Tensor, num_tokens_B: Tensor) -> None:
        super().__init__(memory)
        self.num_tokens_B = num_tokens_B

    def append(self, slot: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return a block's keys and values with those of the tokens behind, in their type; store nothing."""
        key_BGSK, value_BGSK = self.memory[slot].to(key.dtype)
        return torch.cat([key_BGSK, key], dim=2), torch.cat([value_BGSK, value], dim=2)

    @property
    def mask(self) -> Tensor:
        """``(batch, 1, 1, sequence + 1)`` bool: a token behind a prompt sees all of it, and itself."""
        is_prompt_BS = torch.arange(self.memory.shape[4], device=self.memory.device) < self.num_tokens_B[:, None]
        return F.pad(is_prompt_BS, [0, 1], value=True)[:, None, None]

    def take(self, rows_B: Tensor) -> "PromptMemory":
        """Return some prompts, padded to the longest of them."""
        num_tokens_B = self.num_tokens_B[rows_B]
        longest = int(num_tokens_B.max())
        return PromptMemory(self.memory[..., :longest, :].index_select(2, rows_B), num_tokens_B)

    def to(self, place: torch.device | str | torch.dtype) -> "PromptMemory":
        """Return the same on a device, or keys and values of another type."""
        is_device = not isinstance(place, torch.dtype)
        return PromptMemory(self.memory.to(place), self.num_tokens_B.to(place) if is_device else self.num_tokens_B)


@torch.no_grad()
def remember_prompts(model: Molmo, inputs: ModelInputs, x_BSD: Tensor, *, num_first_blocks: int) -> PromptMemory:
    """Run prompts through the first blocks, with the trained top_k, and keep what later tokens need of them.

    Args:
        model: The model.
        inputs: The requests.
        x_BSD: ``(batch, sequence, width)`` what ``model.embed`` made of them.
        num_first_blocks: How many blocks.
    """
    batch, length = x_BSD.shape[:2]
    cache = KVCache.allocate(
        model.config,
        num_slots=num_first_blocks,
        batch_size=batch,
        capacity=length,
        device=x_BSD.device,
        dtype=x_BSD.dtype,
    )
    model.language_model.run_blocks(
        x_BSD,
        token_positions(inputs),
        active_blocks=range(num_first_blocks),
        top_k=model.config.top_k,
        cache=cache,
    )
    return PromptMemory(cache.memory, inputs.num_tokens)


def join_memories(parts: list[PromptMemory]) -> PromptMemory:
    """Return all prompts as one memory, padded to the longest with zeros."""
    longest = max(part.memory.shape[4] for part in parts)
    padded = [F.pad(part.memory, [0, 0, 0, longest - part.memory.shape[4]]) for part in parts]
    return PromptMemory(torch.cat(padded, dim=2), torch.cat([part.num_tokens_B for part in parts]))


@dataclass(frozen=True, kw_only=True, eq=False)
class TierPrompts:
    """The prompts of requests at every tier, in a memory that batches share.

    Args:
        model: The model whose first blocks remember them; frozen.
        tiers: Prompts of all samples, tier by tier.
        row_B: ``(batch,)`` int64: which of them each request asks.
    """

    model: Molmo
    tiers: tuple[PromptMemory, ...]
    row_B: Tensor

    def __len__(self) -> int:
        return len(self.row_B)

    @property
    def num_bytes(self) -> int:
        """Bytes of all samples' keys and values."""
        return sum(memory.num_bytes for memory in self.tiers)

    def take(self, rows_B: Tensor) -> "TierPrompts":
        """Return those of some requests, given by index or by a mask; nothing is copied."""
        return replace(self, row_B=self.row_B[rows_B])

    def at_tier(self, tier: int) -> PromptMemory:
        """Return the requests' prompts at a tier."""
        return self.tiers[tier].take(self.row_B)

    def to(self, device: torch.device | str) -> "TierPrompts":
        """Return these requests' prompts on a device, and move the model there."""
        if self.row_B.device == torch.device(device):
            return self
        tiers = tuple(self.at_tier(tier).to(device) for tier in range(len(self.tiers)))
        return TierPrompts(
            model=self.model.to(device), tiers=tiers, row_B=torch.arange(len(self), device=torch.device(device))
        )
