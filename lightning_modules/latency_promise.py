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
from profiling.promises.digests import file_digest
from profiling.promises.guarantee import Level
from profiling.promises.promise import Denominator, Promise, Terms, data_hash, read_promise
from profiling.questions import QuestionRequest, Questions

MARGINS: Final = (0.3, 0.2, 0.1, 0.05, 0.02, 0.0)
_ALL: Final[Denominator] = "all"
_PART: Final = "calibration"
_OUTPUT: Final = "--output"


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
        ValueError: If there are too few questions to promise anything or too few samples to bound times, no budget of
            the profile can be kept, or a file is missing or bad.
    """
    _check_output(output)
    if policy.promise is not None or policy.profile is None:
        raise ValueError("policy: to be calibrated it takes a profile and no promise")
    level = level or Level()
    asked = _calibration_part(questions)
    parts = policy.read_parts()
    budgets_ms = _usual_budgets_ms(parts["train"]) if budgets_ms is None else check_budgets(budgets_ms)
    level.check_requests(len(asked), len(budgets_ms))
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    terms = Terms(budgets_ms=tuple(budgets_ms), margins=margins, level=level, denominator=denominator)
    loaded = policy.load()
    loaded.molmo.to(device)
    run = {"policy": asdict(policy), "digests": loaded.digests}
    _find(loaded, terms, asked, output, run)


def recalibrate(
    promise: Path,
    questions: Questions,
    output: Path,
    *,
    n: int = 100,
    controller: str | None = None,
    budgets_ms: list[float] | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    num_threads: int | None = None,
) -> None:
    """Renew a promise on a device that has become slower or faster, or for another controller, from a few requests.

    Expected times are scaled by what the requests take now, and the controller is told budgets as they would be on its
    own device; then margins are found anew, on the same terms. The same command goes on where it stopped, as
    ``calibrate`` does.

    Args:
        promise: File of ``calibrate``.
        questions: What to run; the part ``calibration``.
        output: A ``.json`` file; replaced if it exists.
        n: Requests of each budget and margin.
        controller: Whose promise it will be, see the policy's ``controller``; that of the promise if null.
        budgets_ms: The budgets; those of the promise if null.
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
    terms = old.terms if budgets_ms is None else replace(old.terms, budgets_ms=tuple(check_budgets(budgets_ms)))
    terms.level.check_requests(n, len(terms.budgets_ms))
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    source = PolicySource.of_promise(old, where=str(promise))
    if controller is not None:
        source = replace(source, controller=controller)
    loaded = replace(replace(source, promise=str(promise)).load(), promise=None, source=source)
    loaded.molmo.to(device)
    chosen = in_random_order(asked, seed=source.seed)[:n]
    run = {"policy": asdict(source), "digests": {**loaded.digests, "promise": file_digest(promise)}}
    slower = _typical_ratio(loaded, chosen, terms.budgets_ms[-1], output, run) / old.expected_ratio
    Console().print(f"requests take {slower:.1%} of what they took at the calibration", highlight=False)
    _find(replace(loaded, table=old.table.rescaled(slower)), terms, chosen, output, {**run, "slower": slower})


def _find(
    policy: FinishedPolicy, terms: Terms, questions: Sequence[QuestionRequest], output: Path, run: Mapping[str, Any]
) -> None:
    """Run the policy, write the promise and show it; ``run`` says what the rows are of."""
    assert policy.table is not None, "a policy that is calibrated has a profile or had a promise"
    console, server = Console(), policy.server()
    environment = policy.environment(server.engine_name)
    server.warm_up(BudgetedRequest(question=questions[0], budget_ms=terms.budgets_ms[-1]))
    with progress_bar(console, times_steps=True) as progress:
        most = len(questions) * len(terms.budgets_ms) * len(terms.margins)
        task = progress.add_task("running (at most)", total=most)
        serve = _journaled(server, output, {**run, "environment": environment.model_dump(mode="json")})

        def counted(request: BudgetedRequest, margin: float) -> Served:
            progress.advance(task)
            return serve(request, margin)

        findings = find_margins(counted, questions, terms, seed=policy.source.seed)
    Promise(
        policy=asdict(policy.source),
        digests=policy.digests,
        terms=terms,
        budgets=findings.budgets,
        table=policy.table,
        expected_ratio=findings.expected_ratio,
        data_hash=data_hash([(q.dataset, q.split, q.sample_id) for q in questions]),
        environment=environment,
    ).write(output)
    with written_whole(output.with_suffix(".parquet")) as partial:
        pd.DataFrame([asdict(row) for row in findings.rows]).to_parquet(partial, index=False)
    # The rows are in the table, and another calibration must not take them for its own.
    shutil.rmtree(_journal_folder(output))
    _table(findings, terms).show(console)
    console.print(f"wrote {output} and {output.with_suffix('.parquet')}", highlight=False)


def _journaled(server: Server, output: Path, run: Mapping[str, Any], *, name: str = "margin") -> Serve:
    """Keep what is run in a file for each margin, and do not run it again."""
    journals: dict[float, Journal] = {}

    def serve(request: BudgetedRequest, margin: float) -> Served:
        if margin not in journals:
            path = _journal_folder(output) / f"{name}_{margin:g}.jsonl"
            journals[margin] = Journal(path, {**run, "margin": margin}, option=_OUTPUT)
        journal = journals[margin]
        if request.key not in journal.served:
            journal.write(server.answer(request, request.question.open_image(), margin=margin).served)
        return journal.served[request.key]

    return serve


def _journal_folder(output: Path) -> Path:
    return output.with_suffix("")


def _typical_ratio(
    policy: FinishedPolicy,
    questions: Sequence[QuestionRequest],
    budget_ms: float,
    output: Path,
    run: Mapping[str, Any],
) -> float:
    """Return the median of measured over expected time, now."""
    server = policy.server()
    environment = policy.environment(server.engine_name).model_dump(mode="json")
    serve = _journaled(server, output, {**run, "environment": environment}, name="typical")
    requests = [BudgetedRequest(question=question, budget_ms=budget_ms) for question in questions]
    server.warm_up(requests[0])
    rows = [serve(request, 0.0) for request in requests]
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
    budgets_ms = budget_grid(training)
    kept = [budget_ms for budget_ms in budgets_ms if budget_ms >= lowest_ms]
    if not kept:
        raise ValueError(
            f"budgets_ms: the largest of the profile is {budgets_ms[-1]:g} ms, and its cheapest setting takes up to "
            f"{lowest_ms:.4g} ms (95th percentile); name budgets"
        )
    return kept


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
