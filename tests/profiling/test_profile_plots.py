from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from profiling.profile_plots import caption, plot_components
from profiling.schema import Environment, ProfileRecord
from profiling.table import ProfileTable
from tests.profile_rows import legal_row

ENVIRONMENT = Environment(
    device="A chip", engine="eager", dtype="float32", torch="2.13.0", model="tiny", random_weights=True
)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def drawn(*rows: dict[str, Any]) -> Figure:
    legal = [legal_row(projector_ms=1.0, **row) for row in rows]
    table = ProfileTable.from_records([ProfileRecord.model_validate(row) for row in legal], ENVIRONMENT)
    return plot_components(table.to_pandas(), ENVIRONMENT)


def points(axes: Axes) -> list[list[tuple[float, float]]]:
    return [
        list(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))
        for line in axes.get_lines()
    ]


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_each_component_is_drawn_against_its_driver() -> None:
    figure = drawn({"num_crops": 2})
    assert [axes.get_title() for axes in figure.axes] == [
        "Vision encoder",
        "Projector, with pooling",
        "Prefill",
        "Decode",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "crops, overview included",
        "crops, overview included",
        "prompt tokens, vision tokens included",
        "active blocks",
    ]
    assert [axes.get_ylabel() for axes in figure.axes] == ["ms", "ms", "ms", "ms per token"]
    assert all(axes.get_ylim()[0] == 0 for axes in figure.axes)


def test_lines_are_medians_and_bands_their_percentiles() -> None:
    times_ms = {2: (1.0, 2.0, 9.0), 5: (4.0, 5.0, 6.0)}
    figure = drawn(
        *({"num_crops": crops, "vision_encoder_ms": time} for crops, times in times_ms.items() for time in times)
    )
    assert points(figure.axes[0]) == [[(2.0, 2.0), (5.0, 5.0)]]
    (band,) = figure.axes[0].collections
    assert isinstance(band, FillBetweenPolyCollection)
    bounds = {tuple(vertex) for vertex in np.asarray(band.get_paths()[0].vertices).round(6).tolist()}
    # Linear between 1, 2 and 9: the 5th percentile is 1.1 and the 95th 8.3.
    assert {(2.0, 1.1), (2.0, 8.3), (5.0, 4.1), (5.0, 5.9)} <= bounds


def test_prefill_is_binned_by_context_with_a_line_for_each_number_of_blocks() -> None:
    figure = drawn(
        {"vision_tokens": 150, "text_tokens": 20, "prefill_ms": 5.0},
        {"vision_tokens": 180, "text_tokens": 19, "prefill_ms": 7.0},
        {"vision_tokens": 180, "text_tokens": 20, "prefill_ms": 9.0},
        {"vision_tokens": 180, "text_tokens": 20, "prefill_ms": 11.0, "num_active_blocks": 4},
    )
    assert points(figure.axes[2]) == [[(100.0, 6.0), (300.0, 9.0)], [(300.0, 11.0)]]
    assert legend(figure.axes[2]) == ["2", "4"]


def test_decode_is_per_token_and_leaves_out_answers_of_one_token() -> None:
    figure = drawn(
        {"output_tokens": 5, "decode_ms": 8.0, "top_k": 4},
        {"output_tokens": 3, "decode_ms": 12.0, "top_k": 6, "num_active_blocks": 3},
        {"output_tokens": 1, "decode_ms": 0.0, "top_k": 8},
    )
    assert points(figure.axes[3]) == [[(2.0, 2.0)], [(3.0, 6.0)]]
    assert legend(figure.axes[3]) == ["4", "6"]


def test_a_profile_of_single_tokens_leaves_decode_empty() -> None:
    assert points(drawn({"output_tokens": 1, "decode_ms": 0.0}).axes[3]) == []


def test_the_caption_says_what_was_measured_where() -> None:
    words = "tiny, random weights, float32, eager engine, A chip, torch 2.13.0, n = 2"
    assert caption(ENVIRONMENT, 2) == words
    assert "random" not in caption(ENVIRONMENT.model_copy(update={"random_weights": False}), 2)
    title = drawn({}, {}).get_suptitle()
    assert title.startswith(words)
    assert "band: 5th to 95th percentile" in title
