"""Keys and values of the tokens that a request has already run, one slot for each active block."""

import torch
from torch import Tensor

from models.config import MolmoConfig


class KVCache:
    """Memory for a batch of requests, filled in place. Skipped blocks own none of it.

    Args:
        memory: ``(slots, 2, batch, kv_heads, capacity, head_dim)``: keys and values of each active block.
    """

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self.length = 0

    @classmethod
    def allocate(
        cls,
        config: MolmoConfig,
        *,
        num_slots: int,
        batch_size: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "KVCache":
        """Allocate memory.

        Args:
            config: Shape of the model.
            num_slots: Active blocks.
            batch_size: Requests.
            capacity: Most tokens a request may reach.
            device: Where to allocate.
            dtype: Type of keys and values.
        """
        shape = (num_slots, 2, batch_size, config.num_kv_heads, capacity, config.head_dim)
        return cls(torch.empty(shape, device=device, dtype=dtype))

    @property
    def num_bytes(self) -> int:
        """Bytes that the cache holds."""
        return self.memory.nbytes

    def append(self, slot: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new tokens of one block and return all of its keys and values so far.

        The length grows only by ``advance``, once all blocks have stored the same tokens.

        Args:
            slot: Which active block, counted from 0.
            key: ``(batch, kv_heads, new_tokens, head_dim)``.
            value: Same shape.

        Returns:
            Keys and values, each ``(batch, kv_heads, length + new_tokens, head_dim)``, as views.
        """
        end = self.length + key.shape[2]
        memory = self.memory[slot]
        memory[0, :, :, self.length : end] = key
        memory[1, :, :, self.length : end] = value
        return memory[0, :, :, :end], memory[1, :, :, :end]

    def adopt(self, first: "KVCache", *, num_tokens: int) -> None:
        """Copy what the first blocks have stored of their first tokens into the first slots; count none of them."""
        self.memory[: len(first.memory), ..., :num_tokens, :] = first.memory[..., :num_tokens, :]

    def advance(self, num_tokens: int) -> None:
        """Count tokens that every block has stored."""
        self.length += num_tokens
