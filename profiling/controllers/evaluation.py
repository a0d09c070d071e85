"""How well settings were chosen: right, in time, and how far from what was possible."""

# Shape suffixes: G = budgets, N = samples, S = settings.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from profiling.controllers.outcomes import Array, Codes, Mask, Outcomes
from profiling.resampling import Interval

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class BudgetResult:
    """What a policy reached under one budget, each sample asked once.

    Args:
        budget_ms: The budget.
        accuracy: Mean accuracy, late answers included.
        goodput: Mean accuracy, late answers counted as wrong.
        adherence: Share of answers in time, with its Clopper-Pearson interval over samples.
        latency_to_budget_p50: Median of latency divided by budget.
        latency_to_budget_p95: 95th percentile of it.
        latency_to_budget_p99: 99th percentile of it.
        mean_excess: Mean of latency divided by budget, minus 1, of late answers; none where none was late.
        utilisation: Mean of latency divided by budget of answers in time; none where none was.
        infeasible_fraction: Share of samples that no measured setting answers in time.
        regret: Goodput of the best realised setting of each sample, minus this goodput.
    """

    budget_ms: float
    accuracy: float
    goodput: float
    adherence: Interval
    latency_to_budget_p50: float
    latency_to_budget_p95: float
    latency_to_budget_p99: float
    mean_excess: float | None
    utilisation: float | None
    infeasible_fraction: float
    regret: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a policy reached.

    Args:
        name: Of the policy.
        budgets: Its result under each budget.
        goodput_N: ``(samples,)`` goodput accuracy, mean over budgets.
        setting_share_S: ``(settings,)`` how often each setting was chosen, over samples and budgets.
    """

    name: str
    budgets: tuple[BudgetResult, ...]
    goodput_N: Array
    setting_share_S: Array

    @property
    def accuracy(self) -> float:
        """Mean accuracy over budgets."""
        return float(np.mean([result.accuracy for result in self.budgets]))

    @property
    def goodput(self) -> float:
        """Mean goodput accuracy over budgets."""
        return float(np.mean([result.goodput for result in self.budgets]))

    @property
    def adherence(self) -> float:
        """Share of answers in time, mean over budgets."""
        return float(np.mean([result.adherence.value for result in self.budgets]))

    @property
    def regret(self) -> float:
        """Mean regret over budgets."""
        return float(np.mean([result.regret for result in self.budgets]))


def evaluate(name: str, chosen_GN: Codes, outcomes: Outcomes, budgets_ms: Sequence[float]) -> Evaluation:
    """Judge a policy by the realised run of the settings that it chose.

    Args:
        name: Of the policy, for errors and reports.
        chosen_GN: ``(budgets, samples)`` settings.
        outcomes: What came of them.
        budgets_ms: The budgets in milliseconds.

    Raises:
        ValueError: If the shape is wrong, a setting does not exist, or one was chosen that was not measured.
    """
    _check(name, chosen_GN, outcomes, budgets_ms)
    results, goodputs = [], []
    for budget_ms, chosen_N in zip(budgets_ms, chosen_GN, strict=True):
        accuracy_N = _chosen(outcomes.accuracy_NS, chosen_N)
        ratio_N = _chosen(outcomes.realised_ms_NS, chosen_N) / budget_ms
        goodputs.append(accuracy_N * (ratio_N <= 1))
        possible_N = np.nanmax(outcomes.realised_goodput_NS(budget_ms), axis=1)
        feasible_N = np.nanmin(outcomes.realised_ms_NS, axis=1) <= budget_ms
        results.append(_result(budget_ms, accuracy_N, ratio_N, possible_N=possible_N, feasible_N=feasible_N))
    counts_S = np.bincount(chosen_GN.ravel(), minlength=len(outcomes.settings))
    return Evaluation(
        name=name,
        budgets=tuple(results),
        goodput_N=np.mean(goodputs, axis=0),
        setting_share_S=counts_S / chosen_GN.size,
    )


def knob_shares(evaluation: Evaluation, outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Return how often each level of each knob was chosen, over samples and budgets."""
    shares: dict[str, dict[str, float]] = {"tier": {}, "top_k": {}, "num_active_blocks": {}}
    for setting, share in zip(outcomes.settings, evaluation.setting_share_S, strict=True):
        for knob, by_level in shares.items():
            level = str(getattr(setting, knob))
            by_level[level] = by_level.get(level, 0.0) + float(share)
    return shares


def adherence_interval(num_in_time: int, num_samples: int) -> Interval:
    """Return a share with its 95 % Clopper-Pearson interval, which holds the truth at least that often."""
    exact = binomtest(num_in_time, num_samples).proportion_ci(confidence_level=_CONFIDENCE, method="exact")
    return Interval(value=num_in_time / num_samples, low=float(exact.low), high=float(exact.high))


def _result(
    budget_ms: float, accuracy_N: Array, ratio_N: Array, *, possible_N: Array, feasible_N: Mask
) -> BudgetResult:
    in_time_N = ratio_N <= 1
    goodput = float((accuracy_N * in_time_N).mean())
    p50, p95, p99 = (float(value) for value in np.percentile(ratio_N, [50, 95, 99]))
    return BudgetResult(
        budget_ms=budget_ms,
        accuracy=float(accuracy_N.mean()),
        goodput=goodput,
        adherence=adherence_interval(int(in_time_N.sum()), len(in_time_N)),
        latency_to_budget_p50=p50,
        latency_to_budget_p95=p95,
        latency_to_budget_p99=p99,
        mean_excess=None if in_time_N.all() else float(ratio_N[~in_time_N].mean() - 1),
        utilisation=float(ratio_N[in_time_N].mean()) if in_time_N.any() else None,
        infeasible_fraction=float(1 - feasible_N.mean()),
        regret=float(possible_N.mean() - goodput),
    )


def _chosen(values_NS: Array, chosen_N: Codes) -> Array:
    chosen: Array = np.take_along_axis(values_NS, chosen_N[:, None], axis=1)[:, 0]
    return chosen


def _check(name: str, chosen_GN: Codes, outcomes: Outcomes, budgets_ms: Sequence[float]) -> None:
    expected = (len(budgets_ms), len(outcomes))
    if chosen_GN.shape != expected:
        raise ValueError(f"{name}: choices: expected shape {expected} (budgets, samples), got {chosen_GN.shape}")
    num_settings = len(outcomes.settings)
    if chosen_GN.size and not (chosen_GN.min() >= 0 and chosen_GN.max() < num_settings):
        strange = chosen_GN[(chosen_GN < 0) | (chosen_GN >= num_settings)][0]
        raise ValueError(f"{name}: choices: settings are 0 to {num_settings - 1}, got {strange}")
    is_measured_GN = outcomes.is_measured_NS[np.arange(len(outcomes)), chosen_GN]
    if not is_measured_GN.all():
        budget, sample = np.argwhere(~is_measured_GN)[0]
        raise ValueError(
            f"{name}: choices: setting {chosen_GN[budget, sample]} was not measured for sample "
            f"{outcomes.samples['sample_id'].iloc[sample]!r}, chosen under {budgets_ms[budget]} ms"
        )
