"""The two losses that keep a mixture's routers healthy."""

# Shape suffixes: R = routers that ran, T = tokens of a batch, E = experts, K = experts per token.

import torch
from torch import Tensor


def balance_loss(logits_RTE: Tensor, chosen_RTK: Tensor, is_token_T: Tensor) -> Tensor:
    """Return how unevenly experts are loaded, the mean over routers: 1 where all get as many tokens as the others.

    The load-balancing loss of Switch Transformers (Fedus et al., 2022) for several experts per token, as in OLMoE.

    Args:
        logits_RTE: The routers' logits, ``(routers, tokens, experts)``.
        chosen_RTK: The experts that they chose, ``(routers, tokens, experts per token)``.
        is_token_T: Which tokens are no padding.
    """
    weight_T1 = (is_token_T / is_token_T.sum())[:, None]
    probability_RE = (logits_RTE.softmax(dim=-1, dtype=torch.float32) * weight_T1).sum(dim=1)
    is_chosen_RTE = torch.zeros_like(logits_RTE, dtype=torch.float32).scatter_(2, chosen_RTK, 1.0)
    load_RE = (is_chosen_RTE * weight_T1).sum(dim=1) / chosen_RTK.shape[2]
    return logits_RTE.shape[2] * (load_RE * probability_RE).sum(dim=1).mean()


def z_loss(logits_RTE: Tensor, is_token_T: Tensor) -> Tensor:
    """Return the mean squared log of the routers' partition function, which keeps logits small (ST-MoE, 2022)."""
    squares_RT = logits_RTE.float().logsumexp(dim=-1).square()
    return (squares_RT * is_token_T).sum(dim=1).mean() / is_token_T.sum()
