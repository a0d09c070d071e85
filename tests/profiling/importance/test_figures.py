from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from profiling.importance.figures import plot_comparison, plot_scatter
from profiling.importance.scores import BlockScore, PartScores
from profiling.subsets.job import Part

DROP = BlockScore.ACCURACY_DROP


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def scored(part: Part, drops: list[float], *, num_datasets: int = 1) -> PartScores:
    values = dict.fromkeys(BlockScore, np.array([drops, drops]))
    names = [f"data_{number}" for number in range(num_datasets)]
    return PartScores(label="tiny", part=part, values=dict.fromkeys(names, values), costs={}, span_angles={})


def test_one_block_hides_no_other_that_is_hardly_missed() -> None:
    parts = [scored("train", [0.99, 0.0, 0.0, 0.004, 0.001]), scored("validation", [0.98, 0.0, 0.001, -0.002, 0.0])]
    axis = plot_scatter(DROP, parts).axes[0]
    at_zero, missed, most = axis.transData.transform([(0, 0), (0.004, 0), (0.99, 0)])[:, 0]
    assert missed - at_zero > 0.1 * (most - at_zero)
    axis = plot_comparison("data_0", parts, seed=0).axes[0]
    at_zero, missed, most = axis.transData.transform([(0, 0), (0, 0.004), (0, 0.99)])[:, 1]
    assert missed - at_zero > 0.1 * (most - at_zero)


def test_blocks_that_are_not_missed_at_all_are_drawn_too() -> None:
    figure = plot_scatter(DROP, [scored("train", [0.0, 0.0])])
    assert figure.axes[0].get_lines()[0].get_xdata() == pytest.approx([0.0, 0.0])


def test_many_datasets_take_several_rows() -> None:
    figure = plot_scatter(DROP, [scored("train", [0.5, 0.1], num_datasets=7)])
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == [f"data_{number}" for number in range(7)]
    assert len({round(axis.get_position().y0, 3) for axis in shown}) == 2
