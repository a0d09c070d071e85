import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules.budgeted_questions import BudgetedQuestionsDataModule


def requests(datasets: dict[str, str] | None = None, **changes: Any) -> list[Any]:
    data = BudgetedQuestionsDataModule(
        datasets or {"suite_scenes": "test", "suite_counting": "test"},
        num_requests=changes.pop("num_requests", 3),
        **changes,
    )
    data.setup("test")
    data.setup("test")
    return list(data.test_dataloader())


def test_every_question_is_asked_under_every_budget_in_an_order_of_the_seed() -> None:
    found = requests(latency_budget_ms=[50.0, 20.0])
    keys = [request.key for request in found]
    assert len(set(keys)) == len(keys) == 12
    assert {request.budget_ms for request in found} == {20.0, 50.0}
    assert keys == [request.key for request in requests(latency_budget_ms=[50.0, 20.0])]
    assert keys != sorted(keys)
    assert keys != [request.key for request in requests(latency_budget_ms=[50.0, 20.0], seed=1)]


def write_own(*budgets_ms: Any) -> dict[str, str]:
    Image.new("RGB", (8, 8)).save("a.png")
    lines = [{"image": "a.png", "question": "what?", "answers": ["a"], "budget_ms": each} for each in budgets_ms]
    Path("own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"own.jsonl": "all"}


def test_questions_may_bring_their_budgets() -> None:
    found = requests(write_own(30.0, 60.5), num_requests=2)
    assert sorted(request.budget_ms for request in found) == [30.0, 60.5]
    assert {request.budget_ms for request in requests(write_own(30.0, 60.5), num_requests=2, latency_budget_ms=9)} == {
        9
    }


def test_a_question_without_a_budget_is_named() -> None:
    with pytest.raises(ValueError, match="own: sample 2: budget_ms: has none; give one to all by latency_budget"):
        requests(write_own(30.0, None), num_requests=2)


@pytest.mark.parametrize("budget_ms", [0, -1.0, "soon", float("nan")])
def test_a_wrong_budget_of_a_question_is_told(budget_ms: Any) -> None:
    with pytest.raises(ValueError, match=r"own.jsonl: line 1: .*budget_ms"):
        requests(write_own(budget_ms), num_requests=1)


@pytest.mark.parametrize("budget_ms", [0.0, -1.0, float("nan"), []])
def test_a_wrong_budget_is_told(budget_ms: Any) -> None:
    with pytest.raises(ValueError, match="latency_budget: "):
        requests(latency_budget_ms=budget_ms)
