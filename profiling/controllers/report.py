"""One table and one picture of all policies on one split."""

# Shape suffixes: G = budgets, N = samples.

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib.pyplot as plt

from profiling.controllers.baselines import BEST_STATIC_PER_BUDGET, ORACLE_FEATURE_LIMITED, ORACLE_REALISED
from profiling.controllers.comparison import PolicyStanding, compare
from profiling.controllers.evaluation import Evaluation, evaluate, knob_shares
from profiling.controllers.goodput_plot import plot_goodput
from profiling.controllers.outcomes import Codes, Outcomes
from profiling.files import write_json, written_whole
from profiling.markup import Table
from profiling.resampling import Interval

_UNKNOWN: Final = "-"
_SUMMARY: Final = ("policy", "goodput [95 %]", "verdict", "in time", "gap closed")


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What all policies reached on one split.

    Args:
        outcomes: The samples that were chosen for.
        evaluations: By descending goodput accuracy.
        standings: By name of the policy.
        reference: The policy that differences are told to.
        subject: Which model, device and data, for the caption.
    """

    outcomes: Outcomes
    evaluations: tuple[Evaluation, ...]
    standings: Mapping[str, PolicyStanding]
    reference: str
    subject: str

    def table(self) -> Table:
        """Return the table, best first."""
        gaps = {"gap closed": ORACLE_FEATURE_LIMITED, "of gap to realised": ORACLE_REALISED}
        columns = (
            "policy",
            "goodput [95 %]",
            "difference [95 %]",
            "p",
            "verdict",
            "accuracy",
            "in time",
            "worst budget",
        )
        return Table(
            columns=(*columns, "late by", *gaps),
            rows=tuple(self._row(evaluation, list(gaps.values())) for evaluation in self.evaluations),
            caption=f"{self.subject}. {self._caption()}",
        )

    def summary(self) -> Table:
        """Return the table's main columns, narrow enough for a screen."""
        return self.table().narrowed(_SUMMARY)

    def budget_table(self, name: str) -> Table:
        """Return one policy's results, budget by budget."""
        evaluation = next(evaluation for evaluation in self.evaluations if evaluation.name == name)
        rows = tuple(
            (
                f"{result.budget_ms:.1f}",
                f"{result.goodput:.3f}",
                f"{result.accuracy:.3f}",
                str(result.adherence),
                f"{result.latency_to_budget_p50:.2f} / {result.latency_to_budget_p95:.2f} / "
                f"{result.latency_to_budget_p99:.2f}",
                _percent(result.mean_excess),
                _percent(result.infeasible_fraction),
                f"{result.regret:.3f}",
            )
            for result in evaluation.budgets
        )
        return Table(
            columns=(
                *("budget (ms)", "goodput", "accuracy", "in time [95 %]", "latency / budget p50 / p95 / p99"),
                *("late by", "infeasible", "regret"),
            ),
            rows=rows,
            caption=f"{name} on {self.subject}. In time: Clopper-Pearson interval over samples. Late by: mean of late "
            "answers. Infeasible: no setting is in time. Regret: to the best realised setting of each sample.",
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "subject": self.subject,
            "environment": self.outcomes.environment.model_dump(mode="json"),
            "num_samples": len(self.outcomes),
            "num_images": self.outcomes.samples["image_id"].nunique(),
            "reference": self.reference,
            "policies": [self._policy_json(evaluation) for evaluation in self.evaluations],
        }

    def write(self, output_dir: Path) -> None:
        """Write ``controllers.json``, ``controllers.md``, ``controllers.tex`` and ``goodput.png``.

        The Markdown holds the table, the picture, and the reference's results budget by budget.
        """
        output_dir.mkdir(parents=True, exist_ok=True)
        table = self.table()
        write_json(output_dir / "controllers.json", self.to_json())
        table.write(output_dir / "controllers")
        picture = "![Goodput accuracy by budget](goodput.png)\n"
        with written_whole(output_dir / "controllers.md") as partial:
            partial.write_text("\n".join([table.markdown(), picture, self.budget_table(self.reference).markdown()]))
        figure = plot_goodput(self.evaluations, self.standings, caption=f"{self.subject}, {self._size()}")
        with written_whole(output_dir / "goodput.png") as partial:
            figure.savefig(partial)
        plt.close(figure)

    def _row(self, evaluation: Evaluation, oracles: Sequence[str]) -> tuple[str, ...]:
        standing = self.standings[evaluation.name]
        excess = [result.mean_excess for result in evaluation.budgets if result.mean_excess is not None]
        return (
            evaluation.name,
            str(standing.goodput),
            *standing.cells(is_reference=evaluation.name == self.reference),
            f"{evaluation.accuracy:.3f}",
            f"{evaluation.adherence:.3f}",
            f"{min(result.adherence.value for result in evaluation.budgets):.3f}",
            _percent(sum(excess) / len(excess) if excess else None),
            *(_share(standing.gap_closed.get(oracle)) for oracle in oracles),
        )

    def _policy_json(self, evaluation: Evaluation) -> dict[str, Any]:
        standing = self.standings[evaluation.name]
        return {
            "name": evaluation.name,
            "accuracy": evaluation.accuracy,
            "adherence": evaluation.adherence,
            "regret": evaluation.regret,
            **asdict(standing),
            "is_tie": standing.is_tie,
            "knob_shares": knob_shares(evaluation, self.outcomes),
            "budgets": [asdict(result) for result in evaluation.budgets],
        }

    def _size(self) -> str:
        return f"{len(self.outcomes)} samples of {self.outcomes.samples['image_id'].nunique()} images"

    def _caption(self) -> str:
        return (
            f"{self._size()}, {len(self.evaluations[0].budgets)} budgets that weigh the same, one run of each answer. "
            f"Goodput: accuracy with late answers as wrong. Difference: to {self.reference} on the same samples. "
            "Intervals over images by bootstrap; p by Holm's correction over all rows but the oracles; a tie is a "
            "difference not shown. Late by: mean of late answers. Gap closed: share of the way from "
            f"{BEST_STATIC_PER_BUDGET} to {ORACLE_FEATURE_LIMITED}, and to {ORACLE_REALISED}."
        )


