import json
from pathlib import Path

import pytest

import main
from models.knobs import spread_grid
from models.weights_digest import weights_digest
from profiling.controllers.outcomes import read_outcomes
from profiling.promises.digests import file_digest, profiles_digest
from profiling.promises.guarantee import Level
from profiling.promises.latency_table import fit_latency_table
from profiling.promises.promise import BudgetPromise, Promise, Terms, data_hash, read_promise
from profiling.schema import Environment
from tests.controller_world import write_world

FILE = Path("promise.json")
ROOT = Path(main.__file__).parent


def promise() -> Promise:
    grid = spread_grid(16, top_k=(4,), block_counts=(16,))
    outcomes = read_outcomes([write_world(Path("world.parquet"), num_images=20, per_image=1, grid=grid)])
    margins = {20.0: None, 40.0: 0.1, 80.0: 0.0}
    return Promise(
        policy={"snapshot": "model", "controller": "full"},
        terms=Terms(budgets_ms=tuple(margins), margins=(0.3, 0.1, 0.0), level=Level(), denominator="all"),
        budgets=tuple(
            BudgetPromise(
                budget_ms=budget, margin=margin, num_requests=99, num_misses=0, num_infeasible=0, num_truncated=3
            )
            for budget, margin in margins.items()
        ),
        table=fit_latency_table(outcomes, outcomes, alpha=0.1),
        expected_ratio=1.01,
        data_hash=data_hash([("d", "s", "1"), ("d", "s", "0")]),
        environment=Environment(device="a device", date="2026-01-01"),
        digests={"controller": "full", "weights": "abc"},
    )


def test_a_promise_says_what_was_promised_on_what_and_when() -> None:
    promise().write(FILE)
    content = json.loads(FILE.read_text())
    assert content["statement"] == (
        "With confidence 0.95 over calibrations, at most 0.05 of requests miss their budget, for every budget that has "
        "a margin: marginal over requests like the calibration set, on this device and software, at batch 1."
    )
    assert content["environment"]["device"] == "a device"
    assert content["terms"]["level"] == {"alpha": 0.05, "delta": 0.05, "correction": "holm"}
    assert content["budgets"][1] == {
        "budget_ms": 40.0,
        "margin": 0.1,
        "num_requests": 99,
        "num_misses": 0,
        "num_infeasible": 0,
        "num_truncated": 3,
    }


def test_a_promise_is_read_as_it_was_written() -> None:
    promise().write(FILE)
    found, given = read_promise(FILE), promise()
    for name in ("policy", "terms", "budgets", "expected_ratio", "data_hash", "environment", "digests"):
        assert getattr(found, name) == getattr(given, name)
    assert found.table.to_json() == given.table.to_json()


@pytest.mark.parametrize(
    ("budget_ms", "margin", "is_promised"),
    [
        (40.0, 0.1, True),
        (80.0, 0.0, True),
        (20.0, 0.3, False),  # nothing was shown: the safest
        (60.0, 0.1, False),  # between two: the larger
        (30.0, 0.3, False),
        (10.0, 0.3, False),  # beyond: the nearest
        (99.0, 0.0, False),
    ],
)
def test_margins_of_budgets_that_were_not_calibrated_are_the_safer_neighbours(
    budget_ms: float, margin: float, *, is_promised: bool
) -> None:
    assert promise().margin(budget_ms) == margin
    assert promise().is_promised(budget_ms) is is_promised


def test_what_is_promised_of_those_served_is_said_so() -> None:
    terms = Terms(budgets_ms=(1.0,), margins=(0.0,), level=Level(alpha=0.01), denominator="served")
    assert "at most 0.01 of requests that had a feasible setting miss their budget" in terms.statement


def test_the_order_of_requests_does_not_change_their_digest() -> None:
    assert data_hash([("d", "s", "1"), ("d", "s", "0")]) == data_hash([("d", "s", "0"), ("d", "s", "1")])
    assert data_hash([("d", "s", "1")]) != data_hash([("d", "s", "2")])


def test_a_file_of_before_digests_were_kept_is_read() -> None:
    promise().write(FILE)
    content = json.loads(FILE.read_text())
    del content["digests"]
    FILE.write_text(json.dumps(content))
    assert read_promise(FILE).digests == {}


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match=r"promise.json: no such file; `calibrate` writes one"):
        read_promise(FILE)
    FILE.write_text("{}")
    with pytest.raises(ValueError, match=r"promise.json: is no promise as `calibrate` writes it: 'schema_version'"):
        read_promise(FILE)
    promise().write(FILE)
    FILE.write_text(FILE.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with pytest.raises(ValueError, match="schema_version: must be 1, got 9"):
        read_promise(FILE)


@pytest.mark.parametrize("name", ["nano_cpu_end_to_end", "nano_h200"])
def test_promises_that_ship_are_of_the_files_that_ship(name: str) -> None:
    shipped = read_promise(ROOT / "assets" / "promises" / f"{name}.json")
    policy, digests = shipped.policy, shipped.digests
    assert digests["controller"] == file_digest(ROOT / policy["controller"])
    assert digests["weights"] == weights_digest(ROOT / policy["snapshot"])
    assert digests["profile"] == profiles_digest([str(ROOT / pattern) for pattern in policy["profile"]])
    assert all(shipped.is_promised(budget.budget_ms) for budget in shipped.budgets)
