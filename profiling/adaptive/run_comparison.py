"""Runs of the same requests, compared with one of them: tables and a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np

from profiling.adaptive.figures import plot_runs
from profiling.adaptive.run_files import Run
from profiling.adaptive.same_requests import in_same_order
from profiling.adaptive.totals import MEANING, PUNCTUALITY, Totals, shared_budgets_ms, totals
from profiling.files import write_json, written_whole
from profiling.markup import Table
from profiling.standing import Standing, standings

_SUMMARY: Final = ("run", "goodput [95 %]", "difference [95 %]", "verdict", "in time [95 %]", "late", "truncated")
_FIGURE_LETTERS: Final = 110  # of a line below a picture's title


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a run came to under one budget, or under all.

    Args:
        totals: Its requests added up.
        standing: Goodput and its difference to the reference's, with intervals over images.
    """

    totals: Totals
    standing: Standing


@dataclass(frozen=True, kw_only=True, eq=False)
class RunComparison:
    """Runs of the same requests.

    Args:
        runs: Their rows in the same order.
        reference: Name of the run that the others are compared with.
        overall: What each run came to, by its name.
        by_budget: The same for each budget in rising order, in milliseconds; empty where budgets are the requests' own.
    """

    runs: Sequence[Run]
    reference: str
    overall: Mapping[str, Reached]
    by_budget: Mapping[float, Mapping[str, Reached]]

    def tables(self) -> list[Table]:
        """Return the table of runs, and that of budgets where they are told apart."""
        return [self._run_table(), *([self._budget_table()] if self.by_budget else [])]

    def summaries(self) -> list[Table]:
        """Return the tables without intervals, narrow enough for a screen."""
        of_runs, *of_budgets = self.tables()
        return [of_runs.narrowed(_SUMMARY), *(table.narrowed(table.columns) for table in of_budgets)]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "reference": self.reference,
            "num_requests": len(self.runs[0].rows),
            "num_images": self._num_images(),
            "runs": [self._run_json(run) for run in self.runs],
        }

    def write(self, output_dir: Path) -> None:
        """Write ``comparison`` as JSON, Markdown and LaTeX, and ``comparison.png``.

        The table of budgets needs budgets that are told apart, the picture two of them.
        """
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / "comparison.json", self.to_json())
        tables, has_picture = self.tables(), len(self.by_budget) > 1
        picture = ["![Goodput and share in time by budget](comparison.png)\n"] if has_picture else []
        of_runs, *of_budgets = [table.markdown() for table in tables]
        texts = {".md": [of_runs, *picture, *of_budgets], ".tex": [table.latex() for table in tables]}
        for suffix, parts in texts.items():
            with written_whole(output_dir / f"comparison{suffix}") as partial:
                partial.write_text("\n".join(parts))
        if has_picture:
            self._draw(output_dir / "comparison.png")

    def subject(self) -> str:
        """Say what answered on what; run by run where not all ran on the same."""
        subjects = {run.subject for run in self.runs}
        if len(subjects) == 1:
            return f"{', '.join(f'{run.name} ({run.policy})' for run in self.runs)} on {subjects.pop()}"
        apart = "; ".join(f"{run.name} ({run.policy}) on {run.subject}" for run in self.runs)
        return f"Not all on the same model, device and software: {apart}"

    def _run_table(self) -> Table:
        return Table(
            columns=("run", "goodput [95 %]", "difference [95 %]", "p", "verdict", "accuracy", *PUNCTUALITY),
            rows=tuple(self._row(name, reached) for name, reached in self.overall.items()),
            caption=f"{self.subject()}. {self._size()}. {MEANING} Difference: of goodput to {self.reference} on the "
            "same requests. Intervals of both over images by bootstrap, an image drawn with all its requests; p by "
            "Holm's correction over all runs but the reference; a tie is a difference not shown.",
        )

    def _budget_table(self) -> Table:
        names = [run.name for run in self.runs]
        others = [name for name in names if name != self.reference]
        return Table(
            columns=(
                "budget (ms)",
                *(f"{name} [95 %]" for name in names),
                *(f"{name} - {self.reference} [95 %]" for name in others),
            ),
            rows=tuple(
                (
                    f"{budget_ms:g}",
                    *(str(reached[name].standing.goodput) for name in names),
                    *(reached[name].standing.difference.signed() for name in others),
                )
                for budget_ms, reached in self.by_budget.items()
            ),
            caption="Goodput by budget, and its difference on the same requests; intervals over images by bootstrap, "
            "not corrected for the number of budgets.",
        )

    def _row(self, name: str, reached: Reached) -> tuple[str, ...]:
        return (
            name,
            str(reached.standing.goodput),
            *reached.standing.cells(is_reference=name == self.reference),
            f"{reached.totals.accuracy:.3f}",
            *reached.totals.punctuality(),
        )

    def _run_json(self, run: Run) -> dict[str, Any]:
        overall = self.overall[run.name]
        by_budget = [reached[run.name] for reached in self.by_budget.values()]
        return {
            "name": run.name,
            "policy": run.policy,
            "subject": run.subject,
            **asdict(overall.standing),
            "verdict": overall.standing.verdict,
            "totals": overall.totals.to_json(),
            "budgets": [
                {
                    "goodput": asdict(reached.standing.goodput),
                    "difference": asdict(reached.standing.difference),
                    "totals": reached.totals.to_json(),
                }
                for reached in by_budget
            ],
        }

    def _draw(self, path: Path) -> None:
        figure = plot_runs(
            list(self.by_budget),
            {run.name: [each[run.name].standing.goodput for each in self.by_budget.values()] for run in self.runs},
            {run.name: [each[run.name].totals.adherence for each in self.by_budget.values()] for run in self.runs},
            caption=fill(f"{self.subject()}, {self._size()}", _FIGURE_LETTERS),
        )
        with written_whole(path) as partial:
            figure.savefig(partial)
        plt.close(figure)

    def _size(self) -> str:
        budgets = f"{len(self.by_budget)} budgets" if self.by_budget else "budgets of their own"
        return f"{len(self.runs[0].rows)} requests about {self._num_images()} images under {budgets}"

    def _num_images(self) -> int:
        return len({row.image_id for row in self.runs[0].rows})


def compare(runs: Sequence[Run], *, reference: str, seed: int) -> RunComparison:
    """Compare runs with one of them.

    Args:
        runs: Two or more, of different names.
        reference: The name of one.
        seed: Of the resamplings.

    Raises:
        ValueError: If they did not answer the same requests, or an answer has no accuracy.
    """
    runs = in_same_order(runs)
    return RunComparison(
        runs=runs,
        reference=reference,
        overall=_reached(runs, None, reference=reference, seed=seed),
        by_budget={
            budget_ms: _reached(runs, budget_ms, reference=reference, seed=seed)
            for budget_ms in shared_budgets_ms(runs[0].rows)
        },
    )


def _reached(runs: Sequence[Run], budget_ms: float | None, *, reference: str, seed: int) -> dict[str, Reached]:
    """Compare runs on the requests of one budget, or on all."""
    rows = {run.name: [row for row in run.rows if budget_ms in (None, row.budget_ms)] for run in runs}
    goodput_N = {name: np.asarray([row.goodput for row in own]) for name, own in rows.items()}
    image_ids = [row.image_id for row in rows[reference]]
    found = standings(goodput_N, image_ids, reference=reference, seed=seed)
    return {name: Reached(totals=totals(own, budget_ms=budget_ms), standing=found[name]) for name, own in rows.items()}
