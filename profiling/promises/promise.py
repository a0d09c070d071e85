"""What was promised about time, by whom, when and on what: one JSON file."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import ValidationError

from profiling.files import write_json
from profiling.promises.guarantee import Level
from profiling.promises.latency_table import LatencyTable
from profiling.schema import Environment

Denominator = Literal["all", "served"]
"""Whose misses count: all requests, those without a feasible setting as misses; or only those that had one."""

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is to be promised.

    Args:
        budgets_ms: The budgets, in rising order.
        margins: Shares of a budget to try keeping back, safest first.
        level: Which share of misses, and how surely.
        denominator: Whose misses count.

    Raises:
        ValueError: If there is no such denominator.
    """

    budgets_ms: tuple[float, ...]
    margins: tuple[float, ...]
    level: Level
    denominator: Denominator

    def __post_init__(self) -> None:
        if self.denominator not in get_args(Denominator):
            known = ", ".join(get_args(Denominator))
            raise ValueError(f"denominator: must be one of {known}, got {self.denominator!r}")

    @property
    def statement(self) -> str:
        """What is promised, in words."""
        whom = "requests" if self.denominator == "all" else "requests that had a feasible setting"
        return (
            f"With confidence {1 - self.level.delta:.3g} over calibrations, at most {self.level.alpha:.3g} of {whom} "
            "miss their budget, for every budget that has a margin: marginal over requests like the calibration set, "
            "on this device and software, at batch 1."
        )


@dataclass(frozen=True, kw_only=True)
class BudgetPromise:
    """What is promised under one budget.

    Args:
        budget_ms: The budget.
        margin: Share of it to keep back; ``None`` where nothing can be promised.
        num_requests: Requests that counted in the last test that was passed, or in the first that was not.
        num_misses: Misses among them.
        num_infeasible: Requests of that run for which no setting was expected in time.
        num_truncated: Answers of that run that were cut off.
    """

    budget_ms: float
    margin: float | None
    num_requests: int
    num_misses: int
    num_infeasible: int
    num_truncated: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Promise:
    """A calibration of one policy on one device.

    Marginal over requests like the calibration set, on this device and software, at batch 1: never about one request.

    Args:
        policy: The policy's own arguments, as ``calibrate`` was given them.
        terms: What was to be promised. The safest margin is kept back where nothing is.
        budgets: The promise for each budget, in rising order.
        table: Expected times and kappas.
        expected_ratio: Median of measured over expected time in the calibration's runs.
        data_hash: Digest of the requests that were run.
        environment: Device, software and date.
        digests: Of what the policy is made of: ``controller`` (the name of a chooser that has no checkpoint),
            ``weights``, ``profile`` and ``estimator``; empty in files of before they were kept.
    """

    policy: Mapping[str, Any]
    terms: Terms
    budgets: tuple[BudgetPromise, ...]
    table: LatencyTable
    expected_ratio: float
    data_hash: str
    environment: Environment
    digests: Mapping[str, str] = field(default_factory=dict)

    def margin(self, budget_ms: float) -> float:
        """Return the share of a budget to keep back.

        Between two calibrated budgets it is the larger one of theirs, beyond them the nearest one's; but there nothing
        is promised, see ``Validity``.
        """
        known = [budget.budget_ms for budget in self.budgets]
        place = bisect_left(known, budget_ms)
        if place < len(known) and known[place] == budget_ms:
            around = self.budgets[place : place + 1]
        else:
            around = self.budgets[max(0, place - 1) : place + 1]
        return max(self.terms.margins[0] if budget.margin is None else budget.margin for budget in around)

    def is_promised(self, budget_ms: float) -> bool:
        """Whether something was shown for just this budget."""
        return any(budget.budget_ms == budget_ms and budget.margin is not None for budget in self.budgets)

    def write(self, path: Path) -> None:
        """Write the file."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "statement": self.terms.statement,
            "policy": dict(self.policy),
            "digests": dict(self.digests),
            "terms": asdict(self.terms),
            "budgets": [asdict(budget) for budget in self.budgets],
            "expected_ratio": self.expected_ratio,
            "data_hash": self.data_hash,
            "environment": self.environment.model_dump(mode="json"),
            "latency_table": self.table.to_json(),
        }
        write_json(path, content)


def read_promise(path: Path | str) -> Promise:
    """Read a file of ``calibrate``.

    Raises:
        ValueError: If it is missing or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `calibrate` writes one")
    try:
        content: Mapping[str, Any] = json.loads(path.read_text())
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version: must be {SCHEMA_VERSION}, got {content['schema_version']!r}")
        return Promise(
            policy=content["policy"],
            terms=_terms(content["terms"]),
            budgets=tuple(BudgetPromise(**budget) for budget in content["budgets"]),
            table=LatencyTable.from_json(content["latency_table"]),
            expected_ratio=content["expected_ratio"],
            data_hash=content["data_hash"],
            environment=Environment.model_validate(content["environment"]),
            digests=content.get("digests", {}),
        )
    except (KeyError, TypeError, ValidationError, ValueError) as err:
        raise ValueError(f"{path}: is no promise as `calibrate` writes it: {err}") from err


def _terms(content: Mapping[str, Any]) -> Terms:
    return Terms(
        budgets_ms=tuple(content["budgets_ms"]),
        margins=tuple(content["margins"]),
        level=Level(**content["level"]),
        denominator=content["denominator"],
    )


def data_hash(keys: list[tuple[str, str, str]]) -> str:
    """Return a digest of the requests' names, whatever their order."""
    return hashlib.sha256("\n".join("/".join(key) for key in sorted(keys)).encode()).hexdigest()
