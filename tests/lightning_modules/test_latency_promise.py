import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import main
from lightning_modules.finished_policy import PolicySource
from profiling.adaptive.server import Server
from profiling.promises.digests import file_digest
from profiling.promises.promise import read_promise
from tests.adaptive_world import PROFILE, SNAPSHOT, write_controller, write_world_of_small_model

CONFIGS = Path(main.__file__).parent / "configs" / "calibrate"
PROMISE = Path("promises/mine.json")
ANSWER = Server.answer


@pytest.fixture(autouse=True)
def _world() -> None:
    write_world_of_small_model()


def calibrate(*words: str, num_samples: int = 30, changes: Mapping[str, str] | None = None) -> None:
    arguments = {
        "--policy.snapshot": SNAPSHOT,
        "--policy.profile": f"[{PROFILE}]",
        "--policy.controller": "low/1/2",
        "--policy.checks_time": "false",
        "--questions.datasets": "{suite_scenes: {calibration: calibration}, suite_choice: {calibration: calibration}}",
        "--questions.num_samples": f"{{calibration: {num_samples}}}",
        "--budgets_ms": "[1000000]",
        "--margins": "[0.5, 0.0]",
        "--output": str(PROMISE),
        **(changes or {}),
    }
    named = [word for pair in arguments.items() for word in pair]
    main.cli_main(["calibrate", "--config", str(CONFIGS / "default.yaml"), *named, *words])


def renew(*words: str) -> None:
    arguments = {
        "--questions.datasets": "{suite_scenes: {calibration: calibration}, suite_choice: {calibration: calibration}}",
        "--questions.num_samples": "{calibration: 30}",
        "--promise": str(PROMISE),
        "--output": "new.json",
        "--n": "59",
    }
    named = [word for pair in arguments.items() for word in pair]
    main.cli_main(["recalibrate", "--config", str(CONFIGS / "recalibrate.yaml"), *named, *words])


def test_a_budget_that_is_always_kept_is_promised_without_margin(capsys: pytest.CaptureFixture[str]) -> None:
    calibrate()
    promise = read_promise(PROMISE)
    (budget,) = promise.budgets
    assert (budget.budget_ms, budget.margin, budget.num_requests, budget.num_misses) == (1e6, 0.0, 60, 0)
    assert promise.policy["controller"] == "low/1/2"
    assert promise.environment.device != "unknown"
    assert promise.environment.date is not None
    assert promise.expected_ratio > 0
    assert len(promise.data_hash) == 64
    assert promise.digests.keys() == {"controller", "weights", "profile"}
    assert promise.digests["controller"] == "low/1/2"
    rows = pd.read_parquet(PROMISE.with_suffix(".parquet"))
    assert rows.margin.value_counts().to_dict() == {0.5: 60, 0.0: 60}
    assert {path.name for path in PROMISE.parent.iterdir()} == {"mine.json", "mine.parquet"}
    assert "marginal over requests like the calibration set" in " ".join(capsys.readouterr().out.split())


def test_a_budget_that_nothing_keeps_is_not_promised() -> None:
    calibrate(changes={"--budgets_ms": "[0.001]"})
    (budget,) = read_promise(PROMISE).budgets
    assert (budget.margin, budget.num_misses, budget.num_truncated) == (None, 60, 60)


def test_a_profile_none_of_whose_budgets_can_be_kept_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_modules.latency_promise.budget_grid", lambda _: [0.001, 0.002])
    message = (
        r"budgets_ms: the largest of the profile is 0.002 ms, and its cheapest setting takes up to .* name budgets"
    )
    with pytest.raises(ValueError, match=message):
        calibrate(changes={"--budgets_ms": "null"})


def test_too_few_questions_are_refused_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PolicySource, "load", None)
    with pytest.raises(ValueError, match=r"num_requests: 59 or more are needed .* got 58"):
        calibrate(num_samples=29)
    with pytest.raises(ValueError, match=r"num_requests: 299 or more are needed .* got 60"):
        calibrate("--level.alpha", "0.01")


def interrupt(monkeypatch: pytest.MonkeyPatch, *, after: int) -> list[tuple[Any, float]]:
    """Break off after so many requests, warm-ups included; later calls of this take that back."""
    asked: list[tuple[Any, float]] = []

    def counted(self: Server, request: Any, image: Any, *, margin: float) -> Any:
        if len(asked) == after:
            raise KeyboardInterrupt
        asked.append((request.key, margin))
        return ANSWER(self, request, image, margin=margin)

    monkeypatch.setattr(Server, "answer", counted)
    return asked


