import numpy as np

from profiling.controllers.budgets import budget_grid
from profiling.controllers.plug_in import _chance, plug_in
from profiling.controllers.smoothers import mean_goodput
from profiling.controllers.tables import best_static_per_budget
from tests.controller_world import share_out, world_requests


def test_it_beats_every_table_in_a_world_whose_parts_are_linear_enough() -> None:
    parts = share_out(world_requests(num_images=300))
    budgets_ms = budget_grid(parts["train"].outcomes)
    table = mean_goodput(best_static_per_budget(parts["train"].outcomes), parts["test"], budgets_ms)
    assert mean_goodput(plug_in(parts["train"], parts["val"]), parts["test"], budgets_ms) > table + 0.03


def test_a_chance_is_the_share_of_errors_that_would_be_in_time() -> None:
    error_VS = np.asarray([[-1.0], [0.0], [1.0], [np.nan]])
    allowed_NS = np.asarray([[-2.0], [0.5], [3.0]])
    np.testing.assert_allclose(_chance(allowed_NS, error_VS)[:, 0], [0.5 / 4, 2.5 / 4, 3.5 / 4])
