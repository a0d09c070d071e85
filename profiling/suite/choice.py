"""Multiple choice over simple diagrams: arrows, bars, clocks, thermometers and food chains.

The options stand in the question; the answer is the text of one. A letter would ask the model for one step more that
has nothing to do with the picture, and text can be scored like every other answer. Options are drawn first and the
right one among them afterwards, so that nothing but the picture tells it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from profiling.suite.chains import chain_marks
from profiling.suite.draws import Draws, is_held_out
from profiling.suite.gauges import bar_marks, clock_marks, thermometer_marks
from profiling.suite.marks import Mark, Picture, Shape
from profiling.suite.palette import BACKGROUND_NAMES
from profiling.suite.puzzle import Puzzle
from profiling.suite.things import COLOR_NAMES, spread_out
from profiling.suite.vocabulary import ANIMALS

NUM_OPTIONS: Final = 4
DIRECTIONS: Final = {"up": 0, "right": 90, "down": 180, "left": 270}  # degrees, clockwise
_HOURS = range(1, 13)
_MINUTES = range(5, 60, 5)


@dataclass(frozen=True, kw_only=True)
class _Diagram:
    """Marks, a question without its options, the options and the right one."""

    marks: Sequence[Mark]
    question: str
    options: Sequence[str]
    answer: str
    is_unseen: bool = False


def make_choice(draws: Draws) -> Puzzle:
    """Make a puzzle of a large diagram of few parts (easy) or of a finer one (hard)."""
    is_hard = draws.chance(0.5)
    kind = draws.one_of(tuple(_KINDS))
    diagram = _KINDS[kind](draws, is_hard)
    choices = " ".join(f"{letter} {option}" for letter, option in zip("abcd", diagram.options, strict=True))
    return Puzzle(
        picture=Picture(background=draws.one_of(BACKGROUND_NAMES), marks=tuple(diagram.marks)),
        question=f"{diagram.question} {choices}",
        answers=(diagram.answer,),
        kind=kind,
        is_hard=is_hard,
        is_unseen=diagram.is_unseen,
        options=tuple(diagram.options),
    )


def _arrow(draws: Draws, is_hard: bool) -> _Diagram:
    """One arrow, or six of different colors."""
    options = draws.some_of(tuple(DIRECTIONS), NUM_OPTIONS)
    answer = draws.one_of(options)
    count = 6 if is_hard else 1
    colors = draws.some_of(COLOR_NAMES, count)
    directions = [answer, *(draws.one_of(tuple(DIRECTIONS)) for _ in range(count - 1))]
    places = spread_out(draws, count)
    xy = places.xy if is_hard else [(draws.between(76, 116), draws.between(76, 116))]
    size = draws.between(0.75, 0.95) * places.cell * (1 if is_hard else 2)
    marks = [
        Shape(kind="arrow", color=color, x=x, y=y, size=size, turn=DIRECTIONS[direction])
        for color, direction, (x, y) in zip(colors, directions, xy, strict=True)
    ]
    arrow = f"{colors[0]} arrow" if is_hard else "arrow"
    return _Diagram(marks=marks, question=f"which way does the {arrow} point?", options=options, answer=answer)


def _bars(draws: Draws, is_hard: bool) -> _Diagram:
    """Four bars that differ clearly, or seven that differ little."""
    count, step = (7, 8) if is_hard else (4, 24)
    colors = draws.some_of(COLOR_NAMES, count)
    options = colors[:NUM_OPTIONS]
    answer = draws.one_of(options)
    asks_tallest = draws.chance(0.5)
    ranks = list(range(count))
    extreme = ranks.pop(-1 if asks_tallest else 0)
    others = draws.some_of(ranks, count - 1)
    lowest = draws.between(24, 168 - step * count)
    heights = {color: lowest + step * (extreme if color == answer else others.pop()) for color in colors}
    order = draws.some_of(colors, count)
    return _Diagram(
        marks=bar_marks([(color, heights[color]) for color in order]),
        question=f"which bar is the {'tallest' if asks_tallest else 'shortest'}?",
        options=options,
        answer=answer,
    )


def _clock(draws: Draws, is_hard: bool) -> _Diagram:
    """The full hour, or the minutes past one."""
    while True:
        options = draws.some_of(_MINUTES if is_hard else _HOURS, NUM_OPTIONS)
        shown = draws.one_of(options)
        hour, minute = (draws.one_of(_HOURS), shown) if is_hard else (shown, 0)
        combination = f"clock {hour} {minute}"
        if not is_hard or draws.allows(combination):
            break
    radius = draws.between(48, 64) if is_hard else draws.between(66, 86)
    return _Diagram(
        marks=clock_marks(draws, hour, minute, radius),
        question="how many minutes past the hour is it?" if is_hard else "what hour does the clock show?",
        options=[str(option) for option in options],
        answer=str(shown),
        is_unseen=is_hard and is_held_out(combination),
    )


def _thermometer(draws: Draws, is_hard: bool) -> _Diagram:
    """Tens on a scale from zero, or fives on one that begins anywhere."""
    first = 10 * draws.whole(0, 4) if is_hard else 0
    options = draws.some_of(range(first, first + 51, 5 if is_hard else 10), NUM_OPTIONS)
    shown = draws.one_of(options)
    return _Diagram(
        marks=thermometer_marks(draws, first, shown),
        question="what does the thermometer show?",
        options=[str(option) for option in options],
        answer=str(shown),
    )


def _chain(draws: Draws, is_hard: bool) -> _Diagram:
    """A food chain of two to four animals in large letters, always upwards, or of six in small ones, either way."""
    count = 6 if is_hard else draws.whole(2, 4)
    known = draws.some_of(ANIMALS, max(count, NUM_OPTIONS) + 1)
    animals = known[:count]
    asks_eater = draws.chance(0.5)
    place = draws.whole(0, count - 2) if asks_eater else draws.whole(1, count - 1)
    answer = animals[place + 1 if asks_eater else place - 1]
    asked = animals[place]
    wrong = draws.some_of([animal for animal in known if animal not in (asked, answer)], NUM_OPTIONS - 1)
    return _Diagram(
        marks=chain_marks(draws, animals, goes_down=is_hard and draws.chance(0.5)),
        question=f"what eats the {asked}?" if asks_eater else f"what does the {asked} eat?",
        options=draws.some_of([answer, *wrong], NUM_OPTIONS),
        answer=answer,
    )


_KINDS: dict[str, Callable[[Draws, bool], _Diagram]] = {
    "arrow": _arrow,
    "bars": _bars,
    "clock": _clock,
    "thermometer": _thermometer,
    "chain": _chain,
}
