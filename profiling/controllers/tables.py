"""Choosers that know a table of settings and nothing of the request, but perhaps its dataset."""

# Shape suffixes: N = samples, S = settings, G = budgets.

from collections.abc import Sequence
from typing import Literal

import numpy as np

from profiling.controllers.budgets import mean_latency_ms
from profiling.controllers.outcomes import Array, Outcomes
from profiling.controllers.requests import Policy, Requests, policy_of

Knob = Literal["tier", "top_k", "num_active_blocks"]

_LAST_RESORT = 10.0  # more than any accuracy: what is ruled out is chosen only where nothing else was measured


def cheapest(training: Outcomes) -> Policy:
    """Always choose the fastest setting."""
    mean_ms_S = mean_latency_ms(training)
    return policy_of(lambda _requests, _budget_ms: -mean_ms_S)


def full(training: Outcomes) -> Policy:
    """Always choose the model as released; where it was not measured, the setting nearest to it in time."""
    mean_ms_S = mean_latency_ms(training)
    distance_ms_S = np.abs(mean_ms_S - mean_ms_S[training.full_setting])
    distance_ms_S[training.full_setting] = -1
    return policy_of(lambda _requests, _budget_ms: -distance_ms_S)


def random_feasible(training: Outcomes, *, seed: int) -> Policy:
    """Choose any setting whose mean latency is within the budget, each as likely; the fastest if there is none."""
    mean_ms_S = mean_latency_ms(training)

    def values(requests: Requests, budget_ms: float) -> Array:
        rng = np.random.default_rng([seed, round(budget_ms * 1e3)])
        draws_NS = rng.random((len(requests), len(mean_ms_S)))
        return np.where(mean_ms_S <= budget_ms, draws_NS, _ruled_out(mean_ms_S))

    return policy_of(values)


def lut(training: Outcomes, *, rule: Literal["mean", "p95"]) -> Policy:
    """Look up the most accurate setting whose mean latency, or 95th percentile, is within the budget.

    The fastest if there is none.
    """
    accuracy_S = np.nanmean(training.accuracy_NS, axis=0)
    mean_ms_S = mean_latency_ms(training)
    bound_ms_S = mean_ms_S if rule == "mean" else np.nanpercentile(training.latency_runs_NSR, 95, axis=(0, 2))
    return policy_of(lambda _requests, budget_ms: np.where(bound_ms_S <= budget_ms, accuracy_S, _ruled_out(mean_ms_S)))


def best_static(training: Outcomes, budgets_ms: Sequence[float]) -> Policy:
    """Choose the one setting that has the best goodput accuracy over all budgets."""
    goodput_S = _static_goodput(training, budgets_ms)
    return policy_of(lambda _requests, _budget_ms: goodput_S)


def best_static_per_budget(training: Outcomes) -> Policy:
    """Choose for each budget the setting that has the best goodput accuracy there; the fastest of equals."""
    mean_ms_S = mean_latency_ms(training)
    return policy_of(lambda _requests, budget_ms: _table(training, budget_ms, mean_ms_S))


def per_dataset(training: Outcomes) -> Policy:
    """Choose for each dataset and budget the setting that has the best goodput accuracy there.

    It is told the dataset, which other choosers are not. For an unseen dataset it uses the table of all.
    """
    mean_ms_S = mean_latency_ms(training)
    parts = {
        name: training.take((training.samples["dataset"] == name).to_numpy())
        for name in training.samples["dataset"].unique()
    }

    def values(requests: Requests, budget_ms: float) -> Array:
        tables = {name: _table(part, budget_ms, mean_ms_S) for name, part in parts.items()}
        unseen = _table(training, budget_ms, mean_ms_S)
        return np.stack([tables.get(name, unseen) for name in requests.outcomes.samples["dataset"]])

    return policy_of(values)


def single_knob(training: Outcomes, budgets_ms: Sequence[float], knob: Knob) -> Policy:
    """Choose one knob for each budget by goodput accuracy; the others stay as in the best static setting."""
    mean_ms_S = mean_latency_ms(training)
    best = training.settings[int(_static_goodput(training, budgets_ms).argmax())]
    others = [name for name in ("tier", "top_k", "num_active_blocks") if name != knob]
    is_allowed_S = np.asarray(
        [all(getattr(setting, name) == getattr(best, name) for name in others) for setting in training.settings]
    )

    def values(_requests: Requests, budget_ms: float) -> Array:
        table_S = _table(training, budget_ms, mean_ms_S)
        return np.where(is_allowed_S, table_S, table_S - _LAST_RESORT)

    return policy_of(values)


def _static_goodput(training: Outcomes, budgets_ms: Sequence[float]) -> Array:
    """Return each setting's goodput accuracy over all budgets: ``(settings,)``."""
    goodput_GS = [np.nanmean(training.goodput_NS(budget_ms), axis=0) for budget_ms in budgets_ms]
    goodput_S: Array = np.mean(goodput_GS, axis=0)
    return goodput_S


def _table(training: Outcomes, budget_ms: float, mean_ms_S: Array) -> Array:
    """Return each setting's goodput accuracy; far less than any difference in it is a difference in time."""
    measured_S = training.is_measured_NS.sum(axis=0)
    goodput_S = np.nansum(training.goodput_NS(budget_ms), axis=0) / measured_S.clip(min=1)
    table_S: Array = goodput_S + 1e-9 * _ruled_out(mean_ms_S)
    return table_S


def _ruled_out(mean_ms_S: Array) -> Array:
    """Return negative values, the faster the higher, for settings that are not to be chosen if others may be."""
    values_S: Array = -_LAST_RESORT * mean_ms_S / mean_ms_S.max() - 1e-6
    return values_S
