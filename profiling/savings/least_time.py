"""The least time that groups of questions need to reach an accuracy together: a multiple-choice knapsack."""

# Shape suffixes: G = groups, S = settings, V = settings worth choosing, over all groups.

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from profiling.controllers.outcomes import Array, Codes, Mask

_ROUNDING = 1e-9  # of sums of accuracies


def least_time(time_ms_GS: Array, accuracy_GS: Array, weight_G: Array, *, target: float) -> Codes:
    """Choose one setting for each group so that time is least and accuracy not below a target, exactly.

    Args:
        time_ms_GS: ``(groups, settings)`` milliseconds.
        accuracy_GS: ``(groups, settings)``, 0 to 1.
        weight_G: ``(groups,)`` how much a group counts in both sums, questions usually.
        target: Weighted mean accuracy to reach; more than can be reached asks for the most there is.

    Returns:
        ``(groups,)`` settings.
    """
    group_V, setting_V = np.nonzero(_is_worth_choosing(time_ms_GS, accuracy_GS))
    reward_V = weight_G[group_V] * accuracy_GS[group_V, setting_V]
    most = weight_G @ accuracy_GS.max(axis=1)
    needed = min(target * weight_G.sum(), most) - _ROUNDING * weight_G.sum()
    member_GV = csr_array((np.ones(len(group_V)), (group_V, np.arange(len(group_V)))))
    solution = milp(
        weight_G[group_V] * time_ms_GS[group_V, setting_V],
        constraints=[LinearConstraint(member_GV, 1, 1), LinearConstraint(reward_V[None], needed, np.inf)],
        integrality=np.ones(len(group_V), dtype=np.int64),
        bounds=Bounds(0, 1),
    )
    assert solution.success, "the most accurate settings are always a solution"
    is_chosen_V = solution.x > 0.5
    chosen_G = np.empty(len(weight_G), dtype=np.int64)
    chosen_G[group_V[is_chosen_V]] = setting_V[is_chosen_V]
    return chosen_G


def _is_worth_choosing(time_ms_GS: Array, accuracy_GS: Array) -> Mask:
    """Tell for each group the settings that no faster one matches in accuracy, so that few are left to choose from."""
    is_worth_GS = np.zeros(time_ms_GS.shape, dtype=np.bool_)
    for group, (time_ms_S, accuracy_S) in enumerate(zip(time_ms_GS, accuracy_GS, strict=True)):
        order = np.lexsort((-accuracy_S, time_ms_S))
        best_before = np.maximum.accumulate(np.r_[-np.inf, accuracy_S[order][:-1]])
        is_worth_GS[group, order] = accuracy_S[order] > best_before
    return is_worth_GS
