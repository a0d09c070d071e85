import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import main
from lightning_modules.finished_policy import PolicySource
from profiling.adaptive.server import Server
from profiling.promises.promise import read_promise
from tests.adaptive_world import PROFILE, SNAPSHOT, write_controller, write_world_of_small_model

CONFIGS = Path(main.__file__).parent / "configs" / "calibrate"
PROMISE = Path("promises/mine.json")


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
    rows = pd.read_parquet(PROMISE.with_suffix(".parquet"))
    assert rows.margin.value_counts().to_dict() == {0.5: 60, 0.0: 60}
    assert {path.name for path in PROMISE.parent.iterdir()} == {"mine.json", "mine.parquet"}
    assert "marginal over requests like the calibration set" in " ".join(capsys.readouterr().out.split())


def test_a_budget_that_nothing_keeps_is_not_promised() -> None:
    calibrate(changes={"--budgets_ms": "[0.001]"})
    (budget,) = read_promise(PROMISE).budgets
    assert (budget.margin, budget.num_misses, budget.num_truncated) == (None, 60, 60)


def test_too_few_questions_are_refused_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PolicySource, "load", None)
    with pytest.raises(ValueError, match=r"num_requests: 59 or more are needed .* got 58"):
        calibrate(num_samples=29)
    with pytest.raises(ValueError, match=r"num_requests: 299 or more are needed .* got 60"):
        calibrate("--level.alpha", "0.01")


def test_a_calibration_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, float]] = []
    answer, last = Server.answer, 41

    def counted(self: Server, request: Any, image: Any, *, margin: float) -> Any:
        if len(asked) == last:
            raise KeyboardInterrupt
        asked.append((request.key, margin))
        return answer(self, request, image, margin=margin)

    monkeypatch.setattr(Server, "answer", counted)
    with pytest.raises(KeyboardInterrupt):
        calibrate()
    first = asked[1:]  # one of them was the warm-up
    asked.clear()
    last = 1000
    calibrate()
    assert len(first) + len(asked) - 1 == 120
    assert not set(first) & set(asked[1:])


def test_a_promise_is_renewed_from_few_requests(capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(changes={"--policy.controller": write_controller("supervised")})
    content = json.loads(PROMISE.read_text())
    content["expected_ratio"] /= 2  # as if the device had been twice as fast then
    PROMISE.write_text(json.dumps(content))
    words = ["--promise", str(PROMISE), "--output", "new.json", "--n", "59"]
    data = "{suite_scenes: {calibration: calibration}, suite_choice: {calibration: calibration}}"
    more = ["--questions.datasets", data, "--questions.num_samples", "{calibration: 30}"]
    config = str(CONFIGS / "recalibrate.yaml")
    main.cli_main(["recalibrate", "--config", config, *words, *more])
    old, new = read_promise(PROMISE), read_promise(Path("new.json"))
    assert (new.terms, new.policy) == (old.terms, old.policy)
    assert new.budgets[0].num_requests == 59
    tokens_T = [min(tier) for tier in old.table.by_tokens]
    slower = new.table.expected(tokens_T).total_ms / old.table.expected(tokens_T).total_ms
    assert slower[0] > 1.2
    assert slower == pytest.approx(slower[0])
    assert "of what they took at the calibration" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ValueError, match=r"num_requests: 59 or more are needed .* got 58"):
        main.cli_main(["recalibrate", "--config", config, *words[:-1], "58", *more])
    with pytest.raises(ValueError, match="n: must be 1 to 60, the questions that there are, got 61"):
        main.cli_main(["recalibrate", "--config", config, *words[:-1], "61", *more])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--output": "promise.txt"}, r"output: file name must end in .json, got 'promise.txt'"),
        ({"--policy.profile": "null"}, "policy: to be calibrated it takes a profile and no promise"),
        ({"--budgets_ms": "[0.0]"}, r"budgets_ms\[0\]: must be a positive number of milliseconds, got 0.0"),
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
