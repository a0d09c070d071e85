import numpy as np
import pytest
from matplotlib import pyplot as plt

from profiling.controllers.budgets import budget_grid
from profiling.controllers.choice_plots import (
    plot_levels,
    plot_tier_confusion,
    tier_confusion,
    tier_confusion_by_budget,
)
from profiling.controllers.outcomes import Outcomes
from tests.controller_world import world


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return world(num_images=30)


def test_the_best_setting_is_never_confused_and_another_tier_is(outcomes: Outcomes) -> None:
    budgets_ms = budget_grid(outcomes)
    best_GN = np.stack([outcomes.realised_goodput_NS(budget_ms).argmax(axis=1) for budget_ms in budgets_ms])
    counts = tier_confusion(best_GN, outcomes, budgets_ms)
    assert set(counts) == {"colors", "signs", "all"}
    answerable = sum((outcomes.realised_goodput_NS(budget_ms).max(axis=1) > 0).sum() for budget_ms in budgets_ms)
    assert counts["all"].sum() == np.trace(counts["all"]) == answerable
    np.testing.assert_array_equal(counts["colors"] + counts["signs"], counts["all"])
    always_high = np.full_like(best_GN, 17)
    high = tier_confusion(always_high, outcomes, budgets_ms)["all"]
    assert high[:, :2].sum() == 0
    assert high[:2, 2].sum() > 0


def test_confusion_by_budget_adds_up_to_that_of_all(outcomes: Outcomes) -> None:
    budgets_ms = budget_grid(outcomes)
    chosen_GN = np.random.default_rng(0).integers(len(outcomes.settings), size=(len(budgets_ms), len(outcomes)))
    by_budget = tier_confusion_by_budget(chosen_GN, outcomes, budgets_ms)
    assert list(by_budget) == [f"{budget_ms:.3g} ms" for budget_ms in budgets_ms]
    np.testing.assert_array_equal(sum(by_budget.values()), tier_confusion(chosen_GN, outcomes, budgets_ms)["all"])
    answerable = [(outcomes.realised_goodput_NS(budget_ms).max(axis=1) > 0).sum() for budget_ms in budgets_ms]
    assert [matrix.sum() for matrix in by_budget.values()] == answerable


def test_matrices_and_levels_are_drawn_as_shares(outcomes: Outcomes) -> None:
    matrix = np.asarray([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    figure = plot_tier_confusion({"all": matrix}, ["low", "medium", "high"], caption="a device")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "ties count as right" in figure.get_suptitle()
    assert texts == ["0.75", "0.25", "0.00", "0.00", "0.00", "0.00", "0.00", "0.00", "1.00"]
    plt.close(figure)
    chosen_GN = np.asarray([[0, 17], [17, 17]])
    figure = plot_levels(chosen_GN, outcomes, [10.0, 20.0], caption="a device")
    heights = [patch.get_height() for patch in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights == [0.5, 0, 0, 0, 0.5, 1]  # low, medium, high; two budgets each
    plt.close(figure)
