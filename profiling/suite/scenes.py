"""Scenes: colored shapes, with questions about color, shape, size, places and presence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from profiling.suite.draws import Draws
from profiling.suite.marks import PICTURE_POINTS, Picture, Shape
from profiling.suite.palette import BACKGROUND_NAMES
from profiling.suite.puzzle import Puzzle, ten_answers
from profiling.suite.sprites import SHAPES
from profiling.suite.things import (
    COLOR_NAMES,
    UNSEEN_THINGS,
    Places,
    Thing,
    draw_thing,
    draw_things,
    others,
    spread_out,
)

_LARGE_FRACTION = 0.86  # of the room that a thing has
_SMALL_FRACTION = 0.54
_MOST_EASY = 3  # things
_OTHER_SPELLING = {"gray": "grey"}
# Where one thing lies seen from another: axis, and whether it comes first there.
RELATIONS: Final = {"left of": (0, True), "right of": (0, False), "above": (1, True), "below": (1, False)}
# Names of the ninths of a picture, row by row.
NINTHS: Final = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)
_LEAST_CLEAR = 9  # points between a thing's middle and the edge of a ninth, so that nobody would name another


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Things in the order of their places, and a question about ``subject``."""

    things: list[Thing]
    is_large: list[bool]
    question: str
    answer: str
    subject: Thing


def make_scene(draws: Draws) -> Puzzle:
    """Make a puzzle of two or three large things (easy) or five or six small ones (hard)."""
    is_hard = draws.chance(0.5)
    places = spread_out(draws, draws.whole(5, 6) if is_hard else draws.whole(2, _MOST_EASY))
    kind = draws.one_of(tuple(_KINDS))
    scene = _KINDS[kind](draws, places)
    return Puzzle(
        picture=Picture(background=draws.one_of(BACKGROUND_NAMES), marks=_shapes(draws, scene, places)),
        question=scene.question,
        answers=ten_answers(scene.answer, _OTHER_SPELLING.get(scene.answer)),
        kind=kind,
        is_hard=is_hard,
        is_unseen=scene.subject in UNSEEN_THINGS,
    )


def _is_easy(places: Places) -> bool:
    return len(places.xy) <= _MOST_EASY


def _shapes(draws: Draws, scene: _Scene, places: Places) -> tuple[Shape, ...]:
    return tuple(
        Shape(
            kind=thing.shape,
            color=thing.color,
            x=x,
            y=y,
            size=places.cell * (_LARGE_FRACTION if is_large else _SMALL_FRACTION) * draws.between(0.92, 1),
        )
        for thing, is_large, (x, y) in zip(scene.things, scene.is_large, places.xy, strict=True)
    )


def _any_sizes(draws: Draws, count: int) -> list[bool]:
    return [draws.chance(0.6) for _ in range(count)]


def _ask_color(draws: Draws, places: Places) -> _Scene:
    subject = draw_thing(draws)
    shapes = others(SHAPES, subject.shape)
    rest = [draw_thing(draws, shapes=shapes) for _ in places.xy[1:]]
    question = f"what color is the {subject.shape}?"
    return _scene_of(draws, [subject, *rest], question, subject.color, subject)


def _ask_shape(draws: Draws, places: Places) -> _Scene:
    subject = draw_thing(draws)
    colors = others(COLOR_NAMES, subject.color)
    rest = [draw_thing(draws, colors=colors) for _ in places.xy[1:]]
    return _scene_of(draws, [subject, *rest], f"what shape is {subject.color}?", subject.shape, subject)


def _ask_biggest(draws: Draws, places: Places) -> _Scene:
    things = draw_things(draws, len(places.xy))
    subject = things[0]
    by_color = draws.chance(0.5)
    return _Scene(
        things=things,
        is_large=[thing is subject for thing in things],
        question="what color is the biggest shape?" if by_color else "what shape is the biggest?",
        answer=subject.color if by_color else subject.shape,
        subject=subject,
    )


