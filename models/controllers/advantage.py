"""How much better than its group each drawn setting did."""

# Shape suffixes: B = groups (one request under one budget), G = settings drawn in a group.

import torch
from torch import Tensor


def center(reward_BG: Tensor) -> Tensor:
    """Subtract the group's mean.

    Args:
        reward_BG: ``(groups, drawn)``, at least two drawn.

    Returns:
        Advantage of the same shape, mean zero per group; exactly zero where all rewards are equal.

    Raises:
        ValueError: If a group has fewer than two settings.
    """
    _check(reward_BG)
    # Relative to the first, so that equal rewards leave no rounding error behind.
    shifted_BG = reward_BG - reward_BG[:, :1]
    return shifted_BG - shifted_BG.mean(dim=1, keepdim=True)


def zscore(reward_BG: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Subtract the group's mean and divide by its standard deviation, as GRPO does (Shao et al., 2024).

    Groups of hardly different rewards count as much as others; equal rewards carry no signal and get zeros.

    Args:
        reward_BG: ``(groups, drawn)``, at least two drawn.
        eps: Added to the standard deviation.

    Raises:
        ValueError: If a group has fewer than two settings.
    """
    centered_BG = center(reward_BG)
    return centered_BG / (centered_BG.std(dim=1, keepdim=True) + eps)


def rank(reward_BG: Tensor) -> Tensor:
    """Return the share of the others that a setting beats less the share that beats it, so in [-1, 1].

    Args:
        reward_BG: ``(groups, drawn)``, at least two drawn.

    Raises:
        ValueError: If a group has fewer than two settings.
    """
    _check(reward_BG)
    wins_BGG = torch.sign(reward_BG[:, :, None] - reward_BG[:, None, :])
    return wins_BGG.sum(dim=2) / (reward_BG.shape[1] - 1)


def leave_one_out(reward_BG: Tensor) -> Tensor:
    """Subtract the mean of the group's others, which keeps the gradient unbiased (Ahmadian et al., 2024).

    Args:
        reward_BG: ``(groups, drawn)``, at least two drawn.

    Raises:
        ValueError: If a group has fewer than two settings.
    """
    group_size = reward_BG.shape[1]
    return center(reward_BG) * (group_size / (group_size - 1))


def _check(reward_BG: Tensor) -> None:
    if reward_BG.shape[1] < 2:
        raise ValueError(f"a group needs >= 2 settings to compare, got reward of shape {tuple(reward_BG.shape)}")
