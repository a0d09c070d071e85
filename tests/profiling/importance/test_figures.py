from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from profiling.importance.consistency import Consistency, Correlation, PairMean, Relation
from profiling.importance.dataset_scores import DatasetScores
from profiling.importance.figures import (
    plot_comparison,
    plot_correlation_matrix,
    plot_correlations,
    plot_heat_map,
    plot_scatter,
)
from profiling.importance.scores import BlockScore
from profiling.resampling import Array, Interval
from profiling.subsets.job import Part

DROP = BlockScore.ACCURACY_DROP
PARTS: tuple[Part, ...] = ("train", "validation")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def around(value: float, width: float = 0.0005) -> Interval:
    return Interval(value=value, low=value - width, high=value + width)


def dataset(*drops: list[float], name: str = "a") -> DatasetScores:
    """The same score of every kind, on one part or both."""
    parts = PARTS[: len(drops)]
    return DatasetScores(
        label="tiny, A GPU",
        dataset=name,
        num_samples=dict.fromkeys(parts, 1000),
        scores={
            part: dict.fromkeys(BlockScore, tuple(map(around, values)))
            for part, values in zip(parts, drops, strict=True)
        },
    )


def pair(first: str, second: str, value: float | None) -> Correlation:
    interval = None if value is None else around(value)
    relation: Relation = "splits" if first == second else "between_tasks"
    part = PARTS[0] if first == second else PARTS[1]
    return Correlation(
        first=(first, part), second=(second, PARTS[1]), relation=relation, spearman=interval, pearson=interval
    )


def consistency(*pairs: Correlation) -> Consistency:
    mean = PairMean(interval=around(0.5, 0.2), num_pairs=7)
    return Consistency(
        score=DROP,
        num_blocks=16,
        correlations=pairs,
        spearman={"splits": mean, "between_tasks": mean},
        pearson={},
        data_effect=None,
        task_effect=None,
    )


def test_one_block_hides_no_other_that_is_hardly_missed() -> None:
    missed_once = dataset([0.99, 0.0, 0.0, 0.004, 0.001], [0.98, 0.0, 0.001, -0.002, 0.0])
    axis = plot_scatter(DROP, [missed_once]).axes[0]
    at_zero, missed, most = axis.transData.transform([(0, 0), (0.004, 0), (0.99, 0)])[:, 0]
    assert missed - at_zero > 0.1 * (most - at_zero)
    axis = plot_comparison(missed_once).axes[0]
    at_zero, missed, most = axis.transData.transform([(0, 0), (0, 0.004), (0, 0.99)])[:, 1]
    assert missed - at_zero > 0.1 * (most - at_zero)


def test_blocks_that_are_not_missed_at_all_are_drawn_too() -> None:
    axis = plot_scatter(DROP, [dataset([0.0, 0.0])]).axes[0]
    assert np.asarray(axis.collections[-1].get_offsets()).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert plot_heat_map(DROP, [dataset([0.0, 0.0])]).axes[0].get_images()


def test_many_datasets_take_several_rows() -> None:
    figure = plot_scatter(DROP, [dataset([0.5, 0.1], name=f"data_{number}") for number in range(7)])
    shown = [axis for axis in figure.axes if axis.get_visible() and axis.get_title()]
    assert [axis.get_title() for axis in shown] == [f"data_{number}" for number in range(7)]
    assert len({round(axis.get_position().y0, 3) for axis in shown}) == 2


def test_only_the_most_missed_blocks_are_named_in_a_scatter() -> None:
    axis = plot_scatter(DROP, [dataset([0.5, 0.1, 0.3, 0.0, 0.2])]).axes[0]
    assert {text.get_text() for text in axis.texts} == {"0", "2", "4"}


def test_blocks_are_not_joined_by_lines_but_have_error_bars() -> None:
    axis = plot_comparison(dataset([0.5, 0.1], [0.4, 0.2])).axes[0]
    assert [type(container) for container in axis.containers] == [ErrorbarContainer] * 2
    assert all(line.get_linestyle() == "None" for line in axis.get_lines())
    (train, validation) = (np.asarray(container[0].get_xdata()) for container in axis.containers)
    assert (validation - train).tolist() == pytest.approx([0.3, 0.3])


def test_a_heat_map_leaves_out_what_may_be_nothing_and_has_real_units() -> None:
    figure = plot_heat_map(DROP, [dataset([0.8, 0.0004, -0.01, 0.02])])
    axis, bar = figure.axes
    (image,) = axis.get_images()
    assert np.ma.getmaskarray(np.ma.asarray(image.get_array())).tolist() == [[False, True, False, False]]
    assert image.get_clim() == (-0.8, 0.8)
    assert axis.patch.get_hatch() is not None
    assert bar.get_ylabel() == "accuracy drop"


def test_captions_name_hardware_and_samples() -> None:
    datasets = [dataset([0.5, 0.1], [0.4, 0.2])]
    found = consistency(pair("a", "a", 0.9))
    figures = [
        plot_comparison(datasets[0]),
        plot_heat_map(DROP, datasets),
        plot_scatter(DROP, datasets),
        plot_correlations({DROP: found}, datasets),
        plot_correlation_matrix(found, datasets),
    ]
    for figure in figures:
        assert "tiny, A GPU" in figure.get_suptitle()
        assert "1,000 train and 1,000 validation samples" in figure.get_suptitle()


def test_bars_say_how_many_pairs_they_are_of() -> None:
    axis = plot_correlations({DROP: consistency()}, [dataset([0.5, 0.1])]).axes[0]
    assert [text.get_text() for text in axis.texts] == ["7", "7"]


def test_a_matrix_has_pairs_of_datasets_and_their_parts_on_its_diagonal() -> None:
    found = consistency(pair("a", "a", 0.9), pair("a", "b", 0.25), pair("b", "b", None))
    axis = plot_correlation_matrix(found, [dataset([0.5], [0.5], name=name) for name in "ab"]).axes[0]
    shown: Array = np.ma.asarray(axis.get_images()[0].get_array()).filled(np.nan)
    assert shown == pytest.approx(np.array([[0.9, 0.25], [0.25, np.nan]]), nan_ok=True)
    assert [text.get_text() for text in axis.texts] == ["0.90", "0.25", "0.25"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
