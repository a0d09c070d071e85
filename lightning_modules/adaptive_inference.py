"""Answer requests within their budgets, really and end to end, and say how right and how punctual that was."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_type_hints

from lightning import LightningModule
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from lightning_modules.finished_policy import FinishedPolicy, PolicySource
from lightning_modules.policy_run import PolicyRun, policy_name
from models.engine import Engine
from models.molmo import Molmo
from profiling.adaptive.command import compare_runs
from profiling.adaptive.request import BudgetedRequest
from profiling.adaptive.served import Served
from profiling.adaptive.totals import Totals

_LOGGED: Final = ("accuracy", "goodput", "late", "truncated", "infeasible", "overhead_p50_ms", "overhead_p99_ms")
_COMPARISON: Final = "comparison"
_OF_THE_MODEL: Final = ("snapshot", "dtype", "engine", "tiling")  # which all policies share
_ONLINE_MARGIN: Final = "online_margin"


class AdaptiveInferenceModule(LightningModule):
    """Test a finished policy in fresh runs, one request at a time; others, if wanted, beside it.

    Writes a row a request to ``requests.jsonl`` while running; the same command goes on where it stopped. At the end
    writes and prints the totals of what it was asked, see ``AdaptiveReport.write``: the file may hold rows of other
    budgets and questions, too. The first request is run once before, uncounted.

    Rivals answer each request right before or behind the policy, so that a machine that becomes slower or faster does
    so for all alike; who begins goes round. They write to folders of their names, and all are compared in
    ``comparison``, see ``compare_runs``.

    Logs, under ``test/``, ``accuracy``, ``goodput``, ``adherence``, ``late``, ``truncated``, ``infeasible``,
    ``overhead_p50_ms`` and ``overhead_p99_ms`` over all requests, and the first six with ``/<budget>`` behind.

    Args:
        output_dir: Folder of the results.
        rivals: By name, what distinguishes another policy from this one: arguments of ``PolicySource`` that are not of
            the model, or ``online_margin``.
        online_margin: Whether margins follow what happens (adaptive conformal inference), from the promised ones on;
            what was promised is then no longer.
        num_examples: Requests to show: the first ones of the random order, each question once.
        policy: See ``PolicySource``.

    Raises:
        ValueError: If a number is out of range, or a rival's name or argument cannot be taken; when the policy is
            loaded, see ``PolicySource.load``.
    """

    def __init__(
        self,
        output_dir: str,
        *,
        rivals: dict[str, dict[str, Any]] | None = None,
        online_margin: bool = False,
        num_examples: int = 12,
        **policy: Any,
    ) -> None:
        super().__init__()
        if num_examples < 0:
            raise ValueError(f"num_examples: must be 0 or more, got {num_examples}")
        self.save_hyperparameters()
        self.output_dir = Path(output_dir)
        self.num_examples = num_examples
        self.online_margin = online_margin
        self.source = PolicySource(**policy)
        self.rivals: Mapping[str, Mapping[str, Any]] = rivals or {}
        _check_rivals(self.rivals, name=policy_name(self.source))
        self.molmo: Molmo | None = None
        self._examples: list[tuple[Served, Image.Image]] = []

    def configure_model(self) -> None:
        """Load the policies, once the data has been read; all have the weights of the first."""
        if self.molmo is None:
            self._policy: FinishedPolicy = self.source.load()
            self._others = {
                name: replace(_distinguished(self.source, changes).load(), molmo=self._policy.molmo)
                for name, changes in self.rivals.items()
            }
            self.molmo = self._policy.molmo

    def on_test_start(self) -> None:
        """Make what answers, now that the model is on its device, and see what a run before has answered."""
        engine = self._policy.engine()
        self._runs = [self._run_of(self._policy, {}, self.output_dir, engine)]
        for name, policy in self._others.items():
            self._runs.append(self._run_of(policy, self.rivals[name], self.output_dir / name, engine))

    def test_step(self, batch: BudgetedRequest, batch_idx: int) -> None:
        """Let the policies answer a request in turn, unless a run before has."""
        shown = {example.sample_id for example, _ in self._examples}
        is_example = len(shown) < self.num_examples and batch.question.sample_id not in shown
        is_answered = all(run.has_answered(batch) for run in self._runs)
        image = batch.question.open_image() if is_example or not is_answered else None
        first = batch_idx % len(self._runs)
        for run in (*self._runs[first:], *self._runs[:first]):
            served = run.take(batch, image)
            if is_example and run is self._runs[0]:
                assert image is not None
                self._examples.append((served, image))

    def on_test_epoch_end(self) -> None:
        """Log the totals."""
        self._report = self._runs[0].report(with_references=True)
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
        _, *others = self._runs
        for run in others:
            report = run.report(with_references=False)
            report.write(run.output_dir, [])
            report.table().show(console)
        if others and all(row.accuracy is not None for row in self._report.rows):
            folders = [run.output_dir for run in self._runs]
            names = [policy_name(self.source), *self.rivals]
            compare_runs(folders, self.output_dir / _COMPARISON, names=names)

    def _run_of(
        self, policy: FinishedPolicy, changes: Mapping[str, Any], output_dir: Path, engine: Engine
    ) -> PolicyRun:
        online_margin = changes.get(_ONLINE_MARGIN, self.online_margin)
        return PolicyRun(policy, output_dir, engine=engine, online_margin=online_margin, rivals=self.rivals)


def _check_rivals(rivals: Mapping[str, Mapping[str, Any]], *, name: str) -> None:
    types = get_type_hints(PolicySource) | {_ONLINE_MARGIN: bool}
    known = set(types) - set(_OF_THE_MODEL)
    for rival, changes in rivals.items():
        if rival in (name, _COMPARISON, "", ".", "..") or Path(rival).name != rival:
            raise ValueError(f"rivals: {rival!r}: must be the name of a folder, neither {name!r} nor {_COMPARISON!r}")
        strangers = sorted(set(changes) - known)
        if strangers:
            raise ValueError(f"rivals: {rival}: {strangers[0]}: must be one of {', '.join(sorted(known))}")
        for argument, value in changes.items():
            try:
                TypeAdapter(types[argument]).validate_python(value, strict=True)
            except ValidationError as err:
                wrong = err.errors()[0]["msg"]
                raise ValueError(f"rivals: {rival}: {argument}: {wrong}, got {value!r}") from err


def _distinguished(source: PolicySource, changes: Mapping[str, Any]) -> PolicySource:
    return replace(source, **{name: value for name, value in changes.items() if name != _ONLINE_MARGIN})


def _logged(totals: Totals) -> dict[str, float]:
    """Return what there is to log; no accuracy where no right answer is known."""
    found = {name: float(getattr(totals, name)) for name in _LOGGED} | {"adherence": totals.adherence.value}
    return {name: value for name, value in found.items() if not math.isnan(value)}
