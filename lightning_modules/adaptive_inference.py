"""Answer requests within their budgets, really and end to end, and say how right and how punctual that was."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from lightning import LightningModule
from PIL import Image
from rich.console import Console

from lightning_modules.finished_policy import FinishedPolicy, PolicySource
from models.molmo import Molmo
from profiling.adaptive.journal import Journal
from profiling.adaptive.report import AdaptiveReport, reference_goodputs
from profiling.adaptive.request import BudgetedRequest, Key
from profiling.adaptive.served import Served
from profiling.adaptive.server import Server
from profiling.adaptive.totals import Totals, shared_budgets_ms
from profiling.promises.adaptive_margin import AdaptiveMargin
from profiling.promises.digests import file_digest
from profiling.promises.validity import NOTHING_IS_PROMISED
from profiling.schema import Environment

_OUTPUT_DIR: Final = "--model.init_args.output_dir"
_LOGGED: Final = ("accuracy", "goodput", "late", "truncated", "infeasible", "overhead_p50_ms", "overhead_p99_ms")
_ALPHA: Final = 0.05  # that an online margin aims at where no promise says


class AdaptiveInferenceModule(LightningModule):
    """Test a finished policy in fresh runs, one request at a time.

    Writes a row a request to ``requests.jsonl`` while running; the same command goes on where it stopped. At the end
    writes and prints the totals of what it was asked, see ``AdaptiveReport.write``: the file may hold rows of other
    budgets and questions, too. The first request is run once before, uncounted.

    Logs, under ``test/``, ``accuracy``, ``goodput``, ``adherence``, ``late``, ``truncated``, ``infeasible``,
    ``overhead_p50_ms`` and ``overhead_p99_ms`` over all requests, and the first six with ``/<budget>`` behind.

    Args:
        output_dir: Folder of the results.
        online_margin: Whether margins follow what happens (adaptive conformal inference), from the promised ones on;
            what was promised is then no longer.
        num_examples: Requests to show: the first ones of the random order, each question once.
        policy: See ``PolicySource``.

    Raises:
        ValueError: If a number is out of range; when the policy is loaded, see ``PolicySource.load``.
    """

    def __init__(self, output_dir: str, *, online_margin: bool = False, num_examples: int = 12, **policy: Any) -> None:
        super().__init__()
        if num_examples < 0:
            raise ValueError(f"num_examples: must be 0 or more, got {num_examples}")
        self.save_hyperparameters()
        self.output_dir = Path(output_dir)
        self.num_examples = num_examples
        self.online_margin = online_margin
        self.source = PolicySource(**policy)
        self.molmo: Molmo | None = None
        self._margins: dict[float, AdaptiveMargin] = {}
        self._examples: list[tuple[Served, Image.Image]] = []
        self._asked: list[Key] = []
        self._is_warm = False

    def configure_model(self) -> None:
        """Load the policy, once the data has been read."""
        if self.molmo is None:
            self._policy: FinishedPolicy = self.source.load()
            self.molmo = self._policy.molmo

    def on_test_start(self) -> None:
        """Make what answers, now that the model is on its device, and see what a run before has answered."""
        self._server: Server = self._policy.server()
        self._environment = self._policy.environment(self._server.engine_name)
        self._journal = Journal(self.output_dir / "requests.jsonl", self._run(), option=_OUTPUT_DIR)
        self._watch = self._policy.watch(self._server.engine_name, online_margin=self.online_margin)
        self._asked.clear()

    def test_step(self, batch: BudgetedRequest, batch_idx: int) -> None:
        """Answer a request, unless a run before has."""
        served = self._journal.served.get(batch.key)
        shown = {example.sample_id for example, _ in self._examples}
        is_example = len(shown) < self.num_examples and batch.question.sample_id not in shown
        image = batch.question.open_image() if served is None or is_example else None
        if served is None:
            assert image is not None
            served = self._answer(batch, image)
        self._asked.append(batch.key)
        if self._watch is not None:
            self._watch.note(served.budget_ms, measured_ms=served.latency_ms, expected_ms=served.expected_ms)
        if is_example:
            assert image is not None
            self._examples.append((served, image))
        if self.online_margin:
            self._margin_of(batch.budget_ms).update(is_miss=not served.is_in_time)

    def on_test_epoch_end(self) -> None:
        """Log the totals."""
        self._report = self._make_report()
        *by_budget, overall = self._report.totals()
        for totals in by_budget:
            place = f"/{totals.budget_ms:g}"
            self.log_dict({f"test/{name}{place}": value for name, value in _logged(totals).items() if "ms" not in name})
        self.log_dict({f"test/{name}": value for name, value in _logged(overall).items()})

    def on_test_end(self) -> None:
        """Write and print what it came to."""
        console = Console()
        self._report.write(self.output_dir, self._examples)
        self._report.table().show(console)
        console.print(f"wrote totals, pictures and rows to {self.output_dir}", highlight=False)

    def _answer(self, request: BudgetedRequest, image: Image.Image) -> Served:
        if not self._is_warm:
            self._server.warm_up(request)
            self._is_warm = True
        served = self._server.answer(request, image, margin=self._margin(request.budget_ms)).served
        self._journal.write(served)
        return served

    def _margin(self, budget_ms: float) -> float:
        return self._margin_of(budget_ms).margin if self.online_margin else self._policy.margin(budget_ms)

    def _margin_of(self, budget_ms: float) -> AdaptiveMargin:
        if budget_ms not in self._margins:
            promise = self._policy.promise
            self._margins[budget_ms] = AdaptiveMargin(
                margin=self._policy.margin(budget_ms), alpha=_ALPHA if promise is None else promise.terms.level.alpha
            )
        return self._margins[budget_ms]

    def _run(self) -> dict[str, Any]:
        """Say what the rows are of, so that rows of another run are never added to them."""
        promise = self.source.promise
        return {
            "policy": asdict(self.source),
            "online_margin": self.online_margin,
            "promise_digest": None if promise is None else file_digest(promise),
            "digests": self._policy.digests,
            "environment": self._environment.model_dump(mode="json"),
        }

    def _make_report(self) -> AdaptiveReport:
        rows = [self._journal.served[key] for key in dict.fromkeys(self._asked)]
        budgets_ms, parts = shared_budgets_ms(rows), self._policy.parts
        references: Mapping[str, list[float]] = {}
        if parts and budgets_ms:
            references = reference_goodputs(parts["train"], parts["test"], budgets_ms)
        promised = NOTHING_IS_PROMISED
        if self._watch is not None:
            promised = self._watch.validity.sentence(sorted({row.budget_ms for row in rows}))
        return AdaptiveReport(
            rows=rows,
            policy=_name(self.source),
            subject=_subject(self._environment),
            references=references,
            promised=promised,
        )


def _logged(totals: Totals) -> dict[str, float]:
    """Return what there is to log; no accuracy where no right answer is known."""
    found = {name: float(getattr(totals, name)) for name in _LOGGED} | {"adherence": totals.adherence.value}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _name(source: PolicySource) -> str:
    stops = "" if source.stops_at_deadline else ", no stopping"
    return f"{Path(source.controller).stem if source.controller.endswith('.ckpt') else source.controller}{stops}"


def _subject(environment: Environment) -> str:
    threads = f", threads {environment.num_threads}" if environment.cuda is None else ""
    return (
        f"{environment.model}, {environment.dtype}, {environment.engine} engine, {environment.device}{threads}, "
        f"torch {environment.torch}"
    )
