"""A page of example pictures with their questions and answers."""

from collections.abc import Sequence
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from profiling.suite.canvas import draw_picture
from profiling.suite.puzzle import Puzzle

_MARGIN = 14
_LINE_PIXELS = 15
_NUM_LINES = 4
_FONT_PIXELS = 12


def contact_sheet(puzzles: Sequence[Puzzle], *, columns: int = 6, pixels: int = 192) -> Image.Image:
    """Draw a page of puzzles, row by row.

    Args:
        puzzles: What to show.
        columns: Pictures in a row.
        pixels: Width and height of a picture; text is made for 150 and more.
    """
    rows = -(-len(puzzles) // columns)
    width, height = pixels + _MARGIN, pixels + _NUM_LINES * _LINE_PIXELS + _MARGIN
    page = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(_FONT_PIXELS)
    for place, puzzle in enumerate(puzzles):
        row, column = divmod(place, columns)
        left, top = _MARGIN + column * width, _MARGIN + row * height
        page.paste(draw_picture(puzzle.picture, pixels), (left, top))
        lines = [(line, "black") for line in wrap(puzzle.question, pixels // 6)]
        lines += [(line, "royalblue") for line in wrap(puzzle.answers[0], pixels // 6)]
        for i, (line, ink) in enumerate(lines[:_NUM_LINES]):
            draw.text((left, top + pixels + 3 + i * _LINE_PIXELS), line, fill=ink, font=font)
    return page
