"""From a hidden state to one logit for each combination of the knobs' levels."""

# Shape suffixes: B = requests, H = hidden units, S = combinations.

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

HeadName = Literal["joint", "factorised"]


class JointHead(nn.Module):
    """One logit of its own for every combination.

    Args:
        hidden_dim: Width of the hidden state.
        levels: How many levels each knob has, the outermost knob first.
    """

    def __init__(self, hidden_dim: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.out = nn.Linear(hidden_dim, math.prod(levels))

    def forward(self, hidden_BH: Tensor) -> Tensor:
        """Return ``(batch, combinations)`` logits."""
        logits_BS: Tensor = self.out(hidden_BH)
        return logits_BS


class FactorisedHeads(nn.Module):
    """One head for each knob; a combination's logit is the sum of its levels'.

    As log-probabilities: the knobs are chosen independently of each other. So fewer weights, but no way to say that
    one knob's level is good only together with another's.

    Args:
        hidden_dim: Width of the hidden state.
        levels: How many levels each knob has, the outermost knob first.
    """

    def __init__(self, hidden_dim: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = list(levels)
        self.out = nn.Linear(hidden_dim, sum(levels))

    def by_knob(self, hidden_BH: Tensor) -> list[Tensor]:
        """Return each knob's logits, ``(batch, levels)``."""
        return list(self.out(hidden_BH).split(self.levels, dim=-1))

    def forward(self, hidden_BH: Tensor) -> Tensor:
        """Return ``(batch, combinations)`` logits."""
        first, *others = self.by_knob(hidden_BH)
        joint = first
        for logits in others:
            joint = (joint[:, :, None] + logits[:, None, :]).flatten(1)
        return joint


def make_head(name: HeadName, hidden_dim: int, levels: Sequence[int]) -> JointHead | FactorisedHeads:
    """Build a head by its name.

    Raises:
        ValueError: If there is none of that name, or a knob has no level.
    """
    if not levels or min(levels) < 1:
        raise ValueError(f"levels: every knob needs 1 or more, got {list(levels)}")
    if name == "joint":
        return JointHead(hidden_dim, levels)
    if name == "factorised":
        return FactorisedHeads(hidden_dim, levels)
    raise ValueError(f"head: must be joint or factorised, got {name!r}")