def test_a_calibration_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets = {"--budgets_ms": "[1000000, 2000000]", "--margins": "[0.0]"}
    asked = interrupt(monkeypatch, after=41)
    with pytest.raises(KeyboardInterrupt):
        calibrate(num_samples=37, changes=budgets)
    first = asked[1:]  # one of them was the warm-up
    assert {key[-1] for key, _ in first} == {1e6, 2e6}  # budgets take turns
    asked = interrupt(monkeypatch, after=1000)
    calibrate(num_samples=37, changes=budgets)
    assert len(first) + len(asked) - 1 == 2 * 74
    assert not set(first) & set(asked[1:])


def test_a_calibration_does_not_go_on_with_other_files_of_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"--policy.controller": write_controller("supervised")}
    interrupt(monkeypatch, after=4)
    with pytest.raises(KeyboardInterrupt):
        calibrate(changes=changes)
    interrupt(monkeypatch, after=1000)
    write_controller("two_stage")
    with pytest.raises(ValueError, match=r"digests.controller: the file is of a run with .* with --output"):
        calibrate(changes=changes)
    write_controller("supervised")
    write_world_of_small_model(num_images=66)
    with pytest.raises(ValueError, match=r"digests\.\w+: the file is of a run with"):
        calibrate(changes=changes)


def test_a_promise_is_renewed_from_few_requests(capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(changes={"--policy.controller": write_controller("supervised")})
    content = json.loads(PROMISE.read_text())
    content["expected_ratio"] /= 2  # as if the device had been twice as fast then
    PROMISE.write_text(json.dumps(content))
    renew()
    old, new = read_promise(PROMISE), read_promise(Path("new.json"))
    assert (new.terms, new.policy) == (old.terms, old.policy)
    assert new.budgets[0].num_requests == 59
    tokens_T = [min(tier) for tier in old.table.by_tokens]
    slower = new.table.expected(tokens_T).total_ms / old.table.expected(tokens_T).total_ms
    assert slower[0] > 1.2
    assert slower == pytest.approx(slower[0])
    assert new.table.scale == pytest.approx(slower[0])
    assert "of what they took at the calibration" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match=r"num_requests: 59 or more are needed .* got 58"):
        renew("--n", "58")
    with pytest.raises(ValueError, match="n: must be 1 to 60, the questions that there are, got 61"):
        renew("--n", "61")


def test_a_promise_is_renewed_for_other_budgets() -> None:
    calibrate()
    renew("--budgets_ms", "[3000000]")
    assert [budget.budget_ms for budget in read_promise(Path("new.json")).budgets] == [3e6]
    with pytest.raises(ValueError, match="budget"):
        renew("--budgets_ms", "[-1]")


def test_a_promise_of_one_controller_becomes_one_of_another() -> None:
    calibrate()
    controller = write_controller("supervised")
    renew("--controller", controller)
    old, new = read_promise(PROMISE), read_promise(Path("new.json"))
    assert new.policy == {**old.policy, "controller": controller}
    assert new.digests["controller"] == file_digest(controller)
    with pytest.raises(ValueError, match=r"nowhere\.ckpt"):
        renew("--controller", "nowhere.ckpt")


def test_a_renewal_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate(changes={"--margins": "[0.0]"})
    asked = interrupt(monkeypatch, after=1 + 59 + 1 + 10)
    with pytest.raises(KeyboardInterrupt):
        renew()
    first = asked[1:60] + asked[61:]
    asked = interrupt(monkeypatch, after=1000)
    renew()
    again = asked[2:]  # both servers were warmed up
    assert len(first) + len(again) == 59 + 59
    assert not set(first[59:]) & set(again)
    assert read_promise(Path("new.json")).budgets[0].num_requests == 59
    assert not Path("new").exists()


def test_a_promise_of_a_policy_with_other_arguments_is_told() -> None:
    calibrate(changes={"--margins": "[0.0]"})
    content = json.loads(PROMISE.read_text())
    content["policy"]["speed"] = 9
    PROMISE.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"mine.json: policy: unknown or missing: speed; `calibrate` anew"):
        renew()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--output": "promise.txt"}, r"output: file name must end in .json, got 'promise.txt'"),
        ({"--policy.profile": "null"}, "policy: to be calibrated it takes a profile and no promise"),
        ({"--budgets_ms": "[0.0]"}, r"budgets_ms\[0\]: must be a positive number of milliseconds, got 0.0"),
        ({"--budgets_ms": "[]"}, "budgets_ms: needs at least one budget, got none"),
        ({"--budgets_ms": "[.nan]"}, r"budgets_ms\[0\]: must be a positive number"),
        ({"--margins": "[0.0, 0.1]"}, "margins: need shares of a budget"),
        (
            {"--questions.datasets": "{suite_scenes: {test: test}}", "--questions.num_samples": "{test: 3}"},
            "no dataset names a split for the part calibration",
        ),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(changes=changes)
