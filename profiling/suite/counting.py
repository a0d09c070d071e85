"""Counting: how many of zero to nine things are there, among few others or in a crowd."""

from collections.abc import Callable
from typing import Final, NamedTuple

from profiling.suite.draws import Draws
from profiling.suite.marks import PICTURE_POINTS, Picture, Shape
from profiling.suite.palette import BACKGROUND_NAMES
from profiling.suite.puzzle import Puzzle, ten_answers
from profiling.suite.sprites import SHAPES
from profiling.suite.things import COLOR_NAMES, UNSEEN_THINGS, Thing, draw_thing, others
from profiling.suite.vocabulary import NUMBER_WORDS, PLURALS

MOST: Final = 9


class _Crowd(NamedTuple):
    """Cells along a side, fewest and most other things, and the smallest of them in points."""

    cells: int
    fewest: int
    most: int
    smallest: float


_EASY, _HARD = _Crowd(4, 1, 4, 26), _Crowd(6, 8, 16, 16)


class _Query(NamedTuple):
    """What is counted: its name in the question, and how to draw one of them and one of the others."""

    plural: str
    counted: Callable[[], Thing]
    other: Callable[[], Thing]
    is_unseen: bool


def make_counting(draws: Draws) -> Puzzle:
    """Make a puzzle of large things with few others (easy) or of a crowd of small ones (hard)."""
    is_hard = draws.chance(0.5)
    crowd = _HARD if is_hard else _EASY
    kind = draws.one_of(("pair", "pair", "color", "shape"))
    query = _QUERIES[kind](draws)
    count = draws.whole(0, MOST)
    things = [query.counted() for _ in range(count)]
    things += [query.other() for _ in range(draws.whole(crowd.fewest, crowd.most))]
    return Puzzle(
        picture=Picture(background=draws.one_of(BACKGROUND_NAMES), marks=_scattered(draws, things, crowd)),
        question=f"how many {query.plural} are there?",
        answers=ten_answers(str(count), NUMBER_WORDS[count]),
        kind=kind,
        is_hard=is_hard,
        is_unseen=query.is_unseen,
    )


def _of_pair(draws: Draws) -> _Query:
    """Half of the others share the color or the shape."""
    thing = draw_thing(draws)
    other_colors, other_shapes = others(COLOR_NAMES, thing.color), others(SHAPES, thing.shape)

    def other() -> Thing:
        if draws.chance(0.25):
            return draw_thing(draws, colors=(thing.color,), shapes=other_shapes)
        if draws.chance(0.33):
            return draw_thing(draws, colors=other_colors, shapes=(thing.shape,))
        return draw_thing(draws, colors=other_colors, shapes=other_shapes)

    return _Query(thing.plural, lambda: thing, other, thing in UNSEEN_THINGS)


def _of_color(draws: Draws) -> _Query:
    color = draws.one_of(COLOR_NAMES)
    colors = others(COLOR_NAMES, color)
    return _Query(
        f"{color} shapes",
        lambda: draw_thing(draws, colors=(color,)),
        lambda: draw_thing(draws, colors=colors),
        is_unseen=False,
    )


def _of_shape(draws: Draws) -> _Query:
    shape = draws.one_of(SHAPES)
    shapes = others(SHAPES, shape)
    return _Query(
        PLURALS[shape],
        lambda: draw_thing(draws, shapes=(shape,)),
        lambda: draw_thing(draws, shapes=shapes),
        is_unseen=False,
    )


def _scattered(draws: Draws, things: list[Thing], crowd: _Crowd) -> tuple[Shape, ...]:
    """Put things into cells of their own."""
    cell = PICTURE_POINTS / crowd.cells
    places = draws.some_of(range(crowd.cells**2), len(things))
    shapes = []
    for thing, place in zip(things, places, strict=True):
        size = draws.between(crowd.smallest, 0.86 * cell)
        slack = (cell - size) / 2 - 0.04 * cell
        x = (place % crowd.cells + 0.5) * cell + draws.between(-slack, slack)
        y = (place // crowd.cells + 0.5) * cell + draws.between(-slack, slack)
        shapes.append(Shape(kind=thing.shape, color=thing.color, x=x, y=y, size=size))
    return tuple(shapes)


_QUERIES = {"pair": _of_pair, "color": _of_color, "shape": _of_shape}
