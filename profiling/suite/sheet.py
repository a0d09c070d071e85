"""A page of example pictures with their questions and answers, and the ``suite-sheet`` command that writes one."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from profiling.files import written_whole
from profiling.suite.canvas import draw_picture
from profiling.suite.puzzle import Puzzle
from profiling.suite.suite import PuzzleKey

_MARGIN = 14
_LINE_PIXELS = 15
_NUM_LINES = 4
_FONT_PIXELS = 12


def suite_sheet(
    family: str,
    output: Path,
    *,
    split: str = "test",
    first: int = 0,
    num_samples: int = 12,
    columns: int = 6,
    canvas_pixels: int = 192,
    seed: int = 0,
) -> None:
    """Write a page of the generated suite's pictures with their questions and answers, to look at.

    Args:
        family: scenes, text, counting, tables, choice, facts or captions.
        output: New file, a .png.
        split: train, val, calibration or test.
        first: Number of the first sample in the split.
        num_samples: How many to show.
        columns: Pictures in a row.
        canvas_pixels: Width and height of each picture; text is made for 150 and more.
        seed: Of the suite.

    Raises:
        ValueError: If there is no such family or split, a number is below 1, or the file exists or is no .png.
    """
    for field, number in (("num_samples", num_samples), ("columns", columns), ("canvas_pixels", canvas_pixels)):
        if number < 1:
            raise ValueError(f"{field}: must be 1 or more, got {number}")
    if output.suffix != ".png":
        raise ValueError(f"output: must end in .png, got {output}")
    if output.exists():
        raise ValueError(f"output: {output} exists already; choose another file")
    keys = [PuzzleKey(family=family, split=split, index=first + i, seed=seed) for i in range(num_samples)]
    page = contact_sheet([key.make() for key in keys], columns=columns, pixels=canvas_pixels)
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as partial:
        page.save(partial, optimize=True)
    Console().print(f"wrote {num_samples} pictures of {family}/{split} to {output}")


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
