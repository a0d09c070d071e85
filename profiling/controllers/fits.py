"""Trained controllers over several seeds: what each fit reached, their mean, and their spread."""

# Shape suffixes: G = budgets, N = samples, E = epochs.

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np

from profiling.controllers.evaluation import BudgetResult, Evaluation, evaluate
from profiling.controllers.outcomes import Outcomes
from profiling.files import write_json
from profiling.markup import Table
from profiling.resampling import Interval

PARTS: Final = ("tier", "top_k", "num_active_blocks", "all_knobs")
_AIMS: Final = (
    ("aims, tier and rest trained as one", "70", "65", "65", "60", "80"),
    ("aims, two stages trained apart", "75", "65", "65", "60", "80"),
)
"""Of the original recipes, in percent: three knobs, all of them, answers in time."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What one training reached.

    Args:
        row: Name of the recipe.
        seed: Of weights, order, budgets and draws.
        recipe: Digest of what it was trained by.
        budgets_ms: The budgets in milliseconds.
        chosen: Settings chosen for the test part, ``[budget][sample]``.
        val_goodput: Goodput accuracy of each epoch on the validation part.
        label_accuracy: Share of test requests whose chosen level is the label's, by knob.
        best_accuracy: Share whose chosen level is that of some setting as good as any, by knob.
        seconds: How long the training took.
    """

    row: str
    seed: int
    recipe: str
    budgets_ms: list[float]
    chosen: list[list[int]]
    val_goodput: list[float]
    label_accuracy: dict[str, float]
    best_accuracy: dict[str, float]
    seconds: float

    @property
    def best_val_goodput(self) -> float:
        """Validation goodput of the epoch that was kept."""
        return max(self.val_goodput)

    def write(self, path: Path) -> None:
        """Write a JSON file; it appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))

    def evaluation(self, outcomes: Outcomes) -> Evaluation:
        """Judge the chosen settings by what came of them.

        Raises:
            ValueError: If they are not of these samples.
        """
        chosen_GN = np.asarray(self.chosen, dtype=np.int64)
        return evaluate(f"{self.row}, seed {self.seed}", chosen_GN, outcomes, self.budgets_ms)


def read_fit(path: Path, *, recipe: str) -> Fit:
    """Read a file of ``Fit.write``.

    Args:
        path: The file.
        recipe: What it must have been trained by.

    Raises:
        ValueError: If the file is damaged, or of another recipe.
    """
    try:
        fit = Fit(**json.loads(path.read_text()))
    except (TypeError, ValueError) as err:
        raise ValueError(f"{path}: is no result of a fit: {err}") from err
    if fit.recipe != recipe:
        raise ValueError(
            f"{path}: was trained by other configs, recipe {fit.recipe[:12]}, now {recipe[:12]}; "
            "delete it or choose another fits_dir"
        )
    return fit


def averaged(name: str, evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the mean over seeds; an adherence interval is the mean of the seeds' intervals, over samples each.

    Args:
        name: Of the policy.
        evaluations: One of each seed, on the same samples.
    """
    by_budget = zip(*(evaluation.budgets for evaluation in evaluations), strict=True)
    return Evaluation(
        name=name,
        budgets=tuple(map(_mean_result, by_budget)),
        goodput_N=np.mean([evaluation.goodput_N for evaluation in evaluations], axis=0),
        setting_share_S=np.mean([evaluation.setting_share_S for evaluation in evaluations], axis=0),
    )


def seed_table(
    fits: Mapping[str, Sequence[Fit]], outcomes: Outcomes, *, default: str, subject: str
) -> tuple[Table, list[dict[str, Any]]]:
    """Return each recipe's goodput over seeds, best in validation first, as a table and as plain values.

    Args:
        fits: By recipe.
        outcomes: Of the test part.
        default: The recipe that validation chose.
        subject: Which model, device and data.
    """
    found: list[dict[str, Any]] = []
    for row, members in fits.items():
        goodputs = [fit.evaluation(outcomes).goodput for fit in members]
        found.append(
            {
                "row": row,
                "val_goodput": _mean_and_spread([fit.best_val_goodput for fit in members]),
                "test_goodput": _mean_and_spread(goodputs),
                "by_seed": dict(zip((str(fit.seed) for fit in members), goodputs, strict=True)),
                "seconds": fmean(fit.seconds for fit in members),
            }
        )
    found.sort(key=lambda each: each["val_goodput"]["mean"], reverse=True)
    rows = tuple(
        (
            each["row"] + (" (default)" if each["row"] == default else ""),
            _words(each["val_goodput"]),
            _words(each["test_goodput"]),
            f"{each['seconds']:.1f}",
        )
        for each in found
    )
    num_seeds = len(next(iter(fits.values())))
    table = Table(
        columns=("controller", "validation goodput", "test goodput", "seconds a fit"),
        rows=rows,
        caption=f"{subject}. Mean +- standard deviation over {num_seeds} seeds of weights, order, budgets and draws on "
        "one split. The default is the best in validation; the test chooses nothing.",
    )
    return table, found


def knob_table(fits: Mapping[str, Sequence[Fit]], outcomes: Outcomes, *, subject: str) -> Table:
    """Return how often each recipe finds the label's levels, beside what the original recipe aimed at.

    Args:
        fits: By recipe.
        outcomes: Of the test part.
        subject: Which model, device and data.
    """
    rows: list[tuple[str, ...]] = [*_AIMS]
    for row, members in fits.items():
        cells = []
        for part in PARTS:
            label, best = (
                100 * fmean(accuracy[part] for accuracy in accuracies)
                for accuracies in ([f.label_accuracy for f in members], [f.best_accuracy for f in members])
            )
            cells.append(f"{label:.1f} ({best:.1f})")
        in_time = 100 * fmean(fit.evaluation(outcomes).adherence for fit in members)
        rows.append((row, *cells, f"{in_time:.1f}"))
    return Table(
        columns=("controller", "tier", "top_k", "active blocks", "all three", "in time"),
        rows=tuple(rows),
        caption=f"{subject}. Percent of test requests, mean over seeds and budgets, of those that some setting answers "
        "right in time (in time: of all). The label is the most accurate setting in time, of equals the one of the "
        "best mean accuracy; in brackets: a level that some setting as good as the label has. Aims are those "
        "of the original recipes.",
    )


def _mean_result(results: Sequence[BudgetResult]) -> BudgetResult:
    def mean_of(field: str) -> float:
        return fmean(getattr(result, field) for result in results)

    def mean_known(field: str) -> float | None:
        known = [getattr(result, field) for result in results if getattr(result, field) is not None]
        return fmean(known) if known else None

    return BudgetResult(
        budget_ms=results[0].budget_ms,
        accuracy=mean_of("accuracy"),
        goodput=mean_of("goodput"),
        adherence=Interval(
            value=fmean(result.adherence.value for result in results),
            low=fmean(result.adherence.low for result in results),
            high=fmean(result.adherence.high for result in results),
        ),
        latency_to_budget_p50=mean_of("latency_to_budget_p50"),
        latency_to_budget_p95=mean_of("latency_to_budget_p95"),
        latency_to_budget_p99=mean_of("latency_to_budget_p99"),
        mean_excess=mean_known("mean_excess"),
        utilisation=mean_known("utilisation"),
        infeasible_fraction=mean_of("infeasible_fraction"),
        regret=mean_of("regret"),
    )


def _mean_and_spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else 0.0}


def _words(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.3f} +- {value['std']:.3f}"
