"""A mixture of experts whose number of experts per token is an argument of the call."""

# Shape suffixes: B = requests, S = new tokens, T = B * S, D = width of the model, E = experts, K = experts per token,
# F = hidden width of an expert, R = T * K rows, one for each (token, chosen expert).

from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import MolmoConfig

# Up to this many rows, copying the chosen experts' weights costs less than the launches that sorting needs.
MAX_GATHERED_ROWS = 16

_GROUPED_ON_GPU: Final = frozenset({torch.bfloat16})
_GROUPED_ON_CPU: Final = frozenset({torch.bfloat16, torch.float16, torch.float32})


class Router(nn.Module):
    """Choose experts for each token and weigh them by a softmax over all experts, in float32.

    As in OLMoE (Muennighoff et al., 2024) the weights of the chosen experts are not renormalised.
    """

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.trained_top_k = config.top_k
        self.match_mass = config.match_router_mass
        self.linear = nn.Linear(config.hidden_dim, config.num_experts, bias=False)

    def forward(self, x_TD: Tensor, top_k: int, token_top_k_T: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Route tokens.

        Args:
            x_TD: ``(tokens, width)``.
            top_k: Experts per token.
            token_top_k_T: ``(tokens,)``: experts of each token, up to ``top_k``, where tokens differ.

        Returns:
            Weights ``(tokens, top_k)`` in the dtype of ``x_TD`` and expert indices ``(tokens, top_k)``. A choice that a
            token is not given has weight 0 and, as its index, the number of experts.
        """
        probability_TE = self.linear(x_TD).softmax(dim=-1, dtype=torch.float32)
        weight_TK, expert_TK = probability_TE.topk(top_k, dim=-1)
        if token_top_k_T is not None:
            is_surplus_TK = torch.arange(top_k, device=x_TD.device) >= token_top_k_T[:, None]
            weight_TK = weight_TK.masked_fill(is_surplus_TK, 0.0)
            expert_TK = expert_TK.masked_fill(is_surplus_TK, probability_TE.shape[1])
        if self.match_mass and (top_k != self.trained_top_k or token_top_k_T is not None):
            trained_mass_T1 = probability_TE.topk(self.trained_top_k, dim=-1).values.sum(dim=-1, keepdim=True)
            weight_TK = weight_TK * (trained_mass_T1 / weight_TK.sum(dim=-1, keepdim=True))
        return weight_TK.to(x_TD.dtype), expert_TK


class Experts(nn.Module):
    """The experts' weights, stacked, and the ways to run the chosen ones.

    Few rows on a GPU gather their experts' weights; more are sorted by expert and multiplied in groups. A loop over the
    experts that were chosen, which waits for the device in every block, serves types that the library does not group.
    """

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(config.num_experts, 2 * config.ffn_dim, config.hidden_dim))
        self.down = nn.Parameter(torch.empty(config.num_experts, config.hidden_dim, config.ffn_dim))

    def forward(self, x_TD: Tensor, weight_TK: Tensor, expert_TK: Tensor, *, is_ragged: bool = False) -> Tensor:
        """Sum the chosen experts' outputs, weighted: ``(tokens, width)`` in and out.

        With ``is_ragged`` some choices are none, see ``Router``; their rows are not multiplied.
        """
        can_group = self._can_group(x_TD)
        if is_ragged:
            if can_group and not torch.is_grad_enabled():
                return self._grouped(x_TD, weight_TK, expert_TK, is_ragged=True)
            return self._loop(x_TD, weight_TK, expert_TK)
        if can_group and torch.is_grad_enabled():
            return self._trained(x_TD, weight_TK, expert_TK)
        # Compiled, the gathered weights are multiplied as they are read: nothing is copied, on the CPU neither.
        gathers = x_TD.is_cuda or torch.compiler.is_compiling()
        if gathers and expert_TK.numel() <= MAX_GATHERED_ROWS and not torch.is_grad_enabled():
            return self._gathered(x_TD, weight_TK, expert_TK)
        if can_group:
            return self._grouped(x_TD, weight_TK, expert_TK)
        return self._loop(x_TD, weight_TK, expert_TK)

    def _can_group(self, x_TD: Tensor) -> bool:
        """Tell whether the library multiplies these in groups: on a GPU bfloat16, rows a multiple of 16 bytes long."""
        dtypes = _GROUPED_ON_GPU if x_TD.is_cuda else _GROUPED_ON_CPU
        is_aligned = all(width * x_TD.element_size() % 16 == 0 for width in self.down.shape[1:])
        return x_TD.dtype in dtypes and is_aligned

    def _gathered(self, x_TD: Tensor, weight_TK: Tensor, expert_TK: Tensor) -> Tensor:
        num_tokens, top_k = expert_TK.shape
        expert_R = expert_TK.flatten()
        x_RD1 = x_TD[:, None, :, None].expand(-1, top_k, -1, -1).flatten(0, 1)
        gate, up = torch.bmm(self.gate_up[expert_R], x_RD1).squeeze(-1).chunk(2, dim=-1)
        out_RD = torch.bmm(self.down[expert_R], (F.silu(gate) * up).unsqueeze(-1)).squeeze(-1)
        return torch.bmm(weight_TK.unsqueeze(1), out_RD.view(num_tokens, top_k, -1)).squeeze(1)

    def _grouped(self, x_TD: Tensor, weight_TK: Tensor, expert_TK: Tensor, *, is_ragged: bool = False) -> Tensor:
        num_tokens, top_k = expert_TK.shape
        expert_R, order_R = expert_TK.flatten().sort(stable=True)
        end_E = self._group_ends(expert_R)
        x_RD = x_TD[order_R // top_k]
        gate, up = F.grouped_mm(x_RD, self.gate_up.transpose(1, 2), offs=end_E).chunk(2, dim=-1)
        out_RD = F.grouped_mm(F.silu(gate) * up, self.down.transpose(1, 2), offs=end_E)
        if is_ragged:  # choices that are none come last, and nothing was written to their rows
            out_RD = out_RD.masked_fill((expert_R == len(self.down))[:, None], 0.0)
        # Back to the tokens' order, so that the sum over a token's experts is one product without atomics.
        unsorted_RD = torch.empty_like(out_RD).index_copy(0, order_R, out_RD)
        return torch.bmm(weight_TK.unsqueeze(1), unsorted_RD.view(num_tokens, top_k, -1)).squeeze(1)

    def _trained(self, x_TD: Tensor, weight_TK: Tensor, expert_TK: Tensor) -> Tensor:
        """Multiply in groups like ``_grouped``, in steps whose gradients need no atomics and wait for nothing."""
        num_tokens, top_k = expert_TK.shape
        expert_R, order_R = expert_TK.flatten().sort(stable=True)
        place_R = torch.empty_like(order_R).scatter_(0, order_R, torch.arange(len(order_R), device=order_R.device))
        end_E = self._group_ends(expert_R)
        copies_RD = x_TD[:, None].expand(-1, top_k, -1).flatten(0, 1)
        gate_up = F.grouped_mm(_reordered(copies_RD, order_R, place_R), self.gate_up.transpose(1, 2), offs=end_E)
        gate, up = gate_up.chunk(2, dim=-1)
        # Weighted while a row is as narrow as an expert.
        hidden_RF = F.silu(gate) * up * _reordered(weight_TK.reshape(-1, 1), order_R, place_R)
        out_RD = F.grouped_mm(hidden_RF, self.down.transpose(1, 2), offs=end_E)
        return _reordered(out_RD, place_R, order_R).view(num_tokens, top_k, -1).sum(dim=1)

    def _group_ends(self, expert_R: Tensor) -> Tensor:
        """``(experts,)`` int32: behind the last row of each expert, in rows sorted by expert."""
        experts_E = torch.arange(len(self.gate_up), device=expert_R.device)
        return torch.searchsorted(expert_R, experts_E, right=True, out_int32=True)

    def _loop(self, x_TD: Tensor, weight_TK: Tensor, expert_TK: Tensor) -> Tensor:
        out_TD = torch.zeros_like(x_TD)
        expert_R, order_R = expert_TK.flatten().sort(stable=True)
        experts, counts = expert_R.unique_consecutive(return_counts=True)
        token_R = order_R // expert_TK.shape[1]
        # The gradient of one expert, taken out of the stack, would be a stack of zeros but for that one.
        gate_up, down = self.gate_up, self.down
        gate_up_E, down_E = (gate_up.unbind(), down.unbind()) if torch.is_grad_enabled() else (gate_up, down)
        weight_R1 = weight_TK.flatten()[order_R].unsqueeze(1)
        start = 0
        for expert, count in zip(experts.tolist(), counts.tolist(), strict=True):
            if expert == len(self.down):  # choices that are none come last
                break
            rows = slice(start, start + count)
            start += count
            gate, up = F.linear(x_TD[token_R[rows]], gate_up_E[expert]).chunk(2, dim=-1)
            out_rows = F.linear(F.silu(gate) * up, down_E[expert]) * weight_R1[rows]
            out_TD = out_TD.index_add(0, token_R[rows], out_rows)
        return out_TD


class _Reorder(torch.autograd.Function):
    """Rows in another order. The gradient is a gather too, where that of indexing would add up row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order_R: Tensor, place_R: Tensor) -> Tensor:
        ctx.save_for_backward(place_R)
        return rows[order_R]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (place_R,) = ctx.saved_tensors
        return gradients[0][place_R], None, None


def _reordered(rows: Tensor, order_R: Tensor, place_R: Tensor) -> Tensor:
    """Return row ``order_R[i]`` as row ``i``; ``place_R`` says where each row went."""
    return cast("Tensor", _Reorder.apply(rows, order_R, place_R))  # type: ignore[no-untyped-call]


class MoE(nn.Module):
    """Router and experts in the place of a feed-forward layer."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config)

    def forward(self, x_BSD: Tensor, top_k: int, token_top_k_BS: Tensor | None = None) -> Tensor:
        """Run the mixture: ``(batch, sequence, width)`` in and out.

        Args:
            x_BSD: The tokens.
            top_k: Experts per token.
            token_top_k_BS: ``(batch, sequence)``: experts of each token, up to ``top_k``, where tokens differ.
        """
        x_TD = x_BSD.flatten(0, 1)
        token_top_k_T = None if token_top_k_BS is None else token_top_k_BS.flatten()
        weight_TK, expert_TK = self.router(x_TD, top_k, token_top_k_T)
        is_ragged = token_top_k_BS is not None
        out: Tensor = self.experts(x_TD, weight_TK, expert_TK, is_ragged=is_ragged).view_as(x_BSD)
        return out
