"""What holds for every objective."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from jsonargparse import ArgumentParser

from models.controllers.feedback import Feedback
from models.controllers.objectives import (
    ArgmaxSetCrossEntropy,
    ExactPolicyGradient,
    Grpo,
    HardCrossEntropy,
    Objective,
    PairwiseRank,
    QRegression,
    Rloo,
    SoftCrossEntropy,
)
from tests.models.controllers.planted import Planted, gradient

ALL: tuple[Objective, ...] = (
    HardCrossEntropy(tie="best_population"),
    HardCrossEntropy(tie="cheapest"),
    SoftCrossEntropy(),
    ArgmaxSetCrossEntropy(),
    QRegression(),
    ExactPolicyGradient(),
    Rloo(),
    Grpo(advantage="zscore"),
    Grpo(advantage="center"),
    Grpo(advantage="rank"),
    Grpo(updates_per_draw=3, kl_weight=0.01),
    PairwiseRank(),
)
every_objective = pytest.mark.parametrize("objective", ALL, ids=repr)


@every_objective
def test_the_planted_best_setting_is_found(objective: Objective) -> None:
    problem = Planted(num_rows=384)
    chosen = problem.train(objective, num_steps=300)
    assert torch.equal(chosen, problem.best_B)


@every_objective
def test_missing_cells_get_no_gradient_and_change_none(objective: Objective) -> None:
    problem = Planted()
    logits = torch.randn(48, 12)
    before = gradient(objective, logits, problem.feedback)
    assert before.isfinite().all()
    assert (before[:, -1] == 0).all()
    assert (before[:, :-1] != 0).any()
    problem.feedback.reward[:, -1] = 100.0
    problem.feedback.latency_ms[:, -1] = torch.nan
    assert torch.equal(gradient(objective, logits, problem.feedback), before)


@every_objective
def test_a_request_without_any_measured_setting_teaches_nothing(objective: Objective) -> None:
    problem = Planted()
    problem.feedback.is_measured[3] = False
    problem.feedback.reward[3] = torch.nan
    learned = gradient(objective, torch.randn(48, 12), problem.feedback)
    assert learned.isfinite().all()
    assert (learned[3] == 0).all()


@every_objective
def test_one_seed_gives_one_gradient(objective: Objective) -> None:
    problem, logits = Planted(), torch.randn(48, 12)
    first, same, other = (gradient(objective, logits, problem.feedback, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    is_random = isinstance(objective, Rloo | Grpo | PairwiseRank)
    assert torch.equal(first, other) != is_random


@every_objective
def test_equal_rewards_teach_no_preference(objective: Objective) -> None:
    feedback = Feedback(torch.full((4, 6), 0.3), torch.ones(4, 6), torch.ones(4, 6, dtype=torch.bool), torch.ones(6))
    learned = gradient(objective, torch.zeros(4, 6), feedback)
    if isinstance(objective, HardCrossEntropy):
        assert (learned[:, 0] < 0).all()  # it must name one
    else:
        torch.testing.assert_close(learned, learned[:, :1].expand(4, 6))


@every_objective
def test_diagnostics_are_scalars_without_a_gradient(objective: Objective) -> None:
    diagnostics = objective.loss(torch.randn(48, 12, requires_grad=True), Planted().feedback).diagnostics
    assert "reward" in diagnostics
    for name, value in diagnostics.items():
        assert value.shape == (), name
        assert value.isfinite(), name
        assert not value.requires_grad, name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Grpo", Grpo()),
        (
            {"class_path": "Grpo", "init_args": {"group_size": 16, "advantage": "center"}},
            Grpo(group_size=16, advantage="center"),
        ),
        ({"class_path": "HardCrossEntropy", "init_args": {"tie": "cheapest"}}, HardCrossEntropy(tie="cheapest")),
        ({"class_path": "models.controllers.objectives.QRegression"}, QRegression()),
    ],
)
def test_one_line_of_yaml_names_an_objective(given: str | dict[str, object], expected: Objective) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    config = parser.instantiate_classes(parser.parse_object({"objective": given}))
    assert config.objective == expected


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Grpo(group_size=1), "Grpo: group_size: must be 2 or more, got 1"),
        (
            lambda: Grpo(advantage=cast("Any", "best")),
            "Grpo: advantage: must be one of zscore, center, rank, got 'best'",
        ),
        (lambda: Grpo(clip_fraction=1.0), r"Grpo: clip_fraction: must be in \(0, 1\), got 1.0"),
        (lambda: Grpo(kl_weight=-1.0), "Grpo: kl_weight: must be 0 or more, got -1.0"),
        (lambda: Grpo(updates_per_draw=0), "Grpo: updates_per_draw: must be 1 or more, got 0"),
        (lambda: Rloo(group_size=1), "Rloo: group_size: must be 2 or more, got 1"),
        (lambda: Rloo(entropy_weight=float("nan")), "Rloo: entropy_weight: must be 0 or more, got nan"),
        (lambda: ExactPolicyGradient(entropy_weight=-0.1), "ExactPolicyGradient: entropy_weight"),
        (lambda: SoftCrossEntropy(temperature=0.0), "SoftCrossEntropy: temperature: must be above 0, got 0.0"),
        (lambda: HardCrossEntropy(tie=cast("Any", "first")), "tie: must be best_population or cheapest, got 'first'"),
        (lambda: PairwiseRank(group_size=1), "PairwiseRank: group_size: must be 2 or more, got 1"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Objective], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
