"""Draw a picture at any size."""

from functools import cache

import numpy as np
from PIL import Image

from profiling.suite.marks import PICTURE_POINTS, Box, Line, Mark, Picture, Shape, Symbol, Text
from profiling.suite.palette import BACKGROUNDS, RGB
from profiling.suite.sprites import line_mask, shape_mask, symbol_mask, text_mask


def draw_picture(picture: Picture, pixels: int) -> Image.Image:
    """Draw a picture on a square canvas.

    Args:
        picture: What to draw.
        pixels: Width and height of the canvas.
    """
    scale = pixels / PICTURE_POINTS
    image = _background(picture.background, pixels).copy()
    for mark in picture.marks:
        _draw(mark, image, scale)
    return image


@cache
def _background(name: str, pixels: int) -> Image.Image:
    top, bottom = np.array(BACKGROUNDS[name], dtype=np.float64)
    share = np.linspace(0, 1, pixels)[:, None, None]
    rows = np.round(top * (1 - share) + bottom * share).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(rows, (pixels, pixels, 3))))


def _draw(mark: Mark, image: Image.Image, scale: float) -> None:
    ink = RGB[mark.color]
    match mark:
        case Shape():
            mask = shape_mask(mark.kind, _length(mark.size, scale), mark.turn)
            image.paste(ink, _corner(mark.x, mark.y, mask, scale), mask)
        case Text():
            mask = text_mask(mark.text, _length(mark.height, scale))
            image.paste(ink, _corner(mark.x, mark.y, mask, scale), mask)
        case Symbol():
            mask = symbol_mask(mark.number, _length(mark.size, scale), mark.turn)
            image.paste(ink, _corner(mark.x, mark.y, mask, scale), mask)
        case Box():
            _draw_box(mark, image, scale)
        case Line():
            _draw_line(mark, image, scale)


def _length(points: float, scale: float) -> int:
    return max(1, round(points * scale))


def _corner(x: float, y: float, mask: Image.Image, scale: float) -> tuple[int, int]:
    return round(x * scale - mask.width / 2), round(y * scale - mask.height / 2)


def _draw_box(box: Box, image: Image.Image, scale: float) -> None:
    left, top = round(box.left * scale), round(box.top * scale)
    right, bottom = max(left + 1, round(box.right * scale)), max(top + 1, round(box.bottom * scale))
    corner = _length(box.corner, scale) if box.corner else 0
    # A cross of two boxes, and a disc in each corner: masks of whole boxes would be too many to keep.
    image.paste(RGB[box.color], (left + corner, top, right - corner, bottom))
    if corner:
        image.paste(RGB[box.color], (left, top + corner, right, bottom - corner))
        disc = shape_mask("circle", 2 * corner, 0)
        for x in (left, right - 2 * corner):
            for y in (top, bottom - 2 * corner):
                image.paste(RGB[box.color], (x, y), disc)


def _draw_line(line: Line, image: Image.Image, scale: float) -> None:
    width = _length(line.width, scale)
    x0, y0 = round(line.x0 * scale), round(line.y0 * scale)
    x1, y1 = round(line.x1 * scale), round(line.y1 * scale)
    mask = line_mask(x1 - x0, y1 - y0, width)
    image.paste(RGB[line.color], (min(x0, x1) - width, min(y0, y1) - width), mask)
