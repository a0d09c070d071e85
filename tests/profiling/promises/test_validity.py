from dataclasses import replace
from typing import Any

import pytest

from models.knobs import spread_grid
from profiling.controllers.outcomes import read_outcomes
from profiling.promises.guarantee import Level
from profiling.promises.latency_table import fit_latency_table
from profiling.promises.promise import BudgetPromise, Promise, Terms
from profiling.promises.validity import Validity, validity
from profiling.promises.watch import PromiseWatch
from profiling.schema import Environment
from tests.controller_world import write_world

POLICY: dict[str, Any] = {
    "snapshot": "model",
    "controller": "best.ckpt",
    "stops_at_deadline": True,
    "checks_time": True,
    "tracks_pace": False,
    "tiling": "target",
}
DIGESTS = {"controller": "c", "weights": "w", "profile": "p"}
HERE = Environment(device="x", torch="2.13", engine="eager", dtype="float32", num_threads=1)


@pytest.fixture(scope="module")
def promise(tmp_path_factory: pytest.TempPathFactory) -> Promise:
    grid = spread_grid(16, top_k=(4,), block_counts=(16,))
    folder = tmp_path_factory.mktemp("world")
    outcomes = read_outcomes([write_world(folder / "world.parquet", num_images=20, per_image=1, grid=grid)])
    margins = {20.0: None, 40.0: 0.1, 80.0: 0.0}
    return Promise(
        policy=POLICY,
        digests=DIGESTS,
        terms=Terms(budgets_ms=tuple(margins), margins=(0.3, 0.1, 0.0), level=Level(), denominator="all"),
        budgets=tuple(
            BudgetPromise(
                budget_ms=budget, margin=margin, num_requests=99, num_misses=0, num_infeasible=0, num_truncated=0
            )
            for budget, margin in margins.items()
        ),
        table=fit_latency_table(outcomes, outcomes, alpha=0.1),
        expected_ratio=1.0,
        data_hash="",
        environment=HERE,
    )


def compared(
    promise: Promise, *, environment: Environment = HERE, online_margin: bool = False, **changes: Any
) -> Validity:
    digests = {**DIGESTS, **changes.pop("digests", {})}
    return validity(
        promise,
        policy={**POLICY, **changes},
        digests=digests,
        environment=environment,
        online_margin=online_margin,
    )


def test_the_policy_that_was_calibrated_is_promised_its_budgets_alone(promise: Promise) -> None:
    found = compared(promise)
    assert (found.differing, found.unknown, found.warning()) == ((), (), None)
    assert [found.is_promised(budget_ms) for budget_ms in (20.0, 40.0, 60.0, 80.0)] == [False, True, False, True]
    said = "Promised for 40, 80 ms: at most 0.05 missed, confidence 0.95."
    assert found.sentence([40.0, 80.0]) == said
    assert found.sentence([20.0, 40.0, 60.0, 80.0]) == f"{said} Nothing is promised for 20, 60 ms."
    assert found.sentence([float(ms) for ms in range(81, 99)]) == "Nothing is promised for 18 of the budgets."


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"controller": "other.ckpt", "digests": {"controller": "d"}}, "controller (best.ckpt then, other.ckpt now)"),
        ({"digests": {"controller": "d"}}, "controller (other content of best.ckpt)"),
        ({"controller": "full", "digests": {"controller": "full"}}, "controller (best.ckpt then, full now)"),
        ({"snapshot": "other", "digests": {"weights": "v"}}, "weights (model then, other now)"),
        ({"digests": {"weights": "v"}}, "weights (other content of model)"),
        ({"checks_time": False}, "checks_time (True then, False now)"),
        ({"environment": HERE.model_copy(update={"device": "y"})}, "device (x then, y now)"),
        ({"environment": HERE.model_copy(update={"torch": "2.14"})}, "torch (2.13 then, 2.14 now)"),
        ({"environment": HERE.model_copy(update={"engine": "graph"})}, "engine (eager then, graph now)"),
        ({"environment": HERE.model_copy(update={"dtype": "bfloat16"})}, "dtype (float32 then, bfloat16 now)"),
        ({"environment": HERE.model_copy(update={"num_threads": 4})}, "num_threads (1 then, 4 now)"),
        ({"online_margin": True}, "online_margin (False then, True now)"),
    ],
)
def test_to_anything_else_nothing_is_promised(promise: Promise, changes: dict[str, Any], difference: str) -> None:
    found = compared(promise, **changes)
    said = f"Nothing is promised: the promise was found with another {difference}."
    assert found.differing == (difference,)
    assert found.warning() == found.sentence([40.0]) == said
    assert not found.is_promised(40.0)


def test_a_copy_of_the_files_under_other_names_is_the_same_policy(promise: Promise) -> None:
    assert compared(promise, controller="copy.ckpt", snapshot="copy").differing == ()


def test_a_profile_matters_only_to_choosers_that_look_settings_up(promise: Promise) -> None:
    assert compared(promise, digests={"profile": "q"}).differing == ()
    by_name = replace(
        promise, policy={**POLICY, "controller": "lut_mean"}, digests={**DIGESTS, "controller": "lut_mean"}
    )
    found = compared(by_name, controller="lut_mean", digests={"controller": "lut_mean", "profile": "q"})
    assert found.differing == ("profile (p then, q now)",)


def test_what_an_older_file_does_not_say_is_not_compared_and_named(promise: Promise) -> None:
    older = replace(promise, digests={})
    found = compared(older, controller="other.ckpt", digests={"controller": "d"})
    said = "Not compared, since the promise does not say them: controller, weights."
    assert (found.differing, found.warning()) == ((), said)
    assert found.is_promised(40.0)
    assert found.sentence([40.0]).endswith(said)
    chooser = compared(older, controller="full", digests={"controller": "full"})
    assert chooser.differing == ("controller (best.ckpt then, full now)",)
    assert chooser.unknown == ("weights",)


def test_a_budget_that_was_not_calibrated_is_told_once(promise: Promise, caplog: pytest.LogCaptureFixture) -> None:
    watch = PromiseWatch(compared(promise))
    for budget_ms in (40.0, 41.0, 41.0, 42.0):
        watch.note(budget_ms, measured_ms=1.0, expected_ms=None)
    assert caplog.messages == ["promise: Nothing is promised for 41 ms."]


def test_that_the_promise_is_of_another_policy_is_told_at_once_and_alone(
    promise: Promise, caplog: pytest.LogCaptureFixture
) -> None:
    watch = PromiseWatch(compared(promise, checks_time=False))
    watch.note(41.0, measured_ms=1.0, expected_ms=None)
    (message,) = caplog.messages
    assert message.startswith("promise: Nothing is promised: the promise was found with another checks_time")


def test_drift_is_told_once(promise: Promise, caplog: pytest.LogCaptureFixture) -> None:
    watch = PromiseWatch(compared(promise))
    for _ in range(99):
        watch.note(40.0, measured_ms=30.0, expected_ms=20.0)
    assert caplog.messages == []
    for _ in range(3):
        watch.note(40.0, measured_ms=30.0, expected_ms=20.0)
    assert caplog.messages == ["drift: requests take 150% of what they took at the calibration; `recalibrate`"]
