"""The tables and pictures of a run of adaptive inference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from PIL import Image

from profiling.adaptive.figures import ORACLE, plot_by_budget
from profiling.adaptive.run_files import REQUESTS, TOTALS, write_rows
from profiling.adaptive.served import Served
from profiling.adaptive.sheet import example_sheet
from profiling.adaptive.totals import MEANING, PUNCTUALITY, Totals, totals_by_budget
from profiling.controllers import oracles, tables
from profiling.controllers.baselines import choices_of
from profiling.controllers.evaluation import evaluate
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import Outcomes
from profiling.controllers.requests import Policy, Requests
from profiling.files import write_json, written_whole
from profiling.markup import Table
from profiling.promises.validity import NOTHING_IS_PROMISED


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptiveReport:
    """What a run came to.

    Args:
        rows: What came of each request.
        policy: What the policy is called.
        subject: Which model, engine and device.
        references: Goodput of other choosers by name, at each budget that is told apart, in rising order.
        promised: What is promised to such requests, in a sentence.
    """

    rows: Sequence[Served]
    policy: str
    subject: str
    references: Mapping[str, Sequence[float]]
    promised: str = NOTHING_IS_PROMISED

    def totals(self) -> list[Totals]:
        """Return the totals of each budget, and of all requests last."""
        return totals_by_budget(self.rows)

    def table(self) -> Table:
        """Return the totals as a table."""
        return Table(
            columns=("budget (ms)", "requests", "accuracy", "goodput", *PUNCTUALITY),
            rows=tuple(_row(each) for each in self.totals()),
            caption=f"{self.policy} on {self.subject}. {self.promised} {MEANING}",
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "promised": self.promised,
            "policy": self.policy,
            "subject": self.subject,
            "totals": [each.to_json() for each in self.totals()],
            "references": {name: list(goodput) for name, goodput in self.references.items()},
        }

    def write(self, output_dir: Path, examples: Sequence[tuple[Served, Image.Image]]) -> None:
        """Write ``requests.parquet``, ``totals`` as JSON, Markdown and LaTeX, ``budgets.png`` and ``examples.png``.

        The picture of budgets needs budgets that are told apart, the page of examples needs some.
        """
        output_dir.mkdir(parents=True, exist_ok=True)
        write_rows(self.rows, output_dir / REQUESTS)
        write_json(output_dir / TOTALS, self.to_json())
        self.table().write(output_dir / "totals")
        *by_budget, _ = self.totals()
        if by_budget:
            caption = f"{self.subject}, {len(self.rows)} requests"
            figure = plot_by_budget(by_budget, self.references, policy=self.policy, caption=caption)
            with written_whole(output_dir / "budgets.png") as partial:
                figure.savefig(partial, dpi=150)
            plt.close(figure)
        if examples:
            with written_whole(output_dir / "examples.png") as partial:
                example_sheet(examples).save(partial, optimize=True)


def reference_goodputs(training: Outcomes, test: Outcomes, budgets_ms: Sequence[float]) -> dict[str, list[float]]:
    """Look up what simple choosers and the oracle reach on a profile's test part, at each budget."""
    policies: dict[str, Policy] = {
        "cheapest": tables.cheapest(training),
        "full": tables.full(training),
        "lut_mean": tables.lut(training, rule="mean"),
        "best_static_per_budget": tables.best_static_per_budget(training),
        ORACLE: oracles.realised,
    }
    requests = Requests(outcomes=test, features=without_embeddings(test))
    choices = choices_of(policies, requests, budgets_ms)
    return {
        name: [result.goodput for result in evaluate(name, chosen, test, budgets_ms).budgets]
        for name, chosen in choices.items()
    }


def _row(each: Totals) -> tuple[str, ...]:
    return (
        "all" if each.budget_ms is None else f"{each.budget_ms:g}",
        str(each.num_requests),
        *each.rightness(),
        *each.punctuality(),
    )
