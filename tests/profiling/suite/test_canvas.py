import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from profiling.suite.canvas import draw_picture
from profiling.suite.families import FAMILIES
from profiling.suite.marks import Box, Line, Mark, Picture, Shape, Symbol
from profiling.suite.palette import BACKGROUNDS, COLORS, RGB, ink_on
from profiling.suite.sprites import SHAPES, shape_mask, symbol_mask, text_mask, text_width
from profiling.suite.suite import PuzzleKey
from profiling.suite.symbols import NUM_SYMBOLS


def drawn(*marks: Mark, pixels: int = 192) -> NDArray[np.int64]:
    return np.asarray(draw_picture(Picture(background="mist", marks=marks), pixels)).astype(np.int64)


def center(is_inked: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(is_inked)
    return float(columns.mean()) + 0.5, float(rows.mean()) + 0.5


@pytest.mark.parametrize("pixels", [64, 192, 336])
def test_shapes_have_their_color_place_and_size(pixels: int) -> None:
    scale = pixels / 192
    canvas = drawn(Shape(kind="circle", color="red", x=60, y=120, size=48), pixels=pixels)
    assert canvas.shape == (pixels, pixels, 3)
    is_red = (canvas == COLORS["red"]).all(axis=2)
    assert center(is_red) == pytest.approx((60 * scale, 120 * scale), abs=1)
    assert is_red.sum() == pytest.approx(np.pi * (24 * scale) ** 2, rel=0.13)


def test_a_box_and_a_line_cover_what_they_say() -> None:
    canvas = drawn(Box(color="blue", left=10, top=20, right=50, bottom=30))
    assert ((canvas == COLORS["blue"]).all(axis=2)).sum() == 40 * 10
    assert (canvas[20:30, 10:50] == COLORS["blue"]).all()
    line = (drawn(Line(color="ink", x0=150, y0=40, x1=30, y1=100, width=4)) == RGB["ink"]).all(axis=2)
    assert center(line) == pytest.approx((90, 70), abs=1)
    assert line[98, 34]
    assert line[42, 146]
    assert not line[42, 34]


def test_round_corners_are_left_out() -> None:
    canvas = drawn(Box(color="blue", left=10, top=20, right=50, bottom=60, corner=20))
    assert (canvas[40, 30] == COLORS["blue"]).all()
    assert (canvas[21, 11] == drawn()[21, 11]).all()


def test_later_marks_cover_earlier_ones_and_edges_cut() -> None:
    square = Shape(kind="square", color="green", x=96, y=96, size=60)
    canvas = drawn(square, Shape(kind="circle", color="pink", x=96, y=96, size=30))
    assert tuple(canvas[96, 96]) == COLORS["pink"]
    assert tuple(canvas[72, 72]) == COLORS["green"]
    assert drawn(Shape(kind="square", color="green", x=0, y=0, size=60))[10, 10].tolist() == list(COLORS["green"])


def test_turns_are_clockwise() -> None:
    up, right = (np.asarray(shape_mask("arrow", 40, turn)).astype(np.float64) for turn in (0, 90))
    assert up[:20].sum() > 1.2 * up[20:].sum()
    assert right[:, 20:].sum() > 1.2 * right[:, :20].sum()
    assert np.abs(np.rot90(up, -1) - right).mean() < 8


def test_all_shapes_and_all_symbols_look_different() -> None:
    shapes = [np.asarray(shape_mask(kind, 32, 0)).astype(np.float64) for kind in SHAPES]
    assert min(np.abs(a - b).mean() for i, a in enumerate(shapes) for b in shapes[:i]) > 12
    symbols = np.stack([np.asarray(symbol_mask(number, 32, 0)).ravel() for number in range(NUM_SYMBOLS)]) / 255
    squares = (symbols**2).sum(axis=1)
    distance = squares[:, None] + squares - 2 * symbols @ symbols.T
    assert (distance + 1e9 * np.eye(NUM_SYMBOLS)).min() > 2  # pixels fully different


def test_a_turned_symbol_stays_in_its_square() -> None:
    for number in range(0, NUM_SYMBOLS, 20):
        for turn in (-14, 14):
            mask = np.asarray(symbol_mask(number, 64, turn))
            assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) < 128


def test_text_is_as_wide_and_high_as_said() -> None:
    mask = np.asarray(text_mask("HANDE", 40))
    rows, columns = np.nonzero(mask > 128)
    assert rows.max() - rows.min() + 1 == pytest.approx(40, abs=4)
    assert (rows.max() + rows.min() + 1) / 2 == pytest.approx(mask.shape[0] / 2, abs=2)
    assert mask.shape[1] == pytest.approx(text_width("HANDE", 40), abs=3)
    assert columns.max() - columns.min() + 1 == pytest.approx(text_width("HANDE", 40), rel=0.08)


@pytest.mark.parametrize("color", COLORS)
def test_colors_can_be_told_from_each_other_and_from_every_ground(color: str) -> None:
    ink = np.array(COLORS[color])
    grounds = [ground for pair in BACKGROUNDS.values() for ground in pair] + [RGB[ink_on(color)]]
    others = [rgb for name, rgb in COLORS.items() if name != color]
    assert min(np.linalg.norm(ink - ground) for ground in grounds) > 90
    assert min(np.linalg.norm(ink - other) for other in others) > 60


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_the_same_at_every_size(family: str) -> None:
    picture = PuzzleKey(family=family, split="test", index=0).make().picture
    small, large = draw_picture(picture, 192), draw_picture(picture, 576)
    assert large.size == (576, 576)
    reduced = large.resize((192, 192), Image.Resampling.BOX)
    difference = np.abs(np.asarray(reduced).astype(np.int64) - np.asarray(small))
    assert difference.mean() < 6


def test_symbols_are_drawn_where_they_are_said_to_be() -> None:
    canvas = drawn(Symbol(number=3, color="black", x=120, y=70, size=80, turn=10))
    is_ink = canvas.max(axis=2) < 80
    assert center(is_ink) == pytest.approx((120, 70), abs=6)
