"""Colors of shapes, inks and backgrounds."""

from typing import Final

Rgb = tuple[int, int, int]

# The colors that questions are about.
COLORS: Final[dict[str, Rgb]] = {
    "red": (214, 48, 49),
    "orange": (242, 140, 30),
    "yellow": (246, 208, 40),
    "green": (40, 158, 84),
    "blue": (45, 105, 215),
    "purple": (132, 68, 180),
    "pink": (246, 138, 186),
    "brown": (126, 82, 48),
    "black": (36, 36, 42),
    "gray": (138, 144, 150),
}
_INKS: Final[dict[str, Rgb]] = {
    "ink": (52, 56, 68),
    "rule": (176, 182, 194),
    "paper": (253, 253, 250),
    "header": (221, 230, 243),
    "white": (255, 255, 255),
    "glass": (226, 232, 238),
    "post": (120, 110, 104),
    "grass": (176, 212, 150),
}
RGB: Final[dict[str, Rgb]] = COLORS | _INKS

# Color at the top and at the bottom.
BACKGROUNDS: Final[dict[str, tuple[Rgb, Rgb]]] = {
    "cream": ((255, 250, 236), (248, 238, 216)),
    "mint": ((240, 251, 244), (220, 240, 228)),
    "sky": ((238, 247, 255), (214, 232, 250)),
    "lilac": ((247, 242, 253), (232, 223, 245)),
    "rose": ((255, 244, 243), (250, 228, 226)),
    "mist": ((248, 249, 251), (229, 232, 237)),
}
BACKGROUND_NAMES: Final = tuple(BACKGROUNDS)

_LIGHT = frozenset({"orange", "yellow", "pink", "gray", "paper", "white"})


def ink_on(color: str) -> str:
    """Return the color of letters that can be read on a ground."""
    return "black" if color in _LIGHT else "white"
