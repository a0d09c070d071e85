"""What a picture is made of, before it is drawn at any size.

Positions and lengths are in points: a picture is 192 points wide and high, x to the right, y down.
"""

from dataclasses import dataclass
from typing import Final

PICTURE_POINTS: Final = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A colored shape, centred at ``x, y``; ``turn`` in degrees, clockwise."""

    kind: str
    color: str
    x: float
    y: float
    size: float
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A line of letters, centred at ``x, y``; ``height`` is that of a capital."""

    text: str
    color: str
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """One of the drawn symbols that facts are about, centred at ``x, y``; ``turn`` in degrees, clockwise."""

    number: int
    color: str
    x: float
    y: float
    size: float
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A filled rectangle; ``corner`` is the radius of its corners, at most half of a side."""

    color: str
    left: float
    top: float
    right: float
    bottom: float
    corner: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line from ``x0, y0`` to ``x1, y1``."""

    color: str
    x0: float
    y0: float
    x1: float
    y1: float
    width: float


Mark = Shape | Text | Symbol | Box | Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Marks on a background.

    Args:
        background: Name of the background.
        marks: In the order in which they are drawn; later ones cover earlier ones.
    """

    background: str
    marks: tuple[Mark, ...]
