"""Drawn symbols: a frame, something in it, a crown and a foot, put together in as many ways as there are symbols."""

from itertools import product
from math import cos, pi, sin
from typing import Final

from PIL import ImageDraw

from profiling.suite.draws import Draws

Points = tuple[tuple[float, float], ...]


def _polygon(corners: int, radius: float, first: float = 0) -> Points:
    """A closed line around the middle of the unit square; ``first`` turns its first corner from the top."""
    angles = [2 * pi * (i + first) / corners for i in range(corners + 1)]
    return tuple((0.5 + radius * sin(a), 0.5 - radius * cos(a)) for a in angles)


# Lines of each part in a unit square.
FRAMES: Final[dict[str, tuple[Points, ...]]] = {
    "round": (_polygon(40, 0.3),),
    "box": (_polygon(4, 0.37, 0.5),),
    "rhomb": (_polygon(4, 0.36),),
    "tent": (_polygon(3, 0.36),),
    "vase": (_polygon(3, 0.36, 0.5),),
    "comb": (_polygon(6, 0.33),),
    "walls": (((0.24, 0.22), (0.24, 0.78)), ((0.76, 0.22), (0.76, 0.78))),
    "rails": (((0.2, 0.24), (0.8, 0.24)), ((0.2, 0.76), (0.8, 0.76))),
}
CORES: Final[dict[str, tuple[Points, ...]]] = {
    "spot": (_polygon(24, 0.05), _polygon(24, 0.02)),
    "hoop": (_polygon(24, 0.13),),
    "stick": (((0.5, 0.36), (0.5, 0.64)),),
    "dash": (((0.36, 0.5), (0.64, 0.5)),),
    "plus": (((0.5, 0.36), (0.5, 0.64)), ((0.36, 0.5), (0.64, 0.5))),
    "times": (((0.4, 0.4), (0.6, 0.6)), ((0.6, 0.4), (0.4, 0.6))),
    "twins": (((0.43, 0.38), (0.43, 0.62)), ((0.57, 0.38), (0.57, 0.62))),
    "roof": (((0.37, 0.58), (0.5, 0.4), (0.63, 0.58)),),
}
CROWNS: Final[dict[str, tuple[Points, ...]]] = {
    "bare": (),
    "horn": (((0.5, 0.02), (0.5, 0.18)),),
    "horns": (((0.34, 0.02), (0.42, 0.16)), ((0.66, 0.02), (0.58, 0.16))),
    "lid": (((0.32, 0.07), (0.68, 0.07)),),
    "hat": (((0.36, 0.14), (0.5, 0.03), (0.64, 0.14)),),
}
FEET: Final[dict[str, tuple[Points, ...]]] = {
    "none": (),
    "leg": (((0.5, 0.84), (0.5, 0.98)),),
    "legs": (((0.4, 0.85), (0.34, 0.98)), ((0.6, 0.85), (0.66, 0.98))),
    "base": (((0.32, 0.93), (0.68, 0.93)),),
    "fork": (((0.36, 0.97), (0.5, 0.86), (0.64, 0.97)),),
}
BARE_PARTS: Final = frozenset({"bare", "none"})
# Left, top, right and bottom of each part as it is drawn.
PART_BOXES: Final = (
    (0.18, 0.18, 0.82, 0.82),
    (0.36, 0.36, 0.64, 0.64),
    (0.32, 0.06, 0.68, 0.22),
    (0.32, 0.8, 0.68, 0.94),
)
_SHRINKING = 0.88  # leaves room for turning
NUM_SYMBOLS: Final = 500
_LINE_FRACTION = 0.055

_ALL_PARTS = list(product(FRAMES, CORES, CROWNS, FEET))
SYMBOL_PARTS: Final = tuple(Draws("symbols", may_be_unseen=True).some_of(_ALL_PARTS, NUM_SYMBOLS))


def draw_symbol(number: int, draw: ImageDraw.ImageDraw, pixels: int) -> None:
    """Draw a symbol with round pens into a square."""
    frame, core, crown, foot = SYMBOL_PARTS[number]
    width = round(_LINE_FRACTION * pixels)
    for line in (*FRAMES[frame], *CORES[core], *CROWNS[crown], *FEET[foot]):
        points = [(_placed(x, pixels), _placed(y, pixels)) for x, y in line]
        draw.line(points, fill=255, width=width, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.circle((x, y), width / 2, fill=255)


def _placed(share: float, pixels: int) -> float:
    return pixels * (0.5 + _SHRINKING * (share - 0.5))
