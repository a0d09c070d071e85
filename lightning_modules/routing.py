"""What a mixture's routers do in training, and the two losses that keep them healthy."""

# Shape suffixes: T = tokens of a batch, E = experts, K = experts per token.

from typing import Any

import torch
from torch import Tensor, nn

from models.experts import Router


class RoutingRecorder:
    """Keep every router's logits and choices of one forward pass.

    Args:
        model: The model whose routers are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._logits: list[Tensor] = []
        self._chosen: list[Tensor] = []
        for module in model.modules():
            if isinstance(module, Router):
                module.linear.register_forward_hook(self._keep_logits)
                module.register_forward_hook(self._keep_chosen)

    def take(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return what was kept of each router that ran, logits ``(tokens, experts)`` and indices, and forget it."""
        kept = self._logits, self._chosen
        self._logits, self._chosen = [], []
        return kept

    def _keep_logits(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if torch.is_grad_enabled():
            self._logits.append(output)

    def _keep_chosen(self, _module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        if torch.is_grad_enabled():
            self._chosen.append(output[1])


def balance_loss(logits_TE: Tensor, chosen_TK: Tensor, is_token_T: Tensor) -> Tensor:
    """Return how unevenly experts are loaded: 1 where all get as many tokens as the others.

    The load-balancing loss of Switch Transformers (Fedus et al., 2022) for several experts per token, as in OLMoE.

    Args:
        logits_TE: A router's logits.
        chosen_TK: The experts that it chose.
        is_token_T: Which tokens are no padding.
    """
    weight_T1 = (is_token_T / is_token_T.sum())[:, None]
    probability_E = (logits_TE.softmax(dim=-1, dtype=torch.float32) * weight_T1).sum(dim=0)
    is_chosen_TE = torch.zeros_like(logits_TE, dtype=torch.float32).scatter_(1, chosen_TK, 1.0)
    load_E = (is_chosen_TE * weight_T1).sum(dim=0) / chosen_TK.shape[1]
    return logits_TE.shape[1] * (load_E * probability_E).sum()


def z_loss(logits_TE: Tensor, is_token_T: Tensor) -> Tensor:
    """Return the mean squared log of the routers' partition function, which keeps logits small (ST-MoE, 2022)."""
    squares_T = logits_TE.float().logsumexp(dim=-1).square()
    return (squares_T * is_token_T).sum() / is_token_T.sum()
