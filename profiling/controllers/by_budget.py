"""One policy budget by budget: how near each knob is to the best one, and whether more time ever makes it worse."""

# Shape suffixes: G = budgets, N = samples, F = steps from a budget to the next.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from profiling.controllers.outcomes import Array, Codes, Outcomes
from profiling.markup import Table
from profiling.resampling import Interval, cluster_means, percentile_interval

_MEASURES: Final = {"goodput": "goodput", "accuracy": "accuracy", "in time": "adherence", "regret": "regret"}
_KNOBS: Final = {"tier": "tier", "top_k": "top_k", "blocks": "num_active_blocks", "all": "all_knobs"}


@dataclass(frozen=True, kw_only=True)
class Falls:
    """Where a policy gets worse although it is given more time.

    Args:
        num_steps: Steps from a budget to the next.
        num_falls: Steps at which the mean falls.
        from_ms: Budget before the largest fall.
        to_ms: Budget behind it.
        largest: The change there, below 0, with its interval over images, on the same samples; none without a fall.
    """

    num_steps: int
    num_falls: int
    from_ms: float | None = None
    to_ms: float | None = None
    largest: Interval | None = None

    def __str__(self) -> str:
        falls = f"falls in {self.num_falls} of {self.num_steps} steps from a budget to the next"
        if self.largest is None:
            return falls
        change = f"{self.largest.value:.3f} [{self.largest.low:+.3f}, {self.largest.high:+.3f}]"
        return f"{falls}, most from {self.from_ms:.1f} to {self.to_ms:.1f} ms: {change}"


def falls_of(values_GN: Array, image_ids: Sequence[str], budgets_ms: Sequence[float], *, seed: int) -> Falls:
    """Find where the mean over samples falls.

    Args:
        values_GN: ``(budgets, samples)``: what each sample's answer was worth.
        image_ids: The image of each sample; samples of an image are drawn together.
        budgets_ms: The budgets in rising order.
        seed: Of the resamplings.
    """
    change_FN = np.diff(values_GN, axis=0)
    change_F = change_FN.mean(axis=1)
    num_falls = int((change_F < 0).sum())
    if not num_falls:
        return Falls(num_steps=len(change_F), num_falls=0)
    step = int(change_F.argmin())
    draws_R = cluster_means(change_FN[step][:, None], image_ids, seed=seed)[:, 0]
    return Falls(
        num_steps=len(change_F),
        num_falls=num_falls,
        from_ms=budgets_ms[step],
        to_ms=budgets_ms[step + 1],
        largest=percentile_interval(float(change_F[step]), draws_R),
    )


def falls_in_words(chosen_GN: Codes, outcomes: Outcomes, budgets_ms: Sequence[float], *, seed: int) -> str:
    """Say whether accuracy and goodput of the realised runs ever fall when the budget rises.

    Args:
        chosen_GN: ``(budgets, samples)`` settings.
        outcomes: What came of them.
        budgets_ms: The budgets in rising order.
        seed: Of the resamplings.
    """
    sample_N = np.arange(len(outcomes))
    accuracy_GN = outcomes.accuracy_NS[sample_N, chosen_GN]
    in_time_GN = outcomes.realised_ms_NS[sample_N, chosen_GN] <= np.asarray(budgets_ms)[:, None]
    image_ids = outcomes.samples["image_id"].tolist()
    accuracy, goodput = (
        falls_of(values_GN, image_ids, budgets_ms, seed=seed) for values_GN in (accuracy_GN, accuracy_GN * in_time_GN)
    )
    return (
        f"More time should not make answers worse. Accuracy {accuracy}. Goodput {goodput}. Intervals of 95 % over "
        "images, paired; the largest of several falls looks larger than it is."
    )


def by_budget_table(logged: Mapping[str, float], budgets_ms: Sequence[float], *, caption: str) -> Table:
    """Return what a test logged budget by budget.

    Args:
        logged: Metrics of a test by key, see docs/metrics.md.
        budgets_ms: The budgets in milliseconds.
        caption: What else is to be said.
    """
    rows = tuple(_row(logged, budget_ms) for budget_ms in budgets_ms)
    return Table(
        columns=("ms", *_MEASURES, *_KNOBS),
        rows=rows,
        caption="Regret: goodput that the best setting of each request adds. Knobs: percent of requests whose chosen "
        "level is the label's; behind the slash: that of some setting as good as the label. Latencies are means over "
        f"runs. {caption}",
    )


def _row(logged: Mapping[str, float], budget_ms: float) -> tuple[str, ...]:
    at = f"at_{budget_ms:g}_ms"
    knobs = [
        f"{100 * logged[label]:.0f}/{100 * logged[f'test/best_accuracy/{knob}/{at}']:.0f}"
        if (label := f"test/label_accuracy/{knob}/{at}") in logged
        else "-"
        for knob in _KNOBS.values()
    ]
    return (f"{budget_ms:.1f}", *(f"{logged[f'test/{name}/{at}']:.3f}" for name in _MEASURES.values()), *knobs)