def _ask_presence(draws: Draws, places: Places) -> _Scene:
    """Where the answer is no, one thing has the color and another the shape; among few things none has either."""
    subject, *rest = draw_things(draws, len(places.xy))
    is_there = draws.chance(0.5)
    colors, shapes = others(COLOR_NAMES, subject.color), others(SHAPES, subject.shape)
    if is_there:
        things = [subject, *rest]
    elif _is_easy(places):
        things = [draw_thing(draws, colors=colors, shapes=shapes) for _ in places.xy]
    else:
        same_color = draw_thing(draws, colors=(subject.color,), shapes=shapes)
        same_shape = draw_thing(draws, colors=colors, shapes=(subject.shape,))
        things = [same_color, same_shape, *rest[1:]]
    return _scene_of(draws, things, f"is there {subject.with_article}?", _yes_or_no(is_there), subject)


def _ask_relation(draws: Draws, places: Places) -> _Scene:
    """Among few things only ask what is left of another or above it.

    A question that may be asked either way round is one that knowing where either thing lies does not help with, so
    nothing leads a model to the answer step by step.
    """
    things = draw_things(draws, len(places.xy))
    relation = draws.one_of(("left of", "above") if _is_easy(places) else tuple(RELATIONS))
    axis, is_first = RELATIONS[relation]
    is_so = (places.xy[0][axis] < places.xy[1][axis]) == is_first
    question = f"is the {things[0]} {relation} the {things[1]}?"
    return _scene_of(draws, things, question, _yes_or_no(is_so), things[0])


def _ask_neighbor(draws: Draws, places: Places) -> _Scene:
    """Ask what lies on one side of a thing that has only one other there."""
    things = draw_things(draws, len(places.xy))
    relation = draws.one_of(tuple(RELATIONS))
    axis, is_first = RELATIONS[relation]
    order = sorted(range(len(things)), key=lambda i: places.xy[i][axis], reverse=not is_first)
    neighbor, subject = things[order[0]], things[order[1]]
    return _scene_of(draws, things, f"what shape is {relation} the {subject}?", neighbor.shape, subject)


def _ask_place(draws: Draws, places: Places) -> _Scene:
    things = draw_things(draws, len(places.xy))
    clear = [i for i, xy in enumerate(places.xy) if min(map(_from_edge_of_ninth, xy)) > _LEAST_CLEAR]
    chosen = draws.one_of(clear)
    column, row = (int(3 * along / PICTURE_POINTS) for along in places.xy[chosen])
    return _scene_of(draws, things, f"where is the {things[chosen]}?", NINTHS[row][column], things[chosen])


def _from_edge_of_ninth(along: float) -> float:
    return min(abs(along - edge * PICTURE_POINTS / 3) for edge in (1, 2))


def _ask_size(draws: Draws, places: Places) -> _Scene:
    """Among few things only ask whether one is bigger, for the reason that ``_ask_relation`` gives."""
    things = draw_things(draws, len(places.xy))
    is_larger, asks_larger = draws.chance(0.5), _is_easy(places) or draws.chance(0.5)
    return _Scene(
        things=things,
        is_large=[is_larger, not is_larger, *_any_sizes(draws, len(things) - 2)],
        question=f"is the {things[0]} {'bigger' if asks_larger else 'smaller'} than the {things[1]}?",
        answer=_yes_or_no(is_larger == asks_larger),
        subject=things[0],
    )


def _scene_of(draws: Draws, things: list[Thing], question: str, answer: str, subject: Thing) -> _Scene:
    return _Scene(
        things=things, is_large=_any_sizes(draws, len(things)), question=question, answer=answer, subject=subject
    )


def _yes_or_no(is_so: bool) -> str:
    return "yes" if is_so else "no"


_KINDS: dict[str, Callable[[Draws, Places], _Scene]] = {
    "color": _ask_color,
    "shape": _ask_shape,
    "biggest": _ask_biggest,
    "presence": _ask_presence,
    "relation": _ask_relation,
    "neighbor": _ask_neighbor,
    "size": _ask_size,
    "place": _ask_place,
}
