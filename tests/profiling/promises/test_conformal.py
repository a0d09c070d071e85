import math

import numpy as np
import pytest

from profiling.promises.conformal import conformal_quantile, needed_scores


def test_the_quantile_is_the_rank_that_leaves_room_for_one_more() -> None:
    scores = list(range(1, 20))
    assert conformal_quantile(scores, 0.05) == 19  # rank 20 * 0.95 = 19 of 19
    assert conformal_quantile(scores[:18], 0.05) == math.inf  # rank 18.05, so 19, of 18
    assert conformal_quantile([3.0, float("nan"), 1.0, 2.0], 0.5) == 2.0
    assert conformal_quantile([], 0.5) == math.inf


def test_the_next_score_exceeds_it_as_often_as_said() -> None:
    draws = np.random.default_rng(0).lognormal(size=(4000, 100))
    misses = [row[99] > conformal_quantile(row[:99], 0.1) for row in draws]
    assert np.mean(misses) == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 4000))


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_an_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha: must be between 0 and 1"):
        conformal_quantile([1.0], alpha)


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.3, 3)])
def test_so_many_scores_are_needed_to_bound_anything(alpha: float, needed: int) -> None:
    assert needed_scores(alpha) == needed
    assert math.isfinite(conformal_quantile(range(needed), alpha))
    assert math.isinf(conformal_quantile(range(needed - 1), alpha))
