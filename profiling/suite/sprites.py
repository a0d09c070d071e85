"""Masks of shapes, letters, symbols and lines: how much of each pixel they cover. Each is drawn once per process."""

from functools import cache, lru_cache
from math import cos, hypot, pi, sin
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from profiling.suite.symbols import draw_symbol

_FINER = 4  # masks are drawn so many times larger, then averaged
_CAPITAL_FRACTION = 0.7  # height of a capital in the font's size
_STROKE_FRACTION = 0.03  # widens the font's thin strokes on each side
_SPACING_FRACTION = 0.14  # between two letters
_REFERENCE_HEIGHT = 100

Points = list[tuple[float, float]]


def _star() -> Points:
    radii = (0.5, 0.21)
    return [(0.5 + radii[i % 2] * sin(i * pi / 5), 0.53 - radii[i % 2] * cos(i * pi / 5)) for i in range(10)]


def _heart() -> Points:
    angles = [i * pi / 24 for i in range(48)]
    return [
        (
            0.5 + 0.5 * sin(a) ** 3,
            0.46 - (13 * cos(a) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a)) / 32,
        )
        for a in angles
    ]


def _circle() -> Points:
    return [(0.5 + 0.49 * sin(i * pi / 32), 0.5 - 0.49 * cos(i * pi / 32)) for i in range(64)]


def _scaled_by(outline: Points, factor: float) -> Points:
    return [(0.5 + factor * (x - 0.5), 0.5 + factor * (y - 0.5)) for x, y in outline]


# Outlines in a unit square, clockwise from the top; of two outlines the second is a hole.
_OUTLINES: Final[dict[str, tuple[Points, ...]]] = {
    "circle": (_circle(),),
    "square": ([(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)],),
    "triangle": ([(0.5, 0.04), (1, 0.94), (0, 0.94)],),
    "star": (_star(),),
    "heart": (_heart(),),
    "cross": (
        [
            *((0.34, 0), (0.66, 0), (0.66, 0.34), (1, 0.34), (1, 0.66), (0.66, 0.66)),
            *((0.66, 1), (0.34, 1), (0.34, 0.66), (0, 0.66), (0, 0.34), (0.34, 0.34)),
        ],
    ),
    "diamond": ([(0.5, 0), (0.88, 0.5), (0.5, 1), (0.12, 0.5)],),
    "ring": (_circle(), _scaled_by(_circle(), 0.56)),
    "arrow": ([(0.5, 0), (0.86, 0.42), (0.61, 0.42), (0.61, 1), (0.39, 1), (0.39, 0.42), (0.14, 0.42)],),
    "arrowhead": ([(0.5, 0.1), (0.95, 0.9), (0.05, 0.9)],),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring")


@lru_cache(maxsize=8192)
def shape_mask(kind: str, pixels: int, turn: int) -> Image.Image:
    """Draw a shape as large as a square, turned clockwise by some degrees."""
    side = pixels * _FINER
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for outline, ink in zip(_OUTLINES[kind], (255, 0), strict=False):
        draw.polygon([_turned(x, y, turn, side) for x, y in outline], fill=ink)
    return mask.reduce(_FINER)


def _turned(x: float, y: float, turn: int, side: int) -> tuple[float, float]:
    angle = turn * pi / 180
    right, down = x - 0.5, y - 0.5
    return (
        side * (0.5 + right * cos(angle) - down * sin(angle)),
        side * (0.5 + right * sin(angle) + down * cos(angle)),
    )


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(pixels)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, so it has no letters of other sizes")
    return font


@cache
def advance(character: str) -> float:
    """Width that a letter takes in a line, as a multiple of a capital's height."""
    width = _font(_REFERENCE_HEIGHT).getlength(character) / _REFERENCE_HEIGHT
    return width / _CAPITAL_FRACTION + _SPACING_FRACTION


@lru_cache(maxsize=4096)
def letter_mask(character: str, height: int) -> Image.Image:
    """Draw a letter whose capitals are that high, as wide as its advance, with room for what hangs below."""
    font = _font(round(height * _FINER / _CAPITAL_FRACTION))
    width = max(1, round(advance(character) * height))
    mask = Image.new("L", (width * _FINER, round(height * 1.5) * _FINER))
    stroke = max(1, round(font.size * _STROKE_FRACTION))
    baseline = (mask.width / 2, height * 1.25 * _FINER)
    ImageDraw.Draw(mask).text(baseline, character, fill=255, font=font, anchor="ms", stroke_width=stroke)
    return mask.reduce(_FINER)


def text_width(text: str, height: float) -> float:
    """Width of a line of letters whose capitals are that high."""
    return sum(map(advance, text)) * height


@lru_cache(maxsize=4096)
def text_mask(text: str, height: int) -> Image.Image:
    """Put letters in a line; capitals are centred in its height."""
    letters = [letter_mask(character, height) for character in text]
    mask = Image.new("L", (sum(letter.width for letter in letters), round(height * 1.5)))
    left = 0
    for letter in letters:
        mask.paste(letter, (left, 0))
        left += letter.width
    return mask


@cache
def _upright_symbol(number: int, pixels: int) -> Image.Image:
    mask = Image.new("L", (pixels * _FINER, pixels * _FINER))
    draw_symbol(number, ImageDraw.Draw(mask), mask.width)
    return mask.reduce(_FINER)


def symbol_mask(number: int, pixels: int, turn: int) -> Image.Image:
    """Draw a symbol as large as a square, turned clockwise by some degrees.

    There are too many to keep each at every size and turn: some sizes are kept, the rest is interpolated.
    """
    upright = _upright_symbol(number, max(32, 1 << (pixels - 1).bit_length()))
    # From a pixel of the mask back to one of the upright symbol.
    scale, angle = upright.width / pixels, turn * pi / 180
    right, down = scale * cos(angle), scale * sin(angle)
    shift_x = (upright.width - pixels * (right + down)) / 2
    shift_y = (upright.width - pixels * (right - down)) / 2
    transform = (right, down, shift_x, -down, right, shift_y)
    return upright.transform((pixels, pixels), Image.Transform.AFFINE, transform, Image.Resampling.BILINEAR)


@lru_cache(maxsize=4096)
def line_mask(right: int, down: int, width: int) -> Image.Image:
    """Draw a line that goes so far to the right and down (up if negative), with ``width`` around each end."""
    size = (abs(right) + 2 * width, abs(down) + 2 * width)
    mask = Image.new("L", (size[0] * _FINER, size[1] * _FINER))
    x0, y0 = width + max(0, -right), width + max(0, -down)
    length = hypot(right, down) or 1.0
    # Half a width to each side of the line.
    side_x, side_y = -down / length * width / 2, right / length * width / 2
    corners = [
        (x0 + side_x, y0 + side_y),
        (x0 - side_x, y0 - side_y),
        (x0 + right - side_x, y0 + down - side_y),
        (x0 + right + side_x, y0 + down + side_y),
    ]
    ImageDraw.Draw(mask).polygon([(x * _FINER, y * _FINER) for x, y in corners], fill=255)
    return mask.reduce(_FINER)
