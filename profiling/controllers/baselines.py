"""The rows that every trained controller is compared with, under one protocol, on one split."""

# Shape suffixes: G = budgets, N = samples.

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from profiling.controllers import oracles, tables
from profiling.controllers.outcomes import Codes
from profiling.controllers.plug_in import plug_in
from profiling.controllers.requests import Policy, Requests
from profiling.controllers.smoothers import knn

BEST_STATIC_PER_BUDGET: Final = "best_static_per_budget"
ORACLE_REALISED: Final = "oracle_realised"
ORACLE_NOISE_FREE: Final = "oracle_noise_free"
ORACLE_FEATURE_LIMITED: Final = "oracle_feature_limited"
ORACLES: Final = (ORACLE_FEATURE_LIMITED, ORACLE_NOISE_FREE, ORACLE_REALISED)


def fit_baselines(
    training: Requests, validation: Requests, budgets_ms: Sequence[float], *, seed: int
) -> dict[str, Policy]:
    """Fit every baseline and oracle.

    Args:
        training: What they learn from.
        validation: What the number of neighbours is chosen on, and how far predicted latencies are off.
        budgets_ms: The budgets that they will be judged under.
        seed: Of random choices, folds and trees.

    Returns:
        Policies by name. Oracles are among them: they look at the outcomes of the samples that they choose for.
    """
    outcomes = training.outcomes
    return {
        "random_feasible": tables.random_feasible(outcomes, seed=seed),
        "cheapest": tables.cheapest(outcomes),
        "full": tables.full(outcomes),
        "lut_mean": tables.lut(outcomes, rule="mean"),
        "lut_p95": tables.lut(outcomes, rule="p95"),
        "tier_only": tables.single_knob(outcomes, budgets_ms, "tier"),
        "top_k_only": tables.single_knob(outcomes, budgets_ms, "top_k"),
        "blocks_only": tables.single_knob(outcomes, budgets_ms, "num_active_blocks"),
        "best_static": tables.best_static(outcomes, budgets_ms),
        BEST_STATIC_PER_BUDGET: tables.best_static_per_budget(outcomes),
        "best_static_per_dataset": tables.per_dataset(outcomes),
        "knn": knn(training, validation, budgets_ms),
        "plug_in": plug_in(training, validation),
        ORACLE_FEATURE_LIMITED: partial(oracles.feature_limited, training, seed=seed),
        ORACLE_NOISE_FREE: partial(oracles.noise_free, training, seed=seed),
        ORACLE_REALISED: oracles.realised,
    }


def choices_of(policies: Mapping[str, Policy], requests: Requests, budgets_ms: Sequence[float]) -> dict[str, Codes]:
    """Let every policy choose: ``(budgets, samples)`` settings by name."""
    return {name: policy(requests, budgets_ms) for name, policy in policies.items()}
