import numpy as np
import pytest

from models.controllers import RequestDecider
from models.knobs import spread_grid
from profiling.adaptive.fixed_deciders import fixed_decider
from profiling.controllers import tables
from profiling.controllers.features import without_embeddings
from profiling.controllers.outcomes import Outcomes
from profiling.controllers.requests import Requests
from tests.controller_world import GRID, world


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return world(num_images=40)


def choice(decider: RequestDecider, budget_ms: float) -> int:
    return int(decider.before_image(budget_ms, {}).argmax())


@pytest.mark.parametrize("name", ["lut_mean", "lut_p95", "best_static_per_budget", "cheapest", "full"])
def test_tables_are_looked_up_as_elsewhere(name: str, outcomes: Outcomes) -> None:
    policy = {
        "lut_mean": tables.lut(outcomes, rule="mean"),
        "lut_p95": tables.lut(outcomes, rule="p95"),
        "best_static_per_budget": tables.best_static_per_budget(outcomes),
        "cheapest": tables.cheapest(outcomes),
        "full": tables.full(outcomes),
    }[name]
    requests = Requests(outcomes=outcomes, features=without_embeddings(outcomes))
    decider = fixed_decider(name, GRID, outcomes, seed=0)
    budgets_ms = [10.0, 20.0, 60.0]
    expected = policy(requests, budgets_ms)
    assert (expected == expected[:, :1]).all()  # they do not look at the request
    assert [choice(decider, budget_ms) for budget_ms in budgets_ms] == expected[:, 0].tolist()


def test_a_setting_is_named_by_its_levels() -> None:
    decider = fixed_decider("medium/8/12", GRID, None, seed=0)
    setting = GRID.settings()[choice(decider, 1.0)]
    assert (setting.tier, setting.top_k, setting.num_active_blocks) == ("medium", 8, 12)
    assert not decider.decides_twice


def test_chance_likes_all_settings_alike() -> None:
    decider = fixed_decider("random", GRID, None, seed=0)
    counts = np.bincount([choice(decider, 1.0) for _ in range(1800)], minlength=18)
    assert counts.min() > 60
    again = fixed_decider("random", GRID, None, seed=0)
    assert [choice(again, 1.0) for _ in range(5)] != [choice(again, 1.0) for _ in range(5)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", r"controller: must be a checkpoint \(.ckpt\), one of random, cheapest"),
        ("low/4", "controller: must be a checkpoint"),
        ("low/few/8", "controller: must be a checkpoint"),
        ("huge/4/8", "tier: must be one of low, medium, high, got 'huge'"),
        ("low/5/8", "top_k: must be one of 4, 8, got 5"),
        ("full", "controller: full looks settings up in a profile, name its files"),
    ],
)
def test_what_there_is_not_is_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fixed_decider(name, GRID, None, seed=0)


def test_a_profile_of_another_grid_is_refused(outcomes: Outcomes) -> None:
    other = spread_grid(16, top_k=(4, 6), block_counts=(8, 12, 16))
    with pytest.raises(ValueError, match="controller: full: the profile is of another grid"):
        fixed_decider("full", other, outcomes, seed=0)
