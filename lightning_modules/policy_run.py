"""One policy's part of a test: it answers, its rows are kept, and what was promised is watched."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from PIL import Image

from lightning_modules.finished_policy import FinishedPolicy, PolicySource
from models.engine import Engine
from profiling.adaptive.journal import Journal
from profiling.adaptive.report import AdaptiveReport, reference_goodputs
from profiling.adaptive.request import BudgetedRequest, Key
from profiling.adaptive.served import Served
from profiling.adaptive.totals import shared_budgets_ms
from profiling.promises.adaptive_margin import AdaptiveMargin
from profiling.promises.digests import file_digest
from profiling.promises.validity import NOTHING_IS_PROMISED
from profiling.schema import Environment

_OUTPUT_DIR: Final = "--model.init_args.output_dir"
_ALPHA: Final = 0.05  # that an online margin aims at where no promise says


class PolicyRun:
    """Answer requests with one policy; what a run before has answered is not asked again.

    Args:
        policy: On its device.
        output_dir: Folder of its rows and results.
        engine: Of its model.
        online_margin: Whether margins follow what happens.
        rivals: What distinguishes the policies that answer each request, too; rows of other company are another run's.

    Raises:
        ValueError: If the folder holds rows of another run.
    """

    def __init__(
        self,
        policy: FinishedPolicy,
        output_dir: Path,
        *,
        engine: Engine,
        online_margin: bool,
        rivals: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.output_dir = output_dir
        self._policy = policy
        self._online_margin = online_margin
        self._server = policy.server(engine)
        self._environment = policy.environment(engine.name)
        self._journal = Journal(output_dir / "requests.jsonl", self._what(rivals), option=_OUTPUT_DIR)
        self._watch = policy.watch(engine.name, online_margin=online_margin)
        self._margins: dict[float, AdaptiveMargin] = {}
        self._asked: list[Key] = []
        self._is_warm = False

    def has_answered(self, request: BudgetedRequest) -> bool:
        """Whether a request has been answered, now or by a run before."""
        return request.key in self._journal.served

    def take(self, request: BudgetedRequest, image: Image.Image | None) -> Served:
        """Answer a request, or return what has been answered; the first one is run once before, uncounted.

        Args:
            request: The request.
            image: Its picture, decoded; needed where it has not been answered.
        """
        served = self._journal.served.get(request.key)
        if served is None:
            assert image is not None, "a request that was not answered needs its picture"
            served = self._answer(request, image)
        self._asked.append(request.key)
        if self._watch is not None:
            self._watch.note(served.budget_ms, measured_ms=served.latency_ms, expected_ms=served.expected_ms)
        if self._online_margin:
            self._margin_of(request.budget_ms).update(is_miss=not served.is_in_time)
        return served

    def report(self, *, with_references: bool) -> AdaptiveReport:
        """Return what it came to, beside what simple choosers reach on the profile if that is asked for."""
        rows = [self._journal.served[key] for key in dict.fromkeys(self._asked)]
        budgets_ms, parts = shared_budgets_ms(rows), self._policy.parts
        references: Mapping[str, list[float]] = {}
        if with_references and parts and budgets_ms:
            references = reference_goodputs(parts["train"], parts["test"], budgets_ms)
        promised = NOTHING_IS_PROMISED
        if self._watch is not None:
            promised = self._watch.validity.sentence(sorted({row.budget_ms for row in rows}))
        return AdaptiveReport(
            rows=rows,
            policy=policy_name(self._policy.source),
            subject=_subject(self._environment),
            references=references,
            promised=promised,
        )

    def _answer(self, request: BudgetedRequest, image: Image.Image) -> Served:
        if not self._is_warm:
            self._server.warm_up(request)
            self._is_warm = True
        served = self._server.answer(request, image, margin=self._margin(request.budget_ms)).served
        self._journal.write(served)
        return served

    def _margin(self, budget_ms: float) -> float:
        return self._margin_of(budget_ms).margin if self._online_margin else self._policy.margin(budget_ms)

    def _margin_of(self, budget_ms: float) -> AdaptiveMargin:
        if budget_ms not in self._margins:
            promise = self._policy.promise
            self._margins[budget_ms] = AdaptiveMargin(
                margin=self._policy.margin(budget_ms), alpha=_ALPHA if promise is None else promise.terms.level.alpha
            )
        return self._margins[budget_ms]

    def _what(self, rivals: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Say what the rows are of, so that rows of another run are never added to them."""
        source = self._policy.source
        return {
            "policy": asdict(source),
            "online_margin": self._online_margin,
            "promise_digest": None if source.promise is None else file_digest(source.promise),
            "digests": dict(self._policy.digests),
            "environment": self._environment.model_dump(mode="json"),
            "rivals": dict(rivals) or None,
        }


def policy_name(source: PolicySource) -> str:
    """Return what tables call a policy."""
    stops = "" if source.stops_at_deadline else ", no stopping"
    return f"{Path(source.controller).stem if source.is_trained else source.controller}{stops}"


def _subject(environment: Environment) -> str:
    threads = f", threads {environment.num_threads}" if environment.cuda is None else ""
    return (
        f"{environment.model}, {environment.dtype}, {environment.engine} engine, {environment.device}{threads}, "
        f"torch {environment.torch}"
    )
