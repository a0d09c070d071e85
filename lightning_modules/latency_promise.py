"""The ``calibrate`` and ``recalibrate`` commands: margins with which a finished policy keeps its budgets."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from lightning_modules.finished_policy import FinishedPolicy, PolicySource
from profiling.adaptive.calibration import Findings, Serve, find_margins
from profiling.adaptive.journal import Journal
from profiling.adaptive.request import BudgetedRequest, in_random_order
from profiling.adaptive.served import Served
from profiling.adaptive.server import Server
from profiling.controllers.budgets import budget_grid, check_budgets, mean_latency_ms
from profiling.controllers.outcomes import Outcomes
from profiling.files import written_whole
from profiling.markup import Table
from profiling.progress import progress_bar
from profiling.promises.guarantee import Level
from profiling.promises.promise import Denominator, Promise, Terms, data_hash, read_promise
from profiling.questions import QuestionRequest, Questions

MARGINS: Final = (0.3, 0.2, 0.1, 0.05, 0.02, 0.0)
_ALL: Final[Denominator] = "all"
_PART: Final = "calibration"


def calibrate(
    policy: PolicySource,
    questions: Questions,
    output: Path,
    *,
    budgets_ms: list[float] | None = None,
    margins: tuple[float, ...] = MARGINS,
    level: Level | None = None,
    denominator: Denominator = _ALL,
    device: Literal["cpu", "cuda"] = "cpu",
    num_threads: int | None = None,
) -> None:
    """Find the share of each budget to keep back so that a finished policy misses no more than promised.

    Bounds on latency come from the profile, margins from fresh runs of the policy, which is what the promise is about.
    Rows go to a folder beside the output, and the same command goes on where it stopped.

    Args:
        policy: The policy; without a promise, with a profile.
        questions: What to run; the part ``calibration``, of which nothing was trained on.
        output: A ``.json`` file; replaced if it exists.
        budgets_ms: The budgets; if null, those of the profile that are not below the 95th percentile of the cheapest
            setting.
        margins: Shares of a budget to try, safest first.
        level: Which share of misses to promise, and how surely; 5 % with 95 % confidence if null.
        denominator: Whose misses count: of all requests, or of those that had a feasible setting.
        device: Where to run.
        num_threads: Threads of torch; its own choice if null.

    Raises:
        ValueError: If there are too few questions to promise anything, or a file is missing or bad.
    """
    _check_output(output)
    if policy.promise is not None or policy.profile is None:
        raise ValueError("policy: to be calibrated it takes a profile and no promise")
    level = level or Level()
    asked = _calibration_part(questions)
    parts = policy.read_parts()
    budgets_ms = check_budgets(budgets_ms) if budgets_ms else _usual_budgets_ms(parts["train"])
    level.check_requests(len(asked), len(budgets_ms))
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    terms = Terms(budgets_ms=tuple(budgets_ms), margins=margins, level=level, denominator=denominator)
    loaded = policy.load()
    loaded.molmo.to(device)
    _find(loaded, terms, in_random_order(asked, seed=policy.seed), output, journal=output.with_suffix(""))


def recalibrate(
    promise: Path,
    questions: Questions,
    output: Path,
    *,
    n: int = 100,
    device: Literal["cpu", "cuda"] = "cpu",
    num_threads: int | None = None,
) -> None:
    """Renew a promise on a device that has become slower or faster, from a few requests.

    Expected times are scaled by what the requests take now, then margins are found anew, on the same terms.

    Args:
        promise: File of ``calibrate``.
        questions: What to run; the part ``calibration``.
        output: A ``.json`` file; replaced if it exists.
        n: Requests of each budget and margin.
        device: Where to run.
        num_threads: Threads of torch; its own choice if null.

    Raises:
        ValueError: If there are too few questions, n is too small to promise anything, or a file is missing or bad.
    """
    _check_output(output)
    old = read_promise(promise)
    asked = _calibration_part(questions)
    if not 1 <= n <= len(asked):
        raise ValueError(f"n: must be 1 to {len(asked)}, the questions that there are, got {n}")
    old.terms.level.check_requests(n, len(old.terms.budgets_ms))
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    loaded = replace(PolicySource(**{**old.policy, "promise": str(promise)}).load(), promise=None)
    loaded = replace(loaded, source=PolicySource(**old.policy))
    loaded.molmo.to(device)
    chosen = in_random_order(asked, seed=loaded.source.seed)[:n]
    slower = _typical_ratio(loaded, chosen, old.terms.budgets_ms[-1]) / old.expected_ratio
    Console().print(f"requests take {slower:.1%} of what they took at the calibration", highlight=False)
    _find(replace(loaded, table=old.table.rescaled(slower)), old.terms, chosen, output, journal=None)


def _find(
    policy: FinishedPolicy, terms: Terms, questions: Sequence[QuestionRequest], output: Path, *, journal: Path | None
) -> None:
    """Run the policy, write the promise and show it."""
    assert policy.table is not None, "a policy that is calibrated has a profile or had a promise"
    console, server = Console(), policy.server()
    environment = policy.environment(server.engine_name)
    server.warm_up(BudgetedRequest(question=questions[0], budget_ms=terms.budgets_ms[-1]))
    run = {"policy": asdict(policy.source), "environment": environment.model_dump(mode="json")}
    with progress_bar(console) as progress:
        most = len(questions) * len(terms.budgets_ms) * len(terms.margins)
        task = progress.add_task("running (at most)", total=most)
        serve = _serving(server) if journal is None else _journaled(server, journal, run)

        def counted(request: BudgetedRequest, margin: float) -> Served:
            progress.advance(task)
            return serve(request, margin)

        findings = find_margins(counted, questions, terms)
    Promise(
        policy=asdict(policy.source),
        terms=terms,
        budgets=findings.budgets,
        table=policy.table,
        expected_ratio=findings.expected_ratio,
        data_hash=data_hash([(q.dataset, q.split, q.sample_id) for q in questions]),
        environment=environment,
    ).write(output)
    with written_whole(output.with_suffix(".parquet")) as partial:
        pd.DataFrame([asdict(row) for row in findings.rows]).to_parquet(partial, index=False)
    if journal is not None:
        shutil.rmtree(journal)  # the rows are in the table, and another calibration must not take them for its own
    _table(findings, terms).show(console)
    console.print(f"wrote {output} and {output.with_suffix('.parquet')}", highlight=False)


def _serving(server: Server) -> Serve:
    return lambda request, margin: server.answer(request, request.question.open_image(), margin=margin).served


def _journaled(server: Server, folder: Path, run: Mapping[str, Any]) -> Serve:
    """Keep what is run in a file for each margin, and do not run it again."""
    journals: dict[float, Journal] = {}

    def serve(request: BudgetedRequest, margin: float) -> Served:
        if margin not in journals:
            path = folder / f"margin_{margin:g}.jsonl"
            journals[margin] = Journal(path, {**run, "margin": margin})
        journal = journals[margin]
        if request.key not in journal.served:
            journal.write(_serving(server)(request, margin))
        return journal.served[request.key]

    return serve


def _typical_ratio(policy: FinishedPolicy, questions: Sequence[QuestionRequest], budget_ms: float) -> float:
    """Return the median of measured over expected time, now."""
    server = policy.server()
    requests = [BudgetedRequest(question=question, budget_ms=budget_ms) for question in questions]
    server.warm_up(requests[0])
    rows = [_serving(server)(request, 0.0) for request in requests]
    return float(np.median([row.latency_ms / row.expected_ms for row in rows if row.expected_ms]))


def _calibration_part(questions: Questions) -> list[QuestionRequest]:
    part = [question for question in questions.requests() if question.split == _PART]
    if not part:
        raise ValueError(f"questions: datasets: no dataset names a split for the part {_PART}")
    return part


def _usual_budgets_ms(training: Outcomes) -> list[float]:
    """Return the budgets of the device that its cheapest setting keeps 19 times of 20."""
    cheapest = int(mean_latency_ms(training).argmin())
    lowest_ms = float(np.nanpercentile(training.latency_runs_NSR[:, cheapest], 95))
    return [budget_ms for budget_ms in budget_grid(training) if budget_ms >= lowest_ms]


def _check_output(output: Path) -> None:
    if output.suffix != ".json":
        raise ValueError(f"output: file name must end in .json, got {output.name!r}")
    output.parent.mkdir(parents=True, exist_ok=True)


def _table(findings: Findings, terms: Terms) -> Table:
    return Table(
        columns=("budget (ms)", "margin", "requests", "misses", "infeasible", "truncated"),
        rows=tuple(
            (
                f"{budget.budget_ms:g}",
                "nothing promised" if budget.margin is None else f"{budget.margin:.0%}",
                *(
                    str(n)
                    for n in (budget.num_requests, budget.num_misses, budget.num_infeasible, budget.num_truncated)
                ),
            )
            for budget in findings.budgets
        ),
        caption=terms.statement,
    )
