"""Marks of a food chain: animals by name, and an arrow from each to the one that eats it."""

from collections.abc import Sequence

from profiling.suite.draws import Draws
from profiling.suite.marks import PICTURE_POINTS, Box, Mark, Shape, Text
from profiling.suite.sprites import text_width


def chain_marks(draws: Draws, animals: Sequence[str], *, goes_down: bool) -> list[Mark]:
    """Draw a chain upwards or downwards, up to four animals in large letters, more in small ones."""
    step = (PICTURE_POINTS - 8) / len(animals)
    height = draws.between(15, 17) if len(animals) <= 4 else draws.between(9, 11)
    x = PICTURE_POINTS / 2 + draws.between(-30, 30)
    marks: list[Mark] = []
    for i, animal in enumerate(animals):
        y = 4 + (i + 0.5) * step if goes_down else PICTURE_POINTS - 4 - (i + 0.5) * step
        half_width = text_width(animal.upper(), height) / 2 + 0.6 * height
        marks.append(
            Box(
                color="rule",
                left=x - half_width,
                top=y - 0.95 * height,
                right=x + half_width,
                bottom=y + 0.95 * height,
                corner=0.5 * height,
            )
        )
        marks.append(
            Box(
                color="paper",
                left=x - half_width + 1,
                top=y - 0.95 * height + 1,
                right=x + half_width - 1,
                bottom=y + 0.95 * height - 1,
                corner=0.5 * height,
            )
        )
        marks.append(Text(text=animal.upper(), color="black", x=x, y=y, height=height))
        if i > 0:
            between = y + (-0.5 if goes_down else 0.5) * step
            marks.append(
                Shape(kind="arrowhead", color="orange", x=x, y=between, size=0.8 * height, turn=180 if goes_down else 0)
            )
    return marks
