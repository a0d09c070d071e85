from typing import Any

import pytest

from lightning_modules.plain_arguments import described, rebuilt
from models.controllers import Goodput, Lagrangian, OverrunPenalty, Reward
from models.controllers.objectives import ExactPolicyGradient, Grpo, HardCrossEntropy, Objective, QRegression


@pytest.mark.parametrize("objective", [QRegression(), HardCrossEntropy(tie="cheapest"), Grpo(group_size=7)])
def test_an_objective_comes_back_equal(objective: Objective) -> None:
    assert rebuilt(described(objective), Objective) == objective  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("reward", "arguments"),
    [
        (Goodput(), {}),
        (OverrunPenalty(beta=2.0), {"alpha": 1.0, "beta": 2.0}),
        (
            Lagrangian([10.0, 20.0], first_price=0.1),
            {"bin_edges_ms": [10.0, 20.0], "target_miss_rate": 0.05, "learning_rate": 0.05, "first_price": 0.1},
        ),
    ],
)
def test_a_reward_is_described_by_its_arguments(reward: Reward, arguments: dict[str, Any]) -> None:
    content = described(reward)
    assert content["class_path"] == f"models.controllers.rewards.{type(reward).__name__}"
    assert content["init_args"] == arguments
    assert described(rebuilt(content, Reward)) == content  # type: ignore[type-abstract]


def test_an_object_that_is_given_is_copied() -> None:
    reward = Lagrangian([10.0])
    copy = rebuilt(reward, Reward)  # type: ignore[type-abstract]
    assert isinstance(copy, Lagrangian)
    copy.price_N += 1
    assert reward.price_N.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("path", ["models.controllers.rewards.Goodput", "os.system", "nowhere.Thing", "Thing"])
def test_what_is_no_objective_is_refused(path: str) -> None:
    content = {**described(ExactPolicyGradient()), "class_path": path}
    with pytest.raises(ValueError, match=r"class_path: (must be a Objective|there is no)"):
        rebuilt(content, Objective)  # type: ignore[type-abstract]
