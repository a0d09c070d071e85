"""Marks of bars, clocks and thermometers."""

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Final, NamedTuple

from profiling.suite.draws import Draws
from profiling.suite.marks import PICTURE_POINTS, Box, Line, Mark, Shape, Text

BAR_FLOOR: Final = 178  # y of the line on which bars stand
TUBE_BOTTOM: Final = 146  # y of the lowest number of a thermometer
TUBE_STEP: Final = 25  # from one ten to the next


def bar_marks(bars: Sequence[tuple[str, float]]) -> list[Mark]:
    """Draw bars of some colors and heights on a line, from left to right."""
    room = (PICTURE_POINTS - 20) / len(bars)
    marks: list[Mark] = [
        Box(
            color=color,
            left=10 + (i + 0.14) * room,
            top=BAR_FLOOR - height,
            right=10 + (i + 0.86) * room,
            bottom=BAR_FLOOR,
        )
        for i, (color, height) in enumerate(bars)
    ]
    marks.append(Box(color="ink", left=8, top=BAR_FLOOR, right=PICTURE_POINTS - 8, bottom=BAR_FLOOR + 2))
    return marks


class _Hand(NamedTuple):
    """A line away from the middle of a clock; lengths in radii, ``turn`` as a share of a whole one."""

    turn: float
    start: float
    end: float
    color: str
    width: float


def clock_marks(draws: Draws, hour: int, minute: int, radius: float) -> list[Mark]:
    """Draw a clock with the numbers 3, 6, 9 and 12 and a mark at the other hours."""
    slack = PICTURE_POINTS / 2 - radius - 4
    x, y = PICTURE_POINTS / 2 + draws.between(-slack, slack), PICTURE_POINTS / 2 + draws.between(-slack, slack)
    marks: list[Mark] = [
        Shape(kind="circle", color="ink", x=x, y=y, size=2 * radius),
        Shape(kind="circle", color="paper", x=x, y=y, size=1.88 * radius),
    ]
    ticks = [_Hand(number / 12, 0.78, 0.88, "ink", 0.025) for number in range(12) if number % 3]
    hands = [
        _Hand((hour + minute / 60) / 12, 0, 0.46, "black", 0.1),
        _Hand(minute / 60, 0, 0.6, "blue", 0.06),
    ]
    marks += [_hand_line(hand, x, y, radius) for hand in ticks + hands]
    for number, right, down in ((3, 1, 0), (6, 0, 1), (9, -1, 0), (12, 0, -1)):
        at = 0.74 * radius
        marks.append(Text(text=str(number), color="ink", x=x + right * at, y=y + down * at, height=0.17 * radius))
    marks.append(Shape(kind="circle", color="black", x=x, y=y, size=0.15 * radius))
    return marks


def _hand_line(hand: _Hand, x: float, y: float, radius: float) -> Line:
    right, down = radius * sin(2 * pi * hand.turn), -radius * cos(2 * pi * hand.turn)
    return Line(
        color=hand.color,
        x0=x + hand.start * right,
        y0=y + hand.start * down,
        x1=x + hand.end * right,
        y1=y + hand.end * down,
        width=hand.width * radius,
    )


def thermometer_marks(draws: Draws, first: int, shown: int) -> list[Mark]:
    """Draw a thermometer whose scale goes from ``first`` up by fifty."""
    x = draws.between(60, 110)
    top = TUBE_BOTTOM - 5 * TUBE_STEP - 8
    level = TUBE_BOTTOM - (shown - first) / 10 * TUBE_STEP
    marks: list[Mark] = [
        Box(color="rule", left=x - 9, top=top, right=x + 9, bottom=170, corner=9),
        Shape(kind="circle", color="rule", x=x, y=168, size=38),
        Box(color="white", left=x - 7, top=top + 2, right=x + 7, bottom=170, corner=7),
        Box(color="red", left=x - 4, top=level, right=x + 4, bottom=170),
        Shape(kind="circle", color="red", x=x, y=168, size=30),
    ]
    for i in range(6):
        y = float(TUBE_BOTTOM - i * TUBE_STEP)
        marks.append(Box(color="ink", left=x + 12, top=y - 0.75, right=x + 24, bottom=y + 0.75))
        marks.append(Text(text=str(first + 10 * i), color="ink", x=x + 42, y=y, height=12))
    for i in range(5):
        y = TUBE_BOTTOM - (i + 0.5) * TUBE_STEP
        marks.append(Box(color="ink", left=x + 12, top=y - 0.5, right=x + 18, bottom=y + 0.5))
    return marks