def make_report(
    choices: Mapping[str, Codes],
    outcomes: Outcomes,
    budgets_ms: Sequence[float],
    *,
    reference: str,
    subject: str,
    seed: int,
) -> Report:
    """Judge and compare policies.

    Args:
        choices: ``(budgets, samples)`` settings by name of the policy.
        outcomes: The samples' outcomes.
        budgets_ms: The budgets in milliseconds.
        reference: The policy that the others are compared with.
        subject: Which model, device and data.
        seed: Of the resamplings.

    Raises:
        ValueError: If choices do not fit the samples, or there is no such reference.
    """
    evaluations = [evaluate(name, chosen_GN, outcomes, budgets_ms) for name, chosen_GN in choices.items()]
    return report_on(evaluations, outcomes, reference=reference, subject=subject, seed=seed)


def report_on(
    evaluations: Sequence[Evaluation], outcomes: Outcomes, *, reference: str, subject: str, seed: int
) -> Report:
    """Compare policies that have been judged on the same samples.

    Args:
        evaluations: Of each policy.
        outcomes: The samples' outcomes.
        reference: The policy that the others are compared with.
        subject: Which model, device and data.
        seed: Of the resamplings.

    Raises:
        ValueError: If there is no such reference.
    """
    standings = compare(evaluations, outcomes.samples["image_id"].tolist(), reference=reference, seed=seed)
    best_first = sorted(evaluations, key=lambda evaluation: evaluation.goodput, reverse=True)
    return Report(
        outcomes=outcomes, evaluations=tuple(best_first), standings=standings, reference=reference, subject=subject
    )


def _share(interval: Interval | None) -> str:
    return _UNKNOWN if interval is None else f"{interval.value:.0%} [{interval.low:.0%}, {interval.high:.0%}]"


def _percent(fraction: float | None) -> str:
    return _UNKNOWN if fraction is None else f"{fraction:.1%}"
