"""What was promised about time, by whom, when and on what: one JSON file."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from profiling.files import write_json
from profiling.promises.guarantee import Level
from profiling.promises.latency_table import LatencyTable
from profiling.schema import Environment

Denominator = Literal["all", "served"]
"""Whose misses count: all requests, those without a feasible setting as misses; or only those that had one."""

SCHEMA_VERSION: Final = 1


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
        controller: The policy's controller, a file or a name.
        stops_at_deadline: Whether the policy cuts answers off.
        level: Which share of misses is promised, and how surely.
        denominator: Whose misses count.
        budgets: The promise for each budget, in rising order.
        largest_margin: Safest margin that was tested; what is kept back where nothing is promised.
        table: Expected times and kappas.
        expected_ratio: Median of measured over expected time in the calibration's runs.
        data_hash: Digest of the requests that were run.
        environment: Device, software and date.
    """

    controller: str
    stops_at_deadline: bool
    level: Level
    denominator: Denominator
    budgets: tuple[BudgetPromise, ...]
    largest_margin: float
    table: LatencyTable
    expected_ratio: float
    data_hash: str
    environment: Environment

    def margin(self, budget_ms: float) -> float:
        """Return the share of a budget to keep back.

        Between two calibrated budgets it is the larger one of theirs, beyond them the nearest one's; but there nothing
        is promised, see ``is_promised``.
        """
        known = [budget.budget_ms for budget in self.budgets]
        place = bisect_left(known, budget_ms)
        if place < len(known) and known[place] == budget_ms:
            around = self.budgets[place : place + 1]
        else:
            around = self.budgets[max(0, place - 1) : place + 1]
        return max(self.largest_margin if budget.margin is None else budget.margin for budget in around)

    def is_promised(self, budget_ms: float) -> bool:
        """Whether something was shown for just this budget."""
        return any(budget.budget_ms == budget_ms and budget.margin is not None for budget in self.budgets)

    def write(self, path: Path) -> None:
        """Write the file."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "statement": statement(self.level, self.denominator),
            "controller": self.controller,
            "stops_at_deadline": self.stops_at_deadline,
            "level": asdict(self.level),
            "denominator": self.denominator,
            "budgets": [asdict(budget) for budget in self.budgets],
            "largest_margin": self.largest_margin,
            "expected_ratio": self.expected_ratio,
            "data_hash": self.data_hash,
            "environment": self.environment.model_dump(mode="json"),
            "latency_table": self.table.to_json(),
        }
        write_json(path, content)


def statement(level: Level, denominator: Denominator) -> str:
    """Say in words what is promised."""
    whom = "requests" if denominator == "all" else "requests that had a feasible setting"
    return (
        f"With confidence {1 - level.delta:.3g} over calibrations, at most {level.alpha:.3g} of {whom} miss their "
        "budget, for every budget that has a margin: marginal over requests like the calibration set, on this device and "
        "software, at batch 1."
    )


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
            controller=content["controller"],
            stops_at_deadline=content["stops_at_deadline"],
            level=Level(**content["level"]),
            denominator=content["denominator"],
            budgets=tuple(BudgetPromise(**budget) for budget in content["budgets"]),
            largest_margin=content["largest_margin"],
            table=LatencyTable.from_json(content["latency_table"]),
            expected_ratio=content["expected_ratio"],
            data_hash=content["data_hash"],
            environment=Environment.model_validate(content["environment"]),
        )
    except (KeyError, TypeError, ValidationError, ValueError) as err:
        raise ValueError(f"{path}: is no promise as `calibrate` writes it: {err}") from err


def data_hash(keys: list[tuple[str, str, str]]) -> str:
    """Return a digest of the requests' names, whatever their order."""
    return hashlib.sha256("\n".join("/".join(key) for key in sorted(keys)).encode()).hexdigest()
