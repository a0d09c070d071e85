"""Logits of a controller as a distribution over the settings that it may choose."""

# Shape suffixes: B = requests, each under one budget; S = settings.

import torch
from torch import Tensor


def masked_log_prob(logits_BS: Tensor, is_allowed_BS: Tensor) -> Tensor:
    """Return log-probabilities over the allowed settings, ``(batch, settings)``.

    The others have probability 0, a finite log-probability, and no gradient.
    """
    lowest = torch.finfo(logits_BS.dtype).min / 2  # finite, so that 0 times it is 0
    return logits_BS.masked_fill(~is_allowed_BS, lowest).log_softmax(dim=-1)


def choose(logits_BS: Tensor, is_allowed_BS: Tensor) -> Tensor:
    """Return each request's allowed setting of the highest logit, ``(batch,)`` int64."""
    return logits_BS.masked_fill(~is_allowed_BS, -torch.inf).argmax(dim=-1)


def entropy(log_prob_BS: Tensor) -> Tensor:
    """Return the entropy of each request's distribution in nats, ``(batch,)``."""
    return -(log_prob_BS.exp() * log_prob_BS).sum(dim=-1)
