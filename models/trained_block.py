"""Run the language model's blocks as training does: in parts that can be compiled, with what routers do kept."""

# Shape suffixes: B = requests, S = ids, T = B * S, D = width, E = experts, K = experts per token, H = heads,
# G = key/value heads.

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.experts import MoE
from models.language_model import Block, Shared


@dataclass(frozen=True, kw_only=True)
class Routing:
    """What a router has done with the tokens of a batch.

    Args:
        logits: ``(tokens, experts)``.
        chosen: ``(tokens, experts per token)``, int64: the experts that run.
    """

    logits: Tensor
    chosen: Tensor


class TrainedBlock:
    """Run any block, as ``Block`` does.

    Compiled, all blocks share one graph of each part, for any length, batch and number of experts per token; only one
    expert per token is a case of its own. Attention itself and the experts' grouped products stay as they are: both are
    few kernels already.
    """

    def __init__(self) -> None:
        self._begin = _begin
        self._route = _route

    def compile(self, backend: str = "inductor") -> None:
        """Compile the parts when they first run, with one of ``torch.compile``'s compilers."""
        self._begin = torch.compile(_begin, dynamic=True, backend=backend)
        self._route = torch.compile(_route, dynamic=True, backend=backend)

    def __call__(self, routing: list[Routing], block: nn.Module, x_BSD: Tensor, shared: Shared, slot: int) -> Tensor:
        """Run a block without a cache, and put what its router does behind what is in ``routing``."""
        assert isinstance(block, Block)
        heads = self._begin(block, x_BSD, *shared.angles)
        mixed_BSD = block.attention.mix(*heads, shared, slot)
        if not isinstance(block.ffn, MoE):
            x_BSD = block.add_attention(x_BSD, block.attention.out(mixed_BSD))
            return block.add_ffn(x_BSD, block.ffn(block.ffn_input(x_BSD), shared.top_k))
        x_BSD, y_TD, weight_TK, step = self._route(block, x_BSD, mixed_BSD, shared.top_k)
        routing.append(step)
        change_TD: Tensor = block.ffn.experts(y_TD, weight_TK, step.chosen)
        return block.add_ffn(x_BSD, change_TD.view_as(x_BSD))


def _begin(block: Block, x_BSD: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, each in memory of its own.

    A compiled graph hands slices of one tensor out whole, to be cut behind it, and each cut has a gradient as large as
    the whole.
    """
    query, key, value = block.attention.project(block.attention_input(x_BSD), (cosine, sine))
    return query.contiguous(), key.contiguous(), value.contiguous()


def _route(block: Block, x_BSD: Tensor, mixed_BSD: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Routing]:
    """Run what lies between attention and experts; return the tokens, and what the experts are given."""
    assert isinstance(block.ffn, MoE)
    x_BSD = block.add_attention(x_BSD, block.attention.out(mixed_BSD))
    y_TD = block.ffn_input(x_BSD).flatten(0, 1)
    weight_TK, expert_TK = block.ffn.router(y_TD, top_k)
    # The router's logits once more: a small product, and compiled the same one.
    return x_BSD, y_TD, weight_TK, Routing(logits=block.ffn.router.linear(y_TD), chosen=expert_TK)
