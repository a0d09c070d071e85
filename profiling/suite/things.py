"""Colored shapes as things that are spoken of: ``red star``."""

from collections.abc import Sequence
from itertools import product
from typing import Final, NamedTuple

from profiling.suite.draws import Draws
from profiling.suite.marks import PICTURE_POINTS
from profiling.suite.palette import COLORS
from profiling.suite.sprites import SHAPES
from profiling.suite.vocabulary import PLURALS

COLOR_NAMES: Final = tuple(COLORS)


class Thing(NamedTuple):
    """A color and a shape."""

    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.color} {self.shape}"

    @property
    def plural(self) -> str:
        """Name of several."""
        return f"{self.color} {PLURALS[self.shape]}"

    @property
    def with_article(self) -> str:
        """Name of one of them."""
        return f"an {self}" if self.color[0] in "aeiou" else f"a {self}"


# What training never shows: of each color one or two shapes, so that every color and every shape is learned.
UNSEEN_THINGS: Final = frozenset(
    Thing(color, shape)
    for (i, color), (j, shape) in product(enumerate(COLOR_NAMES), enumerate(SHAPES))
    if (i + j) % 6 == 0
)


def draw_thing(draws: Draws, *, colors: Sequence[str] = COLOR_NAMES, shapes: Sequence[str] = SHAPES) -> Thing:
    """Choose a thing of some colors and shapes; training gets no unseen ones."""
    while True:
        thing = Thing(draws.one_of(colors), draws.one_of(shapes))
        if draws.may_be_unseen or thing not in UNSEEN_THINGS:
            return thing


def draw_things(draws: Draws, count: int) -> list[Thing]:
    """Choose different things."""
    things: list[Thing] = []
    while len(things) < count:
        thing = draw_thing(draws)
        if thing not in things:
            things.append(thing)
    return things


def others(names: Sequence[str], name: str) -> list[str]:
    """Return all names but one."""
    return [other for other in names if other != name]


class Places(NamedTuple):
    """Places of things, no two in one row or column.

    Args:
        xy: Middle of each, in points.
        cell: Room that each has, in points.
    """

    xy: list[tuple[float, float]]
    cell: float


def spread_out(draws: Draws, count: int) -> Places:
    """Choose places whose rows and columns all differ, so that left, right, above and below are never in doubt."""
    num_cells = max(3, count)
    cell = PICTURE_POINTS / num_cells
    columns, rows = draws.some_of(range(num_cells), count), draws.some_of(range(num_cells), count)
    shift = 0.06 * cell
    return Places(
        [
            ((column + 0.5) * cell + draws.between(-shift, shift), (row + 0.5) * cell + draws.between(-shift, shift))
            for column, row in zip(columns, rows, strict=True)
        ],
        cell,
    )
