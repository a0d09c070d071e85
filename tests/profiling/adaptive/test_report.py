import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from profiling.adaptive.figures import plot_by_budget
from profiling.adaptive.report import reference_goodputs
from profiling.adaptive.sheet import example_sheet
from profiling.adaptive.totals import totals_by_budget
from tests.controller_world import world
from tests.served_rows import served_row

ROWS = [
    served_row(sample_id="a"),
    served_row(sample_id="b", latency_ms=60.0),
    served_row(sample_id="a", budget_ms=80.0),
    served_row(sample_id="b", budget_ms=80.0, is_truncated=True, accuracy=0.0),
]


def test_the_picture_shows_goodput_accuracy_and_what_became_of_requests() -> None:
    *by_budget, _ = totals_by_budget(ROWS)
    figure = plot_by_budget(by_budget, {"oracle_realised": [0.9, 1.0]}, policy="mine", caption="a device")
    right, prompt = figure.axes
    curves = {line.get_label(): list(line.get_ydata()) for line in right.get_lines()}  # type: ignore[arg-type]
    assert curves["mine: accuracy"] == [1.0, 0.5]
    assert curves["mine: goodput"] == [0.5, 0.5]
    assert curves["oracle realised (profile)"] == [0.9, 1.0]
    shares = {line.get_label(): list(line.get_ydata()) for line in prompt.get_lines()}  # type: ignore[arg-type]
    assert (shares["late"], shares["truncated"]) == ([0.5, 0.0], [0.0, 0.5])
    assert figure.get_suptitle() == "a device"


def test_references_are_better_with_more_time_and_knowledge() -> None:
    outcomes = world(num_images=40)
    found = reference_goodputs(outcomes, outcomes, [15.0, 60.0])
    for name, (tight, loose) in found.items():
        assert tight <= found["oracle_realised"][0]
        assert loose <= found["oracle_realised"][1]
        assert name != "full" or tight < loose


def colors(page: Image.Image) -> set[tuple[int, ...]]:
    found = page.getcolors(page.width * page.height)
    assert found is not None
    return {color for _, color in found if isinstance(color, tuple)}


def bytes_of(color: str) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in to_rgb(color))


@pytest.mark.parametrize(
    ("row", "ink"),
    [
        (served_row(accuracy=None), "#1a7f4b"),
        (served_row(accuracy=None, is_truncated=True), "#b7791f"),
        (served_row(accuracy=None, latency_ms=60.0), "#c0362c"),
    ],
)
def test_a_card_shows_by_its_color_how_punctual_an_answer_was(row: object, ink: str) -> None:
    page = example_sheet([(row, Image.new("RGB", (40, 20), "blue"))])  # type: ignore[list-item]
    inks = {bytes_of(color) for color in ("#1a7f4b", "#b7791f", "#c0362c")}
    assert colors(page) & inks == {bytes_of(ink)}
    assert (0, 0, 255) in colors(page)


def test_cards_fill_rows() -> None:
    example = (ROWS[0], Image.new("RGB", (4, 9)))
    one, four, five = (example_sheet([example] * count) for count in (1, 4, 5))
    assert one.height == four.height < five.height
    assert one.width < four.width == five.width
