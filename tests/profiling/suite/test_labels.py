import numpy as np
import pytest
from numpy.typing import NDArray

from profiling.suite.labels import LABELS, label_cells
from profiling.suite.marks import Box, Mark, Picture, Shape, Symbol, Text
from profiling.suite.symbols import SYMBOL_PARTS


def labels(*marks: Mark, pixels: int = 192, cell_pixels: int = 16) -> NDArray[np.uint8]:
    return label_cells(Picture(background="mist", marks=marks), pixels=pixels, cell_pixels=cell_pixels)


def test_every_label_has_one_meaning_and_zero_is_nothing() -> None:
    assert len(set(LABELS)) == len(LABELS) < 256
    assert LABELS[0] == "nothing"
    assert not labels(Box(color="red", left=0, top=0, right=192, bottom=192)).any()


@pytest.mark.parametrize("pixels", [96, 192, 384])
def test_a_shape_labels_the_cells_whose_middle_it_covers(pixels: int) -> None:
    star = Shape(kind="star", color="red", x=48, y=96, size=64)
    cells = labels(star, pixels=pixels, cell_pixels=pixels // 12)
    expected = np.zeros((12, 12), dtype=np.uint8)
    expected[4:8, 1:5] = LABELS.index("star")
    assert np.array_equal(cells, expected)


def test_what_is_smaller_than_a_cell_labels_the_one_of_its_middle() -> None:
    cells = labels(Shape(kind="ring", color="red", x=47.5, y=17, size=6))
    assert np.argwhere(cells).tolist() == [[1, 2]]
    assert LABELS[cells[1, 2]] == "ring"


def test_letters_stand_from_left_to_right() -> None:
    cells = labels(Text(text="NO7", color="black", x=96, y=100, height=40))
    row = cells[6][cells[6] > 0]
    assert "".join(dict.fromkeys(LABELS[label] for label in row)) == "no7"


def test_small_letters_keep_cells_of_their_own() -> None:
    cells = labels(Text(text="HARBOR", color="black", x=96, y=100, height=9), cell_pixels=8)
    assert {LABELS[label] for label in cells.ravel()} == set("harbo") | {"nothing"}


def test_a_symbol_labels_its_parts() -> None:
    number = next(i for i, parts in enumerate(SYMBOL_PARTS) if parts[2:] == ("hat", "legs"))
    cells = labels(Symbol(number=number, color="black", x=96, y=96, size=128, turn=5), cell_pixels=8)
    assert {LABELS[label] for label in cells.ravel()} == {"nothing", *SYMBOL_PARTS[number]}
    bare = next(i for i, parts in enumerate(SYMBOL_PARTS) if parts[2:] == ("bare", "none"))
    cells = labels(Symbol(number=bare, color="black", x=96, y=96, size=128, turn=5), cell_pixels=8)
    assert {LABELS[label] for label in cells.ravel()} == {"nothing", *SYMBOL_PARTS[bare][:2]}


def test_cells_may_stick_out_of_the_canvas() -> None:
    assert labels(pixels=100, cell_pixels=16).shape == (7, 7)
