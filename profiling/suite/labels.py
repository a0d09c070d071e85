"""Say what lies in each cell of a drawn picture: what an auxiliary loss can teach the vision encoder."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiling.suite.marks import PICTURE_POINTS, Picture, Shape, Symbol, Text
from profiling.suite.sprites import SHAPES, advance
from profiling.suite.symbols import BARE_PARTS, CORES, CROWNS, FEET, FRAMES, PART_BOXES, SYMBOL_PARTS
from profiling.suite.vocabulary import CHARACTERS

_PARTS = [name for name in (*FRAMES, *CORES, *CROWNS, *FEET) if name not in BARE_PARTS]
# What a cell can show; its label is the place in this list.
LABELS: Final = ("nothing", *SHAPES, "arrow", *CHARACTERS, *_PARTS)
_LABEL_OF = {name: label for label, name in enumerate(LABELS)}

LabeledBox = tuple[str, float, float, float, float]


def label_cells(picture: Picture, *, pixels: int, cell_pixels: int) -> NDArray[np.uint8]:
    """Say for each cell of a drawn picture what it shows.

    A shape, letter or part of a symbol gives its label to the cells whose middle it covers and to the cell where its
    own middle lies; of two in one cell the later counts. Symbols are taken as they lie before they are turned.

    Args:
        picture: The picture.
        pixels: Width and height that it is drawn at.
        cell_pixels: Width and height of a cell; those at the right and bottom may stick out.

    Returns:
        ``(rows, columns)``, uint8: places in ``LABELS``, 0 where a cell shows none of them.
    """
    num_cells = -(-pixels // cell_pixels)
    cells = np.zeros((num_cells, num_cells), dtype=np.uint8)
    scale = pixels / PICTURE_POINTS / cell_pixels
    for name, left, top, right, bottom in _labeled_boxes(picture):
        rows, columns = _covered(top * scale, bottom * scale), _covered(left * scale, right * scale)
        cells[rows, columns] = _LABEL_OF[name]
    return cells


def _covered(start: float, end: float) -> slice:
    """Cells whose middle lies between two places, and that with the middle of both; lengths in cells."""
    middle = max(0, int((start + end) / 2))
    return slice(min(max(0, round(start)), middle), max(round(end), middle + 1))


def _labeled_boxes(picture: Picture) -> Iterator[LabeledBox]:
    for mark in picture.marks:
        match mark:
            case Shape() if mark.kind in _LABEL_OF:
                half = mark.size / 2
                yield mark.kind, mark.x - half, mark.y - half, mark.x + half, mark.y + half
            case Text():
                yield from _letter_boxes(mark)
            case Symbol():
                yield from _part_boxes(mark)


def _letter_boxes(text: Text) -> Iterator[LabeledBox]:
    top, bottom = text.y - text.height / 2, text.y + text.height / 2
    widths = [advance(character) * text.height for character in text.text]
    left = text.x - sum(widths) / 2
    for character, width in zip(text.text, widths, strict=True):
        yield character.lower(), left, top, left + width, bottom
        left += width


def _part_boxes(symbol: Symbol) -> Iterator[LabeledBox]:
    corner_x, corner_y = symbol.x - symbol.size / 2, symbol.y - symbol.size / 2
    for name, (left, top, right, bottom) in zip(SYMBOL_PARTS[symbol.number], PART_BOXES, strict=True):
        if name not in BARE_PARTS:
            yield (
                name,
                corner_x + left * symbol.size,
                corner_y + top * symbol.size,
                corner_x + right * symbol.size,
                corner_y + bottom * symbol.size,
            )
