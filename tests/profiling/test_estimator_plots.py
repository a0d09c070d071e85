from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from models.latency_estimator import TARGETS
from profiling.estimator_plots import error_by_setting, error_by_tokens, predicted_against_measured


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {
        "target": np.repeat(TARGETS, 40),
        "measured_ms": rng.uniform(1, 10, size=200),
        "error_pct": rng.normal(0, 2, size=200),
        "tokens": rng.integers(100, 2000, size=200),
        "num_crops": rng.integers(2, 14, size=200),
        "top_k": rng.choice([4, 8], size=200),
        "num_active_blocks": rng.choice([8, 16], size=200),
    }
    table = pd.DataFrame(columns)
    predicted_ms = table["measured_ms"] * (1 + table["error_pct"] / 100)
    return table.assign(predicted_ms=predicted_ms, low_ms=predicted_ms * 0.9, high_ms=predicted_ms * 1.1)


@pytest.mark.parametrize("draw", [predicted_against_measured, error_by_setting, error_by_tokens])
def test_a_figure_has_a_panel_for_each_target_and_says_where_it_is_from(
    draw: Callable[..., Figure], frame: pd.DataFrame
) -> None:
    figure = draw(frame, caption="a device, 40 rows")
    assert [axis.get_title() for axis in figure.axes] == [target.replace("_", " ") for target in TARGETS]
    assert all(axis.get_xlabel() for axis in figure.axes)
    assert "%" in figure.axes[0].get_ylabel() or "ms" in figure.axes[0].get_ylabel()
    assert figure.get_supxlabel() == "a device, 40 rows"
    plt.close(figure)
