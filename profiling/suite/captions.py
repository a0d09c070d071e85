"""Captions: one short sentence about one to eight things, and others that would do as well."""

from collections.abc import Callable
from typing import NamedTuple

from profiling.suite.draws import Draws
from profiling.suite.marks import PICTURE_POINTS, Picture, Shape
from profiling.suite.palette import BACKGROUND_NAMES
from profiling.suite.puzzle import Puzzle
from profiling.suite.things import UNSEEN_THINGS, Thing, draw_thing, draw_things
from profiling.suite.vocabulary import NUMBER_WORDS

_QUESTION = "describe the picture."
_CELLS = 5  # along a side, for groups
_MOST_IN_GROUP = 4


class _Caption(NamedTuple):
    """Shapes and sentences about them, and whether one of the things is never shown in training."""

    shapes: list[Shape]
    sentences: list[str]
    is_unseen: bool


def make_caption(draws: Draws) -> Puzzle:
    """Make a puzzle of one thing or two beside each other (easy), or of two groups of small ones (hard)."""
    is_hard = draws.chance(0.5)
    kind = "groups" if is_hard else draws.one_of(("one", "pair", "pair"))
    caption = _KINDS[kind](draws)
    return Puzzle(
        picture=Picture(background=draws.one_of(BACKGROUND_NAMES), marks=tuple(caption.shapes)),
        question=_QUESTION,
        answers=tuple(caption.sentences),
        kind=kind,
        is_hard=is_hard,
        is_unseen=caption.is_unseen,
    )


def _one(draws: Draws) -> _Caption:
    thing = draw_thing(draws)
    size = draws.between(50, 110)
    slack = (PICTURE_POINTS - size) / 2 - 4
    shape = _shape(thing, 96 + draws.between(-slack, slack), 96 + draws.between(-slack, slack), size)
    sentences = [thing.with_article, f"one {thing}", f"there is {thing.with_article}", f"it is {thing.with_article}"]
    return _Caption([shape], sentences, thing in UNSEEN_THINGS)


def _pair(draws: Draws) -> _Caption:
    """Put two things beside each other, or one above the other."""
    first, second = draw_things(draws, 2)
    is_level = draws.chance(0.5)
    shapes = []
    for thing, along in ((first, 50), (second, 142)):
        middle, across = along + draws.between(-10, 10), 96 + draws.between(-50, 50) * 0.3
        x, y = (middle, across) if is_level else (across, middle)
        shapes.append(_shape(thing, x, y, draws.between(40, 70)))
    before, after = ("left of", "right of") if is_level else ("above", "below")
    a, b = first.with_article, second.with_article
    sentences = [f"{a} {before} {b}", f"{b} {after} {a}", f"{a} and {b}", f"{b} and {a}", f"{a} next to {b}"]
    return _Caption(shapes, sentences, not UNSEEN_THINGS.isdisjoint((first, second)))


def _groups(draws: Draws) -> _Caption:
    things = draw_things(draws, 2)
    counts = [draws.whole(1, _MOST_IN_GROUP) for _ in things]
    cell = PICTURE_POINTS / _CELLS
    places = draws.some_of(range(_CELLS**2), sum(counts))
    shapes = []
    for thing in [thing for thing, count in zip(things, counts, strict=True) for _ in range(count)]:
        place = places.pop()
        x, y = (place % _CELLS + 0.5) * cell, (place // _CELLS + 0.5) * cell
        shapes.append(_shape(thing, x + draws.between(-4, 4), y + draws.between(-4, 4), draws.between(20, 28)))
    a, b = (_number_of(thing, count) for thing, count in zip(things, counts, strict=True))
    one_a, one_b = (
        f"{NUMBER_WORDS[1]} {thing}" if count == 1 else _number_of(thing, count)
        for thing, count in zip(things, counts, strict=True)
    )
    sentences = dict.fromkeys([f"{a} and {b}", f"{b} and {a}", f"{one_a} and {one_b}", f"{one_b} and {one_a}"])
    return _Caption(shapes, list(sentences), not UNSEEN_THINGS.isdisjoint(things))


def _number_of(thing: Thing, count: int) -> str:
    return thing.with_article if count == 1 else f"{NUMBER_WORDS[count]} {thing.plural}"


def _shape(thing: Thing, x: float, y: float, size: float) -> Shape:
    return Shape(kind=thing.shape, color=thing.color, x=x, y=y, size=size)


_KINDS: dict[str, Callable[[Draws], _Caption]] = {"one": _one, "pair": _pair, "groups": _groups}
